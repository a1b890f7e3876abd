//! The fold: journal entries in; test, then learn; snapshots out. No thread, no clock: the daemon's actors and `replay` drive the same one.

mod answer;
mod background;
mod clustering;
mod credit;
mod explain;
mod fold;
mod follower;
mod history;
mod inspect;
mod lists;
mod map;
mod moods;
mod offline;
mod owners;
mod past;
mod pretrained;
mod request;
mod safety;
mod settings;
mod snapshot;
mod training;
mod users;
mod vitals;
mod vocabulary;
mod window;

pub use answer::{Scorer, ScoringWorkspace};
pub use background::{BackgroundJobs, InlineJobs, BackgroundJob, JobLost};
pub use clustering::{ClusteringResult, ClusteringSchedule};
pub use credit::{ClickThrough, RecentImpressions, PLACES};
pub use explain::{Explanation, EventInfluence};
pub use fold::{LearnerDeps, LearnerConfig, Learner, LearnerError, LearningReport, LearnerState};
pub use follower::{SequenceState, SequenceParams};
pub use history::ReplayHistory;
pub use inspect::{InspectedCandidate, RankingInspection, InspectedPosition, inspect};
pub use lists::{similar, trending};
pub use map::{ItemMapCluster, ItemMap, map};
pub use moods::SourceAffinities;
pub use offline::{
    Corpus, EpochReport, OfflineError, OfflineSettings, OfflineSettingsError, OfflineTraining, Recording, OfflineScores, EpochProgress, score_sessions,
};
pub use past::{StateHistory, StateHistoryError};
pub use pretrained::PretrainedNetwork;
pub use request::{RankedAnswer, RankedItem, RecommendationRequest, answer};
pub use safety::{SafetySettings, SafetySettingsError, is_discarded};
pub use settings::{LearningSettings, LearningSettingsError};
pub use snapshot::ModelSnapshot;
pub use training::{TrainingOutcome, OnlineTraining, TrainingReport};
pub use users::{UserState, UserTable};
pub use vitals::{HealthAverages, HealthMark, ModelHealth};
pub use vocabulary::AttributeVocabulary;

pub use crate::candidates::ItemCounts;
pub use crate::ranking::{ItemFilter, ItemFilterError};
