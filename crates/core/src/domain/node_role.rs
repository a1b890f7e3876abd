//! What a node of a cluster does for the learned weights.

use serde::{Deserialize, Serialize};

/// What a node does for the learned weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// It trains. One of the learners publishes the results.
    #[default]
    Learner,
    /// It uses the results of a learner, and trains only without them.
    Replica,
}

impl NodeRole {
    /// The name in settings and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Learner => "learner",
            Self::Replica => "replica",
        }
    }
}
