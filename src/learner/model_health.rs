//! How the model is doing, against how it usually does.

use crate::domain::Offset;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

use super::training::TrainingReport;

/// A mean over the last while, and one over a long while.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthAverages {
    /// Over about the last `1 / fast` values.
    pub recent: f64,
    /// Over about the last `1 / slow` values.
    pub usual: f64,
    /// Values that were averaged.
    pub count: u64,
}

impl HealthAverages {
    /// Takes one value; each mean is plain until it has as many values as it spans. What is far
    /// beyond the usual does not soon become usual: a value counts there as `most` times the mean
    /// at most.
    fn take(&mut self, value: f64, recently: f64, usually: f64, most: f64) {
        self.count += 1;
        let plain = 1.0 / self.count as f64;
        let bounded = if self.count > 1 { value.min(most * self.usual) } else { value };
        self.recent += (value - self.recent) * plain.max(1.0 / recently);
        self.usual += (bounded - self.usual) * plain.max(1.0 / usually);
    }

    /// The recent mean by the usual one; 1 where there is none.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.usual > 0.0 { self.recent / self.usual } else { 1.0 }
    }
}

/// How the model did when an entry had been folded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct HealthMark {
    /// The next entry then.
    pub offset: Offset,
    /// The reciprocal rank, at most 20, of what was chosen.
    pub quality: HealthAverages,
    /// The mean loss of a training, in nats.
    pub loss: HealthAverages,
    /// The share of a training's mini-batches whose loss or gradient was not finite.
    #[serde(rename = "wasted")]
    pub non_finite_share: f64,
}

/// Follows quality and loss, and remembers how they were every so many entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelHealth {
    now: HealthMark,
    /// The trainings that were taken account of.
    trained: TrainingReport,
    marks: VecDeque<HealthMark>,
}

impl ModelHealth {
    /// Steps, and trainings, that the recent means span.
    pub const RECENTLY: (f64, f64) = (1_000.0, 10.0);
    /// Steps, and trainings, that the usual means span.
    const USUALLY: (f64, f64) = (20_000.0, 1_000.0);
    /// A loss counts towards the usual one as so many times that at most.
    const LOSS_MOST: f64 = 3.0;
    /// Entries between two marks.
    const EVERY: u64 = 500;
    /// Marks that are kept.
    const KEPT: usize = 200;

    /// A step was a test: what was chosen had that rank.
    pub fn record_test(&mut self, rank: Option<usize>) {
        let worth = rank.filter(|rank| (1..=crate::evaluation::K).contains(rank)).map_or(0.0, |rank| 1.0 / rank as f64);
        self.now.quality.take(worth, Self::RECENTLY.0, Self::USUALLY.0, f64::INFINITY);
    }

    /// At a border: `all` trainings so far.
    pub fn record_training(&mut self, all: &TrainingReport) {
        let earlier = std::mem::replace(&mut self.trained, *all);
        let (batches, skipped) = (all.batches - earlier.batches, all.skipped - earlier.skipped);
        if batches + skipped > 0 {
            self.now.non_finite_share += (skipped as f64 / (batches + skipped) as f64 - self.now.non_finite_share) / Self::RECENTLY.1;
        }
        if batches > 0 {
            self.now.loss.take((all.loss - earlier.loss) / batches as f64, Self::RECENTLY.1, Self::USUALLY.1, Self::LOSS_MOST);
        }
    }

    /// An entry was folded.
    pub fn advance(&mut self, next: Offset) {
        self.now.offset = next;
        if next.is_multiple_of(Self::EVERY) {
            if self.marks.len() >= Self::KEPT {
                self.marks.pop_front();
            }
            self.marks.push_back(self.now);
        }
    }

    /// The model is as it was at `to` from here on: what is recent is what is usual, and what came
    /// in between is no more.
    pub fn restart_from(&mut self, to: Offset) {
        self.now.quality.recent = self.now.quality.usual;
        self.now.loss.recent = self.now.loss.usual;
        self.now.non_finite_share = 0.0;
        self.marks.retain(|mark| mark.offset <= to);
    }

    /// How it is doing.
    #[must_use]
    pub fn current(&self) -> &HealthMark {
        &self.now
    }

    /// How it did, oldest first.
    pub fn marks(&self) -> impl DoubleEndedIterator<Item = &HealthMark> {
        self.marks.iter()
    }
}
