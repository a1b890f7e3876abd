//! Encodes journal records, and assembles them from their pieces.

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::keys::PieceKey;
use super::log_position::SharedLogPosition;
use super::origins::OriginRuns;
use super::{StoreError, codec};
use crate::domain::{Entry, Offset};
use std::path::{Path, PathBuf};

/// Maximum number of times that a reader reads the same record again. A repetition is necessary if
/// an erasure replaces the record during the read.
const MAX_REREADS_PER_RECORD: usize = 1000;

/// A decoded journal record.
#[derive(Debug, Default)]
pub(super) struct JournalRecord {
    /// The entries with their offsets.
    pub(super) entries: Vec<(Offset, Entry)>,
    /// The origins of the entries.
    pub(super) origins: OriginRuns,
    /// The position of the record in the shared log, if it comes from one.
    pub(super) position: Option<SharedLogPosition>,
}

/// Iterator over the journal's records that assembles their pieces.
pub(super) struct JournalRecords {
    pub(super) journal: sled::Tree,
    pub(super) path: PathBuf,
    pub(super) pieces: KeyValueIter,
    /// The offset at which the next record must start.
    pub(super) next: Offset,
    pub(super) end: Offset,
}

impl std::fmt::Debug for JournalRecords {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("JournalRecords")
            .field("next", &self.next)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl JournalRecords {
    /// Iterates over the records, starting with the record at offset `first`.
    pub(super) fn starting_at(journal: &sled::Tree, path: &Path, first: Offset) -> Self {
        let pieces = KeyValueIter::new(journal.range(PieceKey { first, piece: 0 }.to_bytes()..), path);
        Self { journal: journal.clone(), path: path.to_owned(), pieces, next: first, end: Offset::MAX }
    }

    /// Reads the next record again, after it looked damaged. If an erasure replaces a record during
    /// a read, the reader may get pieces of both versions. If a second read fails in the same way,
    /// the record is really damaged.
    fn reread_record(&mut self, mut damaged: StoreError) -> Result<JournalRecord, StoreError> {
        for _ in 0..MAX_REREADS_PER_RECORD {
            let mut fresh = Self::starting_at(&self.journal, &self.path, self.next);
            let head = match fresh.read_record_piece() {
                Some(Ok((key, head))) if key == (PieceKey { first: self.next, piece: 0 }) => head,
                _ => break,
            };
            let record = fresh.assemble_record(self.next, &head);
            self.pieces = fresh.pieces;
            match record {
                Err(error) if error.to_string() != damaged.to_string() => damaged = error,
                record => return record,
            }
        }
        Err(damaged)
    }

    /// Reads the next piece of a record, with its key.
    fn read_record_piece(&mut self) -> Option<Result<(PieceKey, sled::IVec), StoreError>> {
        Some(self.pieces.next()?.and_then(|(key, value)| Ok((parse_piece_key(&key, self.next)?, value))))
    }

    /// Assembles the record that starts with the piece `head`.
    fn assemble_record(&mut self, first: Offset, head: &[u8]) -> Result<JournalRecord, StoreError> {
        let damaged = |reason: String| StoreError::DamagedRecord { offset: first, reason };
        let (pieces, head) = head
            .split_first_chunk::<4>()
            .ok_or_else(|| damaged(format!("its first piece has only {} bytes", head.len())))?;
        let mut bytes = head.to_vec();
        for number in 1..u32::from_le_bytes(*pieces) {
            match self.read_record_piece().transpose()? {
                Some((key, piece)) if key == (PieceKey { first, piece: number }) => bytes.extend_from_slice(&piece),
                _ => return Err(damaged(format!("its piece {number} is missing"))),
            }
        }
        let payload = envelope::open_value(&first.to_be_bytes(), &bytes).map_err(damaged)?;
        decode_record(first, payload).map_err(|error| damaged(error.to_string()))
    }
}

impl Iterator for JournalRecords {
    type Item = Result<JournalRecord, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.end {
            let record = match self.read_record_piece() {
                // The piece is left over from an unfinished append. It cannot belong to a record
                // that lost its first piece: the next record would then have an unexpected offset,
                // which is an error.
                Some(Ok((key, _))) if key.piece > 0 => continue,
                Some(Ok((key, _))) if key.first != self.next => {
                    Err(StoreError::MissingEntries { from: self.next, until: key.first })
                }
                Some(Ok((key, head))) => match self.assemble_record(key.first, &head) {
                    Err(damaged) => self.reread_record(damaged),
                    complete => complete,
                },
                Some(Err(error)) => Err(error),
                None => Err(StoreError::MissingEntries { from: self.next, until: self.end }),
            };
            match &record {
                Ok(record) => self.next += record.entries.len() as Offset,
                Err(_) => self.next = self.end,
            }
            return Some(record);
        }
        None
    }
}

