//! The stored consents of users. They are derived from the journal, and stored so that a restart
//! need not read the whole journal. A consent stays stored even after retention has removed its
//! journal entry.

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec};
use crate::domain::{Consent, Offset};
use crate::registries::ConsentRecord;
use std::sync::Arc;

/// The consents of a store: `user id → envelope(level ‖ offset of the entry that sets it)`. The
/// consents have no watermark of their own: they contain at least all consent changes before the
/// watermark of the item names. They may contain later ones too, because applying a change twice is
/// harmless.
#[derive(Debug, Clone)]
pub struct ConsentTree {
    store: Store,
}

/// The name of the tree in error messages.
const TREE_NAME: &str = "consents";

impl ConsentTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores consent changes, in journal order. The writes become durable with the next commit or
    /// [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn put(&self, changes: &[ConsentRecord]) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        for ConsentRecord { user, consent, offset } in changes {
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

    /// Loads all consents.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn load(&self) -> Result<Vec<ConsentRecord>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.consents.iter(), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let damaged = |reason| StoreError::DamagedValue { tree: TREE_NAME, key: "a user".to_owned(), reason };
                let user = std::str::from_utf8(&key).map_err(|error| damaged(error.to_string()))?;
                let payload = envelope::open_value(&key, &value).map_err(damaged)?;
                let (consent, offset): (Consent, Offset) =
                    codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
                Ok(ConsentRecord { user: Arc::from(user), consent: Some(consent), offset })
            })
            .collect()
    }
}
