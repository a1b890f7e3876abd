//! What was learned up to an earlier offset.

use crate::domain::Offset;
use std::error::Error;

use super::state::LearnerState;

/// Why an earlier state cannot be told.
pub type StateHistoryError = Box<dyn Error + Send + Sync>;

/// Tells what was learned up to an earlier offset. Being a fold of the journal, that is always the
/// same; where it is kept, or whether it is folded anew, makes no difference.
pub trait StateHistory: Send {
    /// The state before entry `to`; `present`, the state now, is one that may be asked for later.
    ///
    /// # Errors
    /// Why it cannot be told.
    fn recall(&mut self, present: &LearnerState, to: Offset) -> Result<LearnerState, StateHistoryError>;
}
