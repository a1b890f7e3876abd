//! The journal: the ordered, durable entries from which all other state is derived.
//!
//! An append writes one record, `envelope(count of entries: u32 ‖ entries ‖ origins)`, in pieces (see
//! [`super::journal_pieces`]), and makes it durable through the commit log.

use super::envelope;
use super::journal_batch::JournalBatch;
use super::journal_pieces::{remove_leftover_pieces, remove_record, replace_record, write_pieces};
use super::journal_records::{FIRST_OFFSET_KEY, JournalRecords, encode_record, parse_piece_key};
use super::key_value_iter::KeyValueIter;
use super::keys::PieceKey;
use super::log_position::SharedLogPosition;
use super::origins::{OriginIter, OriginRuns};
use super::{Durability, Store, StoreError};
use crate::domain::{Entry, Offset, Origin};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// A callback that receives the sync as a function and must call it. The caller can thereby measure
/// the duration of the sync.
pub type JournalWatcher<'a> = dyn FnMut(&dyn Fn() -> Result<(), StoreError>) -> Result<(), StoreError> + 'a;

/// The journal of a store.
#[derive(Debug, Clone)]
pub struct Journal {
    store: Store,
}

impl Journal {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The offset of the next entry.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn next_offset(&self) -> Result<Offset, StoreError> {
        Ok(self.store.engine()?.journal_end())
    }

