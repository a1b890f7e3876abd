//! How good the answers are: Recall@k, MRR@k, NDCG@k, by the prequential protocol (test, then train) and by the split protocol.

mod curve;
mod error;
mod quality;
mod split;

pub use curve::{Curve, CurvePoint};
pub use error::SquaredError;
pub use quality::{Quality, Sliding};
pub use split::{Split, rank_of};

/// The cut-off of every reported list metric.
pub const K: usize = 20;
