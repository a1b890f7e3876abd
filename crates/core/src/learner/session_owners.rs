//! Index of the owners of recent sessions, for erasure and expiry.

use crate::candidates::SessionIx;
use crate::domain::{ExpiryCutoffs, KindId, Offset, Step, Timestamp};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use std::collections::VecDeque;
use std::hash::Hasher;

/// Index of the latest sessions with their owners. Neighbour search and replay identify sessions by
/// number. This index finds the sessions of an erased user and the sessions with expired events.
/// The index keeps as many sessions as neighbour search and replay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionOwnerIndex {
    /// Sessions in the order of their first events.
    sessions: VecDeque<OwnedSession>,
    max_sessions: usize,
}

/// A session with its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OwnedSession {
    number: SessionIx,
    /// The journal offset of the first event of the session.
    session_start: Offset,
    owner: u64,
    /// The time of the earliest event on an item in the session.
    earliest: Timestamp,
    /// The kinds of those events of the session that have an item, as a bit set. There are at most
    /// 64 kinds.
    kinds: u64,
}

/// Hashes a user id to the same number on every machine. Two users have the same hash with
/// probability 2⁻⁶⁴. If two users have the same hash, erasing one user also removes the sessions of
/// the other user from neighbour search and replay.
fn hash_user_id(user: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(user.as_bytes());
    hasher.finish()
}

impl SessionOwnerIndex {
    /// Creates an empty index that keeps the latest `max_sessions` sessions.
    #[must_use]
    pub(super) fn new(max_sessions: usize) -> Self {
        Self { sessions: VecDeque::new(), max_sessions }
    }

    /// Adds a session of a user.
    pub(super) fn begin_session(&mut self, number: SessionIx, session_start: Offset, user: &str) {
        if self.sessions.len() >= self.max_sessions {
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

    /// The number of the session that began at an offset, if it is among the latest.
    #[must_use]
    pub(super) fn session_at(&self, session_start: Offset) -> Option<SessionIx> {
        let index = self.sessions.partition_point(|session| session.session_start < session_start);
        let session = self.sessions.get(index).filter(|session| session.session_start == session_start)?;
        Some(session.number)
    }

    /// If the step has an item, records the step's kind and time with its session.
    pub(super) fn record_step(&mut self, number: SessionIx, step: &Step) {
        if step.item.is_none() {
            return;
        }
        // Session numbers ascend, but are not consecutive after an erasure.
        let index = self.sessions.partition_point(|session| session.number < number);
        if let Some(session) = self.sessions.get_mut(index).filter(|session| session.number == number) {
            session.earliest = session.earliest.min(step.at);
            session.kinds |= 1_u64.checked_shl(step.kind.into()).unwrap_or(0);
        }
    }

    /// Removes all sessions of a user. Returns their numbers and the offsets of their first events.
    pub(super) fn remove_user(&mut self, user: &str) -> Vec<(SessionIx, Offset)> {
        let (owner, mut removed) = (hash_user_id(user), Vec::new());
        self.sessions.retain(|session| {
            let is_owned = session.owner == owner;
            removed.extend(is_owned.then_some((session.number, session.session_start)));
            !is_owned
        });
        removed
    }

    /// Returns the numbers of the sessions with expired events, and marks these sessions as empty.
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
