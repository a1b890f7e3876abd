//! Merging, erasure and expiry of users.

use super::Learner;
use crate::domain::{Expiry, Offset, UserMerge};
use crate::learner::state::LearnerState;
use crate::ranking::SourceAffinity;

impl Learner {
    /// One user where there were two. What was counted and trained stays as it was; the sequence
    /// goes on as if it had been one.
    pub(super) fn merge_users(&mut self, offset: Offset, merge: &UserMerge) {
        let LearnerState { settings, users, affinities: moods, .. } = &mut self.state;
        let gone = users.remove(&merge.from);
        let user = users.get_or_create(&merge.into, offset);
        if let Some(gone) = gone {
            user.merge(gone, &settings.sequence);
            moods.set(user.state.sequence.session_start, user.affinity);
        }
    }

    /// A user is no more: nothing that is remembered one by one is left. What was counted and
    /// trained carries its influence, which fades as others come.
    pub(super) fn erase_user(&mut self, user: &str) {
        let LearnerState { users, affinities: moods, session_owners: owners, sources, training, .. } = &mut self.state;
        users.remove(user);
        for (session, begun) in owners.remove_user(user) {
            sources.forget_session(session);
            moods.set(begun, SourceAffinity::default());
            if let Some(training) = training {
                training.forget_session(u64::from(session));
            }
        }
    }

    /// Some kinds of event were kept long enough: they are no more in what is remembered one by
    /// one, and sessions that held such on an item find nobody as a neighbour any more.
    pub(super) fn apply_expiry(&mut self, expiry: &Expiry) {
        let LearnerState { settings, users, session_owners: owners, sources, training, .. } = &mut self.state;
        let expired = expiry.cutoffs(&settings.kinds);
        users.expire(&expired);
        owners.expire(&expired).into_iter().for_each(|session| sources.forget_session(session));
        if let Some(training) = training {
            training.expire(&expired);
        }
    }
}
