//! Items that few know yet.

use super::{CandidateSet, CandidateSource, EvidenceColumn, QueryContext};
use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How many new items are offered.
const LISTED: usize = 20;

/// The items that were first heard of last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NewItemSource {
    latest: VecDeque<ItemIx>,
    /// Items are numbered in the order in which they are first named, so one below this is not new.
    known: ItemIx,
}

impl NewItemSource {
    /// Makes an item known, whether by its first event or by the catalog.
    pub fn add(&mut self, item: ItemIx) {
        if item >= self.known {
            self.known = item.saturating_add(1);
            if self.latest.len() >= LISTED {
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

    fn generate(&self, _: &QueryContext<'_>, slate: &mut CandidateSet) {
        for (age, &item) in self.latest.iter().rev().enumerate() {
            slate.add(item, EvidenceColumn::NewItems, 1.0 / (age + 1) as f32);
        }
        slate.add_total(EvidenceColumn::NewItems, LISTED as f32);
    }

    fn entry_count(&self) -> usize {
        self.latest.len()
    }

    fn memory_bytes(&self) -> usize {
        self.latest.capacity() * size_of::<ItemIx>()
    }
}
