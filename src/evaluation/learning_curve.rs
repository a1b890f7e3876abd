//! Learning curve: ranking quality over intervals of the event stream.

use super::RankingMetrics;
use serde::{Deserialize, Serialize};

/// Ranking quality over consecutive intervals of events. The size is bounded: when there are too
/// many intervals, the curve merges neighbours and doubles the interval length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    stretch: u64,
    points: Vec<CurvePoint>,
}

/// An interval of the curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Number of the first event of the interval.
    pub from: u64,
    /// Recall@20 in the interval.
    pub recall: f64,
    /// MRR@20 in the interval.
    pub mrr: f64,
    /// Number of evaluated steps.
    pub steps: u64,
    quality: RankingMetrics,
}

impl LearningCurve {
    /// Maximum number of intervals.
    const MAX_POINTS: usize = 200;

    /// Creates a curve whose initial interval is `interval` events long.
    #[must_use]
    pub fn new(interval: u64) -> Self {
        Self { stretch: interval.max(1), points: Vec::new() }
    }

    /// Counts the step of event number `event`. Event numbers must not decrease.
    pub fn count(&mut self, event: u64, rank: Option<usize>) {
        let from = event - event % self.stretch;
        if self.points.last().is_none_or(|last| last.from != from) {
            if self.points.len() >= Self::MAX_POINTS {
                self.coarsen();
                return self.count(event, rank);
            }
            self.points.push(CurvePoint { from, recall: 0.0, mrr: 0.0, steps: 0, quality: RankingMetrics::default() });
        }
        if let Some(last) = self.points.last_mut() {
            last.quality.count(rank);
            last.update_metrics();
        }
    }

    /// The intervals so far, in order.
    #[must_use]
    pub fn points(&self) -> &[CurvePoint] {
        &self.points
    }

    fn coarsen(&mut self) {
        self.stretch *= 2;
        let mut merged: Vec<CurvePoint> = Vec::with_capacity(self.points.len() / 2 + 1);
        for point in self.points.drain(..) {
            let from = point.from - point.from % self.stretch;
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
    fn a_long_stream_keeps_few_points_and_every_step() {
        let mut curve = LearningCurve::new(10);
        for event in 0..100_000 {
            curve.count(event, (event % 2 == 0).then_some(1));
        }
        assert!(curve.points().len() <= LearningCurve::MAX_POINTS);
        assert_eq!(curve.points().iter().map(|point| point.steps).sum::<u64>(), 100_000);
        assert!(curve.points().iter().all(|point| (point.recall - 0.5).abs() < 1e-9));
    }
}
