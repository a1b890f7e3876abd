//! How well new items are predicted: the tests whose target item had few events before.

use crate::candidates::CandidateSources;
use crate::domain::{ItemIx, PagedVec};
use crate::evaluation::{RankingMetrics, SlidingRankingMetrics};
use serde::{Deserialize, Serialize};

/// Number of learned target events of each item, up to 255. Memory: one byte an item.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ItemEventCounts(PagedVec<u8, 4096>);

impl ItemEventCounts {
    fn count_of(&self, item: ItemIx) -> u8 {
        self.0.get(item as usize).copied().unwrap_or(0)
    }

    fn set_count(&mut self, item: ItemIx, count: u8) {
        self.0.grow(item as usize + 1, || 0);
        if let Some(known) = self.0.get_mut(item as usize) {
            *known = count;
        }
    }
}

/// Tests whose target item was new, and the counts of events by which an item is new.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewItemTests {
    event_counts: ItemEventCounts,
    /// Metrics over the tests that count as evaluated.
    pub(super) evaluated: RankingMetrics,
    /// Metrics over the latest tests.
    pub(super) live: SlidingRankingMetrics,
}

impl Default for NewItemTests {
    fn default() -> Self {
        Self::new(1)
    }
}

impl NewItemTests {
    /// An item with fewer learned target events than this is new.
    const NEW_BELOW: u8 = 5;

    /// Creates metrics without tests. The live metrics cover `live_window` tests.
    pub(super) fn new(live_window: usize) -> Self {
        Self {
            event_counts: ItemEventCounts::default(),
            evaluated: RankingMetrics::default(),
            live: SlidingRankingMetrics::new(live_window),
        }
    }

    /// Creates metrics without tests for a state whose events have not been counted. The number of
    /// events of an item is estimated as the number of sessions that `sources` counted.
    pub(super) fn from_sources(sources: &CandidateSources, items: usize, live_window: usize) -> Self {
        let mut tests = Self::new(live_window);
        for item in (0..items).filter_map(|item| ItemIx::try_from(item).ok()) {
            if let Some(known) = sources.item_counts(item, 0) {
                tests.event_counts.set_count(item, u8::try_from(known.sessions).unwrap_or(u8::MAX));
            }
        }
        tests
    }

    /// Counts a learned target event.
    pub(super) fn count_event(&mut self, item: ItemIx) {
        let count = self.event_counts.count_of(item);
        if count < u8::MAX {
            self.event_counts.set_count(item, count + 1);
        }
    }

    /// Whether no target event of the item has been learned.
    pub(super) fn has_no_event(&self, item: ItemIx) -> bool {
        self.event_counts.count_of(item) == 0
    }

    /// Whether fewer than 5 target events of the item have been learned.
    pub(super) fn is_new(&self, item: ItemIx) -> bool {
        self.event_counts.count_of(item) < Self::NEW_BELOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_new_before_its_sixth_event() {
        let mut tests = NewItemTests::default();
        let is_new: Vec<_> = (0..6)
            .map(|_| {
                let is_new = tests.is_new(3);
                tests.count_event(3);
                is_new
            })
            .collect();
        assert_eq!(is_new, [true, true, true, true, true, false]);
        assert!(tests.is_new(2) && tests.is_new(900_000));
        (0..1_000).for_each(|_| tests.count_event(3));
        assert!(!tests.is_new(3), "the count saturates");
    }
}
