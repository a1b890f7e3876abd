//! Draws by weight.

use rand::Rng;

/// So many possibilities, each with its weight.
#[derive(Debug, Clone)]
pub(super) struct WeightedSampler {
    /// Sums of the weights up to each, itself included.
    sums: Vec<f64>,
}

impl WeightedSampler {
    /// Weights are at least 0.
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    /// Which of them; 0 if there are none.
    pub(super) fn sample(&self, random: &mut impl Rng) -> usize {
        let wanted = random.r#gen::<f64>() * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|sum| *sum <= wanted).min(self.sums.len().saturating_sub(1))
    }
}
