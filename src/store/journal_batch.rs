//! Entries that one append writes.

use super::log_position::SharedLogPosition;
use super::origins::OriginRuns;
use crate::domain::{Entry, Origin};

/// Entries that are appended as one journal record, with their origins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JournalBatch {
    pub(super) entries: Vec<Entry>,
    pub(super) origins: OriginRuns,
    /// The position in the shared log of the message that the entries come from.
    pub(super) position: Option<SharedLogPosition>,
}

impl JournalBatch {
    /// Creates an empty batch with space for `capacity` entries.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { entries: Vec::with_capacity(capacity), ..Self::default() }
    }

    /// Adds an entry. The origin is recorded only for kinds of entry that can have one.
    pub(super) fn push(&mut self, entry: Entry, origin: Option<Origin>) {
        self.origins.push(origin.filter(|_| entry.can_have_origin()));
        self.entries.push(entry);
    }

    /// Removes all entries and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.origins.clear();
        self.position = None;
    }
}

impl From<Vec<Entry>> for JournalBatch {
    fn from(entries: Vec<Entry>) -> Self {
        Self { entries, ..Self::default() }
    }
}
