//! The long-term profile of a user: the items of earlier sessions.

use super::simd_math::exp;
use crate::domain::{ExpiryCutoffs, ItemIx, KindId, RecentUser, Timestamp};
use serde::{Deserialize, Serialize};
use std::f32::consts::LN_2;

/// Number of sessions of the user after which a profile weight has halved.
const HALF_LIFE_IN_SESSIONS: f32 = 8.0;

/// An item of a user's earlier sessions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProfileItem {
    /// The item.
    pub item: ItemIx,
    /// Number of target events on the item. The count halves with every 8 sessions of the user.
    weight: f32,
    /// Number of the user's latest session with the item.
    session: u32,
    /// Kind of the latest event on the item.
    kind: KindId,
    /// Time of the latest event on the item.
    pub at: Timestamp,
}

impl ProfileItem {
    fn decayed_weight(&self, session: u32) -> f32 {
        let age = session.saturating_sub(self.session) as f32;
        self.weight * exp(-age * (LN_2 / HALF_LIFE_IN_SESSIONS))
    }
}

/// What a profile holds about an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProfileCount {
    /// The item.
    pub item: ItemIx,
    /// Number of target events on the item. The count halves with every 8 sessions of the user.
    pub count: f32,
    /// Number of sessions since the latest session with the item, including that session.
    pub sessions_ago: u32,
    /// Kind of the latest event on the item.
    pub kind: KindId,
    /// Time of the latest event on the item.
    pub at: Timestamp,
}

/// The items of a user's earlier sessions, with decayed counts. The current session is not part of
/// the profile; it enters the profile when the next session begins.
///
/// ```
/// use sequor_core::candidates::UserProfile;
///
/// let mut profile = UserProfile::default();
/// profile.add_session([(7, 0, 1_000), (3, 0, 2_000), (7, 0, 3_000)], 50);
/// profile.add_session([(3, 0, 90_000)], 50);
/// let rounded = |(item, weight): (u32, f32)| (item, (weight * 10.0).round());
/// assert_eq!(profile.weighted_items().map(rounded).collect::<Vec<_>>(), [(3, 19.0), (7, 18.0)]);
/// assert_eq!(profile.sessions_since(7), Some(2));
/// assert!(profile.counts().all(|known| Some(known.sessions_ago) == profile.sessions_since(known.item)));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UserProfile {
    /// Number of sessions so far.
    sessions: u32,
    /// The items in the order of their numbers.
    items: Vec<ProfileItem>,
    last_change: u64,
}

impl RecentUser for UserProfile {
    fn last_change(&self) -> u64 {
        self.last_change
    }

    fn set_last_change(&mut self, number: u64) {
        self.last_change = number;
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl UserProfile {
    /// Adds the target events of a session: item, kind and time of each. If the profile has more
    /// than `kept` items then, the items with the smallest decayed counts are removed.
    pub fn add_session(&mut self, events: impl IntoIterator<Item = (ItemIx, KindId, Timestamp)>, kept: usize) {
        self.sessions = self.sessions.saturating_add(1);
        let session = self.sessions;
        for (item, kind, at) in events {
            match self.items.binary_search_by_key(&item, |known| known.item) {
                Ok(position) => {
                    if let Some(known) = self.items.get_mut(position) {
                        *known = ProfileItem { item, weight: known.decayed_weight(session) + 1.0, session, kind, at };
                    }
                }
                Err(position) => self.items.insert(position, ProfileItem { item, weight: 1.0, session, kind, at }),
            }
        }
        self.remove_lightest(kept);
    }

    fn remove_lightest(&mut self, kept: usize) {
        let excess = self.items.len().saturating_sub(kept);
        if excess == 0 {
            return;
        }
        let mut by_weight: Vec<_> =
            self.items.iter().map(|known| (known.decayed_weight(self.sessions), known.at, known.item)).collect();
        by_weight.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut removed: Vec<_> = by_weight.into_iter().take(excess).map(|(.., item)| item).collect();
        removed.sort_unstable();
        self.items.retain(|known| removed.binary_search(&known.item).is_err());
    }

    /// Number of earlier sessions.
    #[must_use]
    pub fn session_count(&self) -> u32 {
        self.sessions
    }

    /// The items with their decayed counts, in the order of the item numbers.
    pub fn weighted_items(&self) -> impl Iterator<Item = (ItemIx, f32)> {
        self.items.iter().map(|known| (known.item, known.decayed_weight(self.sessions)))
    }

    /// Everything that the profile holds, in the order of the item numbers.
    pub fn counts(&self) -> impl Iterator<Item = ProfileCount> {
        self.items.iter().map(|known| ProfileCount {
            item: known.item,
            count: known.decayed_weight(self.sessions),
            sessions_ago: self.sessions.saturating_sub(known.session) + 1,
            kind: known.kind,
            at: known.at,
        })
    }

    /// The `count` items with the largest decayed counts, in descending order. Among equal counts, the
    /// smaller item number comes first.
    #[must_use]
    pub fn heaviest_items(&self, count: usize) -> Vec<(ItemIx, f32)> {
        let mut items: Vec<_> = self.weighted_items().collect();
        items.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        items.truncate(count);
        items
    }

    /// Number of sessions since the latest session with an item, including that session; `None` if
    /// the profile does not contain the item.
    #[must_use]
    pub fn sessions_since(&self, item: ItemIx) -> Option<u32> {
        let position = self.items.binary_search_by_key(&item, |known| known.item).ok()?;
        Some(self.sessions.saturating_sub(self.items.get(position)?.session) + 1)
    }

    /// Adds the items of another profile. Keeps at most `kept` items, as [`UserProfile::add_session`]
    /// does.
    pub fn merge(&mut self, other: &Self, kept: usize) {
        let sessions = self.sessions.saturating_add(other.sessions);
        // The ages in sessions stay as they were in each profile.
        let aged = |profile: &Self| {
            let later = sessions - profile.sessions;
            profile
                .items
                .iter()
                .map(move |known| ProfileItem { session: known.session.saturating_add(later), ..*known })
                .collect()
        };
        let (mut items, merged): (Vec<ProfileItem>, Vec<ProfileItem>) = (aged(self), aged(other));
        for added in merged {
            match items.binary_search_by_key(&added.item, |known| known.item) {
                Ok(position) => {
                    if let Some(known) = items.get_mut(position) {
                        let latest = if added.at > known.at { added } else { *known };
                        let session = added.session.max(known.session);
                        let weight = added.decayed_weight(session) + known.decayed_weight(session);
                        *known = ProfileItem { weight, session, ..latest };
                    }
                }
                Err(position) => items.insert(position, added),
            }
        }
        (self.sessions, self.items) = (sessions, items);
        self.remove_lightest(kept);
    }

    /// Whether an expiry removes an item.
    #[must_use]
    pub fn has_expired_items(&self, expired: &ExpiryCutoffs) -> bool {
        self.items.iter().any(|known| expired.is_expired(known.kind, known.at))
    }

    /// Removes the items whose latest event has expired.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) {
        self.items.retain(|known| !expired.is_expired(known.kind, known.at));
    }

    /// Approximate memory use in bytes, with the entry in the table of users.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        /// Bytes of the entry: nodes of the two maps, the user id and the reference counts.
        const ENTRY_BYTES: usize = 160;
        ENTRY_BYTES + size_of::<Self>() + self.items.capacity() * size_of::<ProfileItem>()
    }

