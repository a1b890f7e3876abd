//! Matrix products with explicit vector instructions.
//!
//! The matrices are as narrow as an embedding, and most of them change with every batch. A general
//! matrix multiplication first copies (packs) the operands into panels; here that would take a
//! third of the total time. This kernel reads the right operand in place, row by row. Only the left
//! operand may be a transposed view. [`transpose_copy`] makes a transposed copy for use as the
//! right operand.

use super::math::kernel;
use pulp::{Simd, WithSimd};

/// Rows per tile. A tile of this many rows with [`MAX_VECTORS_PER_TILE_ROW`] vectors each fits into
/// the vector registers.
const ROWS_PER_TILE: usize = 6;
/// Maximum vectors per tile row if the CPU has 32 vector registers (AVX-512). With 16 registers the
/// maximum is half of this.
const MAX_VECTORS_PER_TILE_ROW: usize = 4;
/// Number of terms of an inner product that are summed in one pass. The rows of the right operand
/// that one pass reads fit into the L1 cache.
const TERMS_PER_PASS: usize = 96;

/// A strided matrix view of a slice.
#[derive(Clone, Copy)]
pub(super) struct MatrixView<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    /// Distance in values between two rows.
    row_stride: usize,
    /// Distance in values between two columns.
    column_stride: usize,
}

impl<'a> MatrixView<'a> {
    /// Views a slice as a contiguous row-major matrix of `rows × columns` values.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::from_strided_rows(data, rows, columns, columns)
    }

    /// Views a slice as a `rows × columns` matrix. Rows start `stride` values apart; each row is
    /// the first `columns` of its values.
    pub(super) fn from_strided_rows(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The transposed view of the same values.
    pub(super) fn transposed(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// Computes `out = a · b`, or `out += a · b` with `add`. The rows of `out` start `stride` values
/// apart. `b` must not be a transposed view.
///
/// Mismatched shapes are a bug in the caller. Debug builds then panic, and release builds leave
/// `out` unchanged.
pub(super) fn matmul(out: &mut [f32], stride: usize, a: MatrixView<'_>, b: MatrixView<'_>, add: bool) {
    let fits = a.columns == b.rows && b.column_stride == 1 && stride >= b.columns && b.row_stride >= b.columns;
    debug_assert!(fits, "matmul: mismatched shapes");
    if !fits || a.rows == 0 || b.columns == 0 {
        return;
    }
    if !add && b.rows == 0 {
        out.chunks_mut(stride).take(a.rows).for_each(|row| row[..b.columns].fill(0.0));
    }
    crate::simd::arch().dispatch(MatmulKernel { out, stride, a, b, add });
}

/// The arguments of [`matmul`], bundled so that the product can be compiled for several instruction
/// sets.
struct MatmulKernel<'a> {
    out: &'a mut [f32],
    stride: usize,
    a: MatrixView<'a>,
    b: MatrixView<'a>,
    add: bool,
}

impl WithSimd for MatmulKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = S::F32_LANES;
        let max_vectors = if lanes >= 16 { MAX_VECTORS_PER_TILE_ROW } else { MAX_VECTORS_PER_TILE_ROW / 2 };
        let vectors = self.b.columns.div_ceil(lanes);
        // Choose the panel width so that all panels are about equally wide.
        let panel = vectors.div_ceil(vectors.div_ceil(max_vectors)) * lanes;
        for k in (0..self.b.rows).step_by(TERMS_PER_PASS) {
            let depth = TERMS_PER_PASS.min(self.b.rows - k);
            for column in (0..self.b.columns).step_by(panel) {
                let columns = panel.min(self.b.columns - column);
                let block = MatmulPanel { k, depth, column, columns };
                match columns.div_ceil(lanes) {
                    1 => self.multiply_panel::<S, 1>(simd, block),
                    2 => self.multiply_panel::<S, 2>(simd, block),
                    3 => self.multiply_panel::<S, 3>(simd, block),
                    _ => self.multiply_panel::<S, MAX_VECTORS_PER_TILE_ROW>(simd, block),
                }
            }
        }
    }
}

/// A block of the right operand: `depth` rows from row `k`, `columns` columns from column `column`.
#[derive(Clone, Copy)]
struct MatmulPanel {
    k: usize,
    depth: usize,
    column: usize,
    columns: usize,
}

