//! Index from users to their recent sessions, for erasure and expiry.

use crate::candidates::SessionIx;
use crate::domain::{ExpiryCutoffs, KindId, Offset, Step, Timestamp};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use std::collections::VecDeque;
use std::hash::Hasher;

/// The owner and contents of the last sessions. Neighbour search and replay remember sessions by
/// number; this index finds the sessions of an erased user, and those that hold expired events. It
/// covers as many sessions as those remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionOwnerIndex {
    /// In order of their first events.
    sessions: VecDeque<OwnedSession>,
    most: usize,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OwnedSession {
    number: SessionIx,
    /// The offset of its first event.
    session_start: Offset,
    owner: u64,
    /// The time of its earliest event on an item.
    earliest: Timestamp,
    /// The kinds of its events on items, as a bit set: there are at most 64 kinds.
    kinds: u64,
}

/// Hashes a user id, equally on every machine. Two users collide with probability 2⁻⁶⁴. Then
/// erasing one of them also removes the other's sessions from neighbour search and replay, and has
/// no other effect.
fn hash_user_id(user: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(user.as_bytes());
    hasher.finish()
}

impl SessionOwnerIndex {
    /// Creates an empty index that keeps the last `most` sessions.
    #[must_use]
    pub(super) fn new(most: usize) -> Self {
        Self { sessions: VecDeque::new(), most }
    }

    /// Records that a session of a user begins.
    pub(super) fn begin_session(&mut self, number: SessionIx, session_start: Offset, user: &str) {
        if self.sessions.len() >= self.most {
            self.sessions.pop_front();
        }
        self.sessions.push_back(OwnedSession {
            number,
            session_start,
            owner: hash_user_id(user),
            earliest: Timestamp::MAX,
            kinds: 0,
        });
    }

    /// Records a step of a session.
    pub(super) fn record_step(&mut self, number: SessionIx, step: &Step) {
        if step.item.is_none() {
            return;
        }
        // Session numbers ascend, with gaps where users were erased.
        let index = self.sessions.partition_point(|session| session.number < number);
        if let Some(session) = self.sessions.get_mut(index).filter(|session| session.number == number) {
            session.earliest = session.earliest.min(step.at);
            session.kinds |= 1_u64.checked_shl(step.kind.into()).unwrap_or(0);
        }
    }

    /// Removes all sessions of a user. Returns their numbers and first offsets.
    pub(super) fn remove_user(&mut self, user: &str) -> Vec<(SessionIx, Offset)> {
        let (owner, mut removed) = (hash_user_id(user), Vec::new());
        self.sessions.retain(|session| {
            let is_owned = session.owner == owner;
            removed.extend(is_owned.then_some((session.number, session.session_start)));
            !is_owned
        });
        removed
    }

    /// Returns the sessions that hold expired events, and marks them as empty.
    pub(super) fn expire(&mut self, expired: &ExpiryCutoffs) -> Vec<SessionIx> {
        let mut expired_sessions = Vec::new();
        for session in &mut self.sessions {
            let holds_expired =
                |kind: &KindId| session.kinds >> kind & 1 == 1 && expired.is_expired(*kind, session.earliest);
            if (0..64).any(|kind| holds_expired(&kind)) {
                expired_sessions.push(session.number);
                (session.kinds, session.earliest) = (0, Timestamp::MAX);
            }
        }
        expired_sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventKind, EventKinds, Expiry};

    #[test]
    fn remove_user_returns_the_kept_sessions_of_the_user() {
        let mut owners = SessionOwnerIndex::new(3);
        for (session, user) in ["ann", "bob", "ann", "ann"].into_iter().enumerate() {
            owners.begin_session(session as SessionIx, 10 * session as Offset, user);
        }
        assert_eq!(owners.remove_user("ann"), [(2, 20), (3, 30)]);
        assert_eq!(owners.remove_user("ann"), []);
        assert_eq!(owners.remove_user("bob"), [(1, 10)]);
    }

    #[test]
    fn expire_returns_the_sessions_with_expired_events() {
        let mut owners = SessionOwnerIndex::new(9);
        let kinds = EventKinds::default();
        let step = |kind: &EventKind, at| Step {
            item: Some(1),
            kind: kinds.id_of(kind).unwrap(),
            starts_session: false,
            at,
            value: 1.0,
        };
        for (session, at) in (0..4).zip([10, 20, 30, 40]) {
            owners.begin_session(session, 0, if session == 1 { "bob" } else { "ann" });
            owners.record_step(session, &step(&EventKind::View, at));
            owners.record_step(session, &Step { item: None, ..step(&EventKind::Search, at) });
        }
        owners.remove_user("bob");
        owners.record_step(2, &step(&EventKind::Cart, 5));
        owners.record_step(1, &step(&EventKind::Cart, 5));
        let before = |kind, at| Expiry { events: vec![(kind, at)], ..Expiry::default() }.cutoffs(&kinds);
        assert!(owners.expire(&before(EventKind::Search, 99)).is_empty(), "events without an item are not indexed");
        assert_eq!(owners.expire(&before(EventKind::Cart, 6)), [2]);
        assert_eq!(owners.expire(&before(EventKind::View, 40)), [0], "the other session was already marked as empty");
    }
}
