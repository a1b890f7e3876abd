//! The online learner, and recommendations from the model that it learns.
//!
//! The learner applies journal entries in order. It evaluates the model on each event before it
//! trains on the event, and publishes snapshots. It has no threads and reads no clock, so the
//! daemon's actors and `replay` use the same code.
//!
//! # Terms
//!
//! - **Step**: an event as the model sees it: item number, kind, time, value.
//! - **Target event**: an event with an item, of a kind that the model predicts (view, purchase,
//!   …), that is not a dismissal. Its item is the **target item**. The settings say which kinds are
//!   target kinds.
//! - **Dismissal**: an event of any kind with a negative value, or with a value below the midpoint
//!   of its kind.
//! - **Test**: the learner ranks candidates just before it learns a target event. The rank of the
//!   target item measures the model (prequential evaluation).
//! - **Training boundary**: every `learning.interval` journal entries, the network starts to train
//!   on the sessions with new events. The weights of the training come into use at the next
//!   boundary.
//! - **Training window**: the latest steps of one session, as an input of the network's training.
//!   At each **position**, the network predicts the target item of the next step.
//! - **Evidence column**: the weights that one kind of evidence (for example "followed the last
//!   item") gives to items. An item's **share** is its weight divided by the column's total.
//! - **Hidden state**: the memory of the recurrent network after a user's last step.
//! - **Sequence state**: a user's latest steps, with the hidden state after them.
//! - **Source affinity**: how well each evidence column has predicted the current session so far.
//! - **Item history**: a user's latest event of each kind on an item, and the items that were shown
//!   to the user. It reaches further back than the sequence.
//! - **Impression**: a list of items that was displayed to a user. Impressions do not train the
//!   model.
//! - **Snapshot**: an immutable copy of the model at one journal offset, from which requests are
//!   answered.
//! - **Training share**: the share of events that the learner tests and trains on. The load control
//!   reduces it if learning cannot keep up.

mod attribution;
mod background_jobs;
mod clustering;
mod declared_features;
mod encoded_sources;
mod error;
mod explain;
mod influence;
mod inspect;
mod interests;
mod item_exclusions;
mod item_history;
mod item_lists;
mod item_map;
mod list_base;
mod list_rules;
mod list_scoring;
mod model_health;
mod new_item_tests;
mod objective_heads;
mod offline;
mod online;
mod pretrained;
mod relevance_lists;
mod replay_history;
mod rule_candidates;
mod safety;
mod scorer;
mod sequence_state;
mod serving;
mod session_owners;
mod settings;
mod shared_training;
mod snapshot;
mod source_affinities;
mod state;
mod state_history;
mod training;
mod training_report;
mod training_window;
mod user_map;
mod user_table;
mod vector_projections;
mod vocabulary;

pub use attribution::{ClickThrough, POSITION_BUCKETS, RecentImpressions};
pub use background_jobs::{BackgroundJob, BackgroundJobs, InlineJobs, JobLost};
pub use clustering::{ClusteringResult, ClusteringSchedule};
pub use declared_features::{FeatureScorer, LearnedFeatures};
pub use error::{LearnerError, StateHistoryError};
pub use explain::{EventInfluence, Explanation, ObjectiveContribution};
pub use influence::{HeldBack, UserHistory};
pub use inspect::{InspectedCandidate, InspectedPosition, RankingInspection, inspect};
pub use interests::{InterestErrors, InterestModels, InterestPredictor, InterestReport};
pub use item_exclusions::{EventExclusion, ImpressionCap, ItemExclusions};
pub use item_lists::similar_items;
pub use item_map::{ItemMap, ItemMapCluster, compute_item_map};
pub use list_base::ListBase;
pub use list_scoring::{ListScores, ListScoringRequest, ScoredListItem, score_list};
pub use model_health::{HealthAverages, HealthMark, ModelHealth};
pub use objective_heads::{HeadQuality, ObjectiveHeads};
pub use offline::{
    Corpus, EpochProgress, EpochReport, OfflineError, OfflineScores, OfflineSettings, OfflineSettingsError,
    OfflineTraining, Recording, score_sessions, score_values,
};
pub use online::{Learner, LearnerDeps};
pub use pretrained::PretrainedNetwork;
pub use relevance_lists::RelevanceLists;
pub use replay_history::ReplayHistory;
pub use safety::{SafetySettings, SafetySettingsError, is_rolled_back};
pub use scorer::{Scorer, ScoringWorkspace};
pub use sequence_state::{SequenceParams, SequenceState};
pub use serving::{HiddenItems, RankedAnswer, RankedItem, RecommendationRequest, recommend, recommend_for_sequence};
pub use settings::{LearningSettings, LearningSettingsError};
pub use shared_training::{SharedTraining, TrainingExchange};
pub use snapshot::{ModelSnapshot, UserMemory};
pub use source_affinities::SourceAffinities;
pub use state::{
    KindQuality, LearnerConfig, LearnerState, LearnerStateExtension, LearnerStateSupplement, LearningReport,
};
pub use state_history::StateHistory;
pub use training::{OnlineTraining, TrainingOutcome};
pub use training_report::TrainingReport;
pub use user_table::{UserState, UserTable};
pub use vocabulary::AttributeVocabulary;

pub use crate::candidates::ItemCounts;
pub use crate::interest::{InterestMetrics, InterestSettings};
pub use crate::nn::NetworkSettings;
pub use crate::ranking::{
    BoostRule, FeatureContext, FeatureDeclarations, FeatureEffect, FeatureQuality, FeatureReport, HideRule, ItemFilter,
    ItemFilterError, ListRules, PromoteRule, RuleTrace, ScoreScale, ShareRule,
};
