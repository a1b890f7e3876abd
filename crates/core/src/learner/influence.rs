//! Limits how much a single user, or a crowd of new users, can influence what the model learns.
//!
//! The rules check every target event and every dismissal before the model learns from it. A target
//! event is one of a kind that the model learns to predict; a dismissal rejects an item.
//! An event that breaks a rule is held back: it enters its user's own sequence, but no count,
//! transition or weight that other users share. All other events count. Three rules apply:
//!
//! 1. Among the last [`RECENT`] counted events of an item, each user may have only a few. The
//!    number grows with the events of other users.
//! 2. The ratio of new to established users in an item's events is limited to a multiple of the
//!    ratio on the whole site. If only new users choose an item, at most [`NEW_USERS_ALLOWANCE`]
//!    events count. Such an item is recommended only if the catalog describes it.
//! 3. On the whole site, new users' share of recent events may reach about twice their long-term
//!    share.
//!
//! The rules need a site with regular users. If most events come from users who visit only once,
//! there are too few established users to compare with, so the rules are off.
//!
//! Ages and half-lives are measured in counted events, not in time. The state therefore depends
//! only on the journal, and events that are held back do not make a user older.

use crate::domain::{ItemFlags, ItemIx, PagedVec};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// Number of latest counted events per item whose users are remembered.
const RECENT: usize = 32;
/// Number of counted events after which a remembered event no longer counts against its user's
/// limit.
const WINDOW: u32 = 2_000;
/// Number of events of one user that may count for an item that no other user has chosen.
const ONE_USER_ALLOWANCE: usize = 2;
/// Number of other users' events on an item that raise each user's limit by one event.
const OTHERS_PER_EVENT: usize = 4;
/// A user is new until enough events have counted since the user's first event: one in
/// `NEW_FOR_PART` of all counted events, but at least `NEW_FOR_LEAST` and at most `NEW_FOR_MOST`.
const NEW_FOR_PART: u64 = 8;
const NEW_FOR_LEAST: u64 = 1_000;
const NEW_FOR_MOST: u64 = 100_000;
/// Half-life of the counts by item, of the site's long-term counts and of its short-term counts, in
/// counted events.
const ITEM_HALF_LIFE: f32 = 5_000.0;
const LONG_HALF_LIFE: f32 = 20_000.0;
const SHORT_HALF_LIFE: f32 = 300.0;
/// Number of new users' events that may count for an item that no established user has chosen.
const NEW_USERS_ALLOWANCE: f32 = 4.0;
/// On sites with few new users, the allowance is smaller. It is full if the site has at least one
/// new user's event for this number of established users' events.
const FULL_ALLOWANCE_FACTOR: f32 = 5.0;
/// Largest ratio of new to established users for an item, as a multiple of the site's ratio.
const NEW_USERS_FACTOR: f32 = 4.0;
/// Share of established users in the site's long-term counts below which the rules are off.
const LEAST_ESTABLISHED: f32 = 0.25;
/// Tolerance added to the limit on new users' short-term share, which is twice their long-term
/// share.
const NEW_USERS_SLACK: f32 = 0.1;

/// Why an event is held back from learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBack {
    /// The user chose the item too often.
    OneUser,
    /// New users chose the item too often, compared with established users.
    NewUsersOfItem,
    /// New users' share of the site's recent events is far above their long-term share.
    NewUsersOfSite,
}

impl HeldBack {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::OneUser, Self::NewUsersOfItem, Self::NewUsersOfSite];
}

/// Data about one user that the rules need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserHistory {
    /// Number of events that had counted before the user's first one.
    pub since: u64,
    /// Bit mask of the user's latest steps that were held back; the lowest bit is the latest step.
    pub held_back: u64,
}

impl UserHistory {
    /// Adds a step. A late step shifts the positions of later steps. If any step is held back, all
    /// are therefore marked as held back.
    pub(super) fn add_step(&mut self, is_held_back: bool, is_appended: bool) {
        if is_appended {
            self.held_back = self.held_back << 1 | u64::from(is_held_back);
        } else if is_held_back || self.held_back != 0 {
            self.held_back = u64::MAX;
        }
    }

    /// Whether the step `from_end` steps before the last one was held back.
    #[must_use]
    pub(super) fn is_held_back(&self, from_end: usize) -> bool {
        u32::try_from(from_end).is_ok_and(|shift| self.held_back.checked_shr(shift).unwrap_or(0) & 1 == 1)
    }

    /// Combines the histories of two users who were merged. Their steps are interleaved, which
    /// changes positions. If any step is held back, all are therefore marked as held back.
    pub(super) fn merge(&mut self, other: Self) {
        self.since = self.since.min(other.since);
        self.held_back = if self.held_back | other.held_back == 0 { 0 } else { u64::MAX };
    }
}

/// Decayed numbers of events by established and by new users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct DecayedCounts {
    established: f32,
    new: f32,
    /// Number of counted events at the last update.
    at: u64,
}

impl DecayedCounts {
    fn at(&self, now: u64, half_life: f32) -> Self {
        let decay = (-(now.saturating_sub(self.at) as f32) / half_life).exp2();
        Self { established: self.established * decay, new: self.new * decay, at: now }
    }

