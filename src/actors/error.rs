//! Errors of the actor system.

use std::path::PathBuf;
use std::sync::Arc;

use super::admission::AdmissionFull;
use super::panic_guard::CaughtPanic;
use crate::domain::Offset;
use crate::learner::{JobLost, LearnerError};
use crate::store::StoreError;

/// Why the system did not start or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] Arc<StoreError>),
    /// The learner rejected its settings or the pretrained network.
    #[error("the learner could not start")]
    Learner(#[from] LearnerError),
    /// The learner actor could not write its state.
    #[error("the learned state could not be written")]
    LearnerActor(#[source] Arc<LearnerActorError>),
    /// The data directory started with a different pretrained network.
    #[error("{} started with a different pretrained network; use an empty data directory for another one", dir.display())]
    PretrainedMismatch {
        /// The data directory.
        dir: PathBuf,
    },
    /// The item numbers of the pretrained network and of the store differ.
    #[error("the item numbers in {} differ from those of the pretrained network that it started with", dir.display())]
    PretrainedItemsMismatch {
        /// The data directory.
        dir: PathBuf,
    },
    /// A bounded queue is full.
    #[error("too many entries are in flight: {0}")]
    Busy(#[from] AdmissionFull),
    /// No restore point exists at the requested offset.
    #[error("no state of offset {to} is kept; kept are: {}", points.iter().map(Offset::to_string).collect::<Vec<_>>().join(", "))]
    NoRestorePoint {
        /// The requested offset.
        to: Offset,
        /// The offsets that a rollback can go to.
        points: Vec<Offset>,
    },
    /// A read waited for an offset that answers do not contain yet.
    #[error("answers contain the entries before offset {reached} so far, not all before {wanted}")]
    NotReached {
        /// The requested offset.
        wanted: Offset,
        /// The offset that was reached.
        reached: Offset,
    },
    /// The daemon is being drained.
    #[error("the daemon is being drained and accepts no new entries")]
    Draining,
    /// A backup or a compaction is running.
    #[error("a backup or a compaction is running")]
    MaintenanceRunning,
    /// The operation was cancelled by a stop.
    #[error("the daemon is stopping")]
    Stopping,
    /// An actor is not running.
    #[error("the {0} is not running")]
    ActorStopped(&'static str),
}

impl From<StoreError> for SystemError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Why the learner actor stopped learning.
#[derive(Debug, thiserror::Error)]
pub enum LearnerActorError {
    /// The learner rejected an entry.
    #[error("learning failed at offset {offset}")]
    Learner {
        /// The entry.
        offset: Offset,
        /// The cause.
        #[source]
        source: LearnerError,
    },
    /// Collecting the state for a checkpoint panicked.
    #[error("the learned state could not be collected")]
    Panicked(#[source] CaughtPanic),
    /// The thread that writes a checkpoint died.
    #[error("the learned state could not be written")]
    Writer(#[source] JobLost),
    /// No replacement for a failed learner could be loaded.
    #[error("learning could not restart")]
    Load(#[source] Box<SystemError>),
    /// The journal could not be read or a checkpoint could not be written.
    #[error("the store failed while learning")]
    Store(#[from] StoreError),
}

impl LearnerActorError {
    /// Whether the cause is a full disk.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_disk_full())
    }
}
