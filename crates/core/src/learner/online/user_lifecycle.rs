//! Merges of users, erasure of users, and expiry of their events.

use super::Learner;
use crate::domain::{Expiry, Offset, UserMerge};
use crate::learner::influence::hash_user;
use crate::learner::state::LearnerState;
use crate::ranking::SourceAffinity;

impl Learner {
    /// Merges two users: their sequences become one sequence. Counts and trained weights do not
    /// change.
    pub(super) fn merge_users(&mut self, offset: Offset, merge: &UserMerge) {
        let LearnerState {
            settings, users, affinities, supplement, profiles, item_histories, features, relevance, ..
        } = &mut self.state;
        relevance.merge_users(&merge.from, &merge.into);
        supplement.interests.merge_users(&merge.from, &merge.into);
        profiles.merge_users(&merge.from, &merge.into);
        item_histories.merge_users(&merge.from, &merge.into);
        features.merge_users(merge);
        let removed = users.remove(&merge.from);
        let user = users.get_or_create(&merge.into, offset);
        if let Some(removed) = removed {
            user.merge(removed, &settings.sequence);
            affinities.set_affinity(user.state.sequence.session_start, user.affinity);
        }
    }

    /// Erases a user: removes all data that is stored per user or per session. Counts and trained
    /// weights do not change; the influence of the user's events on them decays as new events
    /// arrive.
    pub(super) fn erase_user(&mut self, user: &str) {
        let LearnerState {
            users,
            affinities,
            session_owners: owners,
            sources,
            training,
            influence,
            supplement,
            profiles,
            item_histories,
            features,
            relevance,
            ..
        } = &mut self.state;
        users.erase(user);
        relevance.remove_user(user);
        supplement.interests.remove_user(user);
        profiles.remove_user(user);
        item_histories.remove_user(user);
        features.remove_user(user);
        influence.forget_user(hash_user(user));
        for (session, session_start) in owners.remove_user(user) {
            sources.forget_session(session);
            affinities.set_affinity(session_start, SourceAffinity::default());
            if let Some(training) = training {
                training.forget_session(u64::from(session));
            }
        }
    }

    /// Removes expired events from user sequences and sessions. If an expired event of a session
    /// has an item, the whole session leaves the neighbour search.
    pub(super) fn apply_expiry(&mut self, expiry: &Expiry) {
        let LearnerState {
            settings,
            users,
            session_owners: owners,
            sources,
            training,
            supplement,
            profiles,
            item_histories,
            relevance,
            ..
        } = &mut self.state;
        if let Some(before) = expiry.impressions {
            relevance.expire(before);
        }
        let expired = expiry.cutoffs(&settings.kinds);
        users.expire(&expired);
        supplement.interests.expire(&expired);
        profiles.expire(&expired);
        item_histories.expire(&expired);
        owners.expire(&expired).into_iter().for_each(|session| sources.forget_session(session));
        if let Some(training) = training {
            training.expire(&expired);
        }
    }
}
