//! Stores quarantined journal entries. A reader of the journal skips these entries, because it
//! failed to process them.

use super::envelope::{self, ChecksummedEnvelope};
use super::{Durability, Store, StoreError, codec};
use crate::domain::Offset;
use serde::{Deserialize, Serialize};

/// The name of the tree in error messages.
const TREE_NAME: &str = "quarantine";

/// A component that reads the journal and can quarantine entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineReader {
    /// The learner.
    Learner,
    /// A user's session.
    Session,
}

/// A journal entry that a reader skips.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedEntry {
    /// The offset of the entry, which stays in the journal.
    pub offset: Offset,
    /// The reader that skips the entry.
    pub reader: QuarantineReader,
    /// The error with which the reader failed.
    pub reason: String,
}

/// The quarantine of a store: `offset: u64, big-endian ‖ reader: u8 → envelope(reason)`.
#[derive(Debug, Clone)]
pub struct QuarantineTree {
    store: Store,
}

impl QuarantineTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Durably quarantines an entry for a reader. If the entry is already quarantined for this
    /// reader, replaces the reason.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn put(&self, quarantined: &QuarantinedEntry) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        let key = quarantine_key(quarantined.offset, quarantined.reader);
        let mut envelope = ChecksummedEnvelope::with_capacity(quarantined.reason.len() + 8);
        codec::encode_to(quarantined, envelope.payload())?;
        engine.insert(&engine.quarantine, &key, envelope.seal(&key))?;
        engine.sync(Durability::PowerLoss)
    }

    /// All quarantined entries, in journal order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn all(&self) -> Result<Vec<QuarantinedEntry>, StoreError> {
        let engine = self.store.engine()?;
        let read = |stored: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = stored.map_err(|source| engine.database_error("reading", source))?;
            let damaged = |reason| StoreError::DamagedValue {
                tree: TREE_NAME,
                key: key.iter().map(|byte| format!("{byte:02x}")).collect(),
                reason,
            };
            let payload = envelope::open_value(&key, &value).map_err(damaged)?;
            codec::decode(payload).map_err(|error| damaged(error.to_string()))
        };
        engine.quarantine.iter().map(read).collect()
    }

    /// Number of quarantined entries.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn count(&self) -> Result<usize, StoreError> {
        Ok(self.store.engine()?.quarantine.len())
    }
}

fn quarantine_key(offset: Offset, reader: QuarantineReader) -> Vec<u8> {
    [offset.to_be_bytes().as_slice(), &[reader as u8]].concat()
}

#[cfg(test)]
mod tests {
    use super::super::{StoreOptions, testing::flip_bit};
    use super::*;

    #[test]
    fn entries_are_kept_in_order_and_damage_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let quarantined = |offset, reader| QuarantinedEntry { offset, reader, reason: format!("reason {offset}") };
        let all = [
            quarantined(3, QuarantineReader::Learner),
            quarantined(3, QuarantineReader::Session),
            quarantined(70_000, QuarantineReader::Learner),
        ];
        all.iter().rev().chain(&all[..1]).for_each(|quarantined| store.quarantine().put(quarantined).unwrap());
        store.reopen().unwrap();
        assert_eq!(store.quarantine().all().unwrap(), all);
        flip_bit(&store.engine().unwrap().quarantine, &quarantine_key(3, QuarantineReader::Session), 6);
        assert!(matches!(store.quarantine().all(), Err(StoreError::DamagedValue { tree: TREE_NAME, .. })));
    }
}
