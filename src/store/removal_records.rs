//! Records of removals in progress (erasures, expiries and purges), and steps that all removals
//! share.
//!
//! A record has the layout `prefix ‖ offset of the journal entry → envelope(removal)`. The prefix
//! is one byte per kind of removal.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec};
use crate::domain::Offset;

/// Key of the offset after the last journal entry that requests an erasure or an expiry.
const LAST_REMOVAL_KEY: &[u8] = b"l";

/// The name of the tree in error messages.
const TREE_NAME: &str = "erasures";

impl Store {
    /// Stores the removal whose journal entry has the offset `offset`. The write becomes durable
    /// with the next commit or [`Store::sync`].
    pub(super) fn put_removal<T: Serialize>(&self, prefix: u8, offset: Offset, removal: &T) -> Result<(), StoreError> {
        self.put_removal_value(&removal_key(prefix, offset), removal)
    }

    /// The offset after the last journal entry that requests an erasure or an expiry; 0 without one.
    /// A copy of a store has none of the original's.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn last_removal(&self) -> Result<Offset, StoreError> {
        let engine = self.engine()?;
        let stored = engine.get(&engine.erasures, LAST_REMOVAL_KEY)?;
        stored.map_or(Ok(0), |value| decode_value(LAST_REMOVAL_KEY, &value))
    }

    /// Records a journal entry that requests an erasure or an expiry.
    pub(super) fn record_last_removal(&self, offset: Offset) -> Result<(), StoreError> {
        self.put_removal_value(LAST_REMOVAL_KEY, &(offset + 1))
    }

    /// Stores a value in the tree of the removals.
    pub(super) fn put_removal_value<T: Serialize>(&self, key: &[u8], value: &T) -> Result<(), StoreError> {
        let engine = self.lock_for_writing()?;
        let mut envelope = ChecksummedEnvelope::with_capacity(64);
        codec::encode_to(value, envelope.payload())?;
        engine.insert(&engine.erasures, key, envelope.seal(key))
    }

    /// The removals in progress of one kind (`prefix`), each with the offset of its journal entry, in
    /// journal order.
    pub(super) fn removals_in_progress<T: DeserializeOwned>(&self, prefix: u8) -> Result<Vec<(Offset, T)>, StoreError> {
        let engine = self.engine()?;
        KeyValueIter::new(engine.erasures.scan_prefix([prefix]), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let offset = key.get(1..).and_then(|offset| offset.try_into().ok()).map(Offset::from_be_bytes);
                let offset = offset.ok_or_else(|| damaged_value(&key, "its key is not an offset".to_owned()))?;
                Ok((offset, decode_value(&key, &value)?))
            })
            .collect()
    }

    /// Removes the checkpoints and restore points of offsets before `offset`. They contain data
    /// that a removal must not leave behind.
    pub(super) fn drop_learned_states_before(&self, offset: Offset) -> Result<(), StoreError> {
        self.checkpoints_read_only().drop_before(offset)?;
        self.restore_points_read_only().drop_before(offset)?;
        Ok(())
    }
}

/// The key of a removal in progress.
pub(super) fn removal_key(prefix: u8, offset: Offset) -> Vec<u8> {
    [&[prefix], &offset.to_be_bytes()[..]].concat()
}

/// Decodes a value of the tree that was stored under `key`.
pub(super) fn decode_value<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    let payload = envelope::open_value(key, value).map_err(|reason| damaged_value(key, reason))?;
    codec::decode(payload).map_err(|error| damaged_value(key, error.to_string()))
}

pub(super) fn damaged_value(key: &[u8], reason: String) -> StoreError {
    StoreError::DamagedValue { tree: TREE_NAME, key: format!("{key:?}"), reason }
}
