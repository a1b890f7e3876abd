//! Recently added items (cold-start source).

use super::candidate_set::CandidateSet;
use super::columns::EvidenceColumn;
use super::query_context::QueryContext;
use super::source::CandidateSource;
use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Number of new items kept.
const MAX_ITEMS: usize = 20;

/// The most recently added items, by first event or by the catalog.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NewItemSource {
    latest: VecDeque<ItemIx>,
    /// Item numbers ascend in order of first appearance, so an item below this is not new.
    next_item: ItemIx,
}

impl NewItemSource {
    /// Adds an item if it is new, by its first event or by the catalog.
    pub fn add(&mut self, item: ItemIx) {
        if item >= self.next_item {
            self.next_item = item.saturating_add(1);
            if self.latest.len() >= MAX_ITEMS {
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
            self.add(item);
        }
    }

    fn generate(&self, _: &QueryContext<'_>, candidates: &mut CandidateSet) {
        for (age, &item) in self.latest.iter().rev().enumerate() {
            candidates.add(item, EvidenceColumn::NewItems, 1.0 / (age + 1) as f32);
        }
        candidates.add_total(EvidenceColumn::NewItems, MAX_ITEMS as f32);
    }

    fn entry_count(&self) -> usize {
        self.latest.len()
    }

    fn memory_bytes(&self) -> usize {
        self.latest.capacity() * size_of::<ItemIx>()
    }
}
