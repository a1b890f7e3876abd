//! From candidates to a ranked list: features, the online ranker, and the session's mood.
//!
//! One [`RankingWorkspace`] a thread: it gathers a moment's candidates from the counting sources and the network, cuts them to a few hundred, describes each
//! by [`RankingFeatures`], and has the [`Ranker`] score them. Teaching goes the same way: consider, ask for the rank, then teach.

mod features;
mod filter;
mod normaliser;
mod ranker;
mod result_selection;
mod source_affinity;
mod workspace;

pub use features::{CONTEXT_FEATURES, ITEM_FEATURES, RankingFeatures};
pub use filter::{ItemFilter, ItemFilterError};
pub use normaliser::FeatureNormaliser;
pub use ranker::{HIDDEN_UNITS, HiddenUnits, Ranker};
pub use result_selection::{EligibilityRules, ResultSelection};
pub use source_affinity::SourceAffinity;
pub use workspace::{NetworkScores, RankingWorkspace};

#[cfg(test)]
mod tests;
