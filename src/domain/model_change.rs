//! What is done to the model from outside the stream of events.

use super::{Offset, Timestamp};
use serde::{Deserialize, Serialize};

/// An act that changes what is learned from here on. It stands in the journal, so that what was
/// learned stays a fold of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ModelChange {
    /// When.
    pub timestamp: Timestamp,
    /// What is done.
    #[serde(rename = "act")]
    pub operation: ModelOperation,
    /// Who or what asked for it.
    pub cause: ModelChangeCause,
}

/// What can be done to the model. A new variant goes to the end: the journal keeps them by place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ModelOperation {
    /// Network, ranker and clusters become what they were before the journal's entry `to`. What is
    /// counted and remembered stays.
    Rollback {
        /// The first entry that they do not contain.
        to: Offset,
    },
    /// Nothing is learned any more, while sessions go on and items are named.
    Pause,
    /// Learning goes on.
    Resume,
    /// The network's step size is another, above 0.
    LearningRate {
        /// The new one.
        value: f32,
    },
    /// The items are clustered anew before their time.
    Recluster,
}

impl ModelOperation {
    /// The name that the API and the export have for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rollback { .. } => "rollback",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::LearningRate { .. } => "learning_rate",
            Self::Recluster => "recluster",
        }
    }
}

/// Why something is done to the model. A new variant goes to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelChangeCause {
    /// Somebody asked for it.
    Operator,
    /// The training's loss rose or was not finite.
    Loss,
    /// The live quality fell.
    Quality,
}

impl ModelChangeCause {
    /// The name that the API, the export and the metrics have for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Loss => "loss",
            Self::Quality => "quality",
        }
    }
}