    fn add(&mut self, now: u64, half_life: f32, is_new: bool) {
        *self = self.at(now, half_life);
        *(if is_new { &mut self.new } else { &mut self.established }) += 1.0;
    }

    fn new_share(&self) -> f32 {
        self.new / (self.new + self.established).max(f32::MIN_POSITIVE)
    }
}

/// Data about one item that the rules need.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct ItemInfluence {
    counts: DecayedCounts,
    /// The last events that counted, in a ring.
    recent: Vec<Contribution>,
    /// Position of the oldest event in the ring, once the ring is full.
    oldest: u8,
}

/// An event that counted for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Contribution {
    /// Hash of the user.
    user: u32,
    /// Number of events that had counted before this one, modulo 2^32.
    at: u32,
}

impl ItemInfluence {
    fn add(&mut self, contribution: Contribution) {
        if self.recent.len() < RECENT {
            self.recent.push(contribution);
        } else if let Some(oldest) = self.recent.get_mut(usize::from(self.oldest)) {
            *oldest = contribution;
            self.oldest = (self.oldest + 1) % RECENT as u8;
        }
    }

    /// The number of remembered events of one user within the window before `now`.
    fn by_user(&self, user: u32, now: u64) -> usize {
        let recent = self.recent.iter().filter(|event| (now as u32).wrapping_sub(event.at) <= WINDOW);
        recent.filter(|event| event.user == user).count()
    }

    /// Whether the remembered events come from more than one user.
    fn has_several_users(&self) -> bool {
        self.recent.first().is_some_and(|first| self.others(first.user) > 0)
    }

    /// The number of remembered events of all other users.
    fn others(&self, user: u32) -> usize {
        self.recent.iter().filter(|event| event.user != user).count()
    }
}

/// The data about an event's user that the rules check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JudgedUser {
    /// Hash of the user id.
    pub(super) hash: u32,
    /// Number of events that had counted before the user's first one.
    pub(super) since: u64,
}

/// Hashes a user id; the hash is the same on every machine.
#[must_use]
pub(super) fn hash_user(user: &str) -> u32 {
    let mut hasher = SipHasher24::new();
    hasher.write(user.as_bytes());
    hasher.finish() as u32
}

/// The limits' state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct InfluenceLimits {
    /// Number of events that counted.
    counted: u64,
    long_term: DecayedCounts,
    short_term: DecayedCounts,
    items: PagedVec<ItemInfluence, 64>,
    /// Flags of items without events of an established user, or with remembered events of only one
    /// user. Flags are set only while enough of the site's events come from established users.
    unproven: ItemFlags,
    /// Number of events held back, by reason, in the order of [`HeldBack::ALL`].
    held_back: [u64; HeldBack::ALL.len()],
}

impl InfluenceLimits {
    /// Number of events that counted so far.
    #[must_use]
    pub(super) fn counted(&self) -> u64 {
        self.counted
    }

    /// Flags of items without events of an established user, or with remembered events of only one
    /// user. Flags are set only while enough of the site's events come from established users.
    #[must_use]
    pub(super) fn unproven(&self) -> &ItemFlags {
        &self.unproven
    }

    /// Number of events held back so far, by reason, in the order of [`HeldBack::ALL`].
    #[must_use]
    pub(super) fn held_back(&self) -> [u64; HeldBack::ALL.len()] {
        self.held_back
    }

    /// Decides whether an event counts, and counts it if so.
    pub(super) fn judge(&mut self, user: JudgedUser, item: ItemIx) -> Result<(), HeldBack> {
        let outcome = self.check(user, item);
        match outcome {
            Ok(()) => self.count(user, item),
            Err(reason) => self.held_back[reason as usize] += 1,
        }
        self.update_unproven_flag(item);
        outcome
    }

    fn is_new(&self, user: JudgedUser) -> bool {
        self.counted - user.since.min(self.counted) < (self.counted / NEW_FOR_PART).clamp(NEW_FOR_LEAST, NEW_FOR_MOST)
    }

    fn check(&self, user: JudgedUser, item: ItemIx) -> Result<(), HeldBack> {
        if !self.has_regulars() {
            return Ok(());
        }
        let empty = ItemInfluence::default();
        let influence = self.items.get(item as usize).unwrap_or(&empty);
        let allowed = ONE_USER_ALLOWANCE + influence.others(user.hash) / OTHERS_PER_EVENT;
        if influence.by_user(user.hash, self.counted) >= allowed {
            return Err(HeldBack::OneUser);
        }
        if !self.is_new(user) {
            return Ok(());
        }
        let long_term = self.long_term;
        let of_item = influence.counts.at(self.counted, ITEM_HALF_LIFE);
        let ratio = long_term.new / long_term.established;
        let allowance = NEW_USERS_ALLOWANCE * (FULL_ALLOWANCE_FACTOR * ratio).min(1.0);
        if of_item.new + 1.0 > allowance + NEW_USERS_FACTOR * ratio * of_item.established {
            return Err(HeldBack::NewUsersOfItem);
        }
        if self.short_term.new_share() > 2.0 * long_term.new_share() + NEW_USERS_SLACK {
            return Err(HeldBack::NewUsersOfSite);
        }
        Ok(())
    }

