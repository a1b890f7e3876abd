//! Memory bounds of the counting sources.

use crate::domain::SourceName;
use serde::{Deserialize, Serialize};

/// Error of [`CandidateSettings::check`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CandidateSettingsError {
    /// A setting is out of its range.
    #[error("recall.{key} = {value} is not in {min}..={max}")]
    OutOfRange {
        /// Key of the setting within `recall`.
        key: &'static str,
        /// The rejected value.
        value: usize,
        /// Smallest allowed value.
        min: usize,
        /// Largest allowed value.
        max: usize,
    },
}

/// Memory bounds of the counting sources, and the disabled sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CandidateSettings {
    /// Maximum number of items per transition row, 8 to 1,024. A row takes 8 bytes per item, and
    /// every item of the catalog has three rows.
    pub row_items: usize,
    /// Maximum number of n-gram contexts (two or three items), 1,024 to 2^26, rounded down to a
    /// power of two. A context takes 88 bytes.
    pub contexts: usize,
    /// Maximum number of past sessions, 1,024 to 2^30. A session takes 64 bytes, or 104 bytes plus 4
    /// bytes per step if it has more than 10 steps.
    pub sessions: usize,
    /// Number of most recent sessions that a query examines per item, 10 to 10,000.
    pub sessions_per_item: usize,
    /// Number of most similar past sessions that vote for their items (the k of session kNN), 1 to
    /// 1,000.
    pub neighbours: usize,
    /// Disabled sources. A disabled source neither learns nor generates candidates.
    pub without: Vec<SourceName>,
}

impl Default for CandidateSettings {
    fn default() -> Self {
        Self {
            row_items: 64,
            contexts: 1 << 18,
            sessions: 1 << 18,
            sessions_per_item: 250,
            neighbours: 150,
            without: Vec::new(),
        }
    }
}

impl CandidateSettings {
    /// Checks every setting against its range.
    ///
    /// # Errors
    ///
    /// [`CandidateSettingsError::OutOfRange`] names the first setting outside its range.
    pub fn check(&self) -> Result<(), CandidateSettingsError> {
        let bounds = [
            ("row_items", self.row_items, 8, 1024),
            ("contexts", self.contexts, 1024, 1 << 26),
            ("sessions", self.sessions, 1024, 1 << 30),
            ("sessions_per_item", self.sessions_per_item, 10, 10_000),
            ("neighbours", self.neighbours, 1, 1000),
        ];
        match bounds.into_iter().find(|(_, value, min, max)| value < min || value > max) {
            Some((key, value, min, max)) => Err(CandidateSettingsError::OutOfRange { key, value, min, max }),
            None => Ok(()),
        }
    }
}
