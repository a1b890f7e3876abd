//! Evaluation metrics: Recall@k, MRR@k and NDCG@k, for prequential evaluation (test, then train)
//! and for train/test splits.

mod learning_curve;
mod ranking_metrics;
mod split;
mod squared_error;

pub use learning_curve::{CurvePoint, LearningCurve};
pub use ranking_metrics::{RankingMetrics, SlidingRankingMetrics};
pub use split::{TrainTestSplit, rank_by_score};
pub use squared_error::SquaredError;

/// List length k at which all ranking metrics are computed.
pub const METRIC_CUTOFF: usize = 20;
