//! Sampling by weight.

use rand::Rng;

/// A discrete distribution over indices.
#[derive(Debug, Clone)]
pub(super) struct WeightedSampler {
    /// Cumulative weights.
    sums: Vec<f64>,
}

impl WeightedSampler {
    /// Creates a sampler. The weights must not be negative.
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    /// Draws an index; 0 if there are no weights.
    pub(super) fn sample(&self, random: &mut impl Rng) -> usize {
        let draw = random.r#gen::<f64>() * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|sum| *sum <= draw).min(self.sums.len().saturating_sub(1))
    }
}
