//! The fold: journal entries in; test, then learn; snapshots out. No thread, no clock: the daemon's actors and `replay` drive the same one.

mod answer;
mod background;
mod clustering;
mod credit;
mod fold;
mod follower;
mod history;
mod moods;
mod settings;
mod snapshot;
mod training;
mod users;
mod vocabulary;
mod window;

pub use answer::{Answer, Judge, Request, Workspace, answer};
pub use background::{Background, Inline, Job, Lost};
pub use clustering::{Clustered, Clustering};
pub use credit::{Clickthrough, Display, PLACES};
pub use fold::{FoldSettings, Learner, LearnerError, LearningReport, State};
pub use follower::{Follower, Pace};
pub use history::History;
pub use moods::Moods;
pub use settings::{LearningSettings, LearningSettingsError};
pub use snapshot::Snapshot;
pub use training::{Trained, Training, TrainingReport};
pub use users::{User, Users};
pub use vocabulary::Vocabulary;
