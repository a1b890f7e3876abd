//! Scrubs the journal: reads it in small steps while the store is in use. So damage is found before
//! the damaged entries are needed.

use super::journal_records::JournalRecords;
use super::salvage::find_readable_record;
use super::{Store, StoreError};
use crate::domain::Offset;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Largest number of damaged ranges that one pass reports.
const MAX_DAMAGED_RANGES: usize = 100;

/// Reads the whole journal of a store repeatedly, in passes.
#[derive(Debug)]
pub struct JournalScrubber {
    store: Store,
    /// The next offset to read.
    next: Offset,
    /// Damage found in this pass.
    found: Vec<Range<Offset>>,
    /// Damage found in the last complete pass.
    last: Vec<Range<Offset>>,
    /// Number of complete passes.
    passes: u64,
}

/// Progress and findings of a scrub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// The offset up to which the current pass has read the journal.
    pub next: Offset,
    /// The first offset of the journal.
    pub first: Offset,
    /// The end of the journal.
    pub end: Offset,
    /// The number of complete passes.
    pub passes: u64,
    /// The offset ranges of damaged entries that either the last complete pass or the current pass
    /// found.
    pub damaged: Vec<Range<Offset>>,
}

impl JournalScrubber {
    /// Creates a scrubber that begins at the start of the journal.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, next: 0, found: Vec::new(), last: Vec::new(), passes: 0 }
    }

    /// Reads records until at least `entries` entries are read or the journal ends. At the end, the
    /// next call begins another pass.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store is closed. Damage is reported in the result, not as
    /// an error.
    pub fn read_next_entries(&mut self, entries: u64) -> Result<ScrubReport, StoreError> {
        let engine = self.store.engine()?;
        let (first, end) = (engine.first_offset.load(Ordering::Acquire), engine.journal_end());
        self.next = self.next.max(first);
        let until = self.next.saturating_add(entries.max(1)).min(end);
        let records_from =
            |from: Offset| JournalRecords { end, ..JournalRecords::starting_at(&engine.journal, engine.path(), from) };
        let mut records = records_from(self.next);
        while self.next < until {
            match records.next() {
                Some(Ok(record)) if !record.entries.is_empty() => self.next += record.entries.len() as Offset,
                _ => {
                    let readable =
                        find_readable_record(&engine.journal, engine.path(), self.next + 1, end).unwrap_or(end);
                    // Retention may remove the oldest entries during a pass. The removed entries
                    // are not damage.
                    if self.next >= engine.first_offset.load(Ordering::Acquire) && self.found.len() < MAX_DAMAGED_RANGES
                    {
                        self.found.push(self.next..readable);
                    }
                    self.next = readable;
                    records = records_from(readable);
                }
            }
        }
        if self.next >= end {
            self.last = std::mem::take(&mut self.found);
            self.passes += 1;
            self.next = first;
        }
        let mut damaged = self.last.clone();
        damaged.extend(self.found.iter().filter(|range| !self.last.contains(range)).cloned());
        damaged.sort_unstable_by_key(|range| range.start);
        Ok(ScrubReport { next: self.next, first, end, passes: self.passes, damaged })
    }
}

impl ScrubReport {
    /// Number of damaged entries.
    #[must_use]
    pub fn damaged_entries(&self) -> u64 {
        self.damaged.iter().map(|range| range.end.saturating_sub(range.start)).sum()
    }

    /// Share of the journal that the current pass has read, 0 to 1.
    #[must_use]
    pub fn progress(&self) -> f64 {
        let total = self.end.saturating_sub(self.first);
        if total == 0 { 1.0 } else { self.next.saturating_sub(self.first) as f64 / total as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::PieceKey;
    use super::super::testing::{event, flip_bit};
    use super::super::{Durability, StoreOptions};
    use super::*;

    #[test]
    fn a_scrub_reads_in_steps_and_reports_damage_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        for first in 0..10 {
            store.journal().append(&[event(2 * first), event(2 * first + 1)], Durability::ProcessCrash).unwrap();
        }
        let mut scrubber = JournalScrubber::new(store.clone());
        let report = scrubber.read_next_entries(5).unwrap();
        assert_eq!((report.next, report.end, report.passes, report.progress()), (6, 20, 0, 0.3));
        let report = scrubber.read_next_entries(100).unwrap();
        assert_eq!((report.passes, report.damaged_entries()), (1, 0));
        let key = PieceKey { first: 8, piece: 0 }.to_bytes();
        flip_bit(&store.engine().unwrap().journal, &key, 100);
        assert_eq!(scrubber.read_next_entries(5).unwrap().damaged, []);
        let report = scrubber.read_next_entries(5).unwrap();
        assert_eq!((report.damaged.as_slice(), report.next), (std::slice::from_ref(&(8..10)), 12));
        assert_eq!(scrubber.read_next_entries(20).unwrap().damaged, std::slice::from_ref(&(8..10)));
        // The report contains the damage until a complete pass no longer finds it.
        assert_eq!(scrubber.read_next_entries(4).unwrap().damaged, std::slice::from_ref(&(8..10)));
        flip_bit(&store.engine().unwrap().journal, &key, 100);
        let report = scrubber.read_next_entries(20).unwrap();
        assert_eq!((report.damaged_entries(), report.passes), (0, 3));
    }

    #[test]
    fn scrubbing_an_empty_journal_finds_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let report = JournalScrubber::new(store).read_next_entries(5).unwrap();
        assert_eq!((report.passes, report.progress(), report.damaged_entries()), (1, 1.0, 0));
    }
}
