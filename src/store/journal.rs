//! The ordered, durable entries: what everything else is a fold of.
//!
//! An append writes one record: `sealed(count of entries: u32 ‖ entries)`. Records are cut into
//! pieces of at most [`PIECE`] bytes, since the database keeps sixteen neighbouring values in a
//! page and moves pages over 128 KiB to files of their own, slowly and without a sync. The piece
//! that begins a record also says how many there are (`pieces: u32 ‖ bytes`), and it is written
//! last: as a restart finds a prefix of what was written, a record whose first piece is there is
//! whole, and pieces without a first one are what remains of an append that did not finish.

use super::engine::Engine;
use super::envelope;
use super::journal_records::{BEGIN_KEY, JournalRecords, encode_record, parse_key};
use super::key_value_iter::KeyValueIter;
use super::keys::PieceKey;
use super::{Durability, Store, StoreError};
use crate::domain::{Entry, Offset};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// The most bytes of one piece of a record: seventeen of them, as many as a page ever holds, stay
/// below 128 KiB.
const PIECE: usize = 7 << 10;

/// Makes the sync that it is given, and sees how long it takes.
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

    /// The offset that the next entry will have.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn next_offset(&self) -> Result<Offset, StoreError> {
        Ok(self.store.engine()?.journal_end())
    }

    /// The first offset that there may be an entry at: 0 until the head of the journal was dropped.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn first_offset(&self) -> Result<Offset, StoreError> {
        Ok(self.store.engine()?.first_offset.load(Ordering::Acquire))
    }

    /// Lets a journal that has no entry yet begin at an offset, as the copy of one whose head was
    /// dropped.
    ///
    /// # Errors
    /// [`StoreError::JournalNotEmpty`] if it has one, or what the disk says.
    pub fn set_first_offset(&self, begin: Offset) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        let _one_at_a_time = engine.append_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = engine.journal_end();
        if entries > 0 {
            return Err(StoreError::JournalNotEmpty { dir: self.store.dir().to_owned(), entries });
        }
        engine.insert(&engine.db, BEGIN_KEY, envelope::seal_offset(BEGIN_KEY, begin))?;
        engine.first_offset.store(begin, Ordering::Release);
        engine.end_offset.store(begin, Ordering::Release);
        Ok(())
    }

    /// Drops the records that lie entirely before `floor`, except the last record. Returns the new
    /// first offset. The caller must keep `floor` at or below every entry that is still needed.
    ///
    /// # Errors
    /// What the disk says. Where the journal begins is made durable first: what was not removed
    /// then is no entry any more, and goes the next time.
    pub fn drop_before(&self, floor: Offset) -> Result<Offset, StoreError> {
        let engine = self.store.writable()?;
        let begin = engine.first_offset.load(Ordering::Acquire);
        let upto = PieceKey { first: floor.min(engine.journal_end().saturating_sub(1)), piece: u32::MAX }.to_bytes();
        let Some(key) = engine.journal.range(..=upto).keys().next_back() else { return Ok(begin) };
        let keep = parse_key(&key.map_err(|source| engine.error("reading", source))?, floor)?.first;
        if keep <= begin {
            return Ok(begin);
        }
        engine.insert(&engine.db, BEGIN_KEY, envelope::seal_offset(BEGIN_KEY, keep))?;
        engine.sync(Durability::PowerLoss)?;
        engine.first_offset.store(keep, Ordering::Release);
        for key in engine.journal.range(..PieceKey { first: keep, piece: 0 }.to_bytes()).keys() {
            engine.remove(&engine.journal, &key.map_err(|source| engine.error("reading", source))?)?;
        }
        Ok(keep)
    }

    /// Appends entries as one record, makes them durable and returns the offset of the first.
    /// Readers see them only then. No entries: nothing is done.
    ///
    /// # Errors
    /// [`StoreError::Codec`] if an entry cannot be encoded: nothing was written. What the disk says
    /// otherwise: whether the entries are in the journal is then unknown until [`Store::reopen`],
    /// and until then nothing more is taken.
    pub fn append(&self, entries: &[Entry], durability: Durability) -> Result<Offset, StoreError> {
        self.append_with_watcher(entries, durability, &mut |sync| sync())
    }

    /// As [`Journal::append`]; `start` makes the sync.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_with_watcher(
        &self,
        entries: &[Entry],
        durability: Durability,
        watch: &mut JournalWatcher<'_>,
    ) -> Result<Offset, StoreError> {
        let engine = self.store.writable()?;
        let _one_at_a_time = engine.append_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let first = engine.journal_end();
        if entries.is_empty() {
            return Ok(first);
        }
        let record = encode_record(first, entries)?;
        remove_leftovers(&engine, first)?;
        write_pieces(&engine, first, &record)?;
        watch(&|| engine.sync(durability))?;
        let end = first + entries.len() as Offset;
        if durability == Durability::PowerLoss {
            engine.end_marker.advance(end);
        }
        engine.end_offset.store(end, Ordering::Release);
        Ok(first)
    }

    /// Replaces the `unwanted` entries before `until` by [`Entry::Tombstone`]; all others keep
    /// their place. Returns the number of replaced entries. Their bytes leave the database's files
    /// with the next [`Store::compact`]. Records are replaced one by one, so a crash leaves some to
    /// be done.
    ///
    /// # Errors
    /// [`StoreError::DamagedRecord`] for one that cannot be read, or what the disk says.
    pub fn replace_with_tombstones(&self, until: Offset, unwanted: &mut dyn FnMut(Offset, &Entry) -> bool) -> Result<u64, StoreError> {
        let mut blanked = 0;
        let (mut first, until) = (self.first_offset()?, until.min(self.next_offset()?));
        while first < until {
            let engine = self.store.writable()?;
            // Serialises replacements, so that concurrent ones of the same record are not lost.
            let one_at_a_time = engine.append_lock.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(record) = JournalRecords::starting_at(&engine.journal, engine.path(), first).next() else { break };
            let (mut entries, mut found): (Vec<Entry>, u64) = (Vec::new(), 0);
            for (offset, entry) in record? {
                let goes = offset < until && entry != Entry::Tombstone && unwanted(offset, &entry);
                found += u64::from(goes);
                entries.push(if goes { Entry::Tombstone } else { entry });
            }
            if found > 0 {
                replace_record(&engine, first, &encode_record(first, &entries)?)?;
                if first < engine.first_offset.load(Ordering::Acquire) {
                    // The head was dropped meanwhile.
                    remove_record(&engine, first)?;
                }
            }
            drop(one_at_a_time);
            blanked += found;
            first += entries.len() as Offset;
        }
        Ok(blanked)
    }

    /// At most `max_entries` entries from offset `starting_at` on, with their offsets.
    ///
    /// # Errors
    /// As [`Journal::entries`].
    pub fn read(&self, from: Offset, max_entries: usize) -> Result<Vec<(Offset, Entry)>, StoreError> {
        self.entries(from)?.take(max_entries).collect()
    }

    /// The entries from offset `starting_at` up to the end that the journal has now, one after the
    /// other.
    ///
    /// # Errors
    /// What the database says when it is read. The iterator's items are errors, and its last, where
    /// a record is damaged ([`StoreError::DamagedRecord`]) or entries are missing
    /// ([`StoreError::MissingEntries`]).
    pub fn entries(&self, from: Offset) -> Result<JournalEntries, StoreError> {
        let engine = self.store.engine()?;
        let end = engine.journal_end();
        // The record that holds `starting_at` is the last one that begins at or before it.
        let upto = PieceKey { first: from, piece: u32::MAX }.to_bytes();
        let known = from >= engine.first_offset.load(Ordering::Acquire);
        let holding = match KeyValueIter::new(engine.journal.range(..=upto), engine.path()).next_back().filter(|_| known) {
            Some(pair) => parse_key(&pair?.0, from)?.first,
            None => from,
        };
        let begin = engine.first_offset.load(Ordering::Acquire);
        let start = if from < end { holding } else { end };
        let range = PieceKey { first: start.max(begin), piece: 0 }.to_bytes()..PieceKey { first: end, piece: 0 }.to_bytes();
        let pieces = KeyValueIter::new(engine.journal.range(range), engine.path());
        let records = JournalRecords { journal: engine.journal.clone(), path: engine.path().to_owned(), pieces, next: start, end };
        Ok(JournalEntries { records, current: Vec::new().into_iter(), from })
    }
}

