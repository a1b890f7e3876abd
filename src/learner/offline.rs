//! Learning from a recording instead of a stream: epochs over all of its sessions, held against
//! those that were kept back.
//!
//! Like the fold it has no thread, no clock and no chance of its own: the same recording, the same
//! settings, the same bytes. [`OfflineTraining`] is all of it at the border of two epochs; written
//! there and read again, it goes on as if it had never stopped.

mod corpus;
mod scoring;
mod settings;
mod training;

pub use corpus::{Corpus, Recording};
pub use scoring::{OfflineScores, score_sessions};
pub use settings::{OfflineSettings, OfflineSettingsError};
pub use training::{EpochProgress, EpochReport, OfflineError, OfflineTraining};
