//! The stored item names, by number. They are derived from the journal, and stored so that a
//! restart need not read the whole journal.

use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec, keys};
use crate::domain::{ItemIx, Offset};
use crate::registries::ItemDictionary;

/// The item names of a store: `number of the first name: u32, big-endian → envelope(names)`.
#[derive(Debug, Clone)]
pub struct ItemTree {
    store: Store,
}

/// The name of the tree in error messages.
const TREE_NAME: &str = "items";
/// Maximum number of bytes of names per value. The database keeps sixteen values in a page, and
/// handles pages over 128 KiB slowly.
const MAX_PAGE_BYTES: usize = 6 << 10;

impl ItemTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores the names of `dictionary` from number `first` on, then the watermark `through`. The
    /// stored names then include all items of entries before `through`. Returns the number of the
    /// first name that is not stored yet, which is the `first` of the next call. The writes become
    /// durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error. The watermark is then unchanged.
    pub fn append(&self, dictionary: &ItemDictionary, first: ItemIx, through: Offset) -> Result<ItemIx, StoreError> {
        let engine = self.store.lock_for_writing()?;
        let mut next = first;
        loop {
            let page_start = next;
            let mut bytes = 0;
            let mut names = Vec::new();
            while let Some(name) = dictionary.name(next).filter(|_| bytes < MAX_PAGE_BYTES) {
                bytes += name.len();
                names.push(name);
                next += 1;
            }
            if names.is_empty() {
                break;
            }
            let key = page_start.to_be_bytes();
            let mut envelope = ChecksummedEnvelope::with_capacity(bytes + 8 * (names.len() + 1));
            codec::encode_to(&names, envelope.payload())?;
            engine.insert(&engine.items, &key, envelope.seal(&key))?;
        }
        engine.insert(
            &engine.items,
            keys::ITEMS_WATERMARK_KEY,
            envelope::seal_offset(keys::ITEMS_WATERMARK_KEY, through),
        )?;
        Ok(next)
    }

    /// The watermark: the stored names include all items of entries before this offset. 0 if no
    /// names are stored.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] if the value is damaged, or any database error.
    pub fn watermark(&self) -> Result<Offset, StoreError> {
        let engine = self.store.engine()?;
        let stored = engine.get(&engine.items, keys::ITEMS_WATERMARK_KEY)?;
        stored.map_or(Ok(0), |value| envelope::open_offset(TREE_NAME, keys::ITEMS_WATERMARK_KEY, &value))
    }

    /// Loads all stored names with their numbers.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] if a value is damaged or names are missing, or any database
    /// error.
    pub fn load(&self) -> Result<ItemDictionary, StoreError> {
        let engine = self.store.engine()?;
        let dictionary = ItemDictionary::default();
        for read in KeyValueIter::new(engine.items.iter(), engine.path()) {
            let (key, value) = read?;
            let Ok(number) = key.as_ref().try_into().map(ItemIx::from_be_bytes) else {
                continue;
            };
            let damaged = |reason| StoreError::DamagedValue { tree: TREE_NAME, key: number.to_string(), reason };
            let payload = envelope::open_value(&key, &value).map_err(damaged)?;
            let names: Vec<String> = codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
            // A value that was written again after a restart may repeat the names of another one.
            // The repeated names have the same numbers.
            for (name, number) in names.iter().zip(number..) {
                if dictionary.intern(name) != number {
                    return Err(damaged(format!(
                        "{} names precede number {number}, or its name is stored twice",
                        dictionary.len()
                    )));
                }
            }
        }
        Ok(dictionary)
    }
}

#[cfg(test)]
mod tests {
    use super::super::StoreOptions;
    use super::super::testing::flip_bit;
    use super::*;

    #[test]
    fn item_names_keep_their_numbers_across_appends_and_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let items = store.items();
        let dictionary = ItemDictionary::default();
        let mut stored = 0;
        for (through, count) in [(7, 0), (8, 5), (9, 5_000), (10, 1)] {
            for _ in 0..count {
                dictionary.intern(&format!("item-{}", dictionary.len()));
            }
            stored = items.append(&dictionary, stored, through).unwrap();
            assert_eq!(stored as usize, dictionary.len());
            assert_eq!(items.watermark().unwrap(), through);
        }
        store.reopen().unwrap();
        let loaded = items.load().unwrap();
        assert_eq!(loaded.len(), dictionary.len());
        assert!((0..stored).all(|number| loaded.name(number) == dictionary.name(number)));
    }

    #[test]
    fn damaged_values_and_missing_item_names_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let dictionary = ItemDictionary::default();
        for number in 0..5_000 {
            dictionary.intern(&format!("item-{number}"));
        }
        store.items().append(&dictionary, 0, 1).unwrap();
        let tree = store.engine().unwrap().items.clone();
        let (key, value) = tree.iter().nth(1).unwrap().unwrap();
        tree.remove(&key).unwrap();
        assert!(matches!(store.items().load(), Err(StoreError::DamagedValue { tree: "items", .. })));
        tree.insert(&key, value).unwrap();
        assert!(store.items().load().is_ok());
        flip_bit(&tree, &key, 50);
        assert!(matches!(store.items().load(), Err(StoreError::DamagedValue { tree: "items", .. })));
    }
}
