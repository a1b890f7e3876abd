//! The user table of the learner. A user without an event for a number of journal entries is
//! dropped.

use crate::domain::{EarlierSession, ExpiryCutoffs, Offset, SharedQueue, Step};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::sync::Arc;

use super::attribution::RecentImpressions;
use super::influence::UserHistory;
use super::sequence_state::{SequenceParams, SequenceState};
use super::user_map::UserMap;
use crate::candidates::SessionIx;

/// A user and the offset of an event of the user.
type Sighting = (Offset, Arc<str>);

/// Sightings per chunk of the queue.
const SIGHTINGS_PER_CHUNK: usize = 1024;

/// The state of one user in the learner.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UserState<M> {
    /// The sequence and the hidden state.
    pub state: SequenceState,
    /// The number of the current session.
    pub session_ix: SessionIx,
    /// The source affinity of the current session.
    pub affinity: M,
    /// Recent impressions.
    pub impressions: RecentImpressions,
    /// The user's data for the limits on influence. Checkpoints store them in the extension.
    #[serde(skip)]
    pub history: UserHistory,
    last_seen: Offset,
}

impl<M> UserState<M> {
    /// The first `end` remembered steps without those that were held back from learning.
    pub(super) fn taught_steps(&self, end: usize) -> Cow<'_, [Step]> {
        let all = &self.state.sequence.steps;
        let steps = all.get(..end).unwrap_or_default();
        if self.history.held_back == 0 {
            return Cow::Borrowed(steps);
        }
        let taught = steps
            .iter()
            .rev()
            .zip(all.len() - steps.len()..)
            .filter(|(_, from_end)| !self.history.is_held_back(*from_end));
        let mut taught: Vec<_> = taught.map(|(step, _)| *step).collect();
        taught.reverse();
        Cow::Owned(taught)
    }

    /// Merges another user into this user. The merged user continues the session of whichever user
    /// has the latest step.
    pub(super) fn merge(&mut self, other: Self, params: &SequenceParams) {
        let last = |user: &Self| user.state.sequence.steps.last().map(|step| step.at);
        let other_is_newer = last(&other) > last(self);
        self.state.merge(&other.state.sequence, params);
        self.impressions.merge(other.impressions);
        self.history.merge(other.history);
        if other_is_newer {
            (self.session_ix, self.affinity) = (other.session_ix, other.affinity);
        }
    }
}

/// Table of users by id. A user without an event for `users_kept` journal entries is dropped. The
/// user's hidden state is dropped earlier, after `hidden_kept` entries without an event.
///
/// A clone shares all users that do not change after it. So the learner can hand a copy to the
/// checkpoint writer without a pause, however many users there are.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "StoredUserTable<M>", bound(deserialize = "M: Deserialize<'de>"))]
pub struct UserTable<M> {
    users: UserMap<UserState<M>>,
    /// User ids by the offsets of their events, oldest first.
    seen: SharedQueue<Sighting, SIGHTINGS_PER_CHUNK>,
    /// Number of elements at the front of `seen` that are already older than `hidden_kept`, so that
    /// the hidden states of their users were dropped.
    dropped_hidden_states: usize,
    hidden_kept: u64,
    users_kept: u64,
}

/// Serialised form of [`UserTable`]. The users are sorted by the offset of their last event, which
/// is unique, so that equal tables have equal bytes. Offsets of earlier events are not stored.
#[derive(Deserialize)]
struct StoredUserTable<M> {
    users: Vec<(Arc<str>, Arc<UserState<M>>)>,
    hidden_kept: u64,
    users_kept: u64,
}

/// [`StoredUserTable`] for writing. It borrows the users, because a copy of all users is expensive.
#[derive(Serialize)]
struct BorrowedUserTable<'a, M> {
    users: Vec<(&'a Arc<str>, &'a UserState<M>)>,
    hidden_kept: u64,
    users_kept: u64,
}