impl MatmulKernel<'_> {
    #[inline(always)]
    fn multiply_panel<S: Simd, const V: usize>(&mut self, simd: S, block: MatmulPanel) {
        let mut row = 0;
        while row + ROWS_PER_TILE <= self.a.rows {
            self.multiply_tile::<S, ROWS_PER_TILE, V>(simd, block, row);
            row += ROWS_PER_TILE;
        }
        match self.a.rows - row {
            0 => {}
            1 => self.multiply_tile::<S, 1, V>(simd, block, row),
            2 => self.multiply_tile::<S, 2, V>(simd, block, row),
            3 => self.multiply_tile::<S, 3, V>(simd, block, row),
            4 => self.multiply_tile::<S, 4, V>(simd, block, row),
            _ => self.multiply_tile::<S, 5, V>(simd, block, row),
        }
    }

    /// Computes a tile of `out` of `R` rows and `V` vectors. The last vector of a row may be
    /// partial.
    #[inline(always)]
    fn multiply_tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, block: MatmulPanel, row: usize) {
        let MatmulPanel { k, depth, column, columns } = block;
        let (a, b, last) = (self.a, self.b, (V - 1) * S::F32_LANES);
        let add = self.add || k > 0;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let mut a_offsets = [0; R];
        for (r, offset) in a_offsets.iter_mut().enumerate() {
            *offset = (row + r) * a.row_stride + k * a.column_stride;
        }
        for k in k..k + depth {
            let b_row = &b.data[k * b.row_stride + column..][..columns];
            let (full, rest) = b_row.split_at(last);
            let (full, _) = S::as_simd_f32s(full);
            let mut values = [simd.splat_f32s(0.0); R];
            for (value, offset) in values.iter_mut().zip(&mut a_offsets) {
                *value = simd.splat_f32s(a.data[*offset]);
                *offset += a.column_stride;
            }
            for v in 0..V {
                let vector = if v < V - 1 { full[v] } else { simd.partial_load_f32s(rest) };
                for r in 0..R {
                    sums[r][v] = simd.mul_add_f32s(values[r], vector, sums[r][v]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut self.out[(row + r) * self.stride + column..][..columns];
            let (full, rest) = out.split_at_mut(last);
            let (full, _) = S::as_mut_simd_f32s(full);
            let mut sums = *sums;
            if add {
                for (out, sum) in full.iter().zip(&mut sums) {
                    *sum = simd.add_f32s(*out, *sum);
                }
                sums[V - 1] = simd.add_f32s(simd.partial_load_f32s(rest), sums[V - 1]);
            }
            full.copy_from_slice(&sums[..V - 1]);
            simd.partial_store_f32s(rest, sums[V - 1]);
        }
    }
}

/// Number of rows that are transposed together. With this number, each write fills one cache line
/// of the result.
const ROWS_PER_CACHE_LINE: usize = 16;

kernel! {
    /// Writes the transpose of a matrix to `out`. The rows of the matrix start `stride` values
    /// apart, those of `out` start `out_stride` values apart. Values between the rows of `out` are
    /// unchanged.
    fn transpose_into<'a>(out: &'a mut [f32], out_stride: usize, data: &'a [f32], rows: usize, columns: usize, stride: usize) -> () {
        for first in (0..rows).step_by(ROWS_PER_CACHE_LINE) {
            let lines = &data[first * stride..];
            if rows - first >= ROWS_PER_CACHE_LINE {
                for column in 0..columns {
                    let out = &mut out[column * out_stride + first..][..ROWS_PER_CACHE_LINE];
                    for (line, out) in out.iter_mut().enumerate() {
                        *out = lines[line * stride + column];
                    }
                }
            } else {
                for column in 0..columns {
                    for line in 0..rows - first {
                        out[column * out_stride + first + line] = lines[line * stride + column];
                    }
                }
            }
        }
    }
}

/// Writes the transpose of `matrix` to `out` and returns a view of the copy. The rows of the copy
/// start `stride` values apart; `stride` must be at least the number of rows of `matrix`.
pub(super) fn transpose_copy<'a>(out: &'a mut Vec<f32>, matrix: MatrixView<'_>, stride: usize) -> MatrixView<'a> {
    out.resize(matrix.columns * stride, 0.0);
    transpose_into(out, stride, matrix.data, matrix.rows, matrix.columns, matrix.row_stride);
    MatrixView::from_strided_rows(out, matrix.columns, matrix.rows, stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix_values(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + seed) % 23) as f32 - 11.0).collect()
    }

    #[test]
    fn matmul_is_exact_for_every_shape_and_stride() {
        for (rows, depth, columns) in
            [(1, 1, 1), (6, 96, 64), (7, 97, 65), (5, 3, 101), (13, 200, 15), (32, 101, 130), (4, 0, 9)]
        {
            let (a_stride, b_stride, stride) = (depth + 2, columns + 3, columns + 1);
            let (a, b) = (matrix_values(rows * a_stride, 1), matrix_values(depth * b_stride, 2));
            let before = matrix_values(rows * stride, 3);
            let mut transposed_a = Vec::new();
            transpose_copy(&mut transposed_a, MatrixView::from_strided_rows(&a, rows, depth, a_stride), rows + 5);
            let plain = MatrixView::from_strided_rows(&a, rows, depth, a_stride);
            let transposed_view = MatrixView::from_strided_rows(&transposed_a, depth, rows, rows + 5).transposed();
            for (a_view, add) in [(plain, false), (plain, true), (transposed_view, true)] {
                let mut out = before.clone();
                matmul(&mut out, stride, a_view, MatrixView::from_strided_rows(&b, depth, columns, b_stride), add);
                for row in 0..rows {
                    for column in 0..columns {
                        let sum: f32 = (0..depth).map(|k| a[row * a_stride + k] * b[k * b_stride + column]).sum();
                        let initial = if add { before[row * stride + column] } else { 0.0 };
                        assert_eq!(
                            out[row * stride + column],
                            sum + initial,
                            "{rows}×{depth}×{columns} at ({row}, {column})"
                        );
                    }
                    assert_eq!(
                        out[row * stride + columns],
                        before[row * stride + columns],
                        "the gap between rows is unchanged"
                    );
                }
            }
        }
    }
}
