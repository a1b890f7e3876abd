//! Matrix products over plain slices: the one place that knows which library multiplies.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};

/// A matrix that lies row by row in a slice, `stride` values from one row to the next.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
    transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `rows × columns`, row by row without gaps.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// `rows × columns`, the first `columns` of every `stride` values.
    pub(super) fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self { data, rows, columns, stride, transposed: false }
    }

    /// The same matrix, transposed.
    pub(super) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    fn view(self) -> Option<ArrayView2<'a, f32>> {
        let view = ArrayView2::from_shape((self.rows, self.columns).strides((self.stride, 1)), self.data).ok()?;
        Some(if self.transposed { view.reversed_axes() } else { view })
    }
}

/// `out = a · b + keep · out`, where `out` has a row every `stride` values. Shapes that do not fit are a mistake of the caller and leave `out` as it is.
pub(super) fn matmul(out: &mut [f32], stride: usize, a: Matrix<'_>, b: Matrix<'_>, keep: f32) {
    let (Some(a), Some(b)) = (a.view(), b.view()) else {
        debug_assert!(false, "an operand is shorter than its shape");
        return;
    };
    let shape = (a.nrows(), b.ncols());
    match ArrayViewMut2::from_shape(shape.strides((stride, 1)), out) {
        Ok(mut out) if a.ncols() == b.nrows() => general_mat_mul(1.0, &a, &b, keep, &mut out),
        _ => debug_assert!(false, "shapes do not fit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_respect_strides_and_transposition() {
        // [1 2; 3 4] · [5 6; 7 8] = [19 22; 43 50]
        let (a, b) = ([1.0, 2.0, 9.0, 3.0, 4.0, 9.0], [5.0, 7.0, 6.0, 8.0]);
        let mut out = [1.0; 6];
        matmul(&mut out, 3, Matrix::strided(&a, 2, 2, 3), Matrix::new(&b, 2, 2).t(), 1.0);
        assert_eq!(out, [20.0, 23.0, 1.0, 44.0, 51.0, 1.0]);
    }
}
