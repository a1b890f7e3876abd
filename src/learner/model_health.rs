//! Model health: moving averages of quality and loss, for the watchdog.

use crate::domain::Offset;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::training::TrainingReport;

/// A short-term and a long-term moving average of the same value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthAverages {
    /// The short-term average.
    pub recent: f64,
    /// The long-term average.
    pub usual: f64,
    /// Number of values averaged.
    pub count: u64,
}

impl HealthAverages {
    /// Adds one value. Each average is the plain mean until it has as many values as it spans. For
    /// the long-term average a value is capped at `cap` times that average, so that outliers do not
    /// quickly become normal.
    fn add(&mut self, value: f64, short_span: f64, long_span: f64, cap: f64) {
        self.count += 1;
        let plain = 1.0 / self.count as f64;
        let bounded = if self.count > 1 { value.min(cap * self.usual) } else { value };
        self.recent += (value - self.recent) * plain.max(1.0 / short_span);
        self.usual += (bounded - self.usual) * plain.max(1.0 / long_span);
    }

    /// The short-term average divided by the long-term one; 1 if there is no long-term average.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.usual > 0.0 { self.recent / self.usual } else { 1.0 }
    }
}

/// Model health at one offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthMark {
    /// The offset of the next entry.
    pub offset: Offset,
    /// Reciprocal rank of the target at cutoff 20 (MRR@20).
    pub quality: HealthAverages,
    /// Mean loss of a training, in nats.
    pub loss: HealthAverages,
    /// Share of mini-batches whose loss or gradient was not finite.
    #[serde(rename = "wasted")]
    pub non_finite_share: f64,
}

/// Tracks quality and loss, and keeps a mark every 500 entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelHealth {
    now: HealthMark,
    /// The training totals at the last update.
    trained: TrainingReport,
    marks: VecDeque<HealthMark>,
}

impl ModelHealth {
    /// Span of the short-term averages: in tests for quality, in trainings for the loss.
    pub const RECENTLY: (f64, f64) = (1_000.0, 10.0);
    /// Span of the long-term averages, likewise.
    const USUALLY: (f64, f64) = (20_000.0, 1_000.0);
    /// Cap on one loss value, as a multiple of the long-term average.
    const LOSS_MOST: f64 = 3.0;
    /// Number of entries between two marks.
    const EVERY: u64 = 500;
    /// Maximum number of marks kept.
    const KEPT: usize = 200;

    /// Records a test, given the rank of its target.
    pub fn record_test(&mut self, rank: Option<usize>) {
        let reciprocal_rank = rank
            .filter(|rank| (1..=crate::evaluation::METRIC_CUTOFF).contains(rank))
            .map_or(0.0, |rank| 1.0 / rank as f64);
        self.now.quality.add(reciprocal_rank, Self::RECENTLY.0, Self::USUALLY.0, f64::INFINITY);
    }

    /// Records the trainings since the last call; `all` are the cumulative totals.
    pub fn record_training(&mut self, all: &TrainingReport) {
        let earlier = std::mem::replace(&mut self.trained, *all);
        let (batches, skipped) = (all.batches - earlier.batches, all.skipped - earlier.skipped);
        if batches + skipped > 0 {
            self.now.non_finite_share +=
                (skipped as f64 / (batches + skipped) as f64 - self.now.non_finite_share) / Self::RECENTLY.1;
        }
        if batches > 0 {
            self.now.loss.add(
                (all.loss - earlier.loss) / batches as f64,
                Self::RECENTLY.1,
                Self::USUALLY.1,
                Self::LOSS_MOST,
            );
        }
    }

    /// Advances to the next entry, and adds a mark if one is due.
    pub fn advance(&mut self, next: Offset) {
        self.now.offset = next;
        if next.is_multiple_of(Self::EVERY) {
            if self.marks.len() >= Self::KEPT {
                self.marks.pop_front();
            }
            self.marks.push_back(self.now);
        }
    }

    /// Restarts from the model at offset `to` after a rollback: the short-term averages become the
    /// long-term ones, and later marks are dropped.
    pub fn restart_from(&mut self, to: Offset) {
        self.now.quality.recent = self.now.quality.usual;
        self.now.loss.recent = self.now.loss.usual;
        self.now.non_finite_share = 0.0;
        self.marks.retain(|mark| mark.offset <= to);
    }

    /// The current health.
    #[must_use]
    pub fn current(&self) -> &HealthMark {
        &self.now
    }

    /// The marks, oldest first.
    pub fn marks(&self) -> impl DoubleEndedIterator<Item = &HealthMark> {
        self.marks.iter()
    }
}
