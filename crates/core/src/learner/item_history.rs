//! Per user: the latest event of each kind on an item, and how often an item was shown. Requests
//! exclude items by both.

use crate::domain::{ExpiryCutoffs, ItemIx, KindId, RecentUser, RecentUsers, SharedUsers, Timestamp};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// Number of item events that are kept per user and kind.
const EVENTS_KEPT_PER_KIND: usize = 100;
/// Number of item events that are kept per user over all kinds.
const EVENTS_KEPT: usize = 200;
/// Number of shown items that are kept per user.
const SHOWN_ITEMS_KEPT: usize = 300;
/// Number of users that are kept. If the table is full, a new user replaces the user without a change
/// for the longest time.
const USERS_KEPT: usize = 100_000;

/// A time in seconds since 1970, which takes half the memory of a [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Seconds(u32);

impl Seconds {
    fn new(at: Timestamp) -> Self {
        Self(u32::try_from(at.max(0) / 1_000).unwrap_or(u32::MAX))
    }

    fn as_timestamp(self) -> Timestamp {
        Timestamp::from(self.0) * 1_000
    }
}

/// The latest event of a kind on an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ItemEvent {
    at: Seconds,
    item: ItemIx,
    kind: KindId,
}

/// An item that was shown, and on which no event followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct ShownItem {
    at: Seconds,
    item: ItemIx,
}

/// The item history of one user. It reaches further back than the steps of the user's sequence.
///
/// - The latest event of each kind on each item: at most 100 per kind, and at most 200 in all. If
///   there are more, the oldest event of the most frequent kind is removed.
/// - The latest 300 shown items. An event on an item removes the item.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemHistory {
    /// In the order of their times.
    events: Vec<ItemEvent>,
    /// In the order in which they were shown.
    shown: Vec<ShownItem>,
    last_change: u64,
}

impl RecentUser for ItemHistory {
    fn last_change(&self) -> u64 {
        self.last_change
    }

    fn set_last_change(&mut self, number: u64) {
        self.last_change = number;
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.shown.is_empty()
    }
}

impl ItemHistory {
    fn record_event(&mut self, item: ItemIx, kind: KindId, at: Timestamp) {
        self.shown.retain(|shown| shown.item != item);
        self.add_event(ItemEvent { at: Seconds::new(at), item, kind });
        self.remove_excess_events();
    }

    /// Adds an event, unless a later event of the kind on the item is known.
    fn add_event(&mut self, added: ItemEvent) {
        let same = |event: &ItemEvent| (event.item, event.kind) == (added.item, added.kind);
        if let Some(position) = self.events.iter().rposition(same) {
            if self.events.get(position).is_some_and(|known| known.at > added.at) {
                return;
            }
            self.events.remove(position);
        }
        let position = self.events.partition_point(|event| event.at <= added.at);
        self.events.insert(position, added);
    }

    fn remove_excess_events(&mut self) {
        if self.events.len() <= EVENTS_KEPT_PER_KIND {
            return;
        }
        let mut counts = FxHashMap::<KindId, usize>::default();
        self.events.iter().for_each(|event| *counts.entry(event.kind).or_default() += 1);
        let mut excess = self.events.len().saturating_sub(EVENTS_KEPT);
        // Among equally frequent kinds, the one with the largest number.
        while let Some((kind, count)) = counts.iter_mut().max_by_key(|(kind, count)| (**count, **kind)) {
            if excess == 0 && *count <= EVENTS_KEPT_PER_KIND {
                return;
            }
            if let Some(oldest) = self.events.iter().position(|event| event.kind == *kind) {
                self.events.remove(oldest);
            }
            (*count, excess) = (count.saturating_sub(1), excess.saturating_sub(1));
        }
    }

    fn record_shown(&mut self, items: impl IntoIterator<Item = ItemIx>, at: Timestamp) {
        let at = Seconds::new(at);
        self.shown.extend(items.into_iter().map(|item| ShownItem { at, item }));
        self.remove_excess_shown();
    }