    /// The first offset of the journal: 0 until retention removes the oldest entries.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn first_offset(&self) -> Result<Offset, StoreError> {
        Ok(self.store.engine()?.first_offset.load(Ordering::Acquire))
    }

    /// Sets the first offset of an empty journal. A copy needs this if the oldest entries of the
    /// original were removed.
    ///
    /// # Errors
    /// [`StoreError::JournalNotEmpty`] if the journal has entries, or any I/O error.
    pub fn set_first_offset(&self, first_offset: Offset) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        let _append_guard = engine.append_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = engine.journal_end();
        if entries > 0 {
            return Err(StoreError::JournalNotEmpty { dir: self.store.dir().to_owned(), entries });
        }
        engine.insert(&engine.db, FIRST_OFFSET_KEY, envelope::seal_offset(FIRST_OFFSET_KEY, first_offset))?;
        engine.sync(Durability::PowerLoss)?;
        engine.first_offset.store(first_offset, Ordering::Release);
        engine.end_offset.store(first_offset, Ordering::Release);
        Ok(())
    }

    /// Drops the records that lie entirely before `floor`, but always keeps the last record.
    /// Returns the new first offset. The caller must not need any entry before `floor`.
    ///
    /// # Errors
    /// Any I/O error. The new first offset is stored durably before records are removed. So a
    /// record that could not be removed no longer belongs to the journal, and the next call removes
    /// it.
    pub fn drop_before(&self, floor: Offset) -> Result<Offset, StoreError> {
        let engine = self.store.lock_for_writing()?;
        let first_offset = engine.first_offset.load(Ordering::Acquire);
        let upto = PieceKey { first: floor.min(engine.journal_end().saturating_sub(1)), piece: u32::MAX }.to_bytes();
        let Some(key) = engine.journal.range(..=upto).keys().next_back() else { return Ok(first_offset) };
        let new_first = parse_piece_key(&key.map_err(|source| engine.database_error("reading", source))?, floor)?.first;
        if new_first <= first_offset {
            return Ok(first_offset);
        }
        engine.insert(&engine.db, FIRST_OFFSET_KEY, envelope::seal_offset(FIRST_OFFSET_KEY, new_first))?;
        engine.sync(Durability::PowerLoss)?;
        engine.first_offset.store(new_first, Ordering::Release);
        for key in engine.journal.range(..PieceKey { first: new_first, piece: 0 }.to_bytes()).keys() {
            engine.remove(&engine.journal, &key.map_err(|source| engine.database_error("reading", source))?)?;
        }
        Ok(new_first)
    }

    /// Appends entries as one record, makes them durable and returns the offset of the first entry.
    /// Readers see the entries only after the sync. Does nothing if there are no entries.
    ///
    /// # Errors
    /// [`StoreError::Codec`] if an entry cannot be encoded. In this case the journal is unchanged.
    /// After any other error, the journal may or may not contain the entries, and the store rejects
    /// writes until [`Store::reopen`].
    pub fn append(&self, entries: &[Entry], durability: Durability) -> Result<Offset, StoreError> {
        self.append_record(entries, &OriginRuns::default(), None, durability, &mut |sync| sync())
    }

    /// Like [`Journal::append`], but also stores the origins of the entries.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(super) fn append_batch(&self, batch: &JournalBatch, durability: Durability) -> Result<Offset, StoreError> {
        self.append_with_watcher(batch, durability, &mut |sync| sync())
    }

    /// Like [`Journal::append`], but also stores the origins of the entries and calls `watch` to
    /// run the sync.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_with_watcher(
        &self,
        batch: &JournalBatch,
        durability: Durability,
        watch: &mut JournalWatcher<'_>,
    ) -> Result<Offset, StoreError> {
        self.append_record(&batch.entries, &batch.origins, batch.position.as_ref(), durability, watch)
    }

    fn append_record(
        &self,
        entries: &[Entry],
        origins: &OriginRuns,
        position: Option<&SharedLogPosition>,
        durability: Durability,
        watch: &mut JournalWatcher<'_>,
    ) -> Result<Offset, StoreError> {
        let engine = self.store.lock_for_writing()?;
        let _append_guard = engine.append_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let first = engine.journal_end();
        if entries.is_empty() {
            return Ok(first);
        }
        let record = encode_record(first, entries, origins, position)?;
        remove_leftover_pieces(&engine, first)?;
        write_pieces(&engine, first, &record)?;
        watch(&|| engine.sync_record(first, entries.len(), &record, durability))?;
        let end = first + entries.len() as Offset;
        if durability == Durability::PowerLoss {
            engine.end_marker.advance_to(end);
        }
        engine.end_offset.store(end, Ordering::Release);
        Ok(first)
    }

    /// Replaces the `unwanted` entries before `until` with [`Entry::Tombstone`]; all other entries
    /// keep their offsets. Returns the number of replaced entries. The next [`Store::compact`]
    /// removes the old bytes from the database's files. The call replaces records one by one, so
    /// the caller must repeat it after a crash.
    ///
    /// # Errors
    /// [`StoreError::DamagedRecord`] for a damaged record, or any I/O error.
    pub fn replace_with_tombstones(
        &self,
        until: Offset,
        unwanted: &mut dyn FnMut(Offset, &Entry, Option<Origin>) -> bool,
    ) -> Result<u64, StoreError> {
        let mut total = 0;
        let (mut first, until) = (self.first_offset()?, until.min(self.next_offset()?));
        while first < until {
            let engine = self.store.lock_for_writing()?;
            // Only one thread at a time may replace records. Otherwise one of two concurrent
            // replacements of the same record could be lost.
            let append_guard = engine.append_lock.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(record) = JournalRecords::starting_at(&engine.journal, engine.path(), first).next() else { break };
            let (record, mut found) = (record?, 0_u64);
            let mut batch = JournalBatch { position: record.position, ..JournalBatch::default() };
            let mut origins = record.origins.into_origins();
            for (offset, entry) in record.entries {
                let origin = origins.next_origin();
                let replace = offset < until && entry != Entry::Tombstone && unwanted(offset, &entry, origin);
                found += u64::from(replace);
                batch.push(if replace { Entry::Tombstone } else { entry }, origin);
            }
            if found > 0 {
                let encoded = encode_record(first, &batch.entries, &batch.origins, batch.position.as_ref())?;
                replace_record(&engine, first, &encoded)?;
                if first < engine.first_offset.load(Ordering::Acquire) {
                    // In the meantime, retention has removed this part of the journal.
                    remove_record(&engine, first)?;
                }
            }
            drop(append_guard);
            total += found;
            first += batch.entries.len() as Offset;
        }
        Ok(total)
    }

    /// The position in the shared log of the journal up to offset `end`; `None` if no record ends
    /// there, or if the record does not come from a shared log.
    pub(super) fn log_position_at(&self, end: Offset) -> Result<Option<SharedLogPosition>, StoreError> {
        let engine = self.store.engine()?;
        let Some(last) = end.checked_sub(1) else { return Ok(None) };
        let upto = PieceKey { first: last, piece: u32::MAX }.to_bytes();
        let Some(pair) = KeyValueIter::new(engine.journal.range(..=upto), engine.path()).next_back() else {
            return Ok(None);
        };
        let first = parse_piece_key(&pair?.0, last)?.first;
        let record = JournalRecords::starting_at(&engine.journal, engine.path(), first).next().transpose()?;
        Ok(record.filter(|record| first + record.entries.len() as Offset == end).and_then(|record| record.position))
    }

    /// Reads at most `max_entries` entries from offset `from` on, with their offsets.
    ///
    /// # Errors
    /// As [`Journal::entries`].
    pub fn read_entries(&self, from: Offset, max_entries: usize) -> Result<Vec<(Offset, Entry)>, StoreError> {
        self.entries(from)?.take(max_entries).collect()
    }

    /// Iterates over the entries from offset `from` to the current end of the journal.
    ///
    /// # Errors
    /// Any database error. The iterator yields an error as its last item if a record is damaged
    /// ([`StoreError::DamagedRecord`]) or entries are missing ([`StoreError::MissingEntries`]).
    pub fn entries(&self, from: Offset) -> Result<JournalEntries, StoreError> {
        let engine = self.store.engine()?;
        let end = engine.journal_end();
        // The record that contains `from` is the last record that starts at or before `from`.
        let upto = PieceKey { first: from, piece: u32::MAX }.to_bytes();
        let is_in_journal = from >= engine.first_offset.load(Ordering::Acquire);
        let record_start =
            match KeyValueIter::new(engine.journal.range(..=upto), engine.path()).next_back().filter(|_| is_in_journal)
            {
                Some(pair) => parse_piece_key(&pair?.0, from)?.first,
                None => from,
            };
        let first_offset = engine.first_offset.load(Ordering::Acquire);
        let start = if from < end { record_start } else { end };
        let range = PieceKey { first: start.max(first_offset), piece: 0 }.to_bytes()
            ..PieceKey { first: end, piece: 0 }.to_bytes();
        let pieces = KeyValueIter::new(engine.journal.range(range), engine.path());
        let records = JournalRecords {
            journal: engine.journal.clone(),
            path: engine.path().to_owned(),
            pieces,
            next: start,
            end,
        };
        Ok(JournalEntries { records, current: Vec::new().into_iter(), origins: OriginIter::default(), from })
    }
}

