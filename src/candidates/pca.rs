//! A plane to look at embeddings in.

use ndarray::{Array1, ArrayView1, ArrayView2, Axis};

/// The plane through the mean of some points in which they are spread the widest: their first two principal components [Hotelling 1933], by power iteration from a fixed start, so
/// that the same points always lie at the same places.
#[derive(Debug, Clone, PartialEq)]
pub struct PcaProjection {
    mean: Array1<f32>,
    axes: [Array1<f32>; 2],
}

/// Enough for a picture: what has not converged by then lies almost the same either way.
const ITERATIONS: usize = 50;

impl PcaProjection {
    /// The plane of points `(points, dimension)`.
    #[must_use]
    pub fn fit(points: ArrayView2<'_, f32>) -> Self {
        let mean = points.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(points.ncols()));
        let centred = &points - &mean;
        let first = principal(&centred.view(), None);
        let second = principal(&centred.view(), Some(&first));
        Self { mean, axes: [first, second] }
    }

    /// Where a point of the same dimension lies in the plane; the origin for one of another.
    #[must_use]
    pub fn project(&self, point: &[f32]) -> [f32; 2] {
        let point = ArrayView1::from(point);
        if point.len() != self.mean.len() {
            return [0.0; 2];
        }
        let offset = &point - &self.mean;
        [0, 1].map(|axis| self.axes[axis].dot(&offset))
    }
}

/// The direction of the largest spread, at a right angle to `but` if that is given; its largest component is positive.
fn principal(centred: &ArrayView2<'_, f32>, but: Option<&Array1<f32>>) -> Array1<f32> {
    let dimension = centred.ncols();
    let mut axis = Array1::from_shape_fn(dimension, |place| 1.0 / (1.0 + ((place * 7 + 3) % dimension.max(1)) as f32));
    for _ in 0..ITERATIONS {
        axis = centred.t().dot(&centred.dot(&axis));
        if let Some(but) = but {
            axis.scaled_add(-but.dot(&axis), but);
        }
        let length = axis.dot(&axis).sqrt();
        if length < f32::MIN_POSITIVE {
            return Array1::zeros(dimension);
        }
        axis /= length;
    }
    let largest = axis.iter().copied().fold(0.0_f32, |largest, x| if x.abs() > largest.abs() { x } else { largest });
    if largest < 0.0 { -axis } else { axis }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn points_spread_along_two_axes_lie_in_the_plane_of_these() {
        // Spread 10 along axis 2, 3 along axis 0, nothing along axis 1; all moved by (5, 5, 5).
        let points = Array2::from_shape_fn((40, 3), |(point, axis)| {
            let turn = point as f32 * 0.7;
            5.0 + [3.0 * turn.cos(), 0.0, 10.0 * turn.sin()][axis]
        });
        let plane = PcaProjection::fit(points.view());
        let [x, y] = plane.project(&[8.0, 5.0, 15.0]);
        let [left, down] = plane.project(&[5.0, 5.0, 5.0]);
        assert!(((x - left).abs() - 10.0).abs() < 0.2 && ((y - down).abs() - 3.0).abs() < 0.2, "({x}, {y}), ({left}, {down})");
        assert_eq!(plane, PcaProjection::fit(points.view()));
        assert_eq!(plane.project(&[1.0]), [0.0; 2]);
    }

    #[test]
    fn one_point_is_the_origin() {
        let plane = PcaProjection::fit(Array2::ones((1, 4)).view());
        assert_eq!(plane.project(&[1.0; 4]), [0.0; 2]);
    }
}
