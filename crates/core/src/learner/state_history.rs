//! Access to earlier learner states, for rollbacks.

use crate::domain::Offset;

use super::error::StateHistoryError;
use super::state::LearnerState;

/// Access to the learner states at earlier offsets. An implementation may read a state from a
/// checkpoint or apply the journal again. The result is the same, because the state depends only on
/// the journal.
pub trait StateHistory: Send {
    /// Returns the learner state as it was before journal entry `to` was applied. `present` is the
    /// current state, which the implementation may store as a restore point.
    ///
    /// # Errors
    /// The cause, if the state cannot be reconstructed.
    fn state_at(&mut self, present: &LearnerState, to: Offset) -> Result<LearnerState, StateHistoryError>;
}
