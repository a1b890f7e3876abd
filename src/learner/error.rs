//! Errors of the online learner.

use crate::candidates::CandidateSettingsError;
use crate::domain::Offset;
use crate::nn::NetworkSettingsError;

/// Why an earlier state cannot be reconstructed.
pub type StateHistoryError = Box<dyn std::error::Error + Send + Sync>;

/// Why the learner cannot start or cannot apply an entry.
#[derive(Debug, thiserror::Error)]
pub enum LearnerError {
    /// The network settings are invalid.
    #[error("the network cannot be built")]
    Network(#[from] NetworkSettingsError),
    /// The pretrained network does not match the settings.
    #[error("the pretrained network does not match the settings: its network settings or its kinds of event differ")]
    PretrainedMismatch,
    /// The settings of the candidate sources are invalid.
    #[error("the candidate sources cannot be built")]
    Candidates(#[from] CandidateSettingsError),
    /// A background training ended without a result.
    #[error("the training that began after entry {begun} gave no result")]
    BackgroundJobLost {
        /// The last entry before the training boundary at which it began.
        begun: Offset,
    },
    /// The state at an earlier offset cannot be reconstructed.
    #[error("the model cannot be rolled back to offset {to}")]
    HistoryUnavailable {
        /// The requested offset.
        to: Offset,
        /// The cause.
        #[source]
        source: StateHistoryError,
    },
    /// An entry is not the next one of the journal.
    #[error("entry {got} is out of order; the next entry is {expected}")]
    OutOfOrder {
        /// The next entry.
        expected: Offset,
        /// The entry that was passed.
        got: Offset,
    },
}
