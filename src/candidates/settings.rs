//! How much the sources may remember.

use super::CandidateSettingsError;
use crate::domain::SourceName;
use serde::{Deserialize, Serialize};

/// Bounds of the counting sources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CandidateSettings {
    /// Items remembered per transition row, 8 to 1,024. A row takes 8 bytes an item, and there are three an item of the catalog.
    pub row_items: usize,
    /// Contexts of two and three items remembered, 1,024 to 2^26. Each takes 88 bytes.
    pub contexts: usize,
    /// Past sessions remembered, 1,024 to 2^30. Each takes 60 bytes and 4 a step.
    pub sessions: usize,
    /// Of these, how many are looked at per item, 10 to 10,000.
    pub sessions_per_item: usize,
    /// Neighbouring sessions that vote, 1 to 1,000.
    pub neighbours: usize,
    /// Sources left out; they neither learn nor answer.
    pub without: Vec<SourceName>,
}

impl Default for CandidateSettings {
    fn default() -> Self {
        Self { row_items: 64, contexts: 1 << 18, sessions: 1 << 18, sessions_per_item: 250, neighbours: 150, without: Vec::new() }
    }
}

impl CandidateSettings {
    /// Whether every bound is in its range.
    ///
    /// # Errors
    ///
    /// [`CandidateSettingsError::Setting`] names the first that is not.
    pub fn check(&self) -> Result<(), CandidateSettingsError> {
        let bounds = [
            ("row_items", self.row_items, 8, 1024),
            ("contexts", self.contexts, 1024, 1 << 26),
            ("sessions", self.sessions, 1024, 1 << 30),
            ("sessions_per_item", self.sessions_per_item, 10, 10_000),
            ("neighbours", self.neighbours, 1, 1000),
        ];
        match bounds.into_iter().find(|(_, value, least, most)| value < least || value > most) {
            Some((key, value, least, most)) => Err(CandidateSettingsError::OutOfRange { key, value, least, most }),
            None => Ok(()),
        }
    }
}
