//! A bounded table of users with their ratings.

use crate::domain::Timestamp;
use rpds::HashTrieMapSync;
use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::user_ratings::UserRatings;

/// Users by id. A clone shares all users that do not change after it, so a snapshot holds a clone.
pub(super) type UserMap = HashTrieMapSync<Arc<str>, Arc<UserRatings>, BuildHasherDefault<FxHasher>>;

/// Table of users by id. If the table is full, a new user replaces the user without a rating for
/// the longest time.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "StoredUsers")]
pub struct RatedUsers {
    users: UserMap,
    /// User ids by the numbers of their last ratings.
    by_last_rating: BTreeMap<u64, Arc<str>>,
    /// Number of ratings of all users so far.
    ratings: u64,
}

/// Serialised form of [`RatedUsers`]: the users in the order of their last ratings, so that equal
/// tables have equal bytes.
#[derive(Deserialize)]
struct StoredUsers {
    users: Vec<(Arc<str>, Arc<UserRatings>)>,
    ratings: u64,
}

/// [`StoredUsers`] for writing, without a copy of the users.
#[derive(Serialize)]
struct BorrowedUsers<'a> {
    users: Vec<(&'a Arc<str>, &'a Arc<UserRatings>)>,
    ratings: u64,
}

impl Serialize for RatedUsers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        BorrowedUsers { users: self.entries().collect(), ratings: self.ratings }.serialize(serializer)
    }
}

impl From<StoredUsers> for RatedUsers {
    fn from(StoredUsers { users: stored, ratings }: StoredUsers) -> Self {
        let by_last_rating = stored.iter().map(|(id, user)| (user.last_rating, Arc::clone(id))).collect();
        let mut users = UserMap::default();
        stored.into_iter().for_each(|(id, user)| users.insert_mut(id, user));
        Self { users, by_last_rating, ratings }
    }
}

impl RatedUsers {
    /// Removes a user from the table for a change; an unknown user has no ratings.
    /// [`RatedUsers::put_back`] returns the user to the table.
    pub(super) fn take(&mut self, id: &str) -> (Arc<str>, Arc<UserRatings>) {
        let known = self.users.get_key_value(id).map(|(id, user)| (Arc::clone(id), Arc::clone(user)));
        self.remove(id);
        known.unwrap_or_else(|| (Arc::from(id), Arc::default()))
    }

    /// Returns a user to the table after a new rating. Drops users beyond `kept`.
    pub(super) fn put_back(&mut self, id: Arc<str>, mut user: Arc<UserRatings>, kept: usize) {
        while self.by_last_rating.len() >= kept.max(1) {
            if let Some((_, oldest)) = self.by_last_rating.pop_first() {
                self.users.remove_mut(&oldest);
            }
        }
        Arc::make_mut(&mut user).last_rating = self.ratings;
        self.ratings += 1;
        self.insert(id, user);
    }

    fn insert(&mut self, id: Arc<str>, user: Arc<UserRatings>) {
        self.by_last_rating.insert(user.last_rating, Arc::clone(&id));
        self.users.insert_mut(id, user);
    }

    /// Returns a user.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&UserRatings> {
        self.users.get(id).map(Arc::as_ref)
    }

    /// Removes a user. Returns whether the user was known.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let Some(user) = self.users.get(id) else { return false };
        self.by_last_rating.remove(&user.last_rating);
        self.users.remove_mut(id)
    }

    /// Merges a user into another user. Keeps the latest `kept` ratings.
    pub(super) fn merge(&mut self, from: &str, into: &str, kept: usize) {
        if from == into || self.get(from).is_none() {
            return;
        }
        let (_, merged) = self.take(from);
        let (id, mut user) = self.take(into);
        let target = Arc::make_mut(&mut user);
        target.last_rating = target.last_rating.max(merged.last_rating);
        target.merge(&merged, kept);
        self.insert(id, user);
    }

    /// Removes the ratings before a time, and users without ratings.
    pub(super) fn expire(&mut self, before: Timestamp) {
        let has_expired = |user: &UserRatings| user.iter().any(|rating| rating.at < before);
        let changed: Vec<_> =
            self.entries().filter(|(_, user)| has_expired(user)).map(|(id, _)| Arc::clone(id)).collect();
        for id in changed {
            let (id, mut user) = self.take(&id);
            Arc::make_mut(&mut user).expire(before);
            if !user.is_empty() {
                self.insert(id, user);
            }
        }
    }

    /// The users by id, for a snapshot.
    pub(super) fn map(&self) -> &UserMap {
        &self.users
    }

    /// Number of users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.size()
    }

    /// Whether the table has no users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The users in the order of their last ratings, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &UserRatings)> {
        self.entries().map(|(id, user)| (&**id, &**user))
    }

    fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<UserRatings>)> {
        self.by_last_rating.values().filter_map(|id| self.users.get_key_value(id))
    }
}
