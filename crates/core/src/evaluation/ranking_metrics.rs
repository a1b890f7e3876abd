//! Accumulators of the ranking metrics Recall@k, MRR@k and NDCG@k.

use super::METRIC_CUTOFF;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Recall@20, MRR@20 and NDCG@20 over the evaluated steps. Every step has exactly one relevant
/// item, so Recall@k equals the hit rate. The ideal gain of a step is 1, so the NDCG@k of a step is
/// 1 / log₂(rank + 1) [Järvelin & Kekäläinen 2002].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RankingMetrics {
    /// Number of evaluated steps.
    pub steps: u64,
    hits: u64,
    reciprocal_ranks: f64,
    gains: f64,
}

impl RankingMetrics {
    /// Adds a step. `rank` is the rank of the step's target item (1 is best); `None` if the ranked
    /// list does not contain the item.
    ///
    /// ```
    /// let mut quality = sequor_core::evaluation::RankingMetrics::default();
    /// quality.record_rank(Some(1));
    /// quality.record_rank(Some(4));
    /// quality.record_rank(Some(21));
    /// quality.record_rank(None);
    /// assert_eq!((quality.recall(), quality.mrr()), (0.5, 0.3125));
    /// ```
    pub fn record_rank(&mut self, rank: Option<usize>) {
        self.steps += 1;
        if let Some((reciprocal, gain)) = reciprocal_rank_and_gain(rank) {
            self.hits += 1;
            self.reciprocal_ranks += reciprocal;
            self.gains += gain;
        }
    }

    /// The number of steps whose target item is in the top 20.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Recall@20: the share of steps whose target item is in the top 20; 0 before the first step.
    #[must_use]
    pub fn recall(&self) -> f64 {
        self.mean_per_step(self.hits as f64)
    }

    /// MRR@20: the mean of 1 / rank. A step whose rank is beyond 20 counts as 0.
    #[must_use]
    pub fn mrr(&self) -> f64 {
        self.mean_per_step(self.reciprocal_ranks)
    }

    /// NDCG@20: the mean of 1 / log₂(rank + 1). A step whose rank is beyond 20 counts as 0.
    #[must_use]
    pub fn ndcg(&self) -> f64 {
        self.mean_per_step(self.gains)
    }

    /// The steps that are not among the steps of `part`, all of which this accumulator contains.
    #[must_use]
    pub fn without(&self, part: &Self) -> Self {
        Self {
            steps: self.steps.saturating_sub(part.steps),
            hits: self.hits.saturating_sub(part.hits),
            reciprocal_ranks: self.reciprocal_ranks - part.reciprocal_ranks,
            gains: self.gains - part.gains,
        }
    }

    /// Adds all steps of another accumulator.
    pub fn merge(&mut self, other: &Self) {
        self.steps += other.steps;
        self.hits += other.hits;
        self.reciprocal_ranks += other.reciprocal_ranks;
        self.gains += other.gains;
    }

    fn mean_per_step(&self, sum: f64) -> f64 {
        if self.steps == 0 { 0.0 } else { sum / self.steps as f64 }
    }
}

/// Returns `(1 / rank, 1 / log₂(rank + 1))` for a rank in the top 20, else `None`.
fn reciprocal_rank_and_gain(rank: Option<usize>) -> Option<(f64, f64)> {
    rank.filter(|rank| (1..=METRIC_CUTOFF).contains(rank)).map(|rank| {
        let rank = rank as f64;
        (1.0 / rank, 1.0 / (rank + 1.0).log2())
    })
}

/// [`RankingMetrics`] over a sliding window of the last steps, for the live metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredSlidingMetrics")]
pub struct SlidingRankingMetrics {
    /// Rank of each step in the window, the oldest first; 0 for a rank beyond the top 20.
    ranks: VecDeque<u8>,
    window: usize,
    /// Number of steps in the window by rank. The metrics follow from these numbers, so that their
    /// cost does not depend on the length of the window.
    #[serde(skip)]
    steps_by_rank: [u32; METRIC_CUTOFF + 1],
}

/// Serialised form of [`SlidingRankingMetrics`].
#[derive(Deserialize)]
struct StoredSlidingMetrics {
    ranks: VecDeque<u8>,
    window: usize,
}

