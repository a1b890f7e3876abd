//! The ordered, durable entries: what everything else is a fold of.
//!
//! An append writes one record: `sealed(count of entries: u32 ‖ entries)`. Records are cut into
//! pieces of at most [`PIECE`] bytes, since the database keeps sixteen neighbouring values in a
//! page and moves pages over 128 KiB to files of their own, slowly and without a sync. The piece
//! that begins a record also says how many there are (`pieces: u32 ‖ bytes`), and it is written
//! last: as a restart finds a prefix of what was written, a record whose first piece is there is
//! whole, and pieces without a first one are what remains of an append that did not finish.

use super::engine::{Engine, KeyValueIter};
use super::envelope::{self, ChecksummedEnvelope};
use super::keys::PieceKey;
use super::{Durability, Store, StoreError, codec};
use crate::domain::{Entry, Offset};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// The most bytes of one piece of a record: seventeen of them, as many as a page ever holds, stay
/// below 128 KiB.
const PIECE: usize = 7 << 10;

/// How often at most a record is replaced while one reads it: once for each erasure that is carried
/// out at that moment.
const REPLACED_AT_MOST: usize = 1000;

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
    /// [`StoreError::Failed`] if the store could not be reopened.
    pub fn next_offset(&self) -> Result<Offset, StoreError> {
        Ok(self.store.engine()?.journal_end())
    }

    /// The first offset that there may be an entry at: 0 until the head of the journal was dropped.
    ///
    /// # Errors
    /// [`StoreError::Failed`] if the store could not be reopened.
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

    /// Drops the records that lie wholly before `floor`, and never the last one. Returns where the
    /// journal begins now. Whoever may still have to read an entry must not let `floor` pass it.
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

    /// As [`Journal::append_lock`]; `watch` makes the sync.
    ///
    /// # Errors
    /// As [`Journal::append_lock`].
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

    /// Has nothing but [`Entry::Blank`] stand where the `unwanted` entries before `until` stood.
    /// The others stay as they are, and where they are. Returns how many went; what is left of them
    /// in the database's files goes with the next [`Store::compact`]. Each record is replaced as a
    /// whole: whoever dies on the way leaves some of it to be done.
    ///
    /// # Errors
    /// [`StoreError::DamagedRecord`] for one that cannot be read, or what the disk says.
    pub fn replace_with_tombstones(&self, until: Offset, unwanted: &mut dyn FnMut(Offset, &Entry) -> bool) -> Result<u64, StoreError> {
        let mut blanked = 0;
        let (mut first, until) = (self.first_offset()?, until.min(self.next_offset()?));
        while first < until {
            let engine = self.store.writable()?;
            // Whoever else takes something out of this record must find what is done here.
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

    /// The entries from offset `starting_at` up to the end that the journal has now, one after the other.
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

/// Runs through the journal's records, putting their pieces together.
pub(super) struct JournalRecords {
    journal: sled::Tree,
    path: PathBuf,
    pieces: KeyValueIter,
    /// The offset at which the next record has to begin.
    next: Offset,
    end: Offset,
}

impl std::fmt::Debug for JournalRecords {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Records").field("next", &self.next).field("end", &self.end).finish_non_exhaustive()
    }
}

impl JournalRecords {
    /// The records from the one that begins at `first` on.
    pub(super) fn starting_at(journal: &sled::Tree, path: &Path, first: Offset) -> Self {
        let pieces = KeyValueIter::new(journal.range(PieceKey { first, piece: 0 }.to_bytes()..), path);
        Self { journal: journal.clone(), path: path.to_owned(), pieces, next: first, end: Offset::MAX }
    }

    /// The next record once more: a record is replaced as a whole when something in it is erased,
    /// and whoever reads it meanwhile may find pieces of both. What is found damaged in the same
    /// way twice is.
    fn again(&mut self, mut damaged: StoreError) -> Result<Vec<(Offset, Entry)>, StoreError> {
        for _ in 0..REPLACED_AT_MOST {
            let mut anew = Self::starting_at(&self.journal, &self.path, self.next);
            let head = match anew.piece() {
                Some(Ok((key, head))) if key == (PieceKey { first: self.next, piece: 0 }) => head,
                _ => break,
            };
            let record = anew.assemble(self.next, &head);
            self.pieces = anew.pieces;
            match record {
                Err(error) if error.to_string() != damaged.to_string() => damaged = error,
                record => return record,
            }
        }
        Err(damaged)
    }

    /// The next piece and its key.
    fn piece(&mut self) -> Option<Result<(PieceKey, sled::IVec), StoreError>> {
        Some(self.pieces.next()?.and_then(|(key, value)| Ok((parse_key(&key, self.next)?, value))))
    }

    /// The record whose first piece this is.
    fn assemble(&mut self, first: Offset, head: &[u8]) -> Result<Vec<(Offset, Entry)>, StoreError> {
        let damaged = |reason: String| StoreError::DamagedRecord { offset: first, reason };
        let (pieces, head) = head.split_first_chunk::<4>().ok_or_else(|| damaged(format!("{} bytes begin it", head.len())))?;
        let mut bytes = head.to_vec();
        for number in 1..u32::from_le_bytes(*pieces) {
            match self.piece().transpose()? {
                Some((key, piece)) if key == (PieceKey { first, piece: number }) => bytes.extend_from_slice(&piece),
                _ => return Err(damaged(format!("its piece {number} is missing"))),
            }
        }
        let payload = envelope::open(&first.to_be_bytes(), &bytes).map_err(damaged)?;
        decode_record(first, payload).map_err(|error| damaged(error.to_string()))
    }
}

impl Iterator for JournalRecords {
    type Item = Result<Vec<(Offset, Entry)>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.end {
            let record = match self.piece() {
                // Left over from an append that did not finish. Were it the rest of a record, the
                // next one would come too late.
                Some(Ok((key, _))) if key.piece > 0 => continue,
                Some(Ok((key, _))) if key.first != self.next => Err(StoreError::MissingEntries { from: self.next, until: key.first }),
                Some(Ok((key, head))) => match self.assemble(key.first, &head) {
                    Err(damaged) => self.again(damaged),
                    whole => whole,
                },
                Some(Err(error)) => Err(error),
                None => Err(StoreError::MissingEntries { from: self.next, until: self.end }),
            };
            match &record {
                Ok(entries) => self.next += entries.len() as Offset,
                Err(_) => self.next = self.end,
            }
            return Some(record);
        }
        None
    }
}

