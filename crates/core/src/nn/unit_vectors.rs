//! Scaling of vectors to a fixed length, and the gradient through it, for the normalised softmax
//! [Gupta et al. 2019, NISER, arXiv 1909.04276].

use super::math::{add_scaled, dot, kernel, reduce_pairs};

/// Added to the squared length of a vector, so that a zero vector can be scaled.
const MIN_SQUARED_LENGTH: f32 = 1e-12;

/// The factor that scales a vector to length `length`.
#[inline(always)]
fn scale_factor(vector: &[f32], length: f32) -> f32 {
    length / (dot(vector, vector) + MIN_SQUARED_LENGTH).sqrt()
}

/// The factor that scales a row to length 1 if `is_scaled` is set, else 1.
#[inline(always)]
pub(super) fn row_factor(row: &[f32], is_scaled: bool) -> f32 {
    if is_scaled { scale_factor(row, 1.0) } else { 1.0 }
}

/// Inner product of `a` and the vector `factor · b`, for use inside a kernel: always inlined. The
/// result has the bits of the inner product of `a` and a stored vector `factor · b`.
#[inline(always)]
pub(super) fn scaled_dot(a: &[f32], b: &[f32], factor: f32) -> f32 {
    reduce_pairs(a, b, |sum, x, y| x.mul_add(factor * y, sum))
}

/// Length of the vector `factor · b`, for use inside a kernel: always inlined.
#[inline(always)]
pub(super) fn scaled_length(b: &[f32], factor: f32) -> f32 {
    reduce_pairs(b, b, |sum, x, y| (factor * x).mul_add(factor * y, sum)).sqrt()
}

kernel! {
    /// Inner product of `a` and the row `b`, scaled to length 1 if `is_scaled` is set.
    pub(super) fn row_product<'a>(a: &'a [f32], b: &'a [f32], is_scaled: bool) -> f32 {
        scaled_dot(a, b, row_factor(b, is_scaled))
    }

    /// Scales a vector to length `length` and returns the factor by which it multiplied the vector.
    pub(super) fn scale_to_length<'a>(vector: &'a mut [f32], length: f32) -> f32 {
        let factor = scale_factor(vector, length);
        vector.iter_mut().for_each(|value| *value *= factor);
        factor
    }

    /// Scales the first `dimension` values of each row to length `length`. Writes the factor of each
    /// row to `factors`. The shape of `rows` is `(rows, width)`.
    pub(super) fn scale_rows_to_length<'a>(rows: &'a mut [f32], width: usize, dimension: usize, length: f32, factors: &'a mut Vec<f32>) -> () {
        factors.clear();
        for row in rows.chunks_exact_mut(width) {
            let vector = &mut row[..dimension];
            let factor = scale_factor(vector, length);
            vector.iter_mut().for_each(|value| *value *= factor);
            factors.push(factor);
        }
    }

    /// Replaces the gradients of scaled rows by the gradients of the rows before
    /// [`scale_rows_to_length`], which returned `factors`.
    ///
    /// With the row u, its scaled form v = f u of length l, and the gradient g of v, the gradient of
    /// u is `f (g − v (v · g) / l²)`: only the part of g perpendicular to v remains.
    pub(super) fn rows_backward<'a>(gradients: &'a mut [f32], scaled: &'a [f32], width: usize, dimension: usize, length: f32, factors: &'a [f32]) -> () {
        for ((gradient, scaled), factor) in gradients.chunks_exact_mut(width).zip(scaled.chunks_exact(width)).zip(factors) {
            let (gradient, scaled) = (&mut gradient[..dimension], &scaled[..dimension]);
            let along = dot(gradient, scaled) / (length * length);
            for (gradient, scaled) in gradient.iter_mut().zip(scaled) {
                *gradient = factor * scaled.mul_add(-along, *gradient);
            }
        }
    }

    /// Adds the gradient of `vector` to `sum`, given the gradient of the vector scaled to length 1.
    pub(super) fn add_gradient_before_scaling<'a>(sum: &'a mut [f32], vector: &'a [f32], gradient: &'a [f32]) -> () {
        let factor = scale_factor(vector, 1.0);
        let along = factor * factor * dot(gradient, vector);
        add_scaled(sum, factor, gradient);
        add_scaled(sum, -factor * along, vector);
    }
}
