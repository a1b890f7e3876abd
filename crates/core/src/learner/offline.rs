//! Offline training: trains a network in epochs over a recording, and evaluates it on held-out
//! sessions.
//!
//! Like the online learner, offline training has no threads, reads no clock and uses a seeded
//! random generator. The same recording and settings therefore give the same bytes.
//! [`OfflineTraining`] is the complete state between two epochs. A training that is serialised
//! between two epochs and deserialised later continues with identical results.

mod corpus;
mod interest_scoring;
mod scoring;
mod settings;
mod training;

pub use corpus::{Corpus, Recording};
pub use interest_scoring::score_values;
pub use scoring::{OfflineScores, score_sessions};
pub use settings::{OfflineSettings, OfflineSettingsError};
pub use training::{EpochProgress, EpochReport, OfflineError, OfflineTraining};