/// Where the first offset of the journal stands, in the database's default tree.
const BEGIN_KEY: &[u8] = b"begin";

fn failed(source: sled::Error) -> StoreError {
    StoreError::Database { action: "asking where the journal begins in", path: "store".into(), source }
}

/// The first offset that the journal still has, 0 if nothing says otherwise.
pub(super) fn read_first_offset(db: &sled::Db) -> Result<Offset, StoreError> {
    let stored = db.get(BEGIN_KEY).map_err(failed)?;
    stored.map_or(Ok(0), |value| envelope::open_offset("default", BEGIN_KEY, &value))
}

/// Writes the first offset that the journal has from now on, into a database under way to its
/// present format.
pub(super) fn write_first_offset(db: &sled::Db, begin: Offset) -> Result<(), StoreError> {
    db.insert(BEGIN_KEY, envelope::seal_offset(BEGIN_KEY, begin)).map(drop).map_err(failed)
}

/// The offset after the last whole record.
pub(super) fn find_end(journal: &sled::Tree, path: &Path) -> Result<Offset, StoreError> {
    let Some(first) = find_last_record(journal, path)? else { return Ok(0) };
    let mut last = JournalRecords::starting_at(journal, path, first);
    last.next().transpose().map(|_| last.next)
}

/// Where the last record begins, whole or not.
pub(super) fn find_last_record(journal: &sled::Tree, path: &Path) -> Result<Option<Offset>, StoreError> {
    for pair in KeyValueIter::new(journal.iter(), path).rev() {
        let key = parse_key(&pair?.0, Offset::MAX)?;
        if key.piece == 0 {
            return Ok(Some(key.first));
        }
    }
    Ok(None)
}

/// Where the first record at or after `starting_at` begins, whole or not.
pub(super) fn find_record_from(journal: &sled::Tree, path: &Path, from: Offset) -> Result<Option<Offset>, StoreError> {
    for pair in KeyValueIter::new(journal.range(PieceKey { first: from, piece: 0 }.to_bytes()..), path) {
        let key = parse_key(&pair?.0, from)?;
        if key.piece == 0 {
            return Ok(Some(key.first));
        }
    }
    Ok(None)
}

fn parse_key(key: &[u8], near: Offset) -> Result<PieceKey, StoreError> {
    PieceKey::from_bytes(key).ok_or_else(|| StoreError::DamagedRecord { offset: near, reason: format!("a key of {} bytes", key.len()) })
}

fn encode_record(first: Offset, entries: &[Entry]) -> Result<Vec<u8>, StoreError> {
    /// What an entry commonly takes, generously.
    const ENTRY_BYTES: usize = 192;
    let mut envelope = ChecksummedEnvelope::with_capacity(entries.len() * ENTRY_BYTES);
    let payload = envelope.payload();
    // A record of four milliards of entries does not fit into memory.
    payload.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    for entry in entries {
        codec::encode_to(entry, payload)?;
    }
    Ok(envelope.seal(&first.to_be_bytes()))
}

fn decode_record(first: Offset, payload: &[u8]) -> Result<Vec<(Offset, Entry)>, StoreError> {
    let (count, mut rest) = codec::decode_prefix::<u32>(payload)?;
    let mut entries = Vec::new();
    for offset in (first..).take(count as usize) {
        let (entry, after) = codec::decode_prefix(rest)?;
        entries.push((offset, entry));
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(codec::CodecError::TrailingBytes(rest.len()).into()) }
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