    /// Removes a user from the remembered events.
    pub(super) fn forget_user(&mut self, user: u32) {
        for index in 0..self.items.len() {
            if self.items.get(index).is_some_and(|item| item.recent.iter().any(|event| event.user == user))
                && let Some(item) = self.items.get_mut(index)
            {
                item.recent.iter_mut().filter(|event| event.user == user).for_each(|event| event.user = 0);
            }
        }
    }

    /// Whether enough of the site's events come from established users.
    fn has_regulars(&self) -> bool {
        1.0 - self.long_term.new_share() >= LEAST_ESTABLISHED
    }

    fn update_unproven_flag(&mut self, item: ItemIx) {
        let index = item as usize;
        let is_proven = |known: &ItemInfluence| known.counts.established > 0.0 && known.has_several_users();
        let is_unproven = self.has_regulars() && !self.items.get(index).is_some_and(is_proven);
        if self.unproven.get(index).copied().unwrap_or(false) != is_unproven {
            self.unproven.grow(index + 1, || false);
            if let Some(flag) = self.unproven.get_mut(index) {
                *flag = is_unproven;
            }
        }
    }

    fn count(&mut self, user: JudgedUser, item: ItemIx) {
        let (now, is_new) = (self.counted, self.is_new(user));
        self.long_term.add(now, LONG_HALF_LIFE, is_new);
        self.short_term.add(now, SHORT_HALF_LIFE, is_new);
        self.items.grow(item as usize + 1, ItemInfluence::default);
        if let Some(influence) = self.items.get_mut(item as usize) {
            influence.counts.add(now, ITEM_HALF_LIFE, is_new);
            influence.add(Contribution { user: user.hash, at: now as u32 });
        }
        self.counted += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits of a site whose 50 regular users have chosen 5,000 times among 100 items.
    fn with_regulars() -> InfluenceLimits {
        let mut limits = InfluenceLimits::default();
        for number in 0..5_000_u32 {
            let mixed = number.wrapping_mul(2_654_435_761);
            let _ = limits.judge(JudgedUser { hash: (mixed >> 8) % 50, since: 0 }, (mixed >> 16) % 100);
        }
        assert!(limits.held_back().iter().sum::<u64>() < 50, "{:?}", limits.held_back);
        limits.held_back = [0; 3];
        limits
    }

    fn counted(limits: &mut InfluenceLimits, events: u32, event: impl Fn(u32) -> (u32, ItemIx)) -> usize {
        let since = limits.counted();
        (0..events)
            .filter(|number| {
                let (hash, item) = event(*number);
                limits.judge(JudgedUser { hash: 1_000 + hash, since }, item).is_ok()
            })
            .count()
    }

    #[test]
    fn an_item_that_only_new_users_choose_stays_unproven() {
        let mut limits = with_regulars();
        let count = counted(&mut limits, 10_000, |number| (number, 500));
        assert!(count <= NEW_USERS_ALLOWANCE as usize, "{count} of 10,000 events of as many new users count");
        assert_eq!(limits.held_back().iter().sum::<u64>(), 10_000 - count as u64);
        assert_eq!(limits.unproven().get(500), Some(&true));
        for regular in 0..3 {
            assert_eq!(limits.judge(JudgedUser { hash: regular, since: 0 }, 500), Ok(()));
        }
        assert_eq!(limits.unproven().get(500), Some(&false), "regular users have chosen it");
    }

    #[test]
    fn one_regular_user_counts_only_a_few_times() {
        let mut limits = with_regulars();
        let regular = JudgedUser { hash: 7, since: 0 };
        assert_eq!((0..1_000).filter(|_| limits.judge(regular, 500).is_ok()).count(), ONE_USER_ALLOWANCE);
        // With a ring full of other users' events, the limit is at most 2 + 32 / 4 = 10.
        assert!((0..1_000).filter(|_| limits.judge(regular, 21).is_ok()).count() <= 10);
    }

    #[test]
    fn new_users_do_not_take_over_proven_items() {
        let mut limits = with_regulars();
        let count = counted(&mut limits, 10_000, |number| (number, number % 100));
        // The allowance of each of the 100 items, and the site's ratio of new users.
        assert!(count < 600, "{count} of 10,000 events of new users count");
    }

    #[test]
    fn limits_are_off_while_all_users_are_new() {
        let mut limits = InfluenceLimits::default();
        let mut visit = |number: u64| {
            let user = JudgedUser { hash: number as u32, since: limits.counted() };
            (0..5).all(|_| limits.judge(user, (number % 20) as ItemIx).is_ok())
        };
        assert!((0..4_000).all(&mut visit));
        assert_eq!(limits.unproven().iter().filter(|flag| **flag).count(), 0);
    }

    #[test]
    fn a_forgotten_user_is_no_longer_remembered() {
        let mut limits = with_regulars();
        limits.forget_user(7);
        let mut remembered = limits.items.iter().flat_map(|item| &item.recent);
        assert!(remembered.all(|event| event.user != 7));
    }
}
