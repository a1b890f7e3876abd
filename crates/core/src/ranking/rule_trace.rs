//! What the rules did with the items of a list.

use crate::domain::ItemIx;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What the rules did with the items of a list, for explanations and impressions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleTrace {
    moved: FxHashMap<ItemIx, Vec<Arc<str>>>,
    /// The boosted items, in any order. An item may occur several times.
    boosted: Vec<ItemIx>,
}

impl RuleTrace {
    /// The name under which the trace lists the demotion of items that were shown too often. Ids of
    /// rules contain no colon.
    pub const IMPRESSION_LIMIT: &'static str = "max_impressions:demote";

    /// Records that a rule moved an item, or put it into the list.
    pub fn record_move(&mut self, item: ItemIx, rule: &Arc<str>) {
        let rules = self.moved.entry(item).or_default();
        if !rules.contains(rule) {
            rules.push(Arc::clone(rule));
        }
    }

    /// Records that boosts changed the score of an item. The list keeps few of the boosted items, so
    /// only the item is recorded, see [`ListRules::rules_that_moved`](super::ListRules::rules_that_moved).
    pub(super) fn record_boost(&mut self, item: ItemIx) {
        self.boosted.push(item);
    }

    /// Whether boosts changed the score of an item.
    pub(super) fn is_boosted(&self, item: ItemIx) -> bool {
        self.boosted.contains(&item)
    }

    /// The rules other than boosts that moved an item or put it into the list, in the order of their
    /// application.
    #[must_use]
    pub fn moves_of(&self, item: ItemIx) -> &[Arc<str>] {
        self.moved.get(&item).map_or(&[], Vec::as_slice)
    }
}
