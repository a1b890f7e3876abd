//! Bayesian ridge regression with a fixed number D of coefficients.

/// A linear regression y = x · h + ε, before it is solved. The prior of x has the mean 0 and a
/// diagonal covariance.
pub(super) struct LinearRegression<const D: usize> {
    /// Precision of x; only the lower triangle is used.
    precision: [[f64; D]; D],
    /// Precision times mean.
    information: [f64; D],
}

impl<const D: usize> LinearRegression<D> {
    /// The regression without observations. The prior variances must be positive.
    pub(super) fn new(prior_variances: &[f64; D]) -> Self {
        let mut precision = [[0.0; D]; D];
        for (index, (row, variance)) in precision.iter_mut().zip(prior_variances).enumerate() {
            if let Some(diagonal) = row.get_mut(index) {
                *diagonal = variance.recip();
            }
        }
        Self { precision, information: [0.0; D] }
    }

    /// Adds the observation y of the features h. `noise` is the variance of ε.
    pub(super) fn observe(&mut self, features: &[f64; D], value: f64, noise: f64) {
        for (index, ((row, information), feature)) in
            self.precision.iter_mut().zip(&mut self.information).zip(features).enumerate()
        {
            let weighted = feature / noise;
            *information += weighted * value;
            for (cell, other) in row.iter_mut().zip(features).take(index + 1) {
                *cell += weighted * other;
            }
        }
    }

    /// The posterior of x, by a Cholesky factorisation.
    pub(super) fn solve(self) -> LinearPosterior<D> {
        let mut rows = self.precision;
        let mut inverse_diagonal = [0.0; D];
        for index in 0..D {
            let (above, rest) = rows.split_at_mut(index);
            let Some(row) = rest.first_mut() else { break };
            for (column, (other, inverse)) in above.iter().zip(&inverse_diagonal).enumerate() {
                let (head, tail) = row.split_at_mut(column);
                if let Some(cell) = tail.first_mut() {
                    *cell = (*cell - dot(head, other)) * inverse;
                }
            }
            let (head, tail) = row.split_at(index);
            let squared = tail.first().copied().unwrap_or_default() - dot(head, head);
            if let Some(inverse) = inverse_diagonal.get_mut(index) {
                *inverse = squared.max(f64::MIN_POSITIVE).sqrt().recip();
            }
        }
        let mut posterior = LinearPosterior { mean: [0.0; D], rows, inverse_diagonal };
        posterior.mean = posterior.covariance_times(&self.information);
        posterior
    }
}

/// The Gaussian posterior of the coefficients of a [`LinearRegression`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LinearPosterior<const D: usize> {
    /// The mean.
    pub(super) mean: [f64; D],
    /// The Cholesky factor of the precision, below the diagonal.
    rows: [[f64; D]; D],
    /// The reciprocals of the factor's diagonal.
    inverse_diagonal: [f64; D],
}

impl<const D: usize> LinearPosterior<D> {
    /// The posterior covariance times a vector.
    pub(super) fn covariance_times(&self, vector: &[f64; D]) -> [f64; D] {
        let mut solved = *vector;
        for (index, (row, inverse)) in self.rows.iter().zip(&self.inverse_diagonal).enumerate() {
            let (head, tail) = solved.split_at_mut(index);
            if let Some(cell) = tail.first_mut() {
                *cell = (*cell - dot(head, row)) * inverse;
            }
        }
        for (index, (row, inverse)) in self.rows.iter().zip(&self.inverse_diagonal).enumerate().rev() {
            let (head, tail) = solved.split_at_mut(index);
            if let Some(cell) = tail.first_mut() {
                *cell *= inverse;
                head.iter_mut().zip(row).for_each(|(value, weight)| *value -= weight * *cell);
            }
        }
        solved
    }
}

/// The inner product of two vectors; of different lengths, the longer one is cut.
pub(super) fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_posterior_solves_the_normal_equations() {
        let observations = [([1.0, 2.0, -1.0], 3.0, 0.5), ([0.5, -1.0, 2.0], -1.0, 2.0), ([1.0, 0.0, 0.3], 0.7, 1.0)];
        let priors = [0.2, 1.5, 3.0];
        let mut regression = LinearRegression::new(&priors);
        observations.iter().for_each(|(features, value, noise)| regression.observe(features, *value, *noise));
        let posterior = regression.solve();
        for unit in 0..3 {
            // Precision × covariance × unit vector = unit vector.
            let column = posterior.covariance_times(&std::array::from_fn(|index| f64::from(u8::from(index == unit))));
            for row in 0..3 {
                let data: f64 = observations.iter().map(|(h, _, noise)| h[row] * dot(h, &column) / noise).sum();
                let expected = f64::from(u8::from(row == unit));
                assert!((data + column[row] / priors[row] - expected).abs() < 1e-12);
            }
            let gradient: f64 =
                observations.iter().map(|(h, y, noise)| h[unit] * (y - dot(h, &posterior.mean)) / noise).sum();
            assert!((gradient - posterior.mean[unit] / priors[unit]).abs() < 1e-12);
        }
    }
}
