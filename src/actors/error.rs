//! Errors of the actor system, one type per kind of operation.

use std::path::PathBuf;
use std::sync::Arc;

use super::admission::AdmissionFull;
use super::panic_guard::CaughtPanic;
use crate::cluster::JoinError;
use crate::cluster::shared_log::LogError;
use crate::domain::Offset;
use crate::learner::{JobLost, LearnerError};
pub use crate::store::StoreError;

/// Why the system did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// The data directory belongs to a cluster, but the settings name no servers.
    #[error("{} belongs to the cluster {cluster:?}: set cluster.servers, or run `sequor cluster leave` to continue with this data directory as a single node", dir.display())]
    ClusterDataDir {
        /// The data directory.
        dir: PathBuf,
        /// The name of the cluster.
        cluster: String,
    },
    /// The node could not join its cluster.
    #[error("this node cannot join its cluster")]
    Join(#[from] JoinError),
    /// The learner rejected its settings or the pretrained network.
    #[error("the learner could not start")]
    Learner(#[from] LearnerError),
    /// The learner actor could not read the quarantine.
    #[error("the learner actor could not start")]
    LearnerActor(#[from] Box<LearnerActorError>),
    /// Learning in the data directory started from a pretrained network that differs from the given
    /// one.
    #[error("{} started with a different pretrained network; use an empty data directory for another one", dir.display())]
    PretrainedMismatch {
        /// The data directory.
        dir: PathBuf,
    },
    /// Learning in the data directory started from a pretrained network with the former interest
    /// head.
    #[error("{} started with a pretrained network that also predicts event values (`network.interest_weight`), which networks no longer do; start with an empty data directory and a network that was trained again, and import the events of `sequor export`", dir.display())]
    PretrainedInterestHead {
        /// The data directory.
        dir: PathBuf,
    },
    /// The store assigns other item numbers than the pretrained network.
    #[error("the item numbers in {} differ from those of the pretrained network that it started with", dir.display())]
    PretrainedItemsMismatch {
        /// The data directory.
        dir: PathBuf,
    },
}

/// Why a node of a cluster did not accept entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterProblem {
    /// The cluster did not confirm the entries. A retry may succeed.
    #[error("the cluster cannot be reached: {0}")]
    Unreachable(String),
    /// The node accepts no writes.
    #[error("this node of the cluster accepts no writes: {0}")]
    Refused(String),
    /// An entry is too large for the cluster's servers.
    #[error("{0}")]
    TooLarge(String),
    /// The operation would change the offsets of this node alone.
    #[error("{0}")]
    Unsupported(&'static str),
}

impl From<LogError> for ClusterProblem {
    fn from(error: LogError) -> Self {
        match error {
            LogError::TooLarge { .. } => Self::TooLarge(error.to_string()),
            LogError::Unreachable(reason) => Self::Unreachable(reason),
            error => Self::Refused(error.to_string()),
        }
    }
}

/// Why entries were not appended to the journal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] Arc<StoreError>),
    /// The cluster did not accept the entries.
    #[error(transparent)]
    Cluster(ClusterProblem),
}

/// Errors of reading and writing entries.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] Arc<StoreError>),
    /// A bounded queue is full.
    #[error("too many entries are in flight: {0}")]
    Busy(#[from] AdmissionFull),
    /// A request waited too long for its session.
    #[error("the request waited too long for its session")]
    QueuedTooLong,
    /// A read with `min_offset` waited too long for its offset.
    #[error("answers reflect only the entries before offset {reached} so far, not all entries before offset {wanted}")]
    NotReached {
        /// The requested offset.
        wanted: Offset,
        /// When the wait ended, answers contained every entry before this offset.
        reached: Offset,
    },
    /// The learner lags too far behind, so the system accepts no more events.
    #[error("the learner is {lag} entries behind; the limit is {limit}")]
    LearnerBehind {
        /// Number of entries that are not learned yet.
        lag: u64,
        /// The limit.
        limit: u64,
    },
    /// The daemon is being drained.
    #[error("the daemon is being drained and accepts no new entries")]
    Draining,
    /// The daemon is a node of a cluster, which did not accept the entries.
    #[error(transparent)]
    Cluster(ClusterProblem),
    /// An actor is not running.
    #[error("the {0} is not running")]
    ActorStopped(&'static str),
}

impl From<StoreError> for RequestError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<AppendError> for RequestError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Store(error) => Self::Store(error),
            AppendError::Cluster(problem) => Self::Cluster(problem),
        }
    }
}

/// Errors of operations on the whole store or model.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] Arc<StoreError>),
    /// The learner could not write a checkpoint.
    #[error("the learned state could not be written")]
    Checkpoint(#[source] Arc<LearnerActorError>),
    /// No restore point exists at the requested offset.
    #[error("no state of offset {to} is stored; the stored states have the offsets {}", points.iter().map(Offset::to_string).collect::<Vec<_>>().join(", "))]
    NoRestorePoint {
        /// The requested offset.
        to: Offset,
        /// The offsets that have a restore point.
        points: Vec<Offset>,
    },
    /// A backup or a compaction is running.
    #[error("a backup or a compaction is running")]
    Running,
    /// The daemon is stopping, which cancelled the operation.
    #[error("the daemon is stopping")]
    Stopping,
    /// The operation had to read or write entries, and that failed.
    #[error(transparent)]
    Request(RequestError),
}

impl From<StoreError> for MaintenanceError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<RequestError> for MaintenanceError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Store(error) => Self::Store(error),
            error => Self::Request(error),
        }
    }
}

/// Errors that stop the learner actor.
#[derive(Debug, thiserror::Error)]
pub enum LearnerActorError {
    /// The learner rejected an entry.
    #[error("learning failed at offset {offset}")]
    Learner {
        /// The offset of the rejected entry.
        offset: Offset,
        /// Why the learner rejected the entry.
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
    Load(#[source] Box<StartError>),
    /// The journal could not be read or a checkpoint could not be written.
    #[error("the store failed while learning")]
    Store(#[from] StoreError),
}

impl LearnerActorError {
    /// Whether a full disk caused the error.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_disk_full())
    }
}
