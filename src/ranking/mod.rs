//! Ranking: turns candidates into a ranked list.
//!
//! A [`RankingWorkspace`] per thread gathers the candidates of a query from the counting sources
//! and the network, and keeps a few hundred. The workspace then computes the [`RankingFeatures`] of
//! the candidates and scores the candidates with the [`Ranker`]. Training is prequential: the
//! learner scores the candidates, reads the rank of the target item, and then trains the ranker on
//! the same workspace.
//!
//! - `features`, `normaliser`: candidate and context features, brought to one scale
//! - `ranker`: the online listwise ranker
//! - `workspace`: buffers and steps of one query
//! - `source_affinity`: running hit rate of each source in a session
//! - `filter`: filter expressions on item attributes
//! - `result_selection`: eligibility rules and the final list

mod features;
mod filter;
mod normaliser;
mod ranker;
mod result_selection;
mod source_affinity;
mod workspace;

pub use features::{CONTEXT_FEATURE_COUNT, ITEM_FEATURE_COUNT, RankingFeatures};
pub use filter::{ItemFilter, ItemFilterError};
pub use normaliser::FeatureNormaliser;
pub use ranker::{HIDDEN_UNIT_COUNT, HiddenActivations, Ranker};
pub use result_selection::{EligibilityRules, ResultSelection};
pub use source_affinity::SourceAffinity;
pub use workspace::{NetworkScores, RankingWorkspace};

#[cfg(test)]
mod tests;
