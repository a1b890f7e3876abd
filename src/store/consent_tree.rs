//! How far each user's consent goes: a fold of the journal, kept so that a restart need not fold it
//! all, and outlives what of the journal is dropped.

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec};
use crate::domain::{Consent, ConsentRecord, Offset};
use std::sync::Arc;

/// The consents of a store: `user id → sealed(level ‖ offset of the entry that says so)`. They
/// reach at least as far as the item names do; what is in the journal beyond may be folded again.
#[derive(Debug, Clone)]
pub struct ConsentTree {
    store: Store,
}

/// The tree's name in errors.
const TREE: &str = "consents";

impl ConsentTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes what users said, in the order of the journal. It becomes durable with the next commit
    /// or [`Store::sync`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn put(&self, agreed: &[ConsentRecord]) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        for ConsentRecord { user, consent, offset } in agreed {
            let key = user.as_bytes();
            let Some(consent) = consent else {
                engine.remove(&engine.consents, key)?;
                continue;
            };
            let mut envelope = ChecksummedEnvelope::with_capacity(16);
            codec::encode_to(&(*consent, *offset), envelope.payload())?;
            engine.insert(&engine.consents, key, envelope.seal(key))?;
        }
        Ok(())
    }

    /// All that are stored.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for one that is not what was written, or what the database
    /// says.
    pub fn load(&self) -> Result<Vec<ConsentRecord>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.consents.iter(), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let damaged = |reason| StoreError::DamagedValue { tree: TREE, key: "a user".to_owned(), reason };
                let user = std::str::from_utf8(&key).map_err(|error| damaged(error.to_string()))?;
                let payload = envelope::open(&key, &value).map_err(damaged)?;
                let (consent, offset): (Consent, Offset) = codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
                Ok(ConsentRecord { user: Arc::from(user), consent: Some(consent), offset })
            })
            .collect()
    }
}
