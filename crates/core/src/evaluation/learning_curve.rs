//! Learning curve: ranking quality in consecutive intervals of the event stream.

use super::RankingMetrics;
use serde::{Deserialize, Serialize};

/// Ranking quality in consecutive intervals of events. If there are too many intervals,
/// neighbouring intervals are merged in pairs and the interval length doubles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    interval_length: u64,
    points: Vec<CurvePoint>,
}

/// One interval of the learning curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Number of the first event of the interval.
    pub from: u64,
    /// Recall@20 in the interval.
    pub recall: f64,
    /// MRR@20 in the interval.
    pub mrr: f64,
    /// Number of tests in the interval.
    pub steps: u64,
    quality: RankingMetrics,
}

impl LearningCurve {
    /// Maximum number of intervals.
    const MAX_INTERVALS: usize = 200;

    /// Creates an empty curve with intervals of `interval` events.
    #[must_use]
    pub fn new(interval: u64) -> Self {
        Self { interval_length: interval.max(1), points: Vec::new() }
    }

    /// Adds a test on event number `event`. `rank` is the rank of the event's target item; `None`
    /// if the ranked list does not contain the item. Event numbers must not decrease.
    pub fn record_step(&mut self, event: u64, rank: Option<usize>) {
        let from = event - event % self.interval_length;
        if self.points.last().is_none_or(|last| last.from != from) {
            if self.points.len() >= Self::MAX_INTERVALS {
                self.double_interval_length();
                return self.record_step(event, rank);
            }
            self.points.push(CurvePoint { from, recall: 0.0, mrr: 0.0, steps: 0, quality: RankingMetrics::default() });
        }
        if let Some(last) = self.points.last_mut() {
            last.quality.record_rank(rank);
            last.update_metrics();
        }
    }

    /// The intervals so far, oldest first.
    #[must_use]
    pub fn points(&self) -> &[CurvePoint] {
        &self.points
    }

    fn double_interval_length(&mut self) {
        self.interval_length *= 2;
        let mut merged: Vec<CurvePoint> = Vec::with_capacity(self.points.len() / 2 + 1);
        for point in self.points.drain(..) {
            let from = point.from - point.from % self.interval_length;
            match merged.last_mut() {
                Some(last) if last.from == from => {
                    last.quality.merge(&point.quality);
                    last.update_metrics();
                }
                _ => merged.push(CurvePoint { from, ..point }),
            }
        }
        self.points = merged;
    }
}

impl CurvePoint {
    fn update_metrics(&mut self) {
        self.recall = self.quality.recall();
        self.mrr = self.quality.mrr();
        self.steps = self.quality.steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stream_gives_few_intervals_that_count_every_step() {
        let mut curve = LearningCurve::new(10);
        for event in 0..100_000 {
            curve.record_step(event, (event % 2 == 0).then_some(1));
        }
        assert!(curve.points().len() <= LearningCurve::MAX_INTERVALS);
        assert_eq!(curve.points().iter().map(|point| point.steps).sum::<u64>(), 100_000);
        assert!(curve.points().iter().all(|point| (point.recall - 0.5).abs() < 1e-9));
    }
}
