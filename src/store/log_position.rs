//! The position of a journal in the shared log of a cluster, as journal records store it.
//!
//! A record that a message of the shared log led to has a block between its entries and its
//! origins:
//!
//! ```text
//! block = 0: u32 ‖ sequence: u64 ‖ digest: [u8; 16] ‖ chain: [u8; 16]
//!       ‖ model change: u64 ‖ expiry: u64
//! ```
//!
//! All numbers are little-endian. Origins never start with a 0, so the block is recognised by its
//! first number. A message that adds no entry has no record; its position is stored with the
//! committer's indexes.

use super::{Durability, Store, StoreError, codec, envelope, keys, origins::OriginRuns};
use crate::domain::{Entry, Offset};
use sha2::{Digest, Sha256};
use std::io::{self, Write};

/// Length of an encoded position, in bytes.
const BLOCK_BYTES: usize = 60;
/// Length of a digest, in bytes.
const DIGEST_BYTES: usize = 16;

/// The first 128 bits of a SHA-256 digest.
pub type LogDigest = [u8; DIGEST_BYTES];

/// The position of a journal in the shared log: the journal contains every message up to and
/// including `sequence`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedLogPosition {
    /// Sequence number of the last applied message; 0 before the first message.
    pub sequence: u64,
    /// Digest of the last applied message.
    pub digest: LogDigest,
    /// Running hash over all applied messages and the records that they led to. Nodes with equal
    /// journals have equal hashes at equal sequences.
    pub chain: LogDigest,
    /// The last changes that conditions of requests refer to.
    pub marks: ChangeMarks,
}

/// Offsets that conditions of requests refer to, so that a decision that several nodes take at the
/// same time applies once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChangeMarks {
    /// The offset after the last model operation; 0 without one.
    pub model_changes_before: Offset,
    /// The offset after the last expiry; 0 without one.
    pub expiries_before: Offset,
}

impl ChangeMarks {
    /// Records the entry at `offset`.
    pub(super) fn record_entry(&mut self, offset: Offset, entry: &Entry) {
        match entry {
            Entry::Model(_) => self.model_changes_before = offset + 1,
            Entry::Expire(_) => self.expiries_before = offset + 1,
            _ => {}
        }
    }
}

impl SharedLogPosition {
    pub(super) fn encode_to(&self, record: &mut Vec<u8>) {
        record.extend_from_slice(&0_u32.to_le_bytes());
        record.extend_from_slice(&self.sequence.to_le_bytes());
        record.extend_from_slice(&self.digest);
        record.extend_from_slice(&self.chain);
        record.extend_from_slice(&self.marks.model_changes_before.to_le_bytes());
        record.extend_from_slice(&self.marks.expiries_before.to_le_bytes());
    }

    /// Decodes the block at the start of `bytes`, if there is one. Returns the position and the
    /// bytes after it.
    pub(super) fn decode_prefix(bytes: &[u8]) -> (Option<Self>, &[u8]) {
        let Some((block, rest)) = bytes.split_first_chunk::<BLOCK_BYTES>() else { return (None, bytes) };
        match Self::decode_block(block) {
            Some(position) => (Some(position), rest),
            None => (None, bytes),
        }
    }

