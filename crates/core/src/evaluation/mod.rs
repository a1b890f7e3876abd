//! Evaluation metrics Recall@k, MRR@k and NDCG@k. They serve prequential evaluation (each event is
//! tested before it is learned) and evaluation on held-out test sessions.

mod learning_curve;
mod ranking_metrics;
mod split;

pub use learning_curve::{CurvePoint, LearningCurve};
pub use ranking_metrics::{RankingMetrics, SlidingRankingMetrics};
pub use split::{TrainTestSplit, rank_by_score};

/// The k of all ranking metrics: they look at the first 20 items of a ranked list.
pub const METRIC_CUTOFF: usize = 20;
