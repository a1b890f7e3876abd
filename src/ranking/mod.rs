//! Ranking.
mod features;
pub mod lanes;
mod mood;
mod ranker;
pub use features::{Features, ITEM, MOMENT};
pub use mood::Mood;
pub use ranker::{HIDDEN, Ranker, Work};
