//! Item names and their numbers.

use super::number_table::NumberTable;
use crate::domain::{ItemIx, Offset};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Append-only table of item names and their numbers. The committer is the only writer, and readers
/// take no lock.
///
/// An assigned number never changes and is never removed. A number therefore means the same item in
/// every snapshot.
///
/// ```
/// let items = sequor_core::registries::ItemDictionary::default();
/// assert_eq!(items.intern("kettle"), 0);
/// assert_eq!(items.intern("cup"), 1);
/// assert_eq!(items.intern("kettle"), 0);
/// assert_eq!(items.get("cup"), Some(1));
/// assert_eq!(items.name(0).as_deref(), Some("kettle"));
/// ```
#[derive(Debug, Default)]
pub struct ItemDictionary {
    names: boxcar::Vec<Arc<str>>,
    numbers: NumberTable,
    through: AtomicU64,
}

impl ItemDictionary {
    /// Returns the number of an item, and assigns the next number to a new item. Only one thread
    /// may call this method, because the order of the calls determines the numbers.
    pub fn intern(&self, name: &str) -> ItemIx {
        if let Some(known) = self.get(name) {
            return known;
        }
        let number = ItemIx::try_from(self.names.push(Arc::from(name))).unwrap_or(ItemIx::MAX);
        self.numbers.insert(name, number);
        number
    }

    /// Raises the watermark to `through`. All items in journal entries before the watermark have
    /// numbers. The watermark never decreases.
    pub fn advance_watermark(&self, through: Offset) {
        self.through.fetch_max(through, Ordering::Release);
    }

    /// The watermark: all items in journal entries before this offset have numbers. A reader that
    /// looks up item numbers of journal entries must read only entries before the watermark.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.through.load(Ordering::Acquire)
    }

    /// The number of an item; `None` if the item is unknown.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<ItemIx> {
        self.numbers.find(name, |number| self.names.get(number as usize).is_some_and(|known| **known == *name))
    }

    /// The name of the item with this number.
    #[must_use]
    pub fn name(&self, item: ItemIx) -> Option<Arc<str>> {
        self.names.get(item as usize).cloned()
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.count()
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
