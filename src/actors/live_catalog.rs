//! The live catalog: attributes and availability of all items, including every acknowledged change.
//! Recommendations are filtered by this catalog.

use arc_swap::ArcSwap;
use std::sync::Arc;

use super::vector_checks::VectorChecks;
use crate::domain::{Catalog, Entry, Offset};
use crate::learner::ModelSnapshot;
use crate::registries::ItemDictionary;
use crate::store::{CommittedBatch, Store, StoreError};

/// Applies catalog changes when they are committed, before the learner applies them. So every
/// recommendation after the acknowledgement of a change takes the change into account. The
/// committer is the only writer.
#[derive(Debug)]
pub struct LiveCatalog {
    current: Arc<ArcSwap<Catalog>>,
    snapshot: Arc<ArcSwap<ModelSnapshot>>,
    /// The offset after the last catalog change.
    changed_through: Offset,
    /// Whether the current catalog shares the memory of the learner's catalog.
    is_shared: bool,
}

impl LiveCatalog {
    /// Applies the catalog changes in the journal's tail to the catalog of the published snapshot.
    ///
    /// # Errors
    /// [`StoreError`] if the journal cannot be read.
    pub fn from_store(
        store: &Store,
        dictionary: &ItemDictionary,
        published: Arc<ArcSwap<ModelSnapshot>>,
    ) -> Result<Self, StoreError> {
        let snapshot = published.load_full();
        let (mut catalog, mut changed_through) = (snapshot.catalog().clone(), snapshot.offset());
        for entry in store.journal().entries(snapshot.offset())? {
            if let (offset, Entry::Item(change)) = entry?
                && let Some(item) = dictionary.get(&change.item_id)
            {
                catalog.apply(item, &change.operation);
                changed_through = offset + 1;
            }
        }
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(catalog)),
            snapshot: published,
            changed_through,
            is_shared: false,
        })
    }

    /// The current catalog.
    #[must_use]
    pub fn published_catalog(&self) -> Arc<ArcSwap<Catalog>> {
        Arc::clone(&self.current)
    }

    /// Begins to check the vectors of the item changes of one commit.
    #[must_use]
    pub fn begin_vector_checks(&self) -> VectorChecks {
        VectorChecks::new(self.current.load_full())
    }

    /// Applies the catalog changes of a committed batch. Returns their number.
    pub fn apply_batch(&mut self, committed: &CommittedBatch) -> u64 {
        self.share_learned_catalog();
        let changes = || {
            committed.entries.iter().filter_map(|entry| match (&entry.entry, entry.item) {
                (Entry::Item(change), Some(item)) => Some((entry.offset, item, &change.operation)),
                _ => None,
            })
        };
        let count = changes().count() as u64;
        if count > 0 {
            let mut catalog = Catalog::clone(&self.current.load());
            for (offset, item, operation) in changes() {
                catalog.apply(item, operation);
                self.changed_through = offset + 1;
            }
            self.current.store(Arc::new(catalog));
            self.is_shared = false;
        }
        count
    }

    /// If the learner has applied all changes, its catalog has the same content, and replaces the
    /// current catalog. So each item is in memory once.
    fn share_learned_catalog(&mut self) {
        let snapshot = self.snapshot.load();
        if !self.is_shared && snapshot.offset() >= self.changed_through {
            self.current.store(Arc::new(snapshot.catalog().clone()));
            self.is_shared = true;
        }
    }
}
