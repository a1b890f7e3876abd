//! Prequential error of the interest model and of its baseline.

use serde::{Deserialize, Serialize};

use super::parameters::InterestPrediction;

/// Prequential error of the interest model, and the error of the baseline for the same ratings.
/// [`InterestMetrics::record`] only adds to the sums, so that [`InterestMetrics::since`] gives the
/// error over a part of the ratings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct InterestMetrics {
    /// Number of tested ratings.
    pub ratings: u64,
    squared: f64,
    absolute: f64,
    relative_squared: f64,
    baseline_squared: f64,
}

impl InterestMetrics {
    /// Adds a prediction and the actual value.
    pub fn record(&mut self, prediction: &InterestPrediction, value: f32) {
        let error = f64::from(value) - f64::from(prediction.mean);
        self.ratings += 1;
        self.squared += error * error;
        self.absolute += error.abs();
        self.relative_squared += error * error / f64::from(prediction.variance).max(f64::MIN_POSITIVE);
        self.baseline_squared += (f64::from(value) - f64::from(prediction.baseline_mean)).powi(2);
    }

    /// Adds a prediction and the actual value. After `window` ratings, the means become exponential
    /// averages over about the latest `window` ratings.
    pub fn record_recent(&mut self, prediction: &InterestPrediction, value: f32, window: usize) {
        let window = window.max(1) as u64;
        if self.ratings >= window {
            self.ratings = window - 1;
            let kept = self.ratings as f64 / window as f64;
            let sums = [&mut self.squared, &mut self.absolute, &mut self.relative_squared, &mut self.baseline_squared];
            sums.into_iter().for_each(|sum| *sum *= kept);
        }
        self.record(prediction, value);
    }

    /// The metrics of the ratings that were added after the earlier state.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            ratings: self.ratings.saturating_sub(earlier.ratings),
            squared: self.squared - earlier.squared,
            absolute: self.absolute - earlier.absolute,
            relative_squared: self.relative_squared - earlier.relative_squared,
            baseline_squared: self.baseline_squared - earlier.baseline_squared,
        }
    }

    fn mean_of(&self, sum: f64) -> Option<f64> {
        (self.ratings > 0).then(|| sum / self.ratings as f64)
    }

    /// Mean squared error, in the squared unit of the values; `None` without ratings.
    #[must_use]
    pub fn mse(&self) -> Option<f64> {
        self.mean_of(self.squared)
    }

    /// Root of the mean squared error, in the unit of the values; `None` without ratings.
    #[must_use]
    pub fn rmse(&self) -> Option<f64> {
        self.mse().map(f64::sqrt)
    }

    /// Mean absolute error, in the unit of the values; `None` without ratings.
    #[must_use]
    pub fn mae(&self) -> Option<f64> {
        self.mean_of(self.absolute)
    }

    /// Mean of squared error / predicted variance. 1 is calibrated; above 1, the model is too
    /// certain. `None` without ratings.
    #[must_use]
    pub fn calibration(&self) -> Option<f64> {
        self.mean_of(self.relative_squared)
    }

    /// Mean squared error of the baseline for the same ratings; `None` without ratings.
    #[must_use]
    pub fn baseline_mse(&self) -> Option<f64> {
        self.mean_of(self.baseline_squared)
    }
}
