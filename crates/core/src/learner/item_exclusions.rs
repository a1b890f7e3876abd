//! Exclusion and demotion of items by the user's item history.

use crate::domain::{ImpressionLimitAction, ItemIx, KindId, Timestamp, UserSequence};

use super::item_history::ItemHistory;

/// Which items a request excludes by the user's item history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemExclusions {
    /// Items with an event of one of these kinds are excluded.
    pub events: Vec<EventExclusion>,
    /// Items that were shown to the user too often are excluded or demoted.
    pub max_impressions: Option<ImpressionCap>,
}

/// Excludes the items with an event of a kind in a period before the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventExclusion {
    /// The kind of the events.
    pub kind: KindId,
    /// The length of the period in milliseconds.
    pub period_ms: i64,
}

/// Excludes or demotes the items that were shown to the user `count` times or more in a period before
/// the request, without a later event of the user on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImpressionCap {
    /// The smallest number of impressions that excludes or demotes an item, at least 1.
    pub count: usize,
    /// The length of the period in milliseconds.
    pub period_ms: i64,
    /// Whether such items are excluded or demoted.
    pub action: ImpressionLimitAction,
}

/// The items that were shown to the user too often, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FatiguedItems {
    /// The items that the list does not contain.
    pub(super) dropped: Vec<ItemIx>,
    /// The items that follow all others.
    pub(super) demoted: Vec<ItemIx>,
}

impl ItemExclusions {
    /// Adds the items with excluded events. The sequence has the latest events, which the snapshot may
    /// not contain yet, and the events from which the model does not learn. The item history reaches
    /// further back.
    pub(super) fn add_items_with_events(
        &self,
        sequence: &UserSequence,
        history: Option<&ItemHistory>,
        now: Timestamp,
        items: &mut Vec<ItemIx>,
    ) {
        for EventExclusion { kind, period_ms } in &self.events {
            let is_recent = |at: Timestamp| now.saturating_sub(at) < *period_ms;
            let steps = sequence.steps_with_kept().filter(|step| step.kind == *kind && is_recent(step.at));
            items.extend(steps.filter_map(|step| step.item));
            items.extend(history.into_iter().flat_map(|history| history.items_with_event(*kind, *period_ms, now)));
        }
    }

    /// The items that were shown too often.
    pub(super) fn fatigued_items(&self, history: Option<&ItemHistory>, now: Timestamp) -> FatiguedItems {
        let (Some(ImpressionCap { count, period_ms, action }), Some(history)) = (self.max_impressions, history) else {
            return FatiguedItems::default();
        };
        let items = history.items_shown(count, period_ms, now);
        match action {
            ImpressionLimitAction::Drop => FatiguedItems { dropped: items, ..FatiguedItems::default() },
            ImpressionLimitAction::Demote => FatiguedItems { demoted: items, ..FatiguedItems::default() },
        }
    }
}
