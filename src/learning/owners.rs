//! Whose the sessions are that are remembered one by one.

use crate::domain::Offset;
use crate::recall::SessionIx;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use std::collections::VecDeque;
use std::hash::Hasher;

/// By session, a hash of its user's id, so that a user who is erased can be taken out of what neighbours and replays are drawn from. As many of the last sessions as those remember.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Owners {
    /// The session's number and first offset, and its owner; in the order of their beginnings.
    sessions: VecDeque<(SessionIx, Offset, u64)>,
    most: usize,
}

/// The same on every machine. That two users share one has a probability of 1 in 2⁶⁴; then one would lose sessions that others find as neighbours, and nothing else.
fn hash(user: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(user.as_bytes());
    hasher.finish()
}

impl Owners {
    /// Of none yet; the last `most` will be known.
    #[must_use]
    pub(super) fn new(most: usize) -> Self {
        Self { sessions: VecDeque::new(), most }
    }

    /// A session of this user begins.
    pub(super) fn begin(&mut self, session: SessionIx, begun: Offset, user: &str) {
        if self.sessions.len() >= self.most {
            self.sessions.pop_front();
        }
        self.sessions.push_back((session, begun, hash(user)));
    }

    /// Takes out all sessions of a user: their numbers and first offsets.
    pub(super) fn take(&mut self, user: &str) -> Vec<(SessionIx, Offset)> {
        let (owner, mut taken) = (hash(user), Vec::new());
        self.sessions.retain(|(session, begun, of)| {
            let goes = *of == owner;
            taken.extend(goes.then_some((*session, *begun)));
            !goes
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_sessions_are_found_among_the_last() {
        let mut owners = Owners::new(3);
        for (session, user) in ["ann", "bob", "ann", "ann"].into_iter().enumerate() {
            owners.begin(session as SessionIx, 10 * session as Offset, user);
        }
        assert_eq!(owners.take("ann"), [(2, 20), (3, 30)]);
        assert_eq!(owners.take("ann"), []);
        assert_eq!(owners.take("bob"), [(1, 10)]);
    }
}
