//! Candidate generation: sources that count events and generate the items from which the ranker
//! chooses. The sources learn event by event and use bounded memory.
//!
//! Every [`CandidateSource`] adds items with weights to a [`CandidateSet`]. A weight belongs to an
//! [`EvidenceColumn`], which stands for one kind of evidence. An item's *share* in a column is its
//! weight divided by the column's total weight. The set keeps the best few hundred items. Every
//! source then adds features to all kept candidates, including the candidates of other sources. The
//! state of the sources is a pure function of the events. The sources read no clock and no random
//! numbers. Clones share unchanged data, so the cost of a snapshot is proportional to the changes
//! since the previous one.
//!
//! - `source`, `sources`: the trait, and all counting sources behind one type
//! - `transitions`, `transition_matrix`: item-to-item transitions
//! - `ngrams`: what follows the last two or three items
//! - `neighbours`, `past_session`: session kNN (VMIS-kNN)
//! - `trending`: decayed popularity
//! - `new_items`: recently added items
//! - `repeats`: items of the session, repeat rates
//! - `profile_source`, `user_profile`, `user_profiles`: items of a user's earlier sessions
//! - `cluster_affinity`: clusters of a user's earlier sessions
//! - `clusters`: k-means clusters of item embeddings, searched as an inverted file
//! - `baskets`: items that are bought together, intervals between purchases
//! - `candidate_set`, `columns`, `query_context`: the data that sources exchange
//! - `dense_index`, `simd_math`: scratch map and vectorised math
//! - `pca`: 2-D projection of embeddings for the item map
//! - `settings`: memory bounds

mod baskets;
mod candidate_chooser;
mod candidate_set;
mod cluster_affinity;
mod clusters;
mod columns;
mod dense_index;
mod neighbours;
mod new_items;
mod ngrams;
mod past_session;
mod pca;
mod profile_source;
mod query_context;
mod repeats;
mod settings;
pub mod simd_math;
mod source;
mod sources;
mod transition_matrix;
mod transitions;
mod trending;
mod user_profile;
mod user_profiles;

pub use baskets::BasketStatistics;
pub use candidate_chooser::{CandidateChoice, CandidateChooser};
pub use candidate_set::{CandidateBlock, CandidateSet};
pub use clusters::{ClusterError, ClusterInput, ClusterSettings, ClusterSettingsError, Clusters};
pub use columns::{EVIDENCE_COLUMN_COUNT, EvidenceColumn, FEATURE_COLUMN_COUNT, FeatureColumn};
pub use dense_index::DenseIndex;
pub use neighbours::NeighbourSource;
pub use new_items::NewItemSource;
pub use ngrams::NgramSource;
pub use pca::PcaProjection;
pub use profile_source::ProfileSource;
pub use query_context::{QueryContext, SessionIx};
pub use repeats::RepeatSource;
pub use settings::{CandidateSettings, CandidateSettingsError};
pub use source::CandidateSource;
pub use sources::CandidateSources;
pub use transition_matrix::{TransitionMatrix, TransitionRow};
pub use transitions::TransitionSource;
pub use trending::{ItemCounts, TrendingSource};
pub use user_profile::{ProfileCount, ProfileItem, UserProfile};
pub use user_profiles::{ProfileSettings, ProfileSettingsError, UserProfiles};

#[cfg(test)]
mod tests;
