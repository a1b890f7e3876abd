//! Ids of recommendations and requests.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Timestamp;

/// Generates ids that are unique across restarts: a letter, the start time and a counter.
#[derive(Debug)]
pub struct IdGenerator {
    letter: char,
    start: Timestamp,
    next: AtomicU64,
}

impl IdGenerator {
    /// Generates ids that begin with `letter`, for a process that started at `start`.
    #[must_use]
    pub fn new(letter: char, start: Timestamp) -> Self {
        Self { letter, start, next: AtomicU64::new(0) }
    }

    /// The next id.
    pub fn next(&self) -> String {
        format!("{}{:x}-{:x}", self.letter, self.start, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
