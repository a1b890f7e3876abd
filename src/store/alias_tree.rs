//! The stored aliases of merged users. They are derived from the journal, and stored so that a
//! restart need not read the whole journal. An alias stays stored even after retention has removed
//! the merge's journal entry.

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec};
use crate::domain::Offset;
use crate::registries::UserAlias;
use std::sync::Arc;

/// The aliases of a store: `offset of the merge: u64, big-endian → envelope(from ‖ into)`. The
/// aliases have no watermark of their own: they contain all merges before the watermark of the item
/// names.
#[derive(Debug, Clone)]
pub struct AliasTree {
    store: Store,
}

/// The name of the tree in error messages.
const TREE_NAME: &str = "links";

impl AliasTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores `aliases`, and removes the aliases whose merges have the offsets `removed`. The
    /// writes become durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn put(&self, aliases: &[UserAlias], removed: &[Offset]) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        for alias in aliases {
            let key = alias.offset.to_be_bytes();
            let mut envelope = ChecksummedEnvelope::with_capacity(alias.from.len() + alias.into.len() + 8);
            codec::encode_to(&(&*alias.from, &*alias.into), envelope.payload())?;
            engine.insert(&engine.aliases, &key, envelope.seal(&key))?;
        }
        for offset in removed {
            engine.remove(&engine.aliases, &offset.to_be_bytes())?;
        }
        Ok(())
    }

    /// Loads all aliases, in journal order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn load(&self) -> Result<Vec<UserAlias>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.aliases.iter(), engine.path())
            .map(|pair| {
                let (key, value) = pair?;
                let offset = key.as_ref().try_into().map(Offset::from_be_bytes).unwrap_or_default();
                let damaged = |reason| StoreError::DamagedValue { tree: TREE_NAME, key: offset.to_string(), reason };
                let payload = envelope::open_value(&key, &value).map_err(damaged)?;
                let (from, into): (String, String) =
                    codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
                Ok(UserAlias { offset, from: Arc::from(from), into: Arc::from(into) })
            })
            .collect()
    }
}