/// Key of the journal's first offset in the database's default tree.
pub(super) const FIRST_OFFSET_KEY: &[u8] = b"begin";

fn database_error(source: sled::Error) -> StoreError {
    StoreError::Database { action: "reading the journal's first offset from", path: "store".into(), source }
}

/// Reads the first offset of the journal; 0 if the database contains no first offset.
pub(super) fn read_first_offset(db: &sled::Db) -> Result<Offset, StoreError> {
    let stored = db.get(FIRST_OFFSET_KEY).map_err(database_error)?;
    stored.map_or(Ok(0), |value| envelope::open_offset("default", FIRST_OFFSET_KEY, &value))
}

/// Writes the first offset of the journal, during a migration.
pub(super) fn write_first_offset(db: &sled::Db, begin: Offset) -> Result<(), StoreError> {
    db.insert(FIRST_OFFSET_KEY, envelope::seal_offset(FIRST_OFFSET_KEY, begin)).map(drop).map_err(database_error)
}

/// The offset after the last complete record.
pub(super) fn find_journal_end(journal: &sled::Tree, path: &Path) -> Result<Offset, StoreError> {
    let Some(first) = find_last_record(journal, path)? else { return Ok(0) };
    let mut last = JournalRecords::starting_at(journal, path, first);
    last.next().transpose().map(|_| last.next)
}

/// The first offset of the last record, complete or not.
pub(super) fn find_last_record(journal: &sled::Tree, path: &Path) -> Result<Option<Offset>, StoreError> {
    for pair in KeyValueIter::new(journal.iter(), path).rev() {
        let key = parse_piece_key(&pair?.0, Offset::MAX)?;
        if key.piece == 0 {
            return Ok(Some(key.first));
        }
    }
    Ok(None)
}

/// The offset of the first record at or after `from`, complete or not.
pub(super) fn find_record_from(journal: &sled::Tree, path: &Path, from: Offset) -> Result<Option<Offset>, StoreError> {
    for pair in KeyValueIter::new(journal.range(PieceKey { first: from, piece: 0 }.to_bytes()..), path) {
        let key = parse_piece_key(&pair?.0, from)?;
        if key.piece == 0 {
            return Ok(Some(key.first));
        }
    }
    Ok(None)
}

pub(super) fn parse_piece_key(key: &[u8], near: Offset) -> Result<PieceKey, StoreError> {
    PieceKey::from_bytes(key).ok_or_else(|| StoreError::DamagedRecord {
        offset: near,
        reason: format!("it has a key of {} bytes instead of 12", key.len()),
    })
}

pub(super) fn encode_record(
    first: Offset,
    entries: &[Entry],
    origins: &OriginRuns,
    position: Option<&SharedLogPosition>,
) -> Result<Vec<u8>, StoreError> {
    /// An encoded entry takes at most about this many bytes, so a buffer of this size rarely grows.
    const ESTIMATED_ENTRY_BYTES: usize = 192;
    let mut envelope = ChecksummedEnvelope::with_capacity(entries.len() * ESTIMATED_ENTRY_BYTES);
    let payload = envelope.payload();
    // The conversion cannot fail: a record of four billion entries does not fit into memory.
    payload.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    for entry in entries {
        codec::encode_to(entry, payload)?;
    }
    if let Some(position) = position {
        position.encode_to(payload);
    }
    origins.encode_to(payload);
    Ok(envelope.seal(&first.to_be_bytes()))
}

pub(super) fn decode_record(first: Offset, payload: &[u8]) -> Result<JournalRecord, StoreError> {
    let (count, mut rest) = codec::decode_prefix::<u32>(payload)?;
    let mut entries = Vec::new();
    for offset in (first..).take(count as usize) {
        let (entry, after) = codec::decode_prefix(rest)?;
        entries.push((offset, entry));
        rest = after;
    }
    let (position, rest) = SharedLogPosition::decode_prefix(rest);
    Ok(JournalRecord { entries, origins: OriginRuns::decode(rest, count)?, position })
}
