//! Ranking: turns candidates into a ranked list.
//!
//! Each thread has a [`RankingWorkspace`]. For a query, the workspace gathers candidates from the
//! counting sources and the network, and keeps the best few hundred. It then computes the
//! [`RankingFeatures`] of the candidates and scores them with the [`Ranker`]. Training is
//! prequential: the learner scores the candidates, reads the rank of the target item, and then
//! trains the ranker on the same workspace.
//!
//! - `features`, `normaliser`: candidate and context features, brought to one scale
//! - `ranker`: the online listwise ranker
//! - `objective_head`: what the ranker's scores lack for the events of an objective
//! - `relevance`: combination of the model's scores with a site's relevance
//! - `workspace`: buffers and steps of one query
//! - `source_affinity`: how well each source has predicted a session so far
//! - `declared_features`: attributes as features, as the settings declare them
//! - `filter`: filter expressions on item attributes
//! - `result_selection`: eligibility rules and the final list
//! - `rules`: rules of merchandisers, which change a ranked list
//! - `share_balance`: reorders a list so that groups of items have required shares
//! - `rule_trace`: which rules moved which items

mod declared_features;
mod features;
mod filter;
mod normaliser;
mod objective_head;
mod ranker;
mod relevance;
mod result_selection;
mod rule_trace;
mod rules;
mod share_balance;
mod source_affinity;
mod stored_ranker;
mod workspace;

pub use declared_features::{
    FeatureDeclaration, FeatureDeclarationError, FeatureDeclarations, FeatureEffect, FeatureModel, FeatureQuality,
    FeatureReport, FeatureValues, ScoredTarget,
};
pub use features::{CONTEXT_FEATURE_COUNT, ITEM_FEATURE_COUNT, RankingFeatures};
pub use filter::{FeatureContext, ItemFilter, ItemFilterError};
pub use normaliser::FeatureNormaliser;
pub use objective_head::ObjectiveHead;
pub use ranker::{HIDDEN_UNIT_COUNT, HiddenActivations, Ranker};
pub use relevance::{JudgedListItem, RelevanceModel};
pub use result_selection::{EligibilityRules, ResultSelection};
pub use rule_trace::RuleTrace;
pub use rules::{BoostRule, HideRule, ListRules, PromoteRule, ScoreScale};
pub use share_balance::ShareRule;
pub use source_affinity::SourceAffinity;
pub use workspace::{NetworkScores, RankingWorkspace};

#[cfg(test)]
mod tests;
