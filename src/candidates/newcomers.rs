//! Items that few know yet.

use super::{Channel, Moment, Slate, Source};
use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How many new items are offered.
const LISTED: usize = 20;

/// The items that were first heard of last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Newcomers {
    latest: VecDeque<ItemIx>,
    /// Items are numbered in the order in which they are first named, so one below this is not new.
    known: ItemIx,
}

impl Newcomers {
    /// Makes an item known, whether by its first event or by the catalog.
    pub fn announce(&mut self, item: ItemIx) {
        if item >= self.known {
            self.known = item.saturating_add(1);
            if self.latest.len() >= LISTED {
                self.latest.pop_front();
            }
            self.latest.push_back(item);
        }
    }
}

impl Source for Newcomers {
    fn name(&self) -> SourceName {
        SourceName::New
    }

    fn learn(&mut self, _: &Moment<'_>, arrival: &Step) {
        if let Some(item) = arrival.item {
            self.announce(item);
        }
    }

    fn gather(&self, _: &Moment<'_>, slate: &mut Slate) {
        for (age, &item) in self.latest.iter().rev().enumerate() {
            slate.add(item, Channel::New, 1.0 / (age + 1) as f32);
        }
        slate.weigh(Channel::New, LISTED as f32);
    }

    fn entries(&self) -> usize {
        self.latest.len()
    }

    fn bytes(&self) -> usize {
        self.latest.capacity() * size_of::<ItemIx>()
    }
}
