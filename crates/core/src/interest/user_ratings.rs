//! The latest ratings of one user.

use crate::domain::{ItemIx, RecentUser, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A rating of an item by some user.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatedItem {
    /// The item.
    pub item: ItemIx,
    /// The value, in the unit of the values.
    pub value: f32,
    /// The time of the rating.
    pub at: Timestamp,
}

/// The latest ratings of one user, oldest first. The interest model stores nothing else of a user,
/// except for the bias of the baseline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UserRatings {
    ratings: VecDeque<RatedItem>,
    /// The user's bias in the baseline, in the unit of the values.
    pub(super) baseline_bias: f32,
    /// The number of the user's last rating among all ratings of all users.
    last_rating: u64,
}

impl RecentUser for UserRatings {
    fn last_change(&self) -> u64 {
        self.last_rating
    }

    fn set_last_change(&mut self, number: u64) {
        self.last_rating = number;
    }

    fn is_empty(&self) -> bool {
        self.ratings.is_empty()
    }
}

impl UserRatings {
    /// The user with these ratings, oldest first, and no bias in the baseline.
    pub fn from_ratings(ratings: impl IntoIterator<Item = RatedItem>) -> Self {
        Self { ratings: ratings.into_iter().collect(), baseline_bias: 0.0, last_rating: 0 }
    }

    /// Adds a rating at its place in time, after ratings of the same time. Drops the oldest ratings
    /// beyond `kept`.
    pub(super) fn insert(&mut self, rating: RatedItem, kept: usize) {
        let later = self.ratings.iter().rev().take_while(|other| other.at > rating.at).count();
        self.ratings.insert(self.ratings.len() - later, rating);
        self.drop_oldest(kept);
    }

    /// Drops the oldest ratings beyond `kept`.
    fn drop_oldest(&mut self, kept: usize) {
        let excess = self.ratings.len().saturating_sub(kept);
        self.ratings.drain(..excess);
    }

    /// Merges the ratings of another user into this user by time. Keeps the latest `kept` ratings.
    pub(super) fn merge(&mut self, other: &Self, kept: usize) {
        self.ratings.extend(&other.ratings);
        self.ratings.make_contiguous().sort_by_key(|rating| rating.at);
        self.drop_oldest(kept);
    }

    /// Removes the ratings before a time.
    pub(super) fn expire(&mut self, before: Timestamp) {
        self.ratings.retain(|rating| rating.at >= before);
    }

    /// Number of ratings.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ratings.len()
    }

    /// The ratings, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &RatedItem> {
        self.ratings.iter()
    }

    /// The rating that `age` later ratings follow; 0 is the latest rating.
    pub(super) fn by_age(&self, age: usize) -> Option<&RatedItem> {
        self.ratings.iter().nth_back(age)
    }
}
