//! Which users are to be erased, and of which it is known that they were.

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Durability, Store, StoreError, codec};
use crate::domain::{Offset, Timestamp, UserErasure};

/// The tree's name in errors.
const TREE: &str = "erasures";
/// Begins the key of an erasure that is under way; its entry's offset follows, big-endian.
const UNDER_WAY: u8 = b'w';
/// Begins the key of one that is done; the digest of the id follows.
const DONE: u8 = b'd';

/// What remains to be done once users are erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingTask {
    /// The database's files hold bytes of what was erased: they are to be written anew.
    Compaction,
    /// Everything is to be learned anew.
    Unlearning,
}

impl PendingTask {
    pub(super) fn key(self) -> &'static [u8] {
        match self {
            Self::Compaction => b"c",
            Self::Unlearning => b"u",
        }
    }
}

/// The SHA-256 digest of an erased user's id [FIPS 180-4]. A restored backup uses it to recognise
/// the id. It is not secret against guessing: anyone can test a candidate id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErasedUserDigest([u8; 32]);

impl ErasedUserDigest {
    /// That of an id.
    #[must_use]
    pub fn from_user_id(user_id: &str) -> Self {
        Self(Sha256::digest(user_id).into())
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From 64 hexadecimal digits; `None` if these are none.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// The erasures of a store: one key for each debt, and `w ‖ offset → sealed(erasure)` while they
/// are under way, `d ‖ digest of the id → sealed(when it was asked)` once they are done.
#[derive(Debug, Clone)]
pub struct ErasureTree {
    store: Store,
}

impl ErasureTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Notes that an erasure is under way. Becomes durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(&self, offset: Offset, erasure: &UserErasure) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        let key = under_way(offset);
        let mut envelope = ChecksummedEnvelope::with_capacity(64);
        codec::encode_to(erasure, envelope.payload())?;
        engine.insert(&engine.erasures, &key, envelope.seal(&key))
    }

    /// Those under way with where they stand in the journal, in its order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for one that is not what was written, or what the database
    /// says.
    pub fn in_progress(&self) -> Result<Vec<(Offset, UserErasure)>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.erasures.scan_prefix([UNDER_WAY]), engine.path())
            .map(|read| {
                let (key, value) = read?;
                Ok((parse_offset_key(&key)?, decode_value(&key, &value)?))
            })
            .collect()
    }

    /// Notes, durably, that erasures are done, of which nothing is left but this.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(&self, done: &[(Offset, UserErasure)]) -> Result<(), StoreError> {
        let digests: Vec<_> =
            done.iter().map(|(_, erasure)| (ErasedUserDigest::from_user_id(&erasure.user_id), erasure.timestamp)).collect();
        self.record_erased(&digests)?;
        let engine = self.store.writable()?;
        engine.insert(&engine.erasures, PendingTask::Compaction.key(), &[])?;
        if done.iter().any(|(_, erasure)| erasure.unlearn) {
            engine.insert(&engine.erasures, PendingTask::Unlearning.key(), &[])?;
        }
        done.iter().try_for_each(|(offset, _)| engine.remove(&engine.erasures, &under_way(*offset)))?;
        engine.sync(Durability::PowerLoss)
    }

    /// Whether that is to be done.
    ///
    /// # Errors
    /// What the database says.
    pub fn is_pending(&self, debt: PendingTask) -> Result<bool, StoreError> {
        let engine = self.store.engine()?;
        Ok(engine.get(&engine.erasures, debt.key())?.is_some())
    }

    /// Notes that it is done.
    ///
    /// # Errors
    /// What the disk says.
    pub fn clear_pending(&self, debt: PendingTask) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        engine.remove(&engine.erasures, debt.key())
    }

    /// Notes users as erased, with when it was asked.
    ///
    /// # Errors
    /// What the disk says.
    pub fn record_erased(&self, erased: &[(ErasedUserDigest, Timestamp)]) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        for (user, asked) in erased {
            let key = [&[DONE], &user.0[..]].concat();
            let mut envelope = ChecksummedEnvelope::with_capacity(8);
            codec::encode_to(asked, envelope.payload())?;
            engine.insert(&engine.erasures, &key, envelope.seal(&key))?;
        }
        Ok(())
    }

    /// Those done, with when each was asked.
    ///
    /// # Errors
    /// As [`ErasureTree::in_progress`].
    pub fn erased_users(&self) -> Result<Vec<(ErasedUserDigest, Timestamp)>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.erasures.scan_prefix([DONE]), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let user = key.get(1..).and_then(|digest| digest.try_into().ok()).map(ErasedUserDigest);
                Ok((user.ok_or_else(|| damaged(&key, "its key is no digest".to_owned()))?, decode_value(&key, &value)?))
            })
            .collect()
    }
}

fn under_way(offset: Offset) -> Vec<u8> {
    [&[UNDER_WAY], &offset.to_be_bytes()[..]].concat()
}

/// The offset that follows a key's first byte.
pub(super) fn parse_offset_key(key: &[u8]) -> Result<Offset, StoreError> {
    let offset = key.get(1..).and_then(|offset| offset.try_into().ok()).map(Offset::from_be_bytes);
    offset.ok_or_else(|| damaged(key, "its key is no offset".to_owned()))
}

/// What was written under a key of the tree.
pub(super) fn decode_value<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    let payload = envelope::open(key, value).map_err(|reason| damaged(key, reason))?;
    codec::decode(payload).map_err(|error| damaged(key, error.to_string()))
}

fn damaged(key: &[u8], reason: String) -> StoreError {
    StoreError::DamagedValue { tree: TREE, key: format!("{key:?}"), reason }
}

#[cfg(test)]
mod tests {
    use super::super::StoreOptions;
    use super::*;

    #[test]
    fn of_what_is_done_only_a_digest_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let erasure = |user: &str| UserErasure { user_id: user.to_owned(), unlearn: true, timestamp: 5 };
        let all = [(7, erasure("ann")), (300, erasure("bob"))];
        all.iter().for_each(|(offset, erasure)| store.erasures().begin(*offset, erasure).unwrap());
        assert_eq!(store.erasures().in_progress().unwrap(), all);
        store.erasures().finish(&all[..1]).unwrap();
        assert_eq!(store.erasures().in_progress().unwrap(), all[1..]);
        // Expected: printf ann | sha256sum.
        assert_eq!(ErasedUserDigest::from_user_id("ann").to_hex(), "49915e0d7d4b402e3017d010bc1c0e83cac6c797d6c16e66340fe3268693a6a1");
        let done = store.erasures().erased_users().unwrap();
        assert_eq!(done, [(ErasedUserDigest::from_user_id("ann"), 5)]);
        assert_eq!(ErasedUserDigest::from_hex(&done[0].0.to_hex()), Some(done[0].0));
        assert_eq!((ErasedUserDigest::from_hex("é"), ErasedUserDigest::from_hex(&"g".repeat(64))), (None, None));
    }
}
