//! Operations on the model.

use super::{Offset, Timestamp};
use serde::{Deserialize, Serialize};

/// An operation that changes the model from this entry on. It is in the journal, so that the
/// learned state can be derived from the journal alone.
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

/// An operation on the model. Add new variants at the end: the encoding numbers variants by
/// position.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ModelOperation {
    /// Restores network, ranker and clusters to their state before the journal entry `to`. Counts
    /// and stored user state stay.
    Rollback {
        /// The first entry that the restored state does not contain.
        to: Offset,
    },
    /// Pauses learning. Sessions continue, and new items get numbers.
    Pause,
    /// Resumes learning.
    Resume,
    /// Sets the network's learning rate, above 0.
    LearningRate {
        /// The new learning rate.
        value: f32,
    },
    /// Rebuilds the item clusters before the next scheduled time.
    Recluster,
    /// Tests and trains on one event in 2^`halvings` from here on. Sessions and candidate sources
    /// take in every event.
    TrainingShare {
        /// The number of times that the share is halved, at most [`ModelOperation::MAX_HALVINGS`].
        halvings: u8,
    },
}

impl ModelOperation {
    /// The largest number of halvings of the training share: 1/64.
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

/// The cause of a model operation. Add new variants at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelChangeCause {
    /// A request of an operator.
    Operator,
    /// The training loss rose or was not finite.
    Loss,
    /// The live quality metric fell.
    Quality,
    /// Learning could not keep up with the events, or keeps up again.
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