/// Runs through the journal's entries in their order. Ends after the first error.
#[derive(Debug)]
pub struct JournalEntries {
    records: JournalRecords,
    current: std::vec::IntoIter<(Offset, Entry)>,
    from: Offset,
}

impl Iterator for JournalEntries {
    type Item = Result<(Offset, Entry), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.current.next() {
                Some((offset, _)) if offset < self.from => {}
                Some(entry) => return Some(Ok(entry)),
                None => match self.records.next()? {
                    Ok(entries) => self.current = entries.into_iter(),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

/// Removes what an append that did not finish left at or after `first`.
fn remove_leftovers(engine: &Engine, first: Offset) -> Result<(), StoreError> {
    let from = PieceKey { first, piece: 0 }.to_bytes();
    KeyValueIter::new(engine.journal.range(from..), engine.path()).try_for_each(|pair| engine.remove(&engine.journal, &pair?.0))
}

/// The record's pieces, the first one last.
fn pieces(record: &[u8]) -> impl Iterator<Item = (u32, Vec<u8>)> {
    let (head, rest) = record.split_at_checked(PIECE).unwrap_or((record, &[]));
    let pieces = rest.len().div_ceil(PIECE) as u32 + 1;
    let head = [&pieces.to_le_bytes(), head].concat();
    (1..).zip(rest.chunks(PIECE).map(<[u8]>::to_vec)).chain([(0, head)])
}

/// Writes the record's pieces.
fn write_pieces(engine: &Engine, first: Offset, record: &[u8]) -> Result<(), StoreError> {
    pieces(record).try_for_each(|(piece, bytes)| engine.insert(&engine.journal, &PieceKey { first, piece }.to_bytes(), bytes))
}

/// The keys under which the pieces of a record stand.
fn keys_of(engine: &Engine, first: Offset) -> Result<Vec<Vec<u8>>, StoreError> {
    let range = PieceKey { first, piece: 0 }.to_bytes()..=PieceKey { first, piece: u32::MAX }.to_bytes();
    KeyValueIter::new(engine.journal.range(range), engine.path()).map(|pair| Ok(pair?.0.to_vec())).collect()
}

/// Puts a record in the place of another, at once.
fn replace_record(engine: &Engine, first: Offset, record: &[u8]) -> Result<(), StoreError> {
    let removed = keys_of(engine, first)?.into_iter().map(|key| (key, None));
    let written = pieces(record).map(|(piece, bytes)| (PieceKey { first, piece }.to_bytes().to_vec(), Some(bytes)));
    // Of two values for a key the later one stands.
    let values: BTreeMap<_, _> = removed.chain(written).collect();
    engine.replace(&engine.journal, values.into_iter().collect())
}

fn remove_record(engine: &Engine, first: Offset) -> Result<(), StoreError> {
    keys_of(engine, first)?.iter().try_for_each(|key| engine.remove(&engine.journal, key))
}

#[cfg(test)]
mod tests;
