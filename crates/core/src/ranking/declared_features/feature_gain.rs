//! Measures what the declared features contribute to the quality of the ranking, by ablation.

use super::feature_values::FeatureValues;
use crate::domain::ItemIx;
use serde::{Deserialize, Serialize};

/// Share of the sums that remains after a sample: they cover about the last 8192 samples.
const DECAY: f64 = 1.0 - 1.0 / 8192.0;
/// Ranks after this one count as misses.
const MAX_RANK: usize = 20;

/// Decayed sums over sampled events, or their averages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureQuality {
    /// Recall@20.
    pub recall: f64,
    /// MRR@20.
    pub mrr: f64,
}

impl FeatureQuality {
    fn add(&mut self, rank: Option<usize>) {
        let rank = rank.filter(|rank| *rank <= MAX_RANK);
        self.recall = self.recall * DECAY + f64::from(u8::from(rank.is_some()));
        self.mrr = self.mrr * DECAY + rank.map_or(0.0, |rank| 1.0 / rank as f64);
    }

    /// The difference to another quality.
    #[must_use]
    pub fn gain_over(self, other: Self) -> Self {
        Self { recall: self.recall - other.recall, mrr: self.mrr - other.mrr }
    }

    fn divided_by(self, weight: f64) -> Self {
        let scale = if weight > 0.0 { 1.0 / weight } else { 0.0 };
        Self { recall: self.recall * scale, mrr: self.mrr * scale }
    }
}

/// Decayed sums over the sampled events: with all features, without any, and without each one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct FeatureGains {
    /// Number of sampled events, without decay.
    samples: u64,
    /// Number of sampled events.
    weight: f64,
    /// Number of candidates of the sampled events.
    candidates: f64,
    with: FeatureQuality,
    without_all: FeatureQuality,
    without: Vec<FeatureQuality>,
    /// Number of candidates with a value, of each feature.
    present: Vec<f64>,
}

/// The target of a sampled event among its scored candidates.
#[derive(Debug, Clone, Copy)]
pub struct ScoredTarget<'a> {
    /// The candidates.
    pub items: &'a [ItemIx],
    /// Their scores, with the features.
    pub scores: &'a [f32],
    /// The position of the target item; `None` if it is no candidate.
    pub target: Option<usize>,
}

impl ScoredTarget<'_> {
    /// The rank of the target if `change` gives what is subtracted from the score of a candidate.
    fn rank_without(&self, values: &FeatureValues, change: impl Fn(&[f32]) -> f32) -> Option<usize> {
        let target = self.target?;
        let target_score = self.scores.get(target)? - change(values.rows().nth(target)?);
        let target_item = self.items.get(target)?;
        let is_better = |((item, score), row): ((&ItemIx, &f32), &[f32])| {
            let score = score - change(row);
            score > target_score || (score == target_score && item < target_item)
        };
        let candidates = self.items.iter().zip(self.scores).zip(values.rows());
        Some(1 + candidates.filter(|candidate| is_better(*candidate)).count())
    }
}

impl FeatureGains {
    pub(super) fn new(feature_count: usize) -> Self {
        let without = vec![FeatureQuality::default(); feature_count];
        Self { without, present: vec![0.0; feature_count], ..Self::default() }
    }

    /// Adds a sampled event.
    pub(super) fn add(&mut self, scored: &ScoredTarget<'_>, values: &FeatureValues) {
        self.samples += 1;
        self.weight = self.weight * DECAY + 1.0;
        self.candidates = self.candidates * DECAY + scored.items.len() as f64;
        self.present.iter_mut().for_each(|present| *present *= DECAY);
        values.candidates_with_value(&mut self.present);
        self.with.add(scored.rank_without(values, |_| 0.0));
        self.without_all.add(scored.rank_without(values, |row| row.iter().sum()));
        for (feature, without) in self.without.iter_mut().enumerate() {
            without.add(scored.rank_without(values, |row| row.get(feature).copied().unwrap_or_default()));
        }
    }

    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    pub(super) fn with(&self) -> FeatureQuality {
        self.with.divided_by(self.weight)
    }

    pub(super) fn without_all(&self) -> FeatureQuality {
        self.without_all.divided_by(self.weight)
    }

    /// The quality without a feature, and the share of the candidates with a value.
    pub(super) fn of_feature(&self, feature: usize) -> (FeatureQuality, f64) {
        let without = self.without.get(feature).copied().unwrap_or_default().divided_by(self.weight);
        let present = self.present.get(feature).copied().unwrap_or_default();
        (without, if self.candidates > 0.0 { present / self.candidates } else { 0.0 })
    }
}
