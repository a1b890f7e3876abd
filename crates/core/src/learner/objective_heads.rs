//! The heads of the ranker, one for each objective: their training and their prequential tests.

use crate::domain::{ItemIx, Objective};
use crate::evaluation::{RankingMetrics, SlidingRankingMetrics};
use crate::ranking::{ObjectiveHead, RankingWorkspace};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Smallest and largest weight of a conversion in the objective revenue. The weight is the value of
/// the conversion divided by the running mean of values.
const REVENUE_WEIGHT_RANGE: std::ops::RangeInclusive<f32> = 0.1..=10.0;
/// Number of values after which the running mean follows the latest values.
const MEAN_VALUE_WINDOW: u32 = 1_000;
/// Number of latest events of an objective over which the live metrics are computed.
const TEST_WINDOW: usize = 1_000;

/// The heads of a snapshot, in the order of [`Objective::ALL`].
pub(super) type HeadSet = Vec<Arc<ObjectiveHead>>;

/// All heads, with their tests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectiveHeads {
    /// In the order of [`Objective::ALL`].
    heads: Vec<TestedHead>,
    mean_value: RunningMean,
}

/// A head, and the ranks of the items of the latest events of its objective, before it learned them.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct TestedHead {
    /// Snapshots share the head.
    head: Arc<ObjectiveHead>,
    /// Ranks without the head.
    without: SlidingRankingMetrics,
    /// Ranks with the head.
    with: SlidingRankingMetrics,
}

/// The mean of the latest values of conversions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct RunningMean {
    mean: f64,
    count: u32,
}

/// Quality of the rankings with and without a head at the latest events of its objective.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadQuality {
    /// The objective.
    pub objective: Objective,
    /// Number of events that the head has learned.
    pub learned_events: u64,
    /// Metrics of the ranking without the head.
    pub without: RankingMetrics,
    /// Metrics of the ranking with the head.
    pub with: RankingMetrics,
}

/// A target event, as the objectives see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ObjectiveEvent {
    /// The target item.
    pub(super) item: ItemIx,
    /// Whether a recommendation has shown the item to the user.
    pub(super) is_click: bool,
    pub(super) is_conversion: bool,
    /// The value that the event carries.
    pub(super) value: Option<f32>,
    /// Whether the event is a test.
    pub(super) is_tested: bool,
    /// Whether the heads learn from the event.
    pub(super) is_learned: bool,
}

impl Default for TestedHead {
    fn default() -> Self {
        let ranks = || SlidingRankingMetrics::new(TEST_WINDOW);
        Self { head: Arc::default(), without: ranks(), with: ranks() }
    }
}

impl Default for ObjectiveHeads {
    fn default() -> Self {
        Self { heads: Vec::new(), mean_value: RunningMean::default() }.with_all_objectives()
    }
}

impl RunningMean {
    /// The weight of a value, and the mean with the value. The first value has the weight 1.
    fn weigh(&mut self, value: f32) -> f32 {
        let value = f64::from(value);
        self.count = (self.count + 1).min(MEAN_VALUE_WINDOW);
        if self.count == 1 {
            self.mean = value;
        }
        let weight = if self.mean > 0.0 { (value / self.mean) as f32 } else { 1.0 };
        self.mean += (value - self.mean) / f64::from(self.count);
        weight.clamp(*REVENUE_WEIGHT_RANGE.start(), *REVENUE_WEIGHT_RANGE.end())
    }
}

impl ObjectiveHeads {
    /// Adds heads for the objectives that an earlier version lacks.
    pub(super) fn with_all_objectives(mut self) -> Self {
        self.heads.resize_with(Objective::ALL.len(), TestedHead::default);
        self
    }

    /// The heads, for a snapshot.
    pub(super) fn heads(&self) -> HeadSet {
        self.heads.iter().map(|tested| Arc::clone(&tested.head)).collect()
    }

    /// Restores the heads of an earlier state. The tests and the mean value stay.
    pub(super) fn roll_back(&mut self, earlier: &Self) {
        self.heads.iter_mut().zip(earlier.heads()).for_each(|(tested, head)| tested.head = head);
    }

    /// Tests the heads of the objectives to which an event belongs, then trains them. The workspace
    /// holds the scored candidates of the event.
    pub(super) fn learn_event(&mut self, event: &ObjectiveEvent, ranking: &mut RankingWorkspace) {
        let ObjectiveEvent { item, is_click, is_conversion, value, is_tested, is_learned } = *event;
        if !is_click && !is_conversion {
            return;
        }
        let rank_without = ranking.rank_of(item);
        for (objective, TestedHead { head, without, with }) in Objective::ALL.into_iter().zip(&mut self.heads) {
            let belongs = if objective == Objective::Ctr { is_click } else { is_conversion };
            if !belongs {
                continue;
            }
            let rank = ranking.rank_with_head(head, item);
            if is_tested {
                without.record_rank(rank_without);
                with.record_rank(rank);
            }
            if is_learned {
                let value = value.filter(|_| objective == Objective::Revenue);
                let weight = value.map_or(1.0, |value| self.mean_value.weigh(value));
                ranking.train_head(Arc::make_mut(head), item, weight);
            }
        }
    }

    /// The quality of each head, in the order of [`Objective::ALL`].
    pub(super) fn qualities(&self) -> Vec<HeadQuality> {
        let to_quality = |(objective, tested): (Objective, &TestedHead)| HeadQuality {
            objective,
            learned_events: tested.head.learned_events(),
            without: tested.without.metrics(),
            with: tested.with.metrics(),
        };
        Objective::ALL.into_iter().zip(&self.heads).map(to_quality).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_of_a_value_is_its_ratio_to_the_mean_within_bounds() {
        let mut mean = RunningMean::default();
        assert_eq!([20.0, 20.0, 40.0].map(|value| mean.weigh(value)), [1.0, 1.0, 2.0]);
        assert_eq!([0.0, 1e9].map(|value| mean.weigh(value)), [0.1, 10.0]);
        let mut zero = RunningMean::default();
        assert_eq!([0.0, 5.0].map(|value| zero.weigh(value)), [1.0, 1.0]);
    }
}