impl From<StoredSlidingMetrics> for SlidingRankingMetrics {
    fn from(StoredSlidingMetrics { ranks, window }: StoredSlidingMetrics) -> Self {
        let mut metrics = Self { ranks: VecDeque::new(), window: window.max(1), steps_by_rank: Default::default() };
        ranks.iter().for_each(|rank| metrics.record_rank(Some(usize::from(*rank))));
        metrics
    }
}

impl SlidingRankingMetrics {
    /// Creates metrics over the last `window` steps.
    #[must_use]
    pub fn new(window: usize) -> Self {
        Self {
            ranks: VecDeque::with_capacity(window.min(4096)),
            window: window.max(1),
            steps_by_rank: Default::default(),
        }
    }

    /// Adds a step like [`RankingMetrics::record_rank`]. If the window is full, drops the oldest
    /// step.
    pub fn record_rank(&mut self, rank: Option<usize>) {
        if self.ranks.len() >= self.window
            && let Some(oldest) = self.ranks.pop_front()
            && let Some(steps) = self.steps_by_rank.get_mut(usize::from(oldest))
        {
            *steps = steps.saturating_sub(1);
        }
        let rank = rank.filter(|rank| (1..=METRIC_CUTOFF).contains(rank)).unwrap_or(0);
        self.ranks.push_back(u8::try_from(rank).unwrap_or(0));
        if let Some(steps) = self.steps_by_rank.get_mut(rank) {
            *steps += 1;
        }
    }

    /// Computes the metrics over the steps in the window.
    #[must_use]
    pub fn metrics(&self) -> RankingMetrics {
        let mut metrics = RankingMetrics { steps: self.ranks.len() as u64, ..RankingMetrics::default() };
        for (rank, &steps) in self.steps_by_rank.iter().enumerate().filter(|(_, steps)| **steps > 0) {
            if let Some((reciprocal, gain)) = reciprocal_rank_and_gain(Some(rank)) {
                metrics.hits += u64::from(steps);
                metrics.reciprocal_ranks += reciprocal * f64::from(steps);
                metrics.gains += gain * f64::from(steps);
            }
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ndcg_of_rank_3_is_one_half() {
        let mut quality = RankingMetrics::default();
        quality.record_rank(Some(3));
        // The gain of rank 3 is 1 / log2(3 + 1) = 0.5.
        assert_eq!(quality.ndcg(), 0.5);
        quality.record_rank(Some(20));
        quality.record_rank(Some(21));
        assert_eq!(quality.recall(), 2.0 / 3.0);
        assert_eq!(quality.steps, 3);
    }

    #[test]
    fn the_sliding_window_drops_old_steps() {
        let mut sliding = SlidingRankingMetrics::new(2);
        sliding.record_rank(Some(1));
        sliding.record_rank(None);
        sliding.record_rank(Some(2));
        assert_eq!(sliding.metrics().steps, 2);
        assert_eq!(sliding.metrics().recall(), 0.5);
        assert_eq!(sliding.metrics().mrr(), 0.25);
    }

    #[test]
    fn the_sliding_metrics_equal_those_of_the_last_steps_and_survive_a_restart() {
        let (mut sliding, mut ranks) = (SlidingRankingMetrics::new(50), Vec::new());
        for step in 0..400_usize {
            let rank = Some(step * 7 % 31).filter(|rank| *rank > 0);
            sliding.record_rank(rank);
            ranks.push(rank);
            let mut expected = RankingMetrics::default();
            ranks.iter().rev().take(50).for_each(|rank| expected.record_rank(*rank));
            let found = sliding.metrics();
            assert_eq!((found.steps, found.hits()), (expected.steps, expected.hits()));
            assert!((found.mrr() - expected.mrr()).abs() < 1e-12 && (found.ndcg() - expected.ndcg()).abs() < 1e-12);
        }
        let bytes = bincode::serde::encode_to_vec(&sliding, bincode::config::legacy()).unwrap();
        let (decoded, _): (SlidingRankingMetrics, _) =
            bincode::serde::decode_from_slice(&bytes, bincode::config::legacy()).unwrap();
        assert_eq!(decoded, sliding);
        let stored: (VecDeque<u8>, usize) = (sliding.ranks.clone(), 50);
        assert_eq!(bytes, bincode::serde::encode_to_vec(&stored, bincode::config::legacy()).unwrap());
    }
}
