//! Item names and their dense numbers.

use super::{ItemIx, Offset};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The append-only table of items, shared by all: one writer (the committer) adds, everyone reads
/// without a lock.
///
/// A number, once given, never changes and never goes, so that readers of an older snapshot and of
/// a newer one mean the same item by it.
///
/// ```
/// let items = sequor::domain::ItemDictionary::default();
/// assert_eq!(items.intern("kettle"), 0);
/// assert_eq!(items.intern("cup"), 1);
/// assert_eq!(items.intern("kettle"), 0);
/// assert_eq!(items.get("cup"), Some(1));
/// assert_eq!(items.name(0).as_deref(), Some("kettle"));
/// ```
#[derive(Debug, Default)]
pub struct ItemDictionary {
    numbers: papaya::HashMap<Arc<str>, ItemIx, rustc_hash::FxBuildHasher>,
    names: boxcar::Vec<Arc<str>>,
    through: AtomicU64,
}

impl ItemDictionary {
    /// The item's number, given now if it has none. Only one thread may call this: the order of
    /// calls is the numbering.
    pub fn intern(&self, name: &str) -> ItemIx {
        if let Some(known) = self.get(name) {
            return known;
        }
        let name: Arc<str> = Arc::from(name);
        let number = ItemIx::try_from(self.names.push(Arc::clone(&name))).unwrap_or(ItemIx::MAX);
        self.numbers.pin().insert(name, number);
        number
    }

    /// Says that every item named before this offset of the journal has its number. Never lowered.
    pub fn advance_watermark(&self, through: Offset) {
        self.through.fetch_max(through, Ordering::Release);
    }

    /// Every item named before this offset of the journal has its number: who reads the journal and
    /// asks for numbers stops here.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.through.load(Ordering::Acquire)
    }

    /// The item's number, if it has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<ItemIx> {
        self.numbers.pin().get(name).copied()
    }

    /// The item's name.
    #[must_use]
    pub fn name(&self, item: ItemIx) -> Option<Arc<str>> {
        self.names.get(item as usize).cloned()
    }

    /// How many items are numbered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.count()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
