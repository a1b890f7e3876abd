//! Entries that could not be worked on: noted, so that they are passed over from then on.

use super::envelope::{self, ChecksummedEnvelope};
use super::{Durability, Store, StoreError, codec};
use crate::domain::Offset;
use serde::{Deserialize, Serialize};

/// The tree's name in errors.
const TREE: &str = "quarantine";

/// Who works on the journal's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineReader {
    /// The fold that learns.
    Learner,
    /// The user's session.
    Session,
}

/// An entry that somebody passes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantinedEntry {
    /// Its place in the journal, where it stays.
    pub offset: Offset,
    /// Who passes over it.
    pub reader: QuarantineReader,
    /// What went wrong.
    pub reason: String,
}

/// The notes of a store: `offset: u64, big-endian ‖ reader: u8 → sealed(reason)`.
#[derive(Debug, Clone)]
pub struct QuarantineTree {
    store: Store,
}

impl QuarantineTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Notes an entry, durably; a note on the same entry for the same reader is replaced.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put(&self, quarantined: &QuarantinedEntry) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        let key = key(quarantined.offset, quarantined.reader);
        let mut envelope = ChecksummedEnvelope::with_capacity(quarantined.reason.len() + 8);
        codec::encode_to(quarantined, envelope.payload())?;
        engine.insert(&engine.quarantine, &key, envelope.seal(&key))?;
        engine.sync(Durability::PowerLoss)
    }

    /// Every note, in the journal's order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a note that is not what was written, or what the database
    /// says.
    pub fn all(&self) -> Result<Vec<QuarantinedEntry>, StoreError> {
        let engine = self.store.engine()?;
        let read = |stored: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = stored.map_err(|source| engine.error("reading", source))?;
            let damaged =
                |reason| StoreError::DamagedValue { tree: TREE, key: key.iter().map(|byte| format!("{byte:02x}")).collect(), reason };
            let payload = envelope::open(&key, &value).map_err(damaged)?;
            codec::decode(payload).map_err(|error| damaged(error.to_string()))
        };
        engine.quarantine.iter().map(read).collect()
    }

    /// How many notes there are.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn count(&self) -> Result<usize, StoreError> {
        Ok(self.store.engine()?.quarantine.len())
    }
}

fn key(offset: Offset, reader: QuarantineReader) -> Vec<u8> {
    [offset.to_be_bytes().as_slice(), &[reader as u8]].concat()
}

#[cfg(test)]
mod tests {
    use super::super::{StoreOptions, testing::flip_bit};
    use super::*;

    #[test]
    fn notes_are_kept_in_order_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let note = |offset, reader| QuarantinedEntry { offset, reader, reason: format!("reason {offset}") };
        let notes = [note(3, QuarantineReader::Learner), note(3, QuarantineReader::Session), note(70_000, QuarantineReader::Learner)];
        notes.iter().rev().chain(&notes[..1]).for_each(|note| store.quarantine().put(note).unwrap());
        store.reopen().unwrap();
        assert_eq!(store.quarantine().all().unwrap(), notes);
        flip_bit(&store.engine().unwrap().quarantine, &key(3, QuarantineReader::Session), 6);
        assert!(matches!(store.quarantine().all(), Err(StoreError::DamagedValue { tree: TREE, .. })));
    }
}
