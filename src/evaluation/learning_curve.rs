//! The learning curve: quality by stretch of the stream.

use super::RankingMetrics;
use serde::{Deserialize, Serialize};

/// Quality over consecutive stretches of events. Bounded: when there are too many stretches,
/// neighbours are merged and the stretch doubles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningCurve {
    stretch: u64,
    points: Vec<CurvePoint>,
}

/// One stretch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The number of the stretch's first event.
    pub from: u64,
    /// Recall@20 within it.
    pub recall: f64,
    /// MRR@20 within it.
    pub mrr: f64,
    /// How many steps were counted.
    pub steps: u64,
    quality: RankingMetrics,
}

impl LearningCurve {
    const MOST: usize = 200;

    /// A curve whose stretches begin `stretch` events long.
    #[must_use]
    pub fn new(stretch: u64) -> Self {
        Self { stretch: stretch.max(1), points: Vec::new() }
    }

    /// Counts the step of event number `event` (event numbers never fall).
    pub fn count(&mut self, event: u64, rank: Option<usize>) {
        let from = event - event % self.stretch;
        if self.points.last().is_none_or(|last| last.from != from) {
            if self.points.len() >= Self::MOST {
                self.coarsen();
                return self.count(event, rank);
            }
            self.points.push(CurvePoint { from, recall: 0.0, mrr: 0.0, steps: 0, quality: RankingMetrics::default() });
        }
        if let Some(last) = self.points.last_mut() {
            last.quality.count(rank);
            last.settle();
        }
    }

    /// The stretches so far, in order.
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
                    last.settle();
                }
                _ => merged.push(CurvePoint { from, ..point }),
            }
        }
        self.points = merged;
    }
}

impl CurvePoint {
    fn settle(&mut self) {
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
        assert!(curve.points().len() <= LearningCurve::MOST);
        assert_eq!(curve.points().iter().map(|point| point.steps).sum::<u64>(), 100_000);
        assert!(curve.points().iter().all(|point| (point.recall - 0.5).abs() < 1e-9));
    }
}
