//! A bounded table of users whose clones share the users that do not change.

use rpds::HashTrieMapSync;
use rustc_hash::FxHasher;
use serde::{Deserialize, Serialize, Serializer};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::change_order::ChangeOrder;

/// Users by id. A clone shares all users that do not change after it, so a snapshot holds a clone.
pub type SharedUsers<U> = HashTrieMapSync<Arc<str>, Arc<U>, BuildHasherDefault<FxHasher>>;

/// What a [`RecentUsers`] table stores of one user.
pub trait RecentUser: Clone + Default {
    /// Number of the user's last change among all changes of the table.
    fn last_change(&self) -> u64;

    /// Sets the number of the user's last change.
    fn set_last_change(&mut self, number: u64);

    /// Whether nothing is stored of the user. The table removes such a user.
    fn is_empty(&self) -> bool;
}

/// Table of users by id. If the table is full, a new user replaces the user without a change for
/// the longest time.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "StoredUsers<U>", bound(deserialize = "U: RecentUser + Deserialize<'de>"))]
pub struct RecentUsers<U> {
    users: SharedUsers<U>,
    /// User ids by the numbers of their last changes.
    by_last_change: ChangeOrder,
    /// Number of changes of all users so far.
    changes: u64,
}

/// Serialised form of [`RecentUsers`]: the users in the order of their last changes, so that equal
/// tables have equal bytes.
#[derive(Deserialize)]
struct StoredUsers<U> {
    users: Vec<(Arc<str>, Arc<U>)>,
    changes: u64,
}

/// [`StoredUsers`] for writing, without a copy of the users.
#[derive(Serialize)]
struct BorrowedUsers<'a, U> {
    users: Vec<(&'a Arc<str>, &'a Arc<U>)>,
    changes: u64,
}

impl<U> Default for RecentUsers<U> {
    fn default() -> Self {
        Self { users: SharedUsers::default(), by_last_change: ChangeOrder::default(), changes: 0 }
    }
}

impl<U: Serialize> Serialize for RecentUsers<U> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        BorrowedUsers { users: self.entries().collect(), changes: self.changes }.serialize(serializer)
    }
}

impl<U: RecentUser> From<StoredUsers<U>> for RecentUsers<U> {
    fn from(StoredUsers { users: stored, changes }: StoredUsers<U>) -> Self {
        let by_last_change = stored.iter().map(|(id, user)| (user.last_change(), Arc::clone(id))).collect();
        let mut users = SharedUsers::default();
        stored.into_iter().for_each(|(id, user)| users.insert_mut(id, user));
        Self { users, by_last_change, changes }
    }
}

impl<U> RecentUsers<U> {
    fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<U>)> {
        self.by_last_change.ids().filter_map(|id| self.users.get_key_value(id))
    }

    /// Returns a user.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&U> {
        self.users.get(id).map(Arc::as_ref)
    }

    /// The users by id, for a snapshot.
    #[must_use]
    pub fn map(&self) -> &SharedUsers<U> {
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

    /// The users in the order of their last changes, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &U)> {
        self.entries().map(|(id, user)| (&**id, &**user))
    }
}

impl<U: RecentUser> RecentUsers<U> {
    /// Changes a user by `change`, and returns its result. An unknown user is empty before the change.
    /// Drops the users beyond `kept` without a change for the longest time.
    pub fn change<R>(&mut self, id: &str, kept: usize, change: impl FnOnce(&mut U) -> R) -> R {
        let known = self.users.get_key_value(id).map(|(id, user)| (Arc::clone(id), user.last_change()));
        let id = match known {
            Some((id, last_change)) => {
                self.by_last_change.remove(last_change);
                id
            }
            None => Arc::from(id),
        };
        while self.by_last_change.len() >= kept.max(1) {
            if let Some(oldest) = self.by_last_change.pop_first() {
                self.users.remove_mut(&oldest);
            }
        }
        let number = self.changes;
        self.changes += 1;
        self.by_last_change.insert(number, Arc::clone(&id));
        let numbered = |user: &mut U| {
            let result = change(user);
            user.set_last_change(number);
            result
        };
        if let Some(user) = self.users.get_mut(&id) {
            return numbered(Arc::make_mut(user));
        }
        let mut user = U::default();
        let result = numbered(&mut user);
        self.users.insert_mut(id, Arc::new(user));
        result
    }

    /// Removes a user from the table, for a change; an unknown user is empty.
    fn take(&mut self, id: &str) -> (Arc<str>, Arc<U>) {
        let known = self.users.get_key_value(id).map(|(id, user)| (Arc::clone(id), Arc::clone(user)));
        self.remove(id);
        known.unwrap_or_else(|| (Arc::from(id), Arc::default()))
    }

    fn insert(&mut self, id: Arc<str>, user: Arc<U>) {
        self.by_last_change.insert(user.last_change(), Arc::clone(&id));
        self.users.insert_mut(id, user);
    }

    /// Removes a user. Returns whether the user was known.
    pub fn remove(&mut self, id: &str) -> bool {
        let Some(user) = self.users.get(id) else { return false };
        self.by_last_change.remove(user.last_change());
        self.users.remove_mut(id)
    }

    /// Merges a known user into another user by `merge(into, from)`, and removes it.
    pub fn merge(&mut self, from: &str, into: &str, merge: impl FnOnce(&mut U, &U)) {
        if from == into || self.get(from).is_none() {
            return;
        }
        let (_, merged) = self.take(from);
        let (id, mut user) = self.take(into);
        let target = Arc::make_mut(&mut user);
        target.set_last_change(target.last_change().max(merged.last_change()));
        merge(target, &merged);
        self.insert(id, user);
    }

    /// Changes all users that `needs_change` selects, and removes those that are empty then.
    pub fn change_users(&mut self, needs_change: impl Fn(&U) -> bool, change: impl Fn(&mut U)) {
        let changed: Vec<_> =
            self.entries().filter(|(_, user)| needs_change(user)).map(|(id, _)| Arc::clone(id)).collect();
        for id in changed {
            let (id, mut user) = self.take(&id);
            change(Arc::make_mut(&mut user));
            if !user.is_empty() {
                self.insert(id, user);
            }
        }
    }
}
