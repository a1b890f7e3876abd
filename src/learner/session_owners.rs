//! Whose the sessions are that are remembered one by one, and what they hold.

use crate::candidates::SessionIx;
use crate::domain::{ExpiryCutoffs, KindId, Offset, Step, Timestamp};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use std::collections::VecDeque;
use std::hash::Hasher;

/// By session, a hash of its user's id, so that a user who is erased can be taken out of what
/// neighbours and replays are drawn from, and of what kinds it holds something, so that one can be
/// taken out that was kept long enough. As many of the last sessions as those remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionOwnerIndex {
    /// In the order of their beginnings.
    sessions: VecDeque<OwnedSession>,
    most: usize,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OwnedSession {
    number: SessionIx,
    /// The offset of its first event.
    begun: Offset,
    owner: u64,
    /// The time of its earliest event on an item.
    earliest: Timestamp,
    /// The kinds of its events on items, a bit each: there are at most 64 kinds.
    kinds: u64,
}

/// The same on every machine. That two users share one has a probability of 1 in 2⁶⁴; then one
/// would lose sessions that others find as neighbours, and nothing else.
fn hash(user: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(user.as_bytes());
    hasher.finish()
}

impl SessionOwnerIndex {
    /// Of none yet; the last `most` will be known.
    #[must_use]
    pub(super) fn new(most: usize) -> Self {
        Self { sessions: VecDeque::new(), most }
    }

    /// A session of this user begins.
    pub(super) fn begin_session(&mut self, number: SessionIx, begun: Offset, user: &str) {
        if self.sessions.len() >= self.most {
            self.sessions.pop_front();
        }
        self.sessions.push_back(OwnedSession { number, begun, owner: hash(user), earliest: Timestamp::MAX, kinds: 0 });
    }

    /// A session takes one more step.
    pub(super) fn record_step(&mut self, number: SessionIx, step: &Step) {
        if step.item.is_none() {
            return;
        }
        // They are numbered in their order, with gaps where users were erased.
        let place = self.sessions.partition_point(|session| session.number < number);
        if let Some(session) = self.sessions.get_mut(place).filter(|session| session.number == number) {
            session.earliest = session.earliest.min(step.at);
            session.kinds |= 1_u64.checked_shl(step.kind.into()).unwrap_or(0);
        }
    }

    /// Takes out all sessions of a user: their numbers and first offsets.
    pub(super) fn remove_user(&mut self, user: &str) -> Vec<(SessionIx, Offset)> {
        let (owner, mut taken) = (hash(user), Vec::new());
        self.sessions.retain(|session| {
            let goes = session.owner == owner;
            taken.extend(goes.then_some((session.number, session.begun)));
            !goes
        });
        taken
    }

    /// The sessions that hold something that is not to be kept any longer; from here on they are
    /// taken to hold nothing.
    pub(super) fn expire(&mut self, expired: &ExpiryCutoffs) -> Vec<SessionIx> {
        let mut found = Vec::new();
        for session in &mut self.sessions {
            let holds = |kind: &KindId| session.kinds >> kind & 1 == 1 && expired.covers(*kind, session.earliest);
            if (0..64).any(|kind| holds(&kind)) {
                found.push(session.number);
                (session.kinds, session.earliest) = (0, Timestamp::MAX);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventKind, EventKinds, Expiry};

    #[test]
    fn a_users_sessions_are_found_among_the_last() {
        let mut owners = SessionOwnerIndex::new(3);
        for (session, user) in ["ann", "bob", "ann", "ann"].into_iter().enumerate() {
            owners.begin_session(session as SessionIx, 10 * session as Offset, user);
        }
        assert_eq!(owners.remove_user("ann"), [(2, 20), (3, 30)]);
        assert_eq!(owners.remove_user("ann"), []);
        assert_eq!(owners.remove_user("bob"), [(1, 10)]);
    }

    #[test]
    fn sessions_are_found_that_hold_what_is_too_old() {
        let mut owners = SessionOwnerIndex::new(9);
        let kinds = EventKinds::default();
        let step = |kind: &EventKind, at| Step { item: Some(1), kind: kinds.id(kind).unwrap(), starts_session: false, at, value: 1.0 };
        for (session, at) in (0..4).zip([10, 20, 30, 40]) {
            owners.begin_session(session, 0, if session == 1 { "bob" } else { "ann" });
            owners.record_step(session, &step(&EventKind::View, at));
            owners.record_step(session, &Step { item: None, ..step(&EventKind::Search, at) });
        }
        owners.remove_user("bob");
        owners.record_step(2, &step(&EventKind::Cart, 5));
        owners.record_step(1, &step(&EventKind::Cart, 5));
        let before = |kind, at| Expiry { events: vec![(kind, at)], ..Expiry::default() }.cutoffs(&kinds);
        assert!(owners.expire(&before(EventKind::Search, 99)).is_empty(), "searches for no item find no neighbours");
        assert_eq!(owners.expire(&before(EventKind::Cart, 6)), [2]);
        assert_eq!(owners.expire(&before(EventKind::View, 40)), [0], "of the other nothing is left");
    }
}
