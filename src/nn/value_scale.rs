//! The scale of the values that the interest head predicts.

use serde::{Deserialize, Serialize};

/// Running mean and variance of the values met, so that the head learns on standardised ones, whether they are stars or seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct ValueScale {
    /// Values counted, at most [`ValueScale::MEMORY`].
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
    /// From so many values on, older ones fade.
    const MEMORY: f64 = 100_000.0;
    /// Values beyond this many standard deviations are learned as if at it: one outlier must not own the head.
    const FARTHEST: f32 = 10.0;

    /// Counts a value; what is not finite is ignored.
    pub(super) fn observe(&mut self, value: f32) {
        if !value.is_finite() {
            return;
        }
        self.count = (self.count + 1.0).min(Self::MEMORY);
        let from_mean = f64::from(value) - self.mean;
        let share = 1.0 / self.count;
        self.mean += share * from_mean;
        self.variance += share * (from_mean * (f64::from(value) - self.mean) - self.variance);
    }

    fn deviation(&self) -> f64 {
        if self.variance > 1e-12 { self.variance.sqrt() } else { 1.0 }
    }

    /// (value − mean) / deviation, within ± [`ValueScale::FARTHEST`].
    pub(super) fn standardise(&self, value: f32) -> f32 {
        (((f64::from(value) - self.mean) / self.deviation()) as f32).clamp(-Self::FARTHEST, Self::FARTHEST)
    }

    /// The value of a standardised one.
    pub(super) fn unstandardise(&self, standardised: f32) -> f32 {
        (f64::from(standardised) * self.deviation() + self.mean) as f32
    }

    /// A mean of standardised squared errors in squared values.
    pub(super) fn unstandardise_squared(&self, error: f64) -> f64 {
        error * self.deviation() * self.deviation()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standardised_values_come_back() {
        let mut scale = ValueScale::default();
        assert_eq!((scale.standardise(3.0), scale.unstandardise(3.0)), (3.0, 3.0));
        for value in [100.0, 200.0, f32::NAN, 300.0, f32::INFINITY] {
            scale.observe(value);
        }
        assert!(scale.standardise(200.0).abs() < 1e-6);
        assert!((scale.standardise(300.0) - 1.5_f32.sqrt()).abs() < 1e-6);
        assert!((scale.unstandardise(scale.standardise(250.0)) - 250.0).abs() < 1e-3);
        assert_eq!(scale.standardise(1e9), 10.0);
        assert!((scale.unstandardise_squared(1.0) - 20_000.0 / 3.0).abs() < 1e-6);
    }
}
