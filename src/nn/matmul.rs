//! Matrix products, in vectors as wide as the processor has them.
//!
//! The network's matrices are narrow (an embedding's width) and most of them change with every batch, so that copying operands into panels, as a general library does, would cost a
//! third of the product itself. Here the right operand is read where it lies, row by row, and only the left may be transposed; who needs the right one transposed keeps a transposed copy.

use super::math::kernel;
use pulp::{Simd, WithSimd};

/// Rows of one tile of the product: with [`VECTORS`] they fill the registers without spilling.
const ROWS: usize = 6;
/// Vectors of one row of a tile, at most: with 32 registers; half of it with 16.
const VECTORS: usize = 4;
/// Terms of the sums that are taken at a time, so that the right operand's part stays in the first cache.
const DEPTH: usize = 96;

/// A matrix that lies in a slice.
#[derive(Clone, Copy)]
pub(super) struct MatrixView<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    /// From one row to the next.
    row_stride: usize,
    /// From one column to the next.
    column_stride: usize,
}

impl<'a> MatrixView<'a> {
    /// `rows × columns`, row by row without gaps.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// `rows × columns`, the first `columns` of every `stride` values.
    pub(super) fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The same matrix, transposed.
    pub(super) fn t(self) -> Self {
        let Self { data, rows, columns, row_stride, column_stride } = self;
        Self { data, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// `out = a · b`, or with `add` `out += a · b`, where `out` has a row every `stride` values. `b` must not be transposed.
///
/// Shapes that do not fit are a mistake of the caller and leave `out` as it is.
pub(super) fn matmul(out: &mut [f32], stride: usize, a: MatrixView<'_>, b: MatrixView<'_>, add: bool) {
    let fits = a.columns == b.rows && b.column_stride == 1 && stride >= b.columns && b.row_stride >= b.columns;
    debug_assert!(fits, "shapes do not fit");
    if !fits || a.rows == 0 || b.columns == 0 {
        return;
    }
    if !add && b.rows == 0 {
        out.chunks_mut(stride).take(a.rows).for_each(|row| row[..b.columns].fill(0.0));
    }
    pulp::Arch::new().dispatch(MatmulKernel { out, stride, a, b, add });
}

/// The arguments of [`matmul`].
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
        let most = if lanes >= 16 { VECTORS } else { VECTORS / 2 };
        let vectors = self.b.columns.div_ceil(lanes);
        // As many columns as make the panels equally wide.
        let panel = vectors.div_ceil(vectors.div_ceil(most)) * lanes;
        for k in (0..self.b.rows).step_by(DEPTH) {
            let depth = DEPTH.min(self.b.rows - k);
            for column in (0..self.b.columns).step_by(panel) {
                let columns = panel.min(self.b.columns - column);
                let part = MatmulPanel { k, depth, column, columns };
                match columns.div_ceil(lanes) {
                    1 => self.panel::<S, 1>(simd, part),
                    2 => self.panel::<S, 2>(simd, part),
                    3 => self.panel::<S, 3>(simd, part),
                    _ => self.panel::<S, VECTORS>(simd, part),
                }
            }
        }
    }
}

/// The part of `b` at hand.
#[derive(Clone, Copy)]
struct MatmulPanel {
    k: usize,
    depth: usize,
    column: usize,
    columns: usize,
}

impl MatmulKernel<'_> {
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, part: MatmulPanel) {
        let mut row = 0;
        while row + ROWS <= self.a.rows {
            self.tile::<S, ROWS, V>(simd, part, row);
            row += ROWS;
        }
        match self.a.rows - row {
            0 => {}
            1 => self.tile::<S, 1, V>(simd, part, row),
            2 => self.tile::<S, 2, V>(simd, part, row),
            3 => self.tile::<S, 3, V>(simd, part, row),
            4 => self.tile::<S, 4, V>(simd, part, row),
            _ => self.tile::<S, 5, V>(simd, part, row),
        }
    }

    /// `R` rows times `V` vectors of `out`; of the last vector what the columns leave.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(&mut self, simd: S, part: MatmulPanel, row: usize) {
        let MatmulPanel { k, depth, column, columns } = part;
        let (a, b, last) = (self.a, self.b, (V - 1) * S::F32_LANES);
        let add = self.add || k > 0;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let mut places = [0; R];
        for (r, place) in places.iter_mut().enumerate() {
            *place = (row + r) * a.row_stride + k * a.column_stride;
        }
        for k in k..k + depth {
            let b_row = &b.data[k * b.row_stride + column..][..columns];
            let (full, rest) = b_row.split_at(last);
            let (full, _) = S::as_simd_f32s(full);
            let mut values = [simd.splat_f32s(0.0); R];
            for (value, place) in values.iter_mut().zip(&mut places) {
                *value = simd.splat_f32s(a.data[*place]);
                *place += a.column_stride;
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

/// Rows that are transposed together: a cache line of the result.
const LINE: usize = 16;

kernel! {
    /// Writes the transposed matrix: `rows` rows, one every `stride` values, become columns of `out`, whose rows are `out_stride` values apart. What lies in `out` between them is left.
    fn transpose_into<'a>(out: &'a mut [f32], out_stride: usize, data: &'a [f32], rows: usize, columns: usize, stride: usize) -> () {
        for first in (0..rows).step_by(LINE) {
            let lines = &data[first * stride..];
            if rows - first >= LINE {
                for column in 0..columns {
                    let out = &mut out[column * out_stride + first..][..LINE];
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

/// A transposed copy of `matrix` in `out`, its rows `stride` values apart (at least as many as the matrix has rows).
pub(super) fn transpose_copy<'a>(out: &'a mut Vec<f32>, matrix: MatrixView<'_>, stride: usize) -> MatrixView<'a> {
    out.resize(matrix.columns * stride, 0.0);
    transpose_into(out, stride, matrix.data, matrix.rows, matrix.columns, matrix.row_stride);
    MatrixView::strided(out, matrix.columns, matrix.rows, stride)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 37 + seed) % 23) as f32 - 11.0).collect()
    }

    #[test]
    fn products_are_exact_for_every_shape_and_stride() {
        for (rows, depth, columns) in [(1, 1, 1), (6, 96, 64), (7, 97, 65), (5, 3, 101), (13, 200, 15), (32, 101, 130), (4, 0, 9)] {
            let (a_stride, b_stride, stride) = (depth + 2, columns + 3, columns + 1);
            let (a, b) = (numbers(rows * a_stride, 1), numbers(depth * b_stride, 2));
            let before = numbers(rows * stride, 3);
            let mut transposed_a = Vec::new();
            transpose_copy(&mut transposed_a, MatrixView::strided(&a, rows, depth, a_stride), rows + 5);
            let plain = MatrixView::strided(&a, rows, depth, a_stride);
            let turned = MatrixView::strided(&transposed_a, depth, rows, rows + 5).t();
            for (a_view, add) in [(plain, false), (plain, true), (turned, true)] {
                let mut out = before.clone();
                matmul(&mut out, stride, a_view, MatrixView::strided(&b, depth, columns, b_stride), add);
                for row in 0..rows {
                    for column in 0..columns {
                        let sum: f32 = (0..depth).map(|k| a[row * a_stride + k] * b[k * b_stride + column]).sum();
                        let kept = if add { before[row * stride + column] } else { 0.0 };
                        assert_eq!(out[row * stride + column], sum + kept, "{rows}×{depth}×{columns} at ({row}, {column})");
                    }
                    assert_eq!(out[row * stride + columns], before[row * stride + columns], "what lies between rows stays");
                }
            }
        }
    }
}
