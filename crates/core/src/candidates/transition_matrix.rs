//! Sparse matrix of decaying item weights, with one bounded row per item.

use crate::domain::{ItemIx, PagedVec};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One row of the matrix: a bounded list of items with exponentially decaying weights.
///
/// Decay does not change the stored weights. Instead it increases the unit: the factor by which new
/// weights are multiplied before they are stored. The stored old weights thereby become relatively
/// smaller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransitionRow {
    entries: Vec<(ItemIx, f32)>,
    /// Decayed sum of all weights that were added, including those of evicted items. Evictions
    /// therefore do not raise the shares of the remaining items.
    total: f32,
    /// Stored value that currently represents a weight of 1.
    unit: f32,
}

/// A row whose unit exceeds this value is rescaled to unit 1. The value is far below the largest
/// f32, so nothing overflows.
const MAX_UNIT_BEFORE_RESCALING: f32 = 1e15;

impl Default for TransitionRow {
    fn default() -> Self {
        Self { entries: Vec::new(), total: 0.0, unit: 1.0 }
    }
}

impl TransitionRow {
    /// Multiplies all weights by `decay`, in (0, 1].
    pub fn decay_weights(&mut self, decay: f32) {
        self.unit /= decay;
        if self.unit > MAX_UNIT_BEFORE_RESCALING {
            let scale = 1.0 / self.unit;
            self.entries.iter_mut().for_each(|(_, weight)| *weight *= scale);
            self.total *= scale;
            self.unit = 1.0;
        }
    }

    /// Adds weight to an item. If the item is new and the row is full (`capacity` items), the new
    /// item replaces the item with the smallest weight.
    pub fn add_weight(&mut self, item: ItemIx, weight: f32, capacity: usize) {
        let weight = weight * self.unit;
        self.total += weight;
        if let Some((_, known)) = self.entries.iter_mut().find(|(known, _)| *known == item) {
            *known += weight;
        } else if self.entries.len() < capacity {
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact((self.entries.len() / 2).max(4));
            }
            self.entries.push((item, weight));
        } else if let Some(lightest) = self.entries.iter_mut().min_by(|a, b| a.1.total_cmp(&b.1)) {
            *lightest = (item, weight);
        }
    }

    /// Halves the weight of an item, because a user dismissed it.
    pub fn halve_weight(&mut self, item: ItemIx) {
        if let Some((_, weight)) = self.entries.iter_mut().find(|(known, _)| *known == item) {
            *weight *= 0.5;
        }
    }

    /// Items with their current weights, unordered.
    pub fn iter(&self) -> impl Iterator<Item = (ItemIx, f32)> {
        let scale = 1.0 / self.unit;
        self.entries.iter().map(move |&(item, weight)| (item, weight * scale))
    }

    /// Decayed sum of all weights that were added.
    #[must_use]
    pub fn total_weight(&self) -> f32 {
        self.total / self.unit
    }

    /// Heap bytes of the row.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<(ItemIx, f32)>()
    }
}

/// Matrix with one row per item. Every row has its own `Arc`, so clones share unchanged rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TransitionMatrix {
    rows: PagedVec<Arc<TransitionRow>, 16>,
}

impl TransitionMatrix {
    /// Row of an item; `None` if the item has no row.
    #[must_use]
    pub fn row_of(&self, item: ItemIx) -> Option<&TransitionRow> {
        self.rows.get(item as usize).map(Arc::as_ref)
    }

    /// Applies `change` to the row of an item. Grows the matrix if needed.
    pub fn update_row(&mut self, item: ItemIx, change: impl FnOnce(&mut TransitionRow)) {
        let index = item as usize;
        if index >= self.rows.len() {
            let empty = Arc::new(TransitionRow::default());
            self.rows.grow(index + 1, || Arc::clone(&empty));
        }
        if let Some(row) = self.rows.get_mut(index) {
            change(Arc::make_mut(row));
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Approximate memory use of all rows in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let row_bytes = size_of::<Arc<TransitionRow>>() + 2 * size_of::<usize>() + size_of::<TransitionRow>();
        self.rows.estimate_sum(|row| row_bytes + row.heap_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight_of(row: &TransitionRow, item: ItemIx) -> f32 {
        row.iter().find(|(known, _)| *known == item).map_or(0.0, |(_, weight)| weight)
    }

    #[test]
    fn weights_keep_decaying_across_rescaling() {
        let mut row = TransitionRow::default();
        row.add_weight(1, 1.0, 8);
        // The unit exceeds MAX_UNIT_BEFORE_RESCALING before it reaches 2^60, so the row is
        // rescaled.
        for _ in 0..60 {
            row.decay_weights(0.5);
            row.add_weight(2, 1.0, 8);
        }
        // The decayed sum is 1 + 1/2 + 1/4 + … = 2.
        assert!((weight_of(&row, 2) - 2.0).abs() < 1e-5);
        assert!((row.total_weight() - 2.0).abs() < 1e-5);
        assert!(weight_of(&row, 1) < 1e-15);
    }

    #[test]
    fn a_full_row_evicts_its_lightest_item_and_keeps_its_total() {
        let mut row = TransitionRow::default();
        for (item, weight) in [(1, 3.0), (2, 1.0), (3, 2.0)] {
            row.add_weight(item, weight, 3);
        }
        row.add_weight(4, 0.5, 3);
        assert_eq!([1, 2, 3, 4].map(|item| weight_of(&row, item)), [3.0, 0.0, 2.0, 0.5]);
        assert_eq!(row.total_weight(), 6.5);
        row.halve_weight(1);
        assert_eq!(weight_of(&row, 1), 1.5);
    }
}
