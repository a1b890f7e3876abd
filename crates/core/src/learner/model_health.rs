//! Model health: moving averages of ranking quality and training loss, which the watchdog checks.

use crate::domain::Offset;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::training_report::TrainingReport;

/// A short-term and a long-term moving average of the same measured value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthAverages {
    /// The short-term average.
    pub recent: f64,
    /// The long-term average.
    pub usual: f64,
    /// Number of values in the averages.
    pub count: u64,
}

impl HealthAverages {
    /// Adds one value to both averages. An average is the plain mean until it has as many values as
    /// its span; from then on it is an exponential moving average. A value enters the long-term
    /// average capped at `cap` times that average, so that outliers raise the average only slowly.
    fn add_value(&mut self, value: f64, short_span: f64, long_span: f64, cap: f64) {
        self.count += 1;
        let plain = 1.0 / self.count as f64;
        let bounded = if self.count > 1 { value.min(cap * self.usual) } else { value };
        self.recent += (value - self.recent) * plain.max(1.0 / short_span);
        self.usual += (bounded - self.usual) * plain.max(1.0 / long_span);
    }

    /// The short-term average divided by the long-term average; 1 if the long-term average is not
    /// positive.
    #[must_use]
    pub fn short_to_long_ratio(&self) -> f64 {
        if self.usual > 0.0 { self.recent / self.usual } else { 1.0 }
    }
}

/// The model health at one journal offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthMark {
    /// The offset of the next entry.
    pub offset: Offset,
    /// Averages of the reciprocal rank of the target item at cutoff 20 (MRR@20).
    pub quality: HealthAverages,
    /// Averages, over trainings, of a training's mean loss in nats.
    pub loss: HealthAverages,
    /// Short-term average of the share of mini-batches whose loss or gradient was not finite.
    #[serde(rename = "wasted")]
    pub non_finite_share: f64,
}

/// Tracks ranking quality and loss. Every 500 journal entries it records a mark: a copy of the
/// current averages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelHealth {
    now: HealthMark,
    /// The training totals at the last call of [`ModelHealth::record_training`].
    trained: TrainingReport,
    marks: VecDeque<HealthMark>,
}

impl ModelHealth {
    /// Spans of the short-term averages: a number of tests for the quality, then a number of
    /// trainings for the loss.
    pub const SHORT_TERM_SPANS: (f64, f64) = (1_000.0, 10.0);
    /// Spans of the long-term averages: a number of tests for the quality, then a number of
    /// trainings for the loss.
    const LONG_TERM_SPANS: (f64, f64) = (20_000.0, 1_000.0);
    /// Before a loss value enters the long-term average, it is capped at this multiple of the
    /// average.
    const MAX_LOSS_TO_LONG_TERM_RATIO: f64 = 3.0;
    /// Number of journal entries between two marks.
    const ENTRIES_PER_MARK: u64 = 500;
    /// Maximum number of marks that are kept.
    const MAX_MARKS: usize = 200;

    /// Records a test, given the rank of its target item.
    pub fn record_test(&mut self, rank: Option<usize>) {
        let reciprocal_rank = rank
            .filter(|rank| (1..=crate::evaluation::METRIC_CUTOFF).contains(rank))
            .map_or(0.0, |rank| 1.0 / rank as f64);
        self.now.quality.add_value(reciprocal_rank, Self::SHORT_TERM_SPANS.0, Self::LONG_TERM_SPANS.0, f64::INFINITY);
    }

    /// Adds the loss of the trainings since the last call. `all` holds the totals of all trainings
    /// so far.
    pub fn record_training(&mut self, all: &TrainingReport) {
        let earlier = std::mem::replace(&mut self.trained, *all);
        let (batches, skipped) = (all.batches - earlier.batches, all.skipped - earlier.skipped);
        if batches + skipped > 0 {
            self.now.non_finite_share +=
                (skipped as f64 / (batches + skipped) as f64 - self.now.non_finite_share) / Self::SHORT_TERM_SPANS.1;
        }
        if batches > 0 {
            self.now.loss.add_value(
                (all.loss - earlier.loss) / batches as f64,
                Self::SHORT_TERM_SPANS.1,
                Self::LONG_TERM_SPANS.1,
                Self::MAX_LOSS_TO_LONG_TERM_RATIO,
            );
        }
    }

    /// Sets the offset of the next entry to `next`, and records a mark if 500 entries have passed
    /// since the last mark.
    pub fn advance_to(&mut self, next: Offset) {
        self.now.offset = next;
        if next.is_multiple_of(Self::ENTRIES_PER_MARK) {
            if self.marks.len() >= Self::MAX_MARKS {
                self.marks.pop_front();
            }
            self.marks.push_back(self.now);
        }
    }

    /// Adjusts the health after a rollback to offset `to`. Sets the short-term averages to the
    /// long-term averages, and drops the marks after `to`.
    pub fn restart_after_rollback(&mut self, to: Offset) {
        self.now.quality.recent = self.now.quality.usual;
        self.now.loss.recent = self.now.loss.usual;
        self.now.non_finite_share = 0.0;
        self.marks.retain(|mark| mark.offset <= to);
    }

    /// The current model health.
    #[must_use]
    pub fn current(&self) -> &HealthMark {
        &self.now
    }

    /// The marks, oldest first.
    pub fn marks(&self) -> impl DoubleEndedIterator<Item = &HealthMark> {
        self.marks.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_marks_is_bounded_and_the_latest_are_kept() {
        let mut health = ModelHealth::default();
        for next in 1..=10 * ModelHealth::MAX_MARKS as Offset * ModelHealth::ENTRIES_PER_MARK {
            health.advance_to(next);
            assert!(health.marks.len() <= ModelHealth::MAX_MARKS);
            let latest = next - next % ModelHealth::ENTRIES_PER_MARK;
            assert_eq!(health.marks.back().map_or(0, |mark| mark.offset), latest);
        }
        assert_eq!(health.marks.len(), ModelHealth::MAX_MARKS);
    }
}
