//! The bounded table of long-term profiles.

use super::user_profile::UserProfile;
use crate::domain::{ExpiryCutoffs, ItemIx, KindId, RecentUsers, SharedUsers, Timestamp};
use serde::{Deserialize, Serialize};

/// Settings of the long-term profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileSettings {
    /// Number of items that a profile keeps, 24 bytes each. 0 disables the profiles. 0..=1,000.
    pub items_kept: usize,
    /// Number of users whose profiles are kept. If the table is full, a new user replaces the user
    /// without a new session for the longest time. 1..=10,000,000.
    pub users_kept: usize,
}

impl Default for ProfileSettings {
    fn default() -> Self {
        Self { items_kept: 50, users_kept: 100_000 }
    }
}

/// Error: a setting of the profiles is outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("profiles.{key} = {value}: must be {allowed}")]
pub struct ProfileSettingsError {
    /// The key within `profiles`.
    pub key: &'static str,
    /// The rejected value.
    pub value: usize,
    /// The allowed range.
    pub allowed: &'static str,
}

impl ProfileSettings {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range.
    pub fn check(&self) -> Result<(), ProfileSettingsError> {
        let rules = [
            (self.items_kept <= 1000, "items_kept", self.items_kept, "0 to 1000"),
            ((1..=10_000_000).contains(&self.users_kept), "users_kept", self.users_kept, "1 to 10000000"),
        ];
        match rules.into_iter().find(|(is_valid, ..)| !is_valid) {
            Some((_, key, value, allowed)) => Err(ProfileSettingsError { key, value, allowed }),
            None => Ok(()),
        }
    }
}

/// The long-term profiles of all users.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct UserProfiles {
    settings: ProfileSettings,
    users: RecentUsers<UserProfile>,
}

impl UserProfiles {
    /// Creates an empty table.
    #[must_use]
    pub fn new(settings: ProfileSettings) -> Self {
        Self { settings, users: RecentUsers::default() }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &ProfileSettings {
        &self.settings
    }

    /// The profile of a user; `None` without a finished session.
    #[must_use]
    pub fn get(&self, user: &str) -> Option<&UserProfile> {
        self.users.get(user)
    }

    /// Adds a finished session to the profile of a user, see [`UserProfile::add_session`]. A session
    /// without target events has no effect.
    pub fn add_session(&mut self, user: &str, events: impl IntoIterator<Item = (ItemIx, KindId, Timestamp)>) {
        let mut events = events.into_iter().peekable();
        if self.settings.items_kept == 0 || events.peek().is_none() {
            return;
        }
        let ProfileSettings { items_kept, users_kept } = self.settings;
        self.users.change(user, users_kept, |profile| profile.add_session(events, items_kept));
    }

    /// Removes the profile of a user.
    pub fn remove_user(&mut self, user: &str) {
        self.users.remove(user);
    }

    /// Merges the profile of a user into that of another user.
    pub fn merge_users(&mut self, from: &str, into: &str) {
        let kept = self.settings.items_kept;
        self.users.merge(from, into, |profile, merged| profile.merge(merged, kept));
    }

    /// Removes expired items from all profiles.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) {
        self.users.change_users(|profile| profile.has_expired_items(expired), |profile| profile.expire(expired));
    }

    /// The profiles by user id, for a snapshot.
    #[must_use]
    pub fn map(&self) -> &SharedUsers<UserProfile> {
        self.users.map()
    }
}
