//! What the rules did with the items of a list.

use crate::domain::ItemIx;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What the rules did with the items of a list, for explanations and impressions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleTrace {
    moved: FxHashMap<ItemIx, Vec<Arc<str>>>,
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

    /// The rules that moved an item or put it into the list, in the order of their application.
    #[must_use]
    pub fn rules_of(&self, item: ItemIx) -> &[Arc<str>] {
        self.moved.get(&item).map_or(&[], Vec::as_slice)
    }
}