impl<M: Serialize> Serialize for UserTable<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut users: Vec<_> = self.users.iter().collect();
        users.sort_unstable_by_key(|(_, user)| user.last_seen);
        BorrowedUserTable { users, hidden_kept: self.hidden_kept, users_kept: self.users_kept }.serialize(serializer)
    }
}

impl<M> From<StoredUserTable<M>> for UserTable<M> {
    fn from(stored: StoredUserTable<M>) -> Self {
        let seen = stored.users.iter().map(|(id, user)| (user.last_seen, Arc::clone(id))).collect();
        Self {
            users: stored.users.into_iter().collect(),
            seen,
            dropped_hidden_states: 0,
            hidden_kept: stored.hidden_kept,
            users_kept: stored.users_kept,
        }
    }
}

impl<M: Clone> UserTable<M> {
    /// The earlier sessions that later events may belong to, of each user who has some.
    pub(super) fn earlier_sessions(&self) -> EarlierSessions {
        let has_some = |(_, user): &(&Arc<str>, &UserState<M>)| !user.state.sequence.earlier_sessions.is_empty();
        let mut users: Vec<_> = self.users.iter().filter(has_some).collect();
        users.sort_unstable_by_key(|(_, user)| user.last_seen);
        let sessions = |user: &UserState<M>| user.state.sequence.earlier_sessions.clone();
        users.into_iter().map(|(id, user)| (Arc::clone(id), sessions(user))).collect()
    }

    /// Restores the earlier sessions of users.
    pub(super) fn restore_earlier_sessions(&mut self, earlier_sessions: EarlierSessions) {
        for (id, sessions) in earlier_sessions {
            if let Some(user) = self.get_mut(&id) {
                user.state.sequence.earlier_sessions = sessions;
            }
        }
    }
}

/// Users with the earlier sessions of each.
pub(super) type EarlierSessions = Vec<(Arc<str>, Vec<EarlierSession>)>;

impl<M: Clone> UserTable<M> {
    /// Returns a user, without recording an event.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&UserState<M>> {
        self.users.get(id)
    }

    /// Returns a user for writing, without recording an event.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut UserState<M>> {
        self.users.get_mut(id)
    }

    /// Removes a user.
    pub fn remove(&mut self, id: &str) -> Option<UserState<M>> {
        self.users.remove(id)
    }
}

impl<M: Clone + Default> UserTable<M> {
    /// Creates an empty table.
    #[must_use]
    pub fn new(hidden_kept: u64, users_kept: u64) -> Self {
        Self {
            users: UserMap::default(),
            seen: SharedQueue::default(),
            dropped_hidden_states: 0,
            hidden_kept,
            users_kept,
        }
    }

    /// Returns a user; creates an empty entry for an unknown user. Records that the user has an
    /// event at offset `now`.
    pub fn get_or_create(&mut self, id: &str, now: Offset) -> &mut UserState<M> {
        self.drop_inactive(now);
        let id = self.users.shared_id(id).unwrap_or_else(|| Arc::from(id));
        self.seen.push_back((now, Arc::clone(&id)));
        let user = self.users.get_or_default(id);
        user.last_seen = now;
        user
    }

    /// Removes a user and its id, also from the list of sightings. Scans that list.
    pub fn erase(&mut self, id: &str) {
        self.users.remove(id);
        let dropped = self.seen.iter().take(self.dropped_hidden_states).filter(|(_, seen)| **seen != *id).count();
        self.seen = self.seen.iter().filter(|(_, seen)| **seen != *id).cloned().collect();
        self.dropped_hidden_states = dropped;
    }

    /// The histories of all users, in the order in which the table is stored.
    pub(super) fn histories(&self) -> Vec<UserHistory> {
        let mut users: Vec<_> = self.users.iter().map(|(_, user)| user).collect();
        users.sort_unstable_by_key(|user| user.last_seen);
        users.into_iter().map(|user| user.history).collect()
    }

