//! The online learner, and recommendations from the model that it learns.
//!
//! The learner applies journal entries in order, evaluates the model on each event before it trains
//! on the event, and publishes snapshots. The learner has no threads and reads no clock, so the
//! daemon's actors and `replay` use the same code.

mod attribution;
mod background_jobs;
mod clustering;
mod error;
mod explain;
mod inspect;
mod item_lists;
mod item_map;
mod model_health;
mod offline;
mod online;
mod pretrained;
mod replay_history;
mod safety;
mod scorer;
mod sequence_state;
mod serving;
mod session_owners;
mod settings;
mod snapshot;
mod source_affinities;
mod state;
mod state_history;
mod training;
mod training_window;
mod user_table;
mod vocabulary;

pub use attribution::{ClickThrough, POSITION_BUCKETS, RecentImpressions};
pub use background_jobs::{BackgroundJob, BackgroundJobs, InlineJobs, JobLost};
pub use clustering::{ClusteringResult, ClusteringSchedule};
pub use error::{LearnerError, StateHistoryError};
pub use explain::{EventInfluence, Explanation};
pub use inspect::{InspectedCandidate, InspectedPosition, RankingInspection, inspect};
pub use item_lists::{similar_items, trending_items};
pub use item_map::{ItemMap, ItemMapCluster, compute_item_map};
pub use model_health::{HealthAverages, HealthMark, ModelHealth};
pub use offline::{
    Corpus, EpochProgress, EpochReport, OfflineError, OfflineScores, OfflineSettings, OfflineSettingsError,
    OfflineTraining, Recording, score_sessions,
};
pub use online::{Learner, LearnerDeps};
pub use pretrained::PretrainedNetwork;
pub use replay_history::ReplayHistory;
pub use safety::{SafetySettings, SafetySettingsError, is_rolled_back};
pub use scorer::{Scorer, ScoringWorkspace};
pub use sequence_state::{SequenceParams, SequenceState};
pub use serving::{HiddenItems, RankedAnswer, RankedItem, RecommendationRequest, recommend, recommend_for_sequence};
pub use settings::{LearningSettings, LearningSettingsError};
pub use snapshot::ModelSnapshot;
pub use source_affinities::SourceAffinities;
pub use state::{LearnerConfig, LearnerState, LearningReport};
pub use state_history::StateHistory;
pub use training::{OnlineTraining, TrainingOutcome, TrainingReport};
pub use user_table::{UserState, UserTable};
pub use vocabulary::AttributeVocabulary;

pub use crate::candidates::ItemCounts;
pub use crate::nn::NetworkSettings;
pub use crate::ranking::{ItemFilter, ItemFilterError};
