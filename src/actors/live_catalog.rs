//! The catalog as answers see it.

use arc_swap::ArcSwap;
use std::sync::Arc;

use crate::domain::{Catalog, Entry, ItemDictionary, Offset};
use crate::learner::ModelSnapshot;
use crate::store::{CommittedBatch, Store, StoreError};

/// Keeps the catalog that answers see ahead of the fold, so that a change that was acknowledged
/// holds for every later answer. The committer is its only writer.
#[derive(Debug)]
pub struct LiveCatalog {
    shown: Arc<ArcSwap<Catalog>>,
    published: Arc<ArcSwap<ModelSnapshot>>,
    /// The offset after the last change.
    changed: Offset,
}

impl LiveCatalog {
    /// The catalog of a snapshot, and on it the changes in the journal's tail.
    ///
    /// # Errors
    /// [`StoreError`] if the journal cannot be read.
    pub fn recover(store: &Store, dictionary: &ItemDictionary, published: Arc<ArcSwap<ModelSnapshot>>) -> Result<Self, StoreError> {
        let snapshot = published.load_full();
        let (mut catalog, mut changed) = (snapshot.catalog().clone(), snapshot.offset());
        for entry in store.journal().entries(snapshot.offset())? {
            if let (offset, Entry::Item(change)) = entry?
                && let Some(item) = dictionary.get(&change.item_id)
            {
                catalog.apply(item, &change.operation);
                changed = offset + 1;
            }
        }
        Ok(Self { shown: Arc::new(ArcSwap::from_pointee(catalog)), published, changed })
    }

    /// What answers see.
    #[must_use]
    pub fn published(&self) -> Arc<ArcSwap<Catalog>> {
        Arc::clone(&self.shown)
    }

    /// Shows what was committed, and says how many changes of the catalog it held.
    pub fn apply(&mut self, committed: &CommittedBatch) -> u64 {
        let changes = || {
            committed.entries.iter().filter_map(|delivered| match (&delivered.entry, delivered.item) {
                (Entry::Item(change), Some(item)) => Some((delivered.offset, item, &change.operation)),
                _ => None,
            })
        };
        let count = changes().count() as u64;
        if count > 0 {
            let published = self.published.load();
            // Where the fold has caught up its catalog is the same one, and to go on from that is
            // to share its memory.
            let caught_up = published.offset() >= self.changed;
            let mut catalog = if caught_up { published.catalog().clone() } else { Catalog::clone(&self.shown.load()) };
            for (offset, item, act) in changes() {
                catalog.apply(item, act);
                self.changed = offset + 1;
            }
            self.shown.store(Arc::new(catalog));
        }
        count
    }
}
