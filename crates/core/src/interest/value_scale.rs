//! Standardisation of values. The interest model predicts standardised values.

use serde::{Deserialize, Serialize};

/// Running mean and variance of values, computed by Welford's update. A new value has at
/// least the weight 1 / [`ValueScale::MAX_AVERAGED_VALUES`].
///
/// The interest model learns standardised values, so it does not depend on the unit of the values
/// (stars, seconds).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct ValueScale {
    /// Number of values added, at most [`ValueScale::MAX_AVERAGED_VALUES`].
    count: f64,
    mean: f64,
    variance: f64,
}

impl Default for ValueScale {
    fn default() -> Self {
        Self { count: 0.0, mean: 0.0, variance: 0.0 }
    }
}

impl ValueScale {
    /// After this many values, the plain averages become exponential averages, in which old values
    /// lose weight.
    const MAX_AVERAGED_VALUES: f64 = 100_000.0;
    /// Standardised values are clamped to this absolute value, so that an outlier does not dominate
    /// training.
    const MAX_STANDARD_DEVIATIONS: f32 = 10.0;

    /// Values are limited by [`ValueScale::limited`] after this many values.
    const MIN_COUNT_TO_LIMIT: f64 = 20.0;

    /// Updates the mean and the variance with a value. Values that are not finite are ignored.
    pub(super) fn add_value(&mut self, value: f32) {
        if !value.is_finite() {
            return;
        }
        self.count = (self.count + 1.0).min(Self::MAX_AVERAGED_VALUES);
        let from_mean = f64::from(value) - self.mean;
        let rate = 1.0 / self.count;
        self.mean += rate * from_mean;
        self.variance += rate * (from_mean * (f64::from(value) - self.mean) - self.variance);
    }

    /// The value nearest to `value` that is at most `deviations` standard deviations away from the
    /// mean. A standard deviation below a quarter of the absolute mean counts as a quarter, so that
    /// nearly constant values can change. Before [`ValueScale::MIN_COUNT_TO_LIMIT`] values, and as
    /// long as all values are 0, returns `value`.
    pub(super) fn limited(&self, value: f32, deviations: f64) -> f32 {
        let deviation = self.variance.max(0.0).sqrt().max(0.25 * self.mean.abs());
        if self.count < Self::MIN_COUNT_TO_LIMIT || deviation == 0.0 {
            return value;
        }
        let distance = deviations * deviation;
        f64::from(value).clamp(self.mean - distance, self.mean + distance) as f32
    }

    fn standard_deviation(&self) -> f64 {
        if self.variance > 1e-12 { self.variance.sqrt() } else { 1.0 }
    }

    /// Standardises a value: (value − mean) / standard deviation, clamped to ±
    /// [`ValueScale::MAX_STANDARD_DEVIATIONS`].
    pub(super) fn standardise(&self, value: f32) -> f32 {
        (((f64::from(value) - self.mean) / self.standard_deviation()) as f32)
            .clamp(-Self::MAX_STANDARD_DEVIATIONS, Self::MAX_STANDARD_DEVIATIONS)
    }

    /// Converts a standardised value back to a value: the inverse of [`ValueScale::standardise`].
    pub(super) fn unstandardise(&self, standardised: f32) -> f32 {
        (f64::from(standardised) * self.standard_deviation() + self.mean) as f32
    }

    /// Converts a mean squared error of standardised values to one in the square of the values'
    /// unit.
    pub(super) fn unstandardise_squared(&self, error: f64) -> f64 {
        error * self.standard_deviation() * self.standard_deviation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_are_limited_and_the_scale_can_still_move_to_other_values() {
        let mut scale = ValueScale::default();
        for round in 0..20 {
            assert_eq!(scale.limited(1e9, 5.0), 1e9, "after {round} values");
            scale.add_value([1.0, 5.0][round % 2]);
        }
        assert_eq!([1.0, 5.0, 1e9, -1e9].map(|value| scale.limited(value, 5.0)), [1.0, 5.0, 13.0, -7.0]);
        for constant in [0.0, 1.0, 1e6] {
            let mut scale = ValueScale::default();
            (0..100).for_each(|_| scale.add_value(constant));
            let mut values = 0;
            while scale.limited(1e4, 5.0) != 1e4 {
                scale.add_value(scale.limited(1e4, 5.0));
                values += 1;
                assert!(values < 2_000, "{constant}: {scale:?}");
            }
        }
    }

    #[test]
    fn unstandardise_inverts_standardise() {
        let mut scale = ValueScale::default();
        assert_eq!((scale.standardise(3.0), scale.unstandardise(3.0)), (3.0, 3.0));
        for value in [100.0, 200.0, f32::NAN, 300.0, f32::INFINITY] {
            scale.add_value(value);
        }
        assert!(scale.standardise(200.0).abs() < 1e-6);
        assert!((scale.standardise(300.0) - 1.5_f32.sqrt()).abs() < 1e-6);
        assert!((scale.unstandardise(scale.standardise(250.0)) - 250.0).abs() < 1e-3);
        assert_eq!(scale.standardise(1e9), 10.0);
        assert!((scale.unstandardise_squared(1.0) - 20_000.0 / 3.0).abs() < 1e-6);
    }
}
