//! Access to earlier learner states, for rollbacks.

use crate::domain::Offset;

use super::error::StateHistoryError;
use super::state::LearnerState;

/// Reconstructs the learner's state at an earlier offset. The state is a function of the journal, so
/// it is the same whether it comes from a checkpoint or from applying the journal again.
pub trait StateHistory: Send {
    /// Returns the state before entry `to`. `present` is the current state; the implementation may
    /// keep it as a later restore point.
    ///
    /// # Errors
    /// The cause, if the state cannot be reconstructed.
    fn state_at(&mut self, present: &LearnerState, to: Offset) -> Result<LearnerState, StateHistoryError>;
}
