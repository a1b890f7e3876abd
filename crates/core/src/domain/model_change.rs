//! Operations on the model.

use super::{Offset, Timestamp};
use serde::{Deserialize, Serialize};

/// The journal entry of an operation on the model. The operation applies from this entry on. The
/// journal contains it so that the learned state depends only on the journal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModelChange {
    /// The time of the operation.
    pub timestamp: Timestamp,
    /// The operation.
    #[serde(rename = "act")]
    pub operation: ModelOperation,
    /// The cause of the operation.
    pub cause: ModelChangeCause,
}

/// An operation on the model. New variants must be added at the end, because the encoding numbers
/// variants by position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ModelOperation {
    /// Restores the network, the ranker and the clusters to their state before journal entry `to`.
    /// Counts and user sequences stay.
    Rollback {
        /// Offset of the first entry that the restored state has not learned.
        to: Offset,
    },
    /// Pauses learning. User sequences still advance, and new items get numbers.
    Pause,
    /// Resumes learning.
    Resume,
    /// Sets the learning rate of the network. The rate must be above 0.
    LearningRate {
        /// The new learning rate.
        value: f32,
    },
    /// Clusters the items again at once, in addition to the scheduled clusterings.
    Recluster,
    /// Sets the training share: from this entry on, the learner tests and trains on one event in
    /// 2^`halvings`. User sequences and candidate sources still learn every event.
    TrainingShare {
        /// The training share is 1/2^`halvings`. At most [`ModelOperation::MAX_HALVINGS`].
        halvings: u8,
    },
}

impl ModelOperation {
    /// Maximum number of halvings of the training share. Six halvings give a share of 1/64.
    pub const MAX_HALVINGS: u8 = 6;

    /// The name in the API and in exports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rollback { .. } => "rollback",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::LearningRate { .. } => "learning_rate",
            Self::Recluster => "recluster",
            Self::TrainingShare { .. } => "training_share",
        }
    }
}

/// The cause of an operation on the model. New variants must be added at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelChangeCause {
    /// A request of an operator.
    Operator,
    /// The training loss rose or was not finite.
    Loss,
    /// The live quality metric fell.
    Quality,
    /// Learning fell behind the events, or caught up with them.
    Lag,
}

impl ModelChangeCause {
    /// The name in the API, in exports and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Loss => "loss",
            Self::Quality => "quality",
            Self::Lag => "lag",
        }
    }
}