    /// Number of items.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The simple definition: every event with its session, and the sum of its decayed weights.
    fn expected_weight(sessions: &[Vec<ItemIx>], item: ItemIx) -> f32 {
        let weights = sessions.iter().rev().enumerate().flat_map(|(age, items)| {
            items.iter().filter(|other| **other == item).map(move |_| (-(age as f32) / HALF_LIFE_IN_SESSIONS).exp2())
        });
        weights.sum()
    }

    fn profile_of(sessions: &[Vec<ItemIx>], kept: usize) -> UserProfile {
        let mut profile = UserProfile::default();
        for (session, items) in (0..).zip(sessions) {
            profile.add_session(items.iter().map(|item| (*item, 0, session)), kept);
        }
        profile
    }

    proptest! {
        #[test]
        fn weights_are_decayed_counts(
            sessions in prop::collection::vec(prop::collection::vec(0_u32..12, 0..6), 0..10), kept in 1_usize..12,
        ) {
            let profile = profile_of(&sessions, 100);
            for item in 0..12 {
                let known = profile.weighted_items().find(|(other, _)| *other == item);
                let expected = expected_weight(&sessions, item);
                prop_assert!((known.map_or(0.0, |(_, weight)| weight) - expected).abs() < 1e-4);
                let since = sessions.iter().rev().position(|items| items.contains(&item));
                prop_assert_eq!(profile.sessions_since(item), since.map(|since| since as u32 + 1));
            }
            let bounded = profile_of(&sessions, kept);
            prop_assert!(bounded.item_count() <= kept && bounded.session_count() == profile.session_count());
        }

        #[test]
        fn a_merge_adds_the_weights(
            sessions in prop::collection::vec(prop::collection::vec(0_u32..12, 0..6), 0..10), split in 0_usize..10,
        ) {
            // Both users have the same sessions, so each weight doubles.
            let profile = profile_of(&sessions[split.min(sessions.len())..], 100);
            let mut merged = profile.clone();
            merged.merge(&profile, 100);
            for ((item, weight), (other, doubled)) in profile.weighted_items().zip(merged.weighted_items()) {
                prop_assert!(item == other && (2.0 * weight - doubled).abs() < 1e-4);
                prop_assert_eq!(profile.sessions_since(item), merged.sessions_since(item));
            }
            prop_assert_eq!(profile.item_count(), merged.item_count());
        }
    }

    #[test]
    fn the_lightest_items_are_removed_first() {
        let profile = profile_of(&[vec![1, 2, 2], vec![3], vec![4, 2]], 2);
        let items: Vec<_> = profile.weighted_items().map(|(item, _)| item).collect();
        assert_eq!(items, [2, 4], "item 2 has three events, and item 4 is the latest");
    }

    #[test]
    fn items_expire_by_the_kind_and_time_of_their_latest_event() {
        let kinds = crate::domain::EventKinds::default();
        let view = crate::domain::EventKind::View;
        let kind = kinds.id_of(&view).unwrap();
        let mut profile = UserProfile::default();
        profile.add_session([(1, kind, 10), (2, kind, 20), (3, kind + 1, 10)], 10);
        let expiry = crate::domain::Expiry { events: vec![(view, 15)], ..Default::default() };
        let expired = expiry.cutoffs(&kinds);
        assert!(profile.has_expired_items(&expired));
        profile.expire(&expired);
        assert!(!profile.has_expired_items(&expired));
        assert_eq!(profile.weighted_items().map(|(item, _)| item).collect::<Vec<_>>(), [2, 3]);
    }
}
