//! Totals over trainings.

use serde::{Deserialize, Serialize};

/// Totals over one or more trainings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingReport {
    /// Number of mini-batches trained on.
    pub batches: u64,
    /// Number of mini-batches skipped because the loss or the gradient was not finite.
    pub skipped: u64,
    /// Number of positions trained on.
    pub examples: u64,
    /// Mean next-item loss of each mini-batch in nats, summed over the mini-batches.
    pub loss: f64,
    /// Gradient norm of each mini-batch before clipping, summed over the mini-batches.
    pub gradient_norm: f64,
}

impl TrainingReport {
    /// Adds the totals of another report.
    pub fn merge(&mut self, other: &Self) {
        self.batches += other.batches;
        self.skipped += other.skipped;
        self.examples += other.examples;
        self.loss += other.loss;
        self.gradient_norm += other.gradient_norm;
    }

    /// The mean loss per mini-batch, in nats; `None` before the first mini-batch.
    #[must_use]
    pub fn mean_loss(&self) -> Option<f64> {
        (self.batches > 0).then(|| self.loss / self.batches as f64)
    }
}
