//! Who was merged into whom: a fold of the journal, kept so that a restart need not fold it all,
//! and outlives what of the journal is dropped.

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec};
use crate::domain::{Offset, UserAlias};
use std::sync::Arc;

/// The links of a store: `offset of the merge: u64, big-endian → sealed(from ‖ into)`. They reach
/// as far as the item names do.
#[derive(Debug, Clone)]
pub struct AliasTree {
    store: Store,
}

/// The tree's name in errors.
const TREE: &str = "links";

impl AliasTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Writes links, and forgets those of these offsets. They become durable with the next commit
    /// or [`Store::sync`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn put(&self, links: &[UserAlias], forgotten: &[Offset]) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        for link in links {
            let key = link.offset.to_be_bytes();
            let mut envelope = ChecksummedEnvelope::with_capacity(link.from.len() + link.into.len() + 8);
            codec::encode_to(&(&*link.from, &*link.into), envelope.payload())?;
            engine.insert(&engine.aliases, &key, envelope.seal(&key))?;
        }
        for offset in forgotten {
            engine.remove(&engine.aliases, &offset.to_be_bytes())?;
        }
        Ok(())
    }

    /// All that are stored, in the order of the journal.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for one that is not what was written, or what the database
    /// says.
    pub fn load(&self) -> Result<Vec<UserAlias>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.aliases.iter(), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let offset = key.as_ref().try_into().map(Offset::from_be_bytes).unwrap_or_default();
                let damaged = |reason| StoreError::DamagedValue { tree: TREE, key: offset.to_string(), reason };
                let payload = envelope::open(&key, &value).map_err(damaged)?;
                let (from, into): (String, String) = codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
                Ok(UserAlias { offset, from: Arc::from(from), into: Arc::from(into) })
            })
            .collect()
    }
}
