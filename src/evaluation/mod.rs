//! How good the answers are: Recall@k, MRR@k, NDCG@k, by the prequential protocol (test, then
//! train) and by the split protocol.

mod learning_curve;
mod ranking_metrics;
mod split;
mod squared_error;

pub use learning_curve::{CurvePoint, LearningCurve};
pub use ranking_metrics::{RankingMetrics, SlidingRankingMetrics};
pub use split::{TrainTestSplit, rank_of};
pub use squared_error::SquaredError;

/// The cut-off of every reported list metric.
pub const K: usize = 20;
