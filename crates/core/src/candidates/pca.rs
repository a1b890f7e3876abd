//! Two-dimensional projection of embeddings by principal component analysis.

use ndarray::{Array1, ArrayView1, ArrayView2, Axis};

/// Projection of points onto their first two principal components [Hotelling 1933].
///
/// The components are computed by power iteration with deflation. The start vector is fixed, so the
/// same points always get the same coordinates.
#[derive(Debug, Clone, PartialEq)]
pub struct PcaProjection {
    mean: Array1<f32>,
    axes: [Array1<f32>; 2],
}

/// Power iterations per component. If this number does not suffice to separate two components,
/// their variances are nearly equal, so either will do.
const POWER_ITERATIONS: usize = 50;

impl PcaProjection {
    /// Computes the projection for `points`, `(points, dimension)`.
    #[must_use]
    pub fn fit(points: ArrayView2<'_, f32>) -> Self {
        let mean = points.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(points.ncols()));
        let centred = &points - &mean;
        let first = principal_component(&centred.view(), None);
        let second = principal_component(&centred.view(), Some(&first));
        Self { mean, axes: [first, second] }
    }

    /// Projects a point. Returns the origin if the point has a different dimension.
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

/// Computes the direction of the largest variance. If `orthogonal_to` is given, only directions
/// orthogonal to it count. The sign is such that the component with the largest absolute value is
/// positive.
fn principal_component(centred: &ArrayView2<'_, f32>, orthogonal_to: Option<&Array1<f32>>) -> Array1<f32> {
    let dimension = centred.ncols();
    let mut axis = Array1::from_shape_fn(dimension, |index| 1.0 / (1.0 + ((index * 7 + 3) % dimension.max(1)) as f32));
    for _ in 0..POWER_ITERATIONS {
        axis = centred.t().dot(&centred.dot(&axis));
        if let Some(orthogonal_to) = orthogonal_to {
            axis.scaled_add(-orthogonal_to.dot(&axis), orthogonal_to);
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
    fn the_projection_uses_the_two_axes_of_largest_variance() {
        // The points lie on an ellipse around (5, 5, 5) with radius 10 along axis 2 and radius 3
        // along axis 0.
        let points = Array2::from_shape_fn((40, 3), |(point, axis)| {
            let turn = point as f32 * 0.7;
            5.0 + [3.0 * turn.cos(), 0.0, 10.0 * turn.sin()][axis]
        });
        let plane = PcaProjection::fit(points.view());
        let [x, y] = plane.project(&[8.0, 5.0, 15.0]);
        let [left, down] = plane.project(&[5.0, 5.0, 5.0]);
        assert!(
            ((x - left).abs() - 10.0).abs() < 0.2 && ((y - down).abs() - 3.0).abs() < 0.2,
            "({x}, {y}), ({left}, {down})"
        );
        assert_eq!(plane, PcaProjection::fit(points.view()));
        assert_eq!(plane.project(&[1.0]), [0.0; 2]);
    }

    #[test]
    fn a_single_point_projects_to_the_origin() {
        let plane = PcaProjection::fit(Array2::ones((1, 4)).view());
        assert_eq!(plane.project(&[1.0; 4]), [0.0; 2]);
    }
}
