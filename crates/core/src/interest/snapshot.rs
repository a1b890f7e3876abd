//! Immutable copies of the model for predictions.

use crate::domain::{ItemIx, SharedUsers, Timestamp};
use std::sync::Arc;

use super::parameters::{InterestParameters, InterestPrediction, UserInterest};
use super::user_ratings::UserRatings;

/// An immutable copy of an interest model. Clones share their data.
#[derive(Debug, Clone)]
pub struct InterestSnapshot {
    pub(super) parameters: Arc<InterestParameters>,
    pub(super) users: SharedUsers<UserRatings>,
}

impl InterestSnapshot {
    /// Number of ratings that the model has learned.
    #[must_use]
    pub fn ratings(&self) -> u64 {
        self.parameters.ratings
    }

    /// The latest ratings of a user; `None` if the user is unknown.
    #[must_use]
    pub fn user_ratings(&self, user: &str) -> Option<&UserRatings> {
        self.users.get(user).map(Arc::as_ref)
    }

    /// The coefficients of a user for predictions at time `at`. A user without id or without
    /// ratings has the coefficients of the prior.
    #[must_use]
    pub fn user_interest(&self, user: Option<&str>, at: Timestamp) -> UserInterest {
        let unknown = UserRatings::default();
        let ratings = user.and_then(|user| self.user_ratings(user)).unwrap_or(&unknown);
        self.parameters.user_interest(ratings, at)
    }

    /// Predicts a user's value of an item.
    #[must_use]
    pub fn predict(&self, user: &UserInterest, item: ItemIx) -> InterestPrediction {
        self.parameters.predict(user, item)
    }
}