    /// Sets the histories of all users, in the order in which the table is stored.
    pub(super) fn set_histories(&mut self, histories: &[UserHistory]) {
        let mut users: Vec<_> = self.users.iter_mut().collect();
        users.sort_unstable_by_key(|user| user.last_seen);
        users.into_iter().zip(histories).for_each(|(user, history)| user.history = *history);
    }

    /// Removes expired steps and impressions from all users.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) {
        for user in self.users.iter_mut() {
            user.state.expire(expired);
            user.impressions.expire(expired.impressions);
        }
    }

    /// Number of users in the table.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    fn drop_inactive(&mut self, now: Offset) {
        while let Some((at, id)) =
            self.seen.get(self.dropped_hidden_states).filter(|(at, _)| now.saturating_sub(*at) > self.hidden_kept)
        {
            if self
                .users
                .get(id)
                .is_some_and(|user| user.last_seen == *at && user.state.cached_hidden_state().is_some())
                && let Some(user) = self.users.get_mut(id)
            {
                user.state.drop_hidden_state();
            }
            self.dropped_hidden_states += 1;
        }
        while self.seen.get(0).is_some_and(|(at, _)| now.saturating_sub(*at) > self.users_kept) {
            if let Some((at, id)) = self.seen.pop_front()
                && self.get(&id).is_some_and(|user| user.last_seen == at)
            {
                self.users.remove(&id);
            }
            self.dropped_hidden_states = self.dropped_hidden_states.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::HiddenState;

    #[test]
    fn a_user_is_dropped_after_users_kept_entries_without_an_event() {
        let mut users = UserTable::<()>::new(5, 10);
        users.get_or_create("ann", 0).session_ix = 7;
        users.get_or_create("bob", 5).session_ix = 8;
        assert_eq!(users.get_or_create("ann", 10).session_ix, 7);
        users.get_or_create("cyd", 16);
        assert!(users.get_mut("bob").is_none(), "11 entries ago");
        assert_eq!(
            users.get_mut("ann").map(|user| user.session_ix),
            Some(7),
            "an older sighting does not drop a returning user"
        );
        assert_eq!(users.user_count(), 2);
    }

    #[test]
    fn users_hidden_states_and_sightings_never_exceed_their_limits() {
        const HIDDEN_KEPT: u64 = 20;
        const USERS_KEPT: u64 = 50;
        let mut users = UserTable::<()>::new(HIDDEN_KEPT, USERS_KEPT);
        for now in 0..10 * USERS_KEPT {
            // Every third event is one of the same user.
            let id = if now % 3 == 0 { "regular".to_owned() } else { format!("user {now}") };
            users.get_or_create(&id, now).state.set_hidden_state(Some(HiddenState::default()));
            let hidden =
                users.users.iter().filter(|(_, user)| user.state.cached_hidden_state().is_some()).count() as u64;
            assert!(hidden <= HIDDEN_KEPT + 1, "{hidden} hidden states");
            assert!(users.user_count() as u64 <= USERS_KEPT + 1 && users.seen.iter().count() as u64 <= USERS_KEPT + 1);
            assert!(users.get(&id).is_some());
        }
        assert!(users.get("regular").is_some());
    }

    #[test]
    fn an_erased_users_id_is_dropped_and_the_sightings_of_others_stay() {
        let mut users = UserTable::<()>::new(3, 100);
        for (now, id) in ["ann", "bob", "ann", "cyd", "bob", "ann", "cyd"].into_iter().enumerate() {
            users.get_or_create(id, now as u64);
        }
        assert_eq!(users.dropped_hidden_states, 3);
        users.erase("ann");
        let sightings: Vec<_> = users.seen.iter().map(|(at, id)| (*at, id.to_string())).collect();
        assert_eq!(sightings, [(1, "bob"), (3, "cyd"), (4, "bob"), (6, "cyd")].map(|(at, id)| (at, id.to_owned())));
        assert_eq!((users.dropped_hidden_states, users.user_count(), users.get("ann").is_none()), (1, 2, true));
        users.get_or_create("ann", 8);
        assert_eq!((users.dropped_hidden_states, users.user_count()), (3, 3));
    }
}
