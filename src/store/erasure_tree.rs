//! Stores erasures of users: erasures in progress, digests of erased user ids, and pending
//! follow-up tasks.

use sha2::{Digest, Sha256};

use super::key_value_iter::KeyValueIter;
use super::removal_records::{damaged_value, decode_value, removal_key};
use super::{Durability, Store, StoreError};
use crate::domain::{Offset, Timestamp, UserErasure};

/// Key prefix of an erasure in progress. The offset of the erasure's journal entry follows,
/// big-endian.
const IN_PROGRESS_PREFIX: u8 = b'w';
/// Key prefix of a finished erasure. The digest of the erased user id follows.
const FINISHED_PREFIX: u8 = b'd';

/// A task that remains after an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingTask {
    /// A compaction of the database, whose files still contain the erased bytes.
    Compaction,
    /// Unlearning: training the model again without the erased users.
    Unlearning,
}

impl PendingTask {
    pub(super) fn task_key(self) -> &'static [u8] {
        match self {
            Self::Compaction => b"c",
            Self::Unlearning => b"u",
        }
    }
}

/// The SHA-256 digest of an erased user's id [FIPS 180-4]. A restored backup may contain users who
/// were erased after it was made. The digests identify the users who must be erased again. The
/// digest does not protect against guessing: anyone can test a candidate id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErasedUserDigest([u8; 32]);

impl ErasedUserDigest {
    /// Computes the digest of a user id.
    #[must_use]
    pub fn from_user_id(user_id: &str) -> Self {
        Self(Sha256::digest(user_id).into())
    }

    /// Formats the digest as 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Parses a digest of 64 hexadecimal digits; `None` if `text` does not have this form.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// The erasures of a store. An erasure in progress has the layout `w ‖ offset → envelope(erasure)`.
/// A finished erasure has the layout `d ‖ digest of the id → envelope(time of the request)`. Each
/// pending follow-up task has a key without a value.
#[derive(Debug, Clone)]
pub struct ErasureTree {
    store: Store,
}

impl ErasureTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Records that the erasure whose journal entry has the offset `offset` is in progress. The
    /// write becomes durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn record_begun(&self, offset: Offset, erasure: &UserErasure) -> Result<(), StoreError> {
        self.store.put_removal(IN_PROGRESS_PREFIX, offset, erasure)
    }

    /// The erasures in progress with the offsets of their journal entries, in journal order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn in_progress(&self) -> Result<Vec<(Offset, UserErasure)>, StoreError> {
        self.store.removals_in_progress(IN_PROGRESS_PREFIX)
    }

    /// Durably records that erasures are finished. Of each finished erasure, the tree keeps only
    /// the digest of the user id and the time of the request.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn record_finished(&self, done: &[(Offset, UserErasure)]) -> Result<(), StoreError> {
        let digests: Vec<_> = done
            .iter()
            .map(|(_, erasure)| (ErasedUserDigest::from_user_id(&erasure.user_id), erasure.timestamp))
            .collect();
        self.record_erased_users(&digests)?;
        let engine = self.store.lock_for_writing()?;
        engine.insert(&engine.erasures, PendingTask::Compaction.task_key(), &[])?;
        if done.iter().any(|(_, erasure)| erasure.unlearn) {
            engine.insert(&engine.erasures, PendingTask::Unlearning.task_key(), &[])?;
        }
        done.iter()
            .try_for_each(|(offset, _)| engine.remove(&engine.erasures, &removal_key(IN_PROGRESS_PREFIX, *offset)))?;
        engine.sync(Durability::PowerLoss)
    }

    /// Whether a task is pending.
    ///
    /// # Errors
    /// Any database error.
    pub fn is_pending(&self, task: PendingTask) -> Result<bool, StoreError> {
        let engine = self.store.engine()?;
        Ok(engine.get(&engine.erasures, task.task_key())?.is_some())
    }

    /// Records that a task is pending. A copy of a store gets its pending tasks from the original.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub(super) fn set_pending(&self, task: PendingTask) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        engine.insert(&engine.erasures, task.task_key(), &[])
    }

    /// Records that a task is finished.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn clear_pending(&self, task: PendingTask) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        engine.remove(&engine.erasures, task.task_key())
    }

    /// Records the digests of erased users with the times of the erasure requests.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn record_erased_users(&self, erased: &[(ErasedUserDigest, Timestamp)]) -> Result<(), StoreError> {
        erased.iter().try_for_each(|(user, requested_at)| {
            self.store.put_removal_value(&[&[FINISHED_PREFIX], &user.0[..]].concat(), requested_at)
        })
    }

    /// The digests of all erased users, with the times of the erasure requests.
    ///
    /// # Errors
    /// As [`ErasureTree::in_progress`].
    pub fn erased_users(&self) -> Result<Vec<(ErasedUserDigest, Timestamp)>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.erasures.scan_prefix([FINISHED_PREFIX]), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let user = key.get(1..).and_then(|digest| digest.try_into().ok()).map(ErasedUserDigest);
                Ok((
                    user.ok_or_else(|| damaged_value(&key, "its key is not a digest".to_owned()))?,
                    decode_value(&key, &value)?,
                ))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::StoreOptions;
    use super::*;

    #[test]
    fn a_finished_erasure_leaves_only_a_digest_of_the_user_id() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let erasure = |user: &str| UserErasure { user_id: user.to_owned(), unlearn: true, timestamp: 5 };
        let all = [(7, erasure("ann")), (300, erasure("bob"))];
        all.iter().for_each(|(offset, erasure)| store.erasures().record_begun(*offset, erasure).unwrap());
        assert_eq!(store.erasures().in_progress().unwrap(), all);
        store.erasures().record_finished(&all[..1]).unwrap();
        assert_eq!(store.erasures().in_progress().unwrap(), all[1..]);
        // The expected digest is the output of `printf ann | sha256sum`.
        assert_eq!(
            ErasedUserDigest::from_user_id("ann").to_hex(),
            "49915e0d7d4b402e3017d010bc1c0e83cac6c797d6c16e66340fe3268693a6a1"
        );
        let done = store.erasures().erased_users().unwrap();
        assert_eq!(done, [(ErasedUserDigest::from_user_id("ann"), 5)]);
        assert_eq!(ErasedUserDigest::from_hex(&done[0].0.to_hex()), Some(done[0].0));
        assert_eq!((ErasedUserDigest::from_hex("é"), ErasedUserDigest::from_hex(&"g".repeat(64))), (None, None));
    }
}
