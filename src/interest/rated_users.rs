//! A bounded table of users with their ratings.

use crate::domain::Timestamp;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::user_ratings::UserRatings;

/// Table of users by id. If the table is full, a new user replaces the user without a rating for
/// the longest time.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Vec<(Arc<str>, UserRatings)>")]
pub struct RatedUsers {
    users: FxHashMap<Arc<str>, UserRatings>,
    /// User ids by the numbers of their last ratings.
    by_last_rating: BTreeMap<u64, Arc<str>>,
}

/// The serialised form is a list of users in the order of their last ratings, so that equal tables
/// have equal bytes.
impl Serialize for RatedUsers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().collect::<Vec<_>>())
    }
}

impl From<Vec<(Arc<str>, UserRatings)>> for RatedUsers {
    fn from(stored: Vec<(Arc<str>, UserRatings)>) -> Self {
        let by_last_rating = stored.iter().map(|(id, user)| (user.last_rating, Arc::clone(id))).collect();
        Self { users: stored.into_iter().collect(), by_last_rating }
    }
}

impl RatedUsers {
    /// Returns a user for writing, and creates an unknown user. Records that the user has the
    /// rating with this number. Then drops users beyond `kept`.
    pub(super) fn get_or_create(&mut self, id: &str, rating: u64, kept: usize) -> &mut UserRatings {
        let id = match self.users.get_key_value(id) {
            Some((known, user)) => {
                self.by_last_rating.remove(&user.last_rating);
                Arc::clone(known)
            }
            None => Arc::from(id),
        };
        while self.by_last_rating.len() >= kept.max(1) {
            if let Some((_, oldest)) = self.by_last_rating.pop_first() {
                self.users.remove(&oldest);
            }
        }
        self.by_last_rating.insert(rating, Arc::clone(&id));
        let user = self.users.entry(id).or_default();
        user.last_rating = rating;
        user
    }

    /// Returns a user.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&UserRatings> {
        self.users.get(id)
    }

    /// Removes a user.
    pub(super) fn remove(&mut self, id: &str) -> Option<UserRatings> {
        let user = self.users.remove(id)?;
        self.by_last_rating.remove(&user.last_rating);
        Some(user)
    }

    /// Merges a user into another user. Keeps the latest `kept` ratings.
    pub(super) fn merge(&mut self, from: &str, into: &str, kept: usize) {
        if from == into {
            return;
        }
        let Some(merged) = self.remove(from) else { return };
        let mut user = self.remove(into).unwrap_or_default();
        user.last_rating = user.last_rating.max(merged.last_rating);
        user.merge(merged, kept);
        let id: Arc<str> = Arc::from(into);
        self.by_last_rating.insert(user.last_rating, Arc::clone(&id));
        self.users.insert(id, user);
    }

    /// Removes the ratings before a time, and users without ratings.
    pub(super) fn expire(&mut self, before: Timestamp) {
        self.users.values_mut().for_each(|user| user.expire(before));
        self.users.retain(|_, user| !user.is_empty());
        let users = &self.users;
        self.by_last_rating.retain(|_, id| users.contains_key(id));
    }

    /// Number of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether the table has no users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The users in the order of their last ratings, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &UserRatings)> {
        self.by_last_rating.values().filter_map(|id| self.users.get_key_value(id))
    }
}
