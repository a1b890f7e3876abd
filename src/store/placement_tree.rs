//! The stored placements and rules. They are derived from the journal, and stored so that a restart
//! need not read the whole journal. A placement or rule stays stored even after retention has
//! removed the journal entry of its last change.

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec};
use crate::domain::{Entry, Offset, PlacementOperation, RuleOperation};
use crate::registries::PlacementRecord;

/// The placements and rules of a store: `"p" ‖ name` or `"r" ‖ id` → `envelope(offset ‖ entry)`,
/// where the entry is the last change. They have no watermark of their own: they contain at least
/// all changes before the watermark of the item names. They may contain later changes too, because
/// applying a change twice is harmless.
#[derive(Debug, Clone)]
pub struct PlacementTree {
    store: Store,
}

/// The name of the tree in error messages.
const TREE_NAME: &str = "placements";

/// The key of a change, and whether the change deletes its placement or rule. `None` for another
/// entry.
pub(super) fn change_key(entry: &Entry) -> Option<(Vec<u8>, bool)> {
    let (prefix, name, deletes) = match entry {
        Entry::Placement(change) => ("p", &change.name, change.operation == PlacementOperation::Delete),
        Entry::Rule(change) => ("r", &change.id, change.operation == RuleOperation::Delete),
        _ => return None,
    };
    Some((format!("{prefix}{name}").into_bytes(), deletes))
}

impl PlacementTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores changes, in journal order. The writes become durable with the next commit or
    /// [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn put(&self, changes: &[PlacementRecord]) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        for PlacementRecord { offset, entry } in changes {
            let Some((key, deletes)) = change_key(entry) else { continue };
            if deletes {
                engine.remove(&engine.placements, &key)?;
                continue;
            }
            let mut envelope = ChecksummedEnvelope::with_capacity(256);
            codec::encode_to(&(*offset, entry), envelope.payload())?;
            engine.insert(&engine.placements, &key, envelope.seal(&key))?;
        }
        Ok(())
    }

    /// Loads the last change of every placement and rule.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn load(&self) -> Result<Vec<PlacementRecord>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.placements.iter(), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let name = String::from_utf8_lossy(&key).into_owned();
                let damaged = |reason| StoreError::DamagedValue { tree: TREE_NAME, key: name.clone(), reason };
                let payload = envelope::open_value(&key, &value).map_err(damaged)?;
                let (offset, entry): (Offset, Entry) =
                    codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
                Ok(PlacementRecord { offset, entry })
            })
            .collect()
    }
}
