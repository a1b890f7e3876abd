//! Conditions of requests that several nodes of a cluster may make at the same time.

use crate::domain::Offset;
use crate::store::log_position::ChangeMarks;

/// A condition under which a request of a background job applies. All nodes evaluate it at the
/// request's place in the log, so a decision that several nodes take at once applies once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitCondition {
    /// The journal has no model operation at or after this offset.
    NoModelChangeFrom(Offset),
    /// The journal has no expiry at or after this offset.
    NoExpiryFrom(Offset),
}

impl CommitCondition {
    /// Whether the condition holds in a journal with these last changes.
    pub(super) fn holds(self, marks: ChangeMarks) -> bool {
        match self {
            Self::NoModelChangeFrom(offset) => marks.model_changes_before <= offset,
            Self::NoExpiryFrom(offset) => marks.expiries_before <= offset,
        }
    }
}
