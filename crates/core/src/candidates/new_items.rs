//! The source of recently added items, for item cold start.

use super::candidate_set::CandidateSet;
use super::columns::EvidenceColumn;
use super::query_context::QueryContext;
use super::source::CandidateSource;
use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Maximum number of new items that the source keeps.
const MAX_NEW_ITEMS: usize = 20;

/// The most recently added items. An item is added by its first event or by the catalog.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NewItemSource {
    latest: VecDeque<ItemIx>,
    /// Items with this number or a higher one are new. Item numbers ascend in the order in which
    /// items first appear, so an item with a smaller number is already known.
    next_item: ItemIx,
}

impl NewItemSource {
    /// Adds an item, unless it is already known.
    pub fn add_if_new(&mut self, item: ItemIx) {
        if item >= self.next_item {
            self.next_item = item.saturating_add(1);
            if self.latest.len() >= MAX_NEW_ITEMS {
                self.latest.pop_front();
            }
            self.latest.push_back(item);
        }
    }
}

impl CandidateSource for NewItemSource {
    fn name(&self) -> SourceName {
        SourceName::New
    }

    fn learn(&mut self, _: &QueryContext<'_>, arrival: &Step) {
        if let Some(item) = arrival.item {
            self.add_if_new(item);
        }
    }

    fn generate(&self, _: &QueryContext<'_>, candidates: &mut CandidateSet) {
        for (age, &item) in self.latest.iter().rev().enumerate() {
            candidates.add_evidence(item, EvidenceColumn::NewItems, 1.0 / (age + 1) as f32);
        }
        candidates.add_column_total(EvidenceColumn::NewItems, MAX_NEW_ITEMS as f32);
    }

    fn entry_count(&self) -> usize {
        self.latest.len()
    }

    fn memory_bytes(&self) -> usize {
        self.latest.capacity() * size_of::<ItemIx>()
    }
}
