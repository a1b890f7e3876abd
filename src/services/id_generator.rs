//! Generates ids of recommendations and requests.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Timestamp;

/// Generates ids that are never repeated, even after a restart. An id consists of a letter, the
/// time at which the process started, and a counter.
#[derive(Debug)]
pub struct IdGenerator {
    letter: char,
    start: Timestamp,
    next_id: AtomicU64,
}

impl IdGenerator {
    /// Creates a generator of ids that begin with `letter`, for a process that started at `start`.
    #[must_use]
    pub fn new(letter: char, start: Timestamp) -> Self {
        Self { letter, start, next_id: AtomicU64::new(0) }
    }

    /// Returns the next id.
    pub fn next_id(&self) -> String {
        format!("{}{:x}-{:x}", self.letter, self.start, self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}
