//! The writer of the placements and rules that readers see.

use crate::domain::{Entry, Offset, PlacementTable};
use arc_swap::ArcSwap;
use std::sync::Arc;

/// The last change of a placement or rule, with its journal offset. The entry is an
/// [`Entry::Placement`] or an [`Entry::Rule`].
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementRecord {
    /// The journal offset of the change.
    pub offset: Offset,
    /// The change.
    pub entry: Entry,
}

impl PlacementRecord {
    /// The record of a journal entry; `None` if the entry changes no placement and no rule.
    #[must_use]
    pub fn from_entry(offset: Offset, entry: &Entry) -> Option<Self> {
        matches!(entry, Entry::Placement(_) | Entry::Rule(_)).then(|| Self { offset, entry: entry.clone() })
    }
}

/// Applies changes to the published [`PlacementTable`]. Readers take no lock and see either all
/// changes of a call or none.
#[derive(Debug, Default)]
pub struct PlacementWriter {
    published: Arc<ArcSwap<PlacementTable>>,
}

impl PlacementWriter {
    /// The placements and rules, for readers.
    #[must_use]
    pub fn table(&self) -> Arc<ArcSwap<PlacementTable>> {
        Arc::clone(&self.published)
    }

    /// Applies changes in journal order. Applying the same changes again has no effect.
    pub fn apply(&mut self, changes: &[PlacementRecord]) {
        if changes.is_empty() {
            return;
        }
        let mut table = PlacementTable::clone(&self.published.load());
        changes.iter().for_each(|change| table.apply(&change.entry));
        self.published.store(Arc::new(table));
    }
}
