//! Offline training: epochs over a recording, evaluated on held-out sessions.
//!
//! Like the online learner it has no threads, no clock and a seeded random generator, so the same
//! recording and settings give the same bytes. [`OfflineTraining`] holds the complete state between
//! two epochs. A training that is written there and read again continues identically.

mod corpus;
mod scoring;
mod settings;
mod training;

pub use corpus::{Corpus, Recording};
pub use scoring::{OfflineScores, score_sessions};
pub use settings::{OfflineSettings, OfflineSettingsError};
pub use training::{EpochProgress, EpochReport, OfflineError, OfflineTraining};
