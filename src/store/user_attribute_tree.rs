//! The stored attributes of users. They are derived from the journal, and stored so that a restart
//! need not read the whole journal. They stay stored even after retention has removed the journal
//! entries that set them.

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec};
use crate::domain::{Attributes, Offset};
use crate::registries::UserAttributesRecord;
use std::sync::Arc;

/// The attributes of a store's users: `user id → envelope(attributes ‖ offset of the entry that
/// changed them last)`. Like the consents, they have no watermark of their own, because applying a
/// change twice is harmless.
#[derive(Debug, Clone)]
pub struct UserAttributeTree {
    store: Store,
}

/// The name of the tree in error messages.
const TREE_NAME: &str = "attributes";

impl UserAttributeTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores changed records, in journal order. A record without attributes is removed. The writes
    /// become durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn put(&self, changes: &[UserAttributesRecord]) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        for UserAttributesRecord { user, attributes, offset } in changes {
            let key = user.as_bytes();
            if attributes.is_empty() {
                engine.remove(&engine.user_attributes, key)?;
                continue;
            }
            let mut envelope = ChecksummedEnvelope::with_capacity(64 * attributes.len());
            codec::encode_to(&(&**attributes, *offset), envelope.payload())?;
            engine.insert(&engine.user_attributes, key, envelope.seal(key))?;
        }
        Ok(())
    }

    /// Loads all records.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn load(&self) -> Result<Vec<UserAttributesRecord>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.user_attributes.iter(), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let damaged = |reason| StoreError::DamagedValue { tree: TREE_NAME, key: "a user".to_owned(), reason };
                let user = std::str::from_utf8(&key).map_err(|error| damaged(error.to_string()))?;
                let payload = envelope::open_value(&key, &value).map_err(damaged)?;
                let (attributes, offset): (Attributes, Offset) =
                    codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
                Ok(UserAttributesRecord { user: Arc::from(user), attributes: Arc::new(attributes), offset })
            })
            .collect()
    }
}
