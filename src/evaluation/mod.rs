//! Evaluation metrics: Recall@k, MRR@k and NDCG@k, for prequential evaluation (test, then train)
//! and for train/test splits.

mod learning_curve;
mod ranking_metrics;
mod split;
mod squared_error;

pub use learning_curve::{CurvePoint, LearningCurve};
pub use ranking_metrics::{RankingMetrics, SlidingRankingMetrics};
pub use split::{TrainTestSplit, rank_of};
pub use squared_error::SquaredError;

/// Cut-off of all list metrics.
pub const K: usize = 20;
