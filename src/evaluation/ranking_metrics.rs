//! Accumulators of list metrics.

use super::K;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Recall@20, MRR@20 and NDCG@20 over the steps counted so far. Each step has exactly one relevant
/// item. Recall@k is therefore the hit rate. The ideal gain is 1, so NDCG@k = 1 / log₂(rank + 1)
/// [Järvelin & Kekäläinen 2002].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RankingMetrics {
    /// Number of counted steps.
    pub steps: u64,
    hits: u64,
    reciprocal_ranks: f64,
    gains: f64,
}

impl RankingMetrics {
    /// Counts a step by the rank of its target item (1 is best); `None` if the list does not
    /// contain the item.
    ///
    /// ```
    /// let mut quality = sequor::evaluation::RankingMetrics::default();
    /// quality.count(Some(1));
    /// quality.count(Some(4));
    /// quality.count(Some(21));
    /// quality.count(None);
    /// assert_eq!((quality.recall(), quality.mrr()), (0.5, 0.3125));
    /// ```
    pub fn count(&mut self, rank: Option<usize>) {
        self.steps += 1;
        if let Some((reciprocal, gain)) = hit_values(rank) {
            self.hits += 1;
            self.reciprocal_ranks += reciprocal;
            self.gains += gain;
        }
    }

    /// The number of steps whose target is in the top 20.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// The share of steps whose target is in the top 20; 0 before the first step.
    #[must_use]
    pub fn recall(&self) -> f64 {
        self.mean(self.hits as f64)
    }

    /// The mean of 1 / rank. A rank beyond 20 counts as 0.
    #[must_use]
    pub fn mrr(&self) -> f64 {
        self.mean(self.reciprocal_ranks)
    }

    /// The mean discounted gain. A rank beyond 20 counts as 0.
    #[must_use]
    pub fn ndcg(&self) -> f64 {
        self.mean(self.gains)
    }

    /// Adds the steps of another accumulator.
    pub fn merge(&mut self, other: &Self) {
        self.steps += other.steps;
        self.hits += other.hits;
        self.reciprocal_ranks += other.reciprocal_ranks;
        self.gains += other.gains;
    }

    fn mean(&self, sum: f64) -> f64 {
        if self.steps == 0 { 0.0 } else { sum / self.steps as f64 }
    }
}

/// `(1 / rank, 1 / log₂(rank + 1))` of a rank in the top 20; `None` for others.
fn hit_values(rank: Option<usize>) -> Option<(f64, f64)> {
    rank.filter(|rank| (1..=K).contains(rank)).map(|rank| {
        let rank = rank as f64;
        (1.0 / rank, 1.0 / (rank + 1.0).log2())
    })
}

/// [`RankingMetrics`] over a sliding window of steps, for the live metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SlidingRankingMetrics {
    ranks: VecDeque<u8>,
    window: usize,
}

impl SlidingRankingMetrics {
    /// Creates metrics over the last `window` steps.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self { ranks: VecDeque::with_capacity(window.min(4096)), window: window.max(1) }
    }

    /// Counts a step like [`RankingMetrics::count`].
    pub fn count(&mut self, rank: Option<usize>) {
        if self.ranks.len() >= self.window {
            self.ranks.pop_front();
        }
        let rank = rank.filter(|rank| (1..=K).contains(rank)).and_then(|rank| u8::try_from(rank).ok());
        self.ranks.push_back(rank.unwrap_or(0));
    }

    /// The metrics over the current window.
    #[must_use]
    pub fn metrics(&self) -> RankingMetrics {
        let mut quality = RankingMetrics::default();
        for &rank in &self.ranks {
            quality.count((rank > 0).then_some(usize::from(rank)));
        }
        quality
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ndcg_follows_the_formula() {
        let mut quality = RankingMetrics::default();
        quality.count(Some(3));
        // 1 / log2(3 + 1) = 0.5
        assert_eq!(quality.ndcg(), 0.5);
        quality.count(Some(20));
        quality.count(Some(21));
        assert_eq!(quality.recall(), 2.0 / 3.0);
        assert_eq!(quality.steps, 3);
    }

    #[test]
    fn the_sliding_window_drops_old_steps() {
        let mut sliding = SlidingRankingMetrics::new(2);
        sliding.count(Some(1));
        sliding.count(None);
        sliding.count(Some(2));
        assert_eq!(sliding.metrics().steps, 2);
        assert_eq!(sliding.metrics().recall(), 0.5);
        assert_eq!(sliding.metrics().mrr(), 0.25);
    }
}
