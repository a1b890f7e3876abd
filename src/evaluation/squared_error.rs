//! Accumulator of the squared error of predicted values.

use serde::{Deserialize, Serialize};

/// Mean squared error of predicted event values, over all steps and over the recent steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SquaredError {
    /// Number of evaluated steps.
    pub steps: u64,
    sum: f64,
    recent: f64,
}

impl SquaredError {
    /// Adds the predicted and the actual value of a step. The mean over recent steps is an
    /// exponential moving average over about the last `window` steps.
    ///
    /// ```
    /// let mut error = sequor::evaluation::SquaredError::default();
    /// error.record_prediction(2.0, 5.0, 100);
    /// error.record_prediction(5.0, 5.0, 100);
    /// assert_eq!((error.mean(), error.recent_mean()), (Some(4.5), Some(4.5)));
    /// ```
    pub fn record_prediction(&mut self, predicted: f32, actual: f32, window: usize) {
        let squared = f64::from(predicted - actual).powi(2);
        self.steps += 1;
        self.sum += squared;
        self.recent += (squared - self.recent) / self.steps.min(window.max(1) as u64) as f64;
    }

    /// The mean squared error over all steps; `None` before the first step.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.sum / self.steps as f64)
    }

    /// The mean squared error over recent steps; `None` before the first step.
    #[must_use]
    pub fn recent_mean(&self) -> Option<f64> {
        (self.steps > 0).then_some(self.recent)
    }
}
