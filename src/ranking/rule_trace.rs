//! What the rules did with the items of a list.

use crate::domain::ItemIx;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// What the rules did with the items of a list, for explanations. A disabled trace records nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleTrace {
    is_enabled: bool,
    moved: FxHashMap<ItemIx, Vec<Arc<str>>>,
}

impl RuleTrace {
    /// Creates a trace, which records only if `is_enabled` is set.
    #[must_use]
    pub fn new(is_enabled: bool) -> Self {
        Self { is_enabled, ..Self::default() }
    }

    /// Records that a rule moved an item, or put it into the list.
    pub(super) fn record_move(&mut self, item: ItemIx, rule: &Arc<str>) {
        if self.is_enabled {
            let rules = self.moved.entry(item).or_default();
            if !rules.contains(rule) {
                rules.push(Arc::clone(rule));
            }
        }
    }

    /// The rules that moved an item or put it into the list, in the order of their application.
    #[must_use]
    pub fn rules_of(&self, item: ItemIx) -> &[Arc<str>] {
        self.moved.get(&item).map_or(&[], Vec::as_slice)
    }
}