    fn decode_block(block: &[u8]) -> Option<Self> {
        let (marker, rest) = block.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (digest, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
        let (chain, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
        let (model, rest) = rest.split_first_chunk::<8>()?;
        let (expiry, _) = rest.split_first_chunk::<8>()?;
        let marks = ChangeMarks {
            model_changes_before: Offset::from_le_bytes(*model),
            expiries_before: Offset::from_le_bytes(*expiry),
        };
        let sequence = u64::from_le_bytes(*sequence);
        (*marker == [0; 4]).then_some(Self { sequence, digest: *digest, chain: *chain, marks })
    }

    /// The position after the next message, which led to a record of `entries` from offset `first`
    /// on.
    ///
    /// # Errors
    /// [`StoreError::Codec`] if an entry cannot be encoded.
    pub(super) fn after_message(
        &self,
        message: (u64, LogDigest),
        first: Offset,
        (entries, origins): (&[Entry], &OriginRuns),
        marks: ChangeMarks,
    ) -> Result<Self, StoreError> {
        let (sequence, digest) = message;
        let mut hasher = DigestWriter::default();
        hasher.0.update(self.chain);
        hasher.0.update(sequence.to_le_bytes());
        hasher.0.update(digest);
        hasher.0.update(first.to_le_bytes());
        for entry in entries {
            codec::encode_to(entry, &mut hasher)?;
        }
        let mut trailer = Vec::new();
        origins.encode_to(&mut trailer);
        hasher.0.update(&trailer);
        Ok(Self { sequence, digest, chain: hasher.finish(), marks })
    }
}

/// The digest of a message of the shared log.
#[must_use]
pub fn log_digest(message: &[u8]) -> LogDigest {
    truncated(Sha256::new_with_prefix(message))
}

fn truncated(hasher: Sha256) -> LogDigest {
    let mut digest = LogDigest::default();
    digest.iter_mut().zip(hasher.finalize()).for_each(|(byte, value)| *byte = value);
    digest
}

/// Hashes all bytes that are written to it.
#[derive(Debug, Default)]
pub struct DigestWriter(Sha256);

impl DigestWriter {
    /// The digest of the written bytes.
    #[must_use]
    pub fn finish(self) -> LogDigest {
        truncated(self.0)
    }
}

impl Write for DigestWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Store {
    /// The position of the journal in the shared log; `None` if the journal's last entry does not
    /// come from a shared log.
    ///
    /// # Errors
    /// Any error of reading the journal's last record or the stored position.
    pub fn log_position(&self) -> Result<Option<SharedLogPosition>, StoreError> {
        // A stored position of the same journal is later than that of the last record.
        match self.stored_log_position()? {
            Some(position) => Ok(Some(position)),
            None => self.journal().log_position_at(self.journal().next_offset()?),
        }
    }

    /// Lets the journal continue in a new shared log, whose first message follows the journal's
    /// last entry.
    ///
    /// # Errors
    /// [`StoreError::NoLogPosition`] if the journal comes from no shared log, or any I/O or database
    /// error.
    pub fn restart_log(&self) -> Result<(), StoreError> {
        let Some(position) = self.log_position()? else {
            return Err(StoreError::NoLogPosition { dir: self.dir().to_owned() });
        };
        let end = self.journal().next_offset()?;
        self.put_log_position(end, &SharedLogPosition { sequence: 0, digest: LogDigest::default(), ..position })?;
        self.sync(Durability::PowerLoss)
    }

    /// The position that [`Store::put_log_position`] stored, if it belongs to the journal's end.
    fn stored_log_position(&self) -> Result<Option<SharedLogPosition>, StoreError> {
        let engine = self.engine()?;
        let Some(value) = engine.get(&engine.db, keys::LOG_POSITION_KEY)? else { return Ok(None) };
        let read = envelope::open_value(keys::LOG_POSITION_KEY, &value).and_then(|payload| {
            let (end, block) = payload.split_first_chunk::<8>().ok_or("it is too short")?;
            let position = SharedLogPosition::decode_block(block).ok_or("it is no position")?;
            Ok((Offset::from_le_bytes(*end), position))
        });
        let (end, position) = read.map_err(|reason| StoreError::DamagedValue {
            tree: "default",
            key: "log-position".to_owned(),
            reason,
        })?;
        Ok((end == engine.journal_end()).then_some(position))
    }

    /// Stores the position of the journal, which ends at offset `end`. The write becomes durable
    /// with the next [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub(super) fn put_log_position(&self, end: Offset, position: &SharedLogPosition) -> Result<(), StoreError> {
        let engine = self.lock_for_writing()?;
        let mut envelope = envelope::ChecksummedEnvelope::with_capacity(size_of::<Offset>() + BLOCK_BYTES);
        envelope.payload().extend_from_slice(&end.to_le_bytes());
        position.encode_to(envelope.payload());
        engine.insert(&engine.db, keys::LOG_POSITION_KEY, envelope.seal(keys::LOG_POSITION_KEY))
    }
}

#[cfg(test)]
mod tests {
    use super::super::StoreOptions;
    use super::super::journal_batch::JournalBatch;
    use super::super::testing::event;
    use super::*;
    use crate::domain::{Origin, OriginHash};

