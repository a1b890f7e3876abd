//! Error of predicted values.

use serde::{Deserialize, Serialize};

/// Mean squared error over all steps and over recent steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SquaredError {
    /// Number of counted steps.
    pub steps: u64,
    sum: f64,
    recent: f64,
}

impl SquaredError {
    /// Counts the prediction of a step and its actual value. The recent mean is an exponential
    /// moving average over about the last `window` steps.
    ///
    /// ```
    /// let mut error = sequor::evaluation::SquaredError::default();
    /// error.count(2.0, 5.0, 100);
    /// error.count(5.0, 5.0, 100);
    /// assert_eq!((error.mean(), error.recent()), (Some(4.5), Some(4.5)));
    /// ```
    pub fn count(&mut self, predicted: f32, actual: f32, window: usize) {
        let squared = f64::from(predicted - actual).powi(2);
        self.steps += 1;
        self.sum += squared;
        self.recent += (squared - self.recent) / self.steps.min(window.max(1) as u64) as f64;
    }

    /// The mean over all steps; `None` before the first.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.sum / self.steps as f64)
    }

    /// The recent mean; `None` before the first step.
    #[must_use]
    pub fn recent(&self) -> Option<f64> {
        (self.steps > 0).then_some(self.recent)
    }
}
