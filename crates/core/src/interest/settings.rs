//! Settings of the interest model.

use serde::{Deserialize, Serialize};

/// Settings of the interest model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InterestSettings {
    /// Number of latest ratings that the model keeps of each user, about 16 bytes each. A
    /// prediction for a user reads all of them. 8..=1,024.
    pub ratings_kept: usize,
    /// Number of users that the model keeps. If the table is full, a new user replaces the user
    /// without a rating for the longest time. 1..=10,000,000.
    pub users_kept: usize,
    /// Item numbers must be below this number. An item needs 48 bytes. 1..=100,000,000.
    pub items_max: u32,
    /// Number of earlier ratings of the same user that train item factors again after each rating.
    /// 0..=64.
    pub replayed_ratings: usize,
    /// Initial learning rate of item factors, in standardised units. 0.001..=0.5.
    pub learning_rate: f64,
}

impl Default for InterestSettings {
    fn default() -> Self {
        Self { ratings_kept: 128, users_kept: 100_000, items_max: 10_000_000, replayed_ratings: 8, learning_rate: 0.03 }
    }
}

/// Error: a setting of the interest model is outside its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("interest.{key} = {value}: must be {allowed}")]
pub struct InterestSettingsError {
    /// The key within `interest`.
    pub key: &'static str,
    /// The rejected value.
    pub value: String,
    /// The allowed range.
    pub allowed: &'static str,
}

impl InterestSettings {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range.
    pub fn check(&self) -> Result<(), InterestSettingsError> {
        let rules = [
            ((8..=1_024).contains(&self.ratings_kept), "ratings_kept", self.ratings_kept.to_string(), "8 to 1024"),
            ((1..=10_000_000).contains(&self.users_kept), "users_kept", self.users_kept.to_string(), "1 to 10000000"),
            ((1..=100_000_000).contains(&self.items_max), "items_max", self.items_max.to_string(), "1 to 100000000"),
            (self.replayed_ratings <= 64, "replayed_ratings", self.replayed_ratings.to_string(), "0 to 64"),
            (
                (0.001..=0.5).contains(&self.learning_rate),
                "learning_rate",
                self.learning_rate.to_string(),
                "0.001 to 0.5",
            ),
        ];
        match rules.into_iter().find(|(is_valid, ..)| !is_valid) {
            Some((_, key, value, allowed)) => Err(InterestSettingsError { key, value, allowed }),
            None => Ok(()),
        }
    }
}