    fn position(sequence: u64) -> SharedLogPosition {
        let marks = ChangeMarks { model_changes_before: 3, expiries_before: 0 };
        SharedLogPosition { sequence, digest: log_digest(b"message"), chain: [7; DIGEST_BYTES], marks }
    }

    fn batch(ids: std::ops::Range<u64>, position: Option<SharedLogPosition>) -> JournalBatch {
        let mut batch = JournalBatch { position, ..JournalBatch::default() };
        ids.for_each(|id| {
            batch.push(event(id), Some(Origin { key: OriginHash::new(id + 1), address: None, minute: 4 }))
        });
        batch
    }

    #[test]
    fn a_record_stores_the_position_behind_its_entries() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        assert_eq!(store.log_position().unwrap(), None);
        store.journal().append_batch(&batch(0..3, Some(position(8))), Durability::PowerLoss).unwrap();
        assert_eq!(store.log_position().unwrap(), Some(position(8)));
        // An erasure keeps the position.
        let erased = store.journal().replace_with_tombstones(2, &mut |offset, _, _| offset == 1).unwrap();
        assert_eq!((erased, store.log_position().unwrap()), (1, Some(position(8))));
        let read: Vec<_> = store.journal().entries(0).unwrap().with_origins().map(|read| read.unwrap()).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[2], (2, event(2), Some(Origin { key: OriginHash::new(3), address: None, minute: 4 })));
        // A later message without entries has a stored position, until the journal grows.
        store.put_log_position(3, &position(11)).unwrap();
        assert_eq!(store.log_position().unwrap(), Some(position(11)));
        store.restart_log().unwrap();
        let restarted = SharedLogPosition { sequence: 0, digest: LogDigest::default(), ..position(11) };
        assert_eq!(store.log_position().unwrap(), Some(restarted));
        store.journal().append_batch(&batch(3..4, None), Durability::PowerLoss).unwrap();
        assert_eq!(store.log_position().unwrap(), None, "the last entry was written without a shared log");
        assert!(store.restart_log().unwrap_err().to_string().contains("no node"));
    }

    #[test]
    fn the_chain_depends_on_every_part() {
        let origins = OriginRuns::default();
        let next = |before: &SharedLogPosition, message, first, entries: &[Entry]| {
            before.after_message(message, first, (entries, &origins), ChangeMarks::default()).unwrap().chain
        };
        let base = next(&position(8), (9, [1; 16]), 5, &[event(1)]);
        let other = SharedLogPosition { chain: [8; DIGEST_BYTES], ..position(8) };
        let chains = [
            base,
            next(&other, (9, [1; 16]), 5, &[event(1)]),
            next(&position(8), (10, [1; 16]), 5, &[event(1)]),
            next(&position(8), (9, [2; 16]), 5, &[event(1)]),
            next(&position(8), (9, [1; 16]), 6, &[event(1)]),
            next(&position(8), (9, [1; 16]), 5, &[]),
            next(&position(8), (9, [1; 16]), 5, &[event(2)]),
        ];
        let distinct: std::collections::BTreeSet<_> = chains.iter().collect();
        assert_eq!(distinct.len(), chains.len());
        assert_eq!(next(&position(8), (9, [1; 16]), 5, &[event(1)]), base);
    }
}