    fn remove_excess_shown(&mut self) {
        self.shown.drain(..self.shown.len().saturating_sub(SHOWN_ITEMS_KEPT));
    }

    fn merge(&mut self, other: &Self) {
        other.events.iter().for_each(|event| self.add_event(*event));
        self.remove_excess_events();
        self.shown.extend_from_slice(&other.shown);
        self.shown.sort_by_key(|shown| shown.at);
        let acted: Vec<_> = self.events.iter().map(|event| (event.item, event.at)).collect();
        self.shown.retain(|shown| !acted.iter().any(|(item, at)| *item == shown.item && *at >= shown.at));
        self.remove_excess_shown();
    }

    fn has_expired(&self, expired: &ExpiryCutoffs) -> bool {
        self.events.iter().any(|event| expired.is_expired(event.kind, event.at.as_timestamp()))
            || self.shown.iter().any(|shown| shown.at.as_timestamp() < expired.impressions)
    }

    fn expire(&mut self, expired: &ExpiryCutoffs) {
        self.events.retain(|event| !expired.is_expired(event.kind, event.at.as_timestamp()));
        self.shown.retain(|shown| shown.at.as_timestamp() >= expired.impressions);
    }

    /// The items with events of a kind, each with the time of the latest one.
    pub fn events_of(&self, kind: KindId) -> impl Iterator<Item = (ItemIx, Timestamp)> {
        let of_kind = move |event: &&ItemEvent| event.kind == kind;
        self.events.iter().filter(of_kind).map(|event| (event.item, event.at.as_timestamp()))
    }

    /// The time of the latest event of a kind on an item.
    #[must_use]
    pub fn last_event(&self, item: ItemIx, kind: KindId) -> Option<Timestamp> {
        let is_wanted = |event: &&ItemEvent| (event.item, event.kind) == (item, kind);
        self.events.iter().rev().find(is_wanted).map(|event| event.at.as_timestamp())
    }

    /// The items with an event of a kind in the `period_ms` milliseconds before `now`.
    pub fn items_with_event(&self, kind: KindId, period_ms: i64, now: Timestamp) -> impl Iterator<Item = ItemIx> {
        let is_recent =
            move |event: &&ItemEvent| event.kind == kind && now.saturating_sub(event.at.as_timestamp()) < period_ms;
        self.events.iter().filter(is_recent).map(|event| event.item)
    }

    /// The items that were shown at least `count` times in the `period_ms` milliseconds before `now`
    /// without a later event on them, in ascending order.
    #[must_use]
    pub fn items_shown(&self, count: usize, period_ms: i64, now: Timestamp) -> Vec<ItemIx> {
        let is_recent = |shown: &&ShownItem| now.saturating_sub(shown.at.as_timestamp()) < period_ms;
        let mut items: Vec<_> = self.shown.iter().filter(is_recent).map(|shown| shown.item).collect();
        items.sort_unstable();
        let runs = items.chunk_by(|a, b| a == b).filter(|run| run.len() >= count.max(1));
        runs.filter_map(|run| run.first().copied()).collect()
    }
}

/// The item histories of all users.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ItemHistories(RecentUsers<ItemHistory>);

impl ItemHistories {
    /// The history of a user; `None` for an unknown user.
    #[must_use]
    pub fn get(&self, user: &str) -> Option<&ItemHistory> {
        self.0.get(user)
    }

    /// Records an event of a user on an item.
    pub fn record_event(&mut self, user: &str, item: ItemIx, kind: KindId, at: Timestamp) {
        self.0.change(user, USERS_KEPT, |history| history.record_event(item, kind, at));
    }

    /// Records the items of a list that was shown to a user.
    pub fn record_shown(&mut self, user: &str, items: impl IntoIterator<Item = ItemIx>, at: Timestamp) {
        self.0.change(user, USERS_KEPT, |history| history.record_shown(items, at));
    }

