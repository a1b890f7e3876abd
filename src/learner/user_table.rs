//! The users whom the fold follows: bounded by the journal itself, never by time.

use crate::domain::{ExpiryCutoffs, Offset};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

use super::attribution::RecentImpressions;
use super::sequence_state::{SequenceParams, SequenceState};
use crate::candidates::SessionIx;

/// A user in the fold.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UserState<M> {
    /// The sequence and the hidden state.
    pub state: SequenceState,
    /// The number of the current session.
    pub session_ix: SessionIx,
    /// What the ranker keeps of the session.
    pub affinity: M,
    /// What was shown lately.
    pub impressions: RecentImpressions,
    last_seen: Offset,
}

impl<M> UserState<M> {
    /// Takes in another who turns out to be this one. The session under way is that of the last
    /// step.
    pub(super) fn merge(&mut self, other: Self, pace: &SequenceParams) {
        let last = |user: &Self| user.state.sequence.steps.last().map(|step| step.at);
        let goes_on = last(&other) > last(self);
        self.state.merge(&other.state.sequence, pace);
        self.impressions.merge(other.impressions);
        if goes_on {
            (self.session_ix, self.affinity) = (other.session_ix, other.affinity);
        }
    }
}

/// Users by id. A user whose last event is more than `users_kept` entries ago is forgotten, and its
/// hidden state after `hidden_kept` entries.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "StoredUserTable<M>", into = "StoredUserTable<M>")]
#[serde(bound(serialize = "M: Clone + Serialize", deserialize = "M: Deserialize<'de>"))]
pub struct UserTable<M> {
    users: FxHashMap<Arc<str>, UserState<M>>,
    /// Who was seen when, oldest first.
    seen: VecDeque<(Offset, Arc<str>)>,
    /// How many at the front of `seen` have already been asked to forget their hidden state.
    quiet: usize,
    hidden_kept: u64,
    users_kept: u64,
}

/// How users are written: by last sighting (no two are the same), so that equal states are equal
/// bytes. Earlier sightings mean nothing.
#[derive(Serialize, Deserialize)]
struct StoredUserTable<M> {
    users: Vec<(Arc<str>, UserState<M>)>,
    hidden_kept: u64,
    users_kept: u64,
}

impl<M> From<UserTable<M>> for StoredUserTable<M> {
    fn from(users: UserTable<M>) -> Self {
        let mut list: Vec<_> = users.users.into_iter().collect();
        list.sort_unstable_by_key(|(_, user)| user.last_seen);
        Self { users: list, hidden_kept: users.hidden_kept, users_kept: users.users_kept }
    }
}

impl<M> From<StoredUserTable<M>> for UserTable<M> {
    fn from(stored: StoredUserTable<M>) -> Self {
        let seen = stored.users.iter().map(|(id, user)| (user.last_seen, Arc::clone(id))).collect();
        Self { users: stored.users.into_iter().collect(), seen, quiet: 0, hidden_kept: stored.hidden_kept, users_kept: stored.users_kept }
    }
}

impl<M: Default> UserTable<M> {
    /// Nobody yet.
    #[must_use]
    pub fn new(hidden_kept: u64, users_kept: u64) -> Self {
        Self { users: FxHashMap::default(), seen: VecDeque::new(), quiet: 0, hidden_kept, users_kept }
    }

    /// The user of that id, made if unknown, as seen by the entry at `now`.
    pub fn get_or_create(&mut self, id: &str, now: Offset) -> &mut UserState<M> {
        self.forget(now);
        let id: Arc<str> = match self.users.get_key_value(id) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(id),
        };
        self.seen.push_back((now, Arc::clone(&id)));
        let user = self.users.entry(id).or_default();
        user.last_seen = now;
        user
    }

    /// A user, without counting as seen.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&UserState<M>> {
        self.users.get(id)
    }

    /// The user of that id, if the fold remembers one.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut UserState<M>> {
        self.users.get_mut(id)
    }

    /// Takes a user out.
    pub fn remove(&mut self, id: &str) -> Option<UserState<M>> {
        self.users.remove(id)
    }

    /// Takes out of every user's sequence, and of what was shown, what is not to be kept any
    /// longer.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) {
        for user in self.users.values_mut() {
            user.state.expire(expired);
            user.impressions.expire(expired.impressions);
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.users.len()
    }

    fn forget(&mut self, now: Offset) {
        while let Some((at, id)) = self.seen.get(self.quiet).filter(|(at, _)| now.saturating_sub(*at) > self.hidden_kept) {
            if let Some(user) = self.users.get_mut(id).filter(|user| user.last_seen == *at) {
                user.state.forget_hidden();
            }
            self.quiet += 1;
        }
        while self.seen.front().is_some_and(|(at, _)| now.saturating_sub(*at) > self.users_kept) {
            if let Some((at, id)) = self.seen.pop_front()
                && self.users.get(&id).is_some_and(|user| user.last_seen == at)
            {
                self.users.remove(&id);
            }
            self.quiet = self.quiet.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_forgotten_by_entries_and_not_before() {
        let mut users = UserTable::<()>::new(5, 10);
        users.get_or_create("ann", 0).session_ix = 7;
        users.get_or_create("bob", 5).session_ix = 8;
        assert_eq!(users.get_or_create("ann", 10).session_ix, 7);
        users.get_or_create("cyd", 16);
        assert!(users.get_mut("bob").is_none(), "11 entries ago");
        assert_eq!(users.get_mut("ann").map(|user| user.session_ix), Some(7), "an older sighting does not forget a user who came back");
        assert_eq!(users.count(), 2);
    }
}
