//! Why the system did not start or a request failed.

use std::path::PathBuf;
use std::sync::Arc;

use crate::actors::admission::AdmissionFull;
use crate::actors::learner::LearnerActorError;
use crate::domain::Offset;
use crate::learner::LearnerError;
use crate::store::StoreError;

/// Why the system did not start or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The store refused.
    #[error("the store failed")]
    Store(#[source] Arc<StoreError>),
    /// The fold refused its settings or its checkpoint.
    #[error("the learner could not start")]
    Learner(#[from] LearnerError),
    /// The model actor could not write its state.
    #[error("the learned state could not be written")]
    Model(#[source] Arc<LearnerActorError>),
    /// Learning began with another network.
    #[error("learning in {} began with another network; another one needs an empty data directory", dir.display())]
    PretrainedMismatch {
        /// The data directory.
        dir: PathBuf,
    },
    /// The network that learning began with does not agree with the items.
    #[error("the items in {} are not numbered as by the network that learning began with", dir.display())]
    PretrainedItemsMismatch {
        /// The data directory.
        dir: PathBuf,
    },
    /// A bounded queue is full.
    #[error("too much is under way: {0}")]
    Busy(#[from] AdmissionFull),
    /// The model cannot go back there.
    #[error("no state of offset {to} is kept; there are those of {}", points.iter().map(Offset::to_string).collect::<Vec<_>>().join(", "))]
    NoRestorePoint {
        /// Where it was to go.
        to: Offset,
        /// Where it can go.
        points: Vec<Offset>,
    },
    /// What answers follow from does not reach as far yet as was wanted.
    #[error("answers follow from the entries before offset {reached} so far, not from all before {wanted}")]
    NotReached {
        /// Before which offset all entries were to be known.
        wanted: Offset,
        /// Before which offset they are.
        reached: Offset,
    },
    /// Nothing is taken any more.
    #[error("the daemon is being drained and takes nothing any more")]
    Draining,
    /// The store is being copied.
    #[error("a backup or a compaction is under way")]
    MaintenanceRunning,
    /// It was broken off.
    #[error("the daemon is stopping")]
    Stopping,
    /// An actor is gone.
    #[error("the {0} is not running")]
    ActorStopped(&'static str),
}

impl From<StoreError> for SystemError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
