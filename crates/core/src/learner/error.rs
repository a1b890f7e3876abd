//! Errors of the online learner.

use super::background_jobs::JobLost;
use crate::candidates::CandidateSettingsError;
use crate::domain::Offset;
use crate::nn::NetworkSettingsError;

/// The reason why an earlier learner state cannot be reconstructed.
pub type StateHistoryError = Box<dyn std::error::Error + Send + Sync>;

/// The reason why the learner cannot start or cannot apply an entry.
#[derive(Debug, thiserror::Error)]
pub enum LearnerError {
    /// The network settings are invalid.
    #[error("invalid network settings")]
    Network(#[from] NetworkSettingsError),
    /// The pretrained network does not match the settings.
    #[error("the pretrained network does not match the settings: its `network` settings or its event kinds differ")]
    PretrainedMismatch,
    /// The settings of the candidate sources are invalid.
    #[error("invalid settings of the candidate sources")]
    Candidates(#[from] CandidateSettingsError),
    /// A training job in the background ended without a result.
    #[error("the training that began after entry {begun} returned no result")]
    BackgroundJobLost {
        /// Offset of the last entry before the lost training began.
        begun: Offset,
        /// Why there is no result.
        #[source]
        source: JobLost,
    },
    /// A rollback failed, because the state at an earlier offset cannot be reconstructed.
    #[error("the model cannot be rolled back to offset {to}")]
    HistoryUnavailable {
        /// The requested offset.
        to: Offset,
        /// The cause.
        #[source]
        source: StateHistoryError,
    },
    /// The given entry is not the next entry of the journal.
    #[error("entry {got} is out of order; the next entry is {expected}")]
    OutOfOrder {
        /// The offset of the next entry.
        expected: Offset,
        /// The offset of the given entry.
        got: Offset,
    },
}
