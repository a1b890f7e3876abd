//! Sampling of indices by weight.

use rand::Rng;

/// A discrete probability distribution over indices, given by weights.
#[derive(Debug, Clone)]
pub(super) struct WeightedSampler {
    /// Cumulative weights.
    cumulative_weights: Vec<f64>,
}

impl WeightedSampler {
    /// Creates a sampler from weights, which must not be negative.
    pub(super) fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut sampler = Self { cumulative_weights: Vec::new() };
        weights.for_each(|weight| sampler.push(weight));
        sampler
    }

    /// Adds an index with the given weight, which must not be negative.
    pub(super) fn push(&mut self, weight: f64) {
        self.cumulative_weights.push(self.cumulative_weights.last().copied().unwrap_or(0.0) + weight);
    }

    /// The probability of an index; 0 if the index has no weight.
    pub(super) fn probability(&self, index: usize) -> f64 {
        let sum_before = |index: usize| {
            index.checked_sub(1).map_or(Some(0.0), |before| self.cumulative_weights.get(before).copied())
        };
        match (sum_before(index), sum_before(index + 1), self.cumulative_weights.last()) {
            (Some(before), Some(after), Some(total)) if *total > 0.0 => (after - before) / total,
            _ => 0.0,
        }
    }

    /// Draws an index; 0 if there are no weights.
    pub(super) fn draw_index(&self, random: &mut impl Rng) -> usize {
        let draw = random.r#gen::<f64>() * self.cumulative_weights.last().copied().unwrap_or(0.0);
        self.cumulative_weights.partition_point(|sum| *sum <= draw).min(self.cumulative_weights.len().saturating_sub(1))
    }
}