    /// Removes the history of a user.
    pub fn remove_user(&mut self, user: &str) {
        self.0.remove(user);
    }

    /// Merges the history of a user into that of another user.
    pub fn merge_users(&mut self, from: &str, into: &str) {
        self.0.merge(from, into, ItemHistory::merge);
    }

    /// Removes expired events and shown items.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) {
        self.0.change_users(|history| history.has_expired(expired), |history| history.expire(expired));
    }

    /// The histories by user id, for a snapshot.
    #[must_use]
    pub fn map(&self) -> &SharedUsers<ItemHistory> {
        self.0.map()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Timestamp = 1_000;

    fn shown(history: &ItemHistory, count: usize) -> Vec<ItemIx> {
        history.items_shown(count, 1_000 * SECOND, 1_500 * SECOND)
    }

    #[test]
    fn items_shown_often_without_an_event_are_found() {
        let mut history = ItemHistory::default();
        history.record_shown([1, 2, 3], 400 * SECOND);
        history.record_shown([1, 2], 600 * SECOND);
        history.record_shown([1, 3], 700 * SECOND);
        assert_eq!(shown(&history, 1), [1, 2, 3]);
        assert_eq!(shown(&history, 2), [1], "the display at 400 s is too long ago");
        history.record_event(1, 0, 800 * SECOND);
        assert_eq!(shown(&history, 1), [2, 3], "an event on the item starts the count again");
        history.record_shown([1], 900 * SECOND);
        assert_eq!(shown(&history, 1), [1, 2, 3]);
        history.record_shown(10..2_000, 1_000 * SECOND);
        assert_eq!(history.shown.len(), SHOWN_ITEMS_KEPT);
    }

    #[test]
    fn a_rare_kind_outlives_many_events_of_other_kinds() {
        let mut history = ItemHistory::default();
        history.record_event(7, 3, 0);
        for item in 0..1_000 {
            history.record_event(item, 0, (1 + i64::from(item)) * SECOND);
        }
        assert_eq!(history.events.len(), EVENTS_KEPT_PER_KIND + 1);
        let with_event =
            |kind, seconds| history.items_with_event(kind, seconds * SECOND, 1_001 * SECOND).collect::<Vec<_>>();
        assert_eq!(with_event(3, 2_000), [7]);
        assert!(with_event(3, 1_001).is_empty(), "the event is as old as the period");
        assert_eq!(with_event(0, 3), [998, 999]);
        for item in 0..300 {
            history.record_event(item, 1 + (item % 2) as KindId, 2_000 * SECOND);
        }
        assert_eq!(history.events.len(), EVENTS_KEPT);
        assert_eq!(history.items_with_event(3, i64::MAX, 3_000 * SECOND).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn of_several_events_of_a_kind_on_an_item_the_latest_is_kept() {
        let mut history = ItemHistory::default();
        for at in [20, 50, 30] {
            history.record_event(1, 2, at * SECOND);
        }
        assert_eq!(history.events, [ItemEvent { at: Seconds(50), item: 1, kind: 2 }]);
    }

    #[test]
    fn a_merge_keeps_the_events_of_both_and_drops_displays_before_an_event() {
        let (mut first, mut second) = (ItemHistory::default(), ItemHistory::default());
        first.record_shown([1, 2], 100 * SECOND);
        second.record_event(1, 0, 200 * SECOND);
        second.record_shown([1], 300 * SECOND);
        first.merge(&second);
        assert_eq!(first.items_shown(1, 1_000 * SECOND, 400 * SECOND), [1, 2]);
        assert_eq!(first.shown.len(), 2, "item 1 was shown again after its event");
        assert_eq!(first.items_with_event(0, 1_000 * SECOND, 400 * SECOND).collect::<Vec<_>>(), [1]);
    }
}