/// An entry of the journal with its offset and its origin, if known.
pub type EntryWithOrigin = (Offset, Entry, Option<Origin>);

/// Iterator over the journal's entries in order. The iterator ends after the first error.
#[derive(Debug)]
pub struct JournalEntries {
    records: JournalRecords,
    current: std::vec::IntoIter<(Offset, Entry)>,
    /// The origins of the entries in `current`.
    origins: OriginIter,
    from: Offset,
}

impl JournalEntries {
    /// Iterates over the entries together with their origins.
    pub fn with_origins(mut self) -> impl Iterator<Item = Result<EntryWithOrigin, StoreError>> {
        std::iter::from_fn(move || self.next_with_origin())
    }

    fn next_with_origin(&mut self) -> Option<Result<EntryWithOrigin, StoreError>> {
        loop {
            match self.current.next() {
                Some((offset, entry)) => {
                    let origin = self.origins.next_origin();
                    if offset >= self.from {
                        return Some(Ok((offset, entry, origin)));
                    }
                }
                None => match self.records.next()? {
                    Ok(record) => {
                        self.current = record.entries.into_iter();
                        self.origins = record.origins.into_origins();
                    }
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

impl Iterator for JournalEntries {
    type Item = Result<(Offset, Entry), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_with_origin()?.map(|(offset, entry, _)| (offset, entry)))
    }
}

#[cfg(test)]
mod tests;
