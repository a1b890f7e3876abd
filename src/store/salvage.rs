//! Salvage of a damaged journal: copies every readable record.

use super::journal_batch::JournalBatch;
use super::journal_records::{self, JournalRecord, JournalRecords};
use super::placement_tree::change_key;
use super::{Durability, Store, StoreError};
use crate::domain::{Entry, Offset};
use std::ops::Range;
use std::path::Path;

/// Number of entries that are copied as one journal record.
const ENTRIES_PER_RECORD: usize = 1024;

impl Store {
    /// Appends the journal's readable entries to the empty journal of a copy, and makes them
    /// durable. Unreadable entries become tombstones if readable entries follow, so that the
    /// readable entries keep their offsets. Unreadable entries at the end are omitted. Returns the
    /// offsets of the unreadable entries.
    ///
    /// # Errors
    /// Any error of writing the copy. Damage to the original journal is no error.
    pub fn salvage_journal(
        &self,
        copy: &Self,
        observe: &mut dyn FnMut(Offset),
    ) -> Result<Vec<Range<Offset>>, StoreError> {
        let engine = self.engine()?;
        let (journal, path) = (&engine.journal, engine.path());
        let mut next = copy.journal().first_offset()?;
        let end = self.journal().next_offset()?;
        let last = journal_records::find_last_record(journal, path).ok().flatten().unwrap_or(end);
        let (mut lost, mut batch) = (Vec::new(), JournalBatch::with_capacity(ENTRIES_PER_RECORD));
        let mut records = JournalRecords::starting_at(journal, path, next);
        while next <= last {
            let is_empty =
                |read: &Result<JournalRecord, _>| read.as_ref().is_ok_and(|record| record.entries.is_empty());
            if let Some(Ok(record)) = records.next().filter(|read| !is_empty(read)) {
                next += record.entries.len() as Offset;
                let mut origins = record.origins.into_origins();
                record.entries.into_iter().for_each(|(_, entry)| batch.push(entry, origins.next_origin()));
            } else {
                let Some(resumed) = find_readable_record(journal, path, next + 1, last) else {
                    lost.push(next..end.max(last + 1));
                    break;
                };
                lost.push(next..resumed);
                (next..resumed).for_each(|_| batch.push(Entry::Tombstone, None));
                next = resumed;
                records = JournalRecords::starting_at(journal, path, next);
            }
            if batch.entries.len() >= ENTRIES_PER_RECORD {
                append_batch(copy, &mut batch)?;
                observe(next);
            }
        }
        append_batch(copy, &mut batch)?;
        copy.sync(Durability::PowerLoss)?;
        Ok(lost)
    }

    /// Copies the aliases, consents, user attributes, placements and rules that lost journal entries
    /// set. The journal no longer contains these changes, but the store's derived state does. For
    /// example, a withdrawn consent must stay withdrawn.
    ///
    /// # Errors
    /// Any error of writing the copy. Derived state that cannot be read is skipped.
    pub fn copy_lost_indexes(&self, copy: &Self, lost: &[Range<Offset>]) -> Result<(), StoreError> {
        let is_lost = |offset: Offset| lost.iter().any(|range| range.contains(&offset));
        let aliases: Vec<_> =
            self.aliases().load().unwrap_or_default().into_iter().filter(|alias| is_lost(alias.offset)).collect();
        copy.aliases().put(&aliases, &[])?;
        let mut consents = self.consents().load().unwrap_or_default();
        let present = copy.consents().load()?;
        consents.retain(|lost| {
            is_lost(lost.offset) && present.iter().all(|kept| kept.user != lost.user || kept.offset < lost.offset)
        });
        copy.consents().put(&consents)?;
        let mut attributes = self.user_attributes().load().unwrap_or_default();
        let present = copy.user_attributes().load()?;
        attributes.retain(|lost| {
            is_lost(lost.offset) && present.iter().all(|kept| kept.user != lost.user || kept.offset < lost.offset)
        });
        copy.user_attributes().put(&attributes)?;
        let mut placements = self.placements().load().unwrap_or_default();
        let present = copy.placements().load()?;
        placements.retain(|lost| {
            is_lost(lost.offset)
                && present
                    .iter()
                    .all(|kept| change_key(&kept.entry) != change_key(&lost.entry) || kept.offset < lost.offset)
        });
        copy.placements().put(&placements)
    }
}

fn append_batch(copy: &Store, batch: &mut JournalBatch) -> Result<(), StoreError> {
    copy.journal().append_batch(batch, Durability::ProcessCrash)?;
    batch.clear();
    Ok(())
}

/// Returns the offset of the first readable record from `from` up to `last`. To skip unreadable
/// pages, the function advances from `from` in steps of doubling length until it reaches a readable
/// record. A binary search then finds the first readable record.
pub(super) fn find_readable_record(journal: &sled::Tree, path: &Path, from: Offset, last: Offset) -> Option<Offset> {
    let find = |from: Offset| {
        journal_records::find_record_from(journal, path, from).map(|found| found.filter(|first| *first <= last))
    };
    let (mut unreadable, mut step) = match find(from) {
        Ok(found) => return found,
        Err(_) => (from, 1),
    };
    let (mut readable, mut found) = loop {
        if unreadable >= last {
            return None;
        }
        let at = unreadable.saturating_add(step).min(last);
        match find(at) {
            Ok(found) => break (at, found),
            Err(_) => unreadable = at,
        }
        step *= 2;
    };
    while readable - unreadable > 1 {
        let middle = unreadable + (readable - unreadable) / 2;
        match find(middle) {
            Ok(earlier) => (readable, found) = (middle, earlier),
            Err(_) => unreadable = middle,
        }
    }
    found
}
