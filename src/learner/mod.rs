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

pub use answer::{Judge, Workspace};
pub use background::{Background, Inline, Job, Lost};
pub use clustering::{Clustered, Clustering};
pub use credit::{Clickthrough, Display, PLACES};
pub use explain::{Explanation, Moved};
pub use fold::{Aides, FoldSettings, Learner, LearnerError, LearningReport, State};
pub use follower::{Follower, Pace};
pub use history::History;
pub use inspect::{Considered, Inspection, Place, inspect};
pub use lists::{similar, trending};
pub use map::{Area, Map, map};
pub use moods::Moods;
pub use offline::{
    Corpus, EpochReport, OfflineError, OfflineSettings, OfflineSettingsError, OfflineTraining, Recording, Scores, Underway, score_sessions,
};
pub use past::{Past, PastError};
pub use pretrained::Pretrained;
pub use request::{Answer, Pick, Request, answer};
pub use safety::{SafetySettings, SafetySettingsError, is_discarded};
pub use settings::{LearningSettings, LearningSettingsError};
pub use snapshot::Snapshot;
pub use training::{Trained, Training, TrainingReport};
pub use users::{User, Users};
pub use vitals::{Averages, Mark, Vitals};
pub use vocabulary::Vocabulary;

pub use crate::candidates::ItemCounts;
pub use crate::ranking::{ItemFilter, ItemFilterError};
