//! The interest model: predicts each rating, and then learns from it.

use crate::domain::{ItemIx, RecentUser, RecentUsers, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::error::InterestError;
use super::item_parameters::ItemParameters;
use super::metrics::InterestMetrics;
use super::parameters::{InterestParameters, InterestPrediction};
use super::settings::{InterestSettings, InterestSettingsError};
use super::snapshot::InterestSnapshot;
use super::user_ratings::{RatedItem, UserRatings};

/// An online regression of the value of (user, item, time). See the [module](super) for the
/// formulae.
///
/// ```
/// use sequor_core::interest::{InterestModel, InterestSettings};
///
/// let mut model = InterestModel::new(InterestSettings::default())?;
/// for (user, item, rating) in [("ann", 0, 5.0), ("ann", 1, 2.0), ("bob", 0, 4.0), ("bob", 1, 1.0)] {
///     model.learn(user, item, rating, 1_700_000_000_000)?;
/// }
/// let [liked, disliked] = [0, 1].map(|item| model.predict("cyd", item, 1_700_000_000_000).mean);
/// assert!(liked > disliked);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterestModel {
    settings: InterestSettings,
    parameters: Arc<InterestParameters>,
    users: RecentUsers<UserRatings>,
    metrics: InterestMetrics,
}

impl InterestModel {
    /// Largest absolute value of a rating.
    const MAX_VALUE: f32 = 1e15;

    /// Creates a model without ratings.
    ///
    /// # Errors
    /// Returns the first setting that is outside its range.
    pub fn new(settings: InterestSettings) -> Result<Self, InterestSettingsError> {
        settings.check()?;
        Ok(Self {
            settings,
            parameters: Arc::default(),
            users: RecentUsers::default(),
            metrics: InterestMetrics::default(),
        })
    }

    /// Predicts the value of a user, item and time. An unknown user has the coefficients of the
    /// prior. To predict many items for one user, call [`InterestParameters::user_interest`] once.
    #[must_use]
    pub fn predict(&self, user: &str, item: ItemIx, at: Timestamp) -> InterestPrediction {
        let unknown = UserRatings::default();
        let user = self.users.get(user).unwrap_or(&unknown);
        self.parameters.predict(&self.parameters.user_interest(user, at), item)
    }

    /// Predicts a rating, then learns from it. Returns the prediction if it counts as a test: if the
    /// user has an earlier rating. Tests count in the metrics.
    ///
    /// After the first 20 ratings, a value that is more than 5 standard deviations from the mean
    /// counts as 5 standard deviations, in the metrics too, so that one rating cannot spoil the model.
    ///
    /// # Errors
    /// Refuses a value that is not finite or larger than 1e15, and an item number above the
    /// limit. A refused rating changes nothing.
    pub fn learn(
        &mut self,
        user: &str,
        item: ItemIx,
        value: f32,
        at: Timestamp,
    ) -> Result<Option<InterestPrediction>, InterestError> {
        self.add_rating(user, RatedItem { item, value, at }, true)
    }

    /// Predicts a rating, then adds it to the user's ratings, but does not change what the model has
    /// learned about items. For ratings that must not train the model. The bias of the user in the
    /// baseline learns from the rating.
    ///
    /// # Errors
    /// As [`InterestModel::learn`].
    pub fn observe(
        &mut self,
        user: &str,
        item: ItemIx,
        value: f32,
        at: Timestamp,
    ) -> Result<Option<InterestPrediction>, InterestError> {
        self.add_rating(user, RatedItem { item, value, at }, false)
    }

    fn add_rating(
        &mut self,
        user: &str,
        rating: RatedItem,
        is_learned: bool,
    ) -> Result<Option<InterestPrediction>, InterestError> {
        let InterestSettings { ratings_kept, users_kept, items_max, replayed_ratings, learning_rate } = self.settings;
        let RatedItem { item, value, at } = rating;
        if !value.is_finite() || value.abs() > Self::MAX_VALUE {
            return Err(InterestError::InvalidValue(value));
        }
        if item >= items_max {
            return Err(InterestError::ItemOutOfRange { item, items_max });
        }
        let value = self.parameters.limited_value(value);
        let rating = RatedItem { item, value, at };
        let Self { users, parameters, metrics, .. } = self;
        let tested = users.change(user, users_kept, |user| {
            let interest = parameters.user_interest(user, at);
            let item_parameters = parameters.item(item);
            let standardised = parameters.predict_standardised(&interest, &item_parameters);
            let prediction = parameters.unstandardise(&standardised, &interest, &item_parameters);
            let is_test = !user.is_empty();
            if is_test {
                metrics.record(&prediction, value);
            }
            if is_learned {
                let parameters = Arc::make_mut(parameters);
                let interest = parameters.learn(interest, &standardised, user, rating);
                user.insert(rating, ratings_kept);
                parameters.train_factors(&interest, user, replayed_ratings, learning_rate);
            } else {
                parameters.learn_baseline_of_user(user, rating);
                user.insert(rating, ratings_kept);
            }
            is_test.then_some(prediction)
        });
        Ok(tested)
    }

    /// Sets the initial parameters of a new item to the mean of the items that are similar to it. An
    /// item that the model has already learned about keeps its parameters, and so does one without
    /// similar items.
    pub fn add_new_item(&mut self, item: ItemIx, similar: &[ItemIx]) {
        if item < self.settings.items_max && self.parameters.item(item).ratings == 0 {
            let known: Vec<_> = similar.iter().map(|other| self.parameters.item(*other)).collect();
            if let Some(initial) = ItemParameters::initial_like(item, &known) {
                Arc::make_mut(&mut self.parameters).set_item(item, initial);
            }
        }
    }

    /// An immutable copy for predictions. The copy shares its data with the model; the model copies
    /// a part before it changes that part.
    #[must_use]
    pub fn snapshot(&self) -> InterestSnapshot {
        InterestSnapshot { parameters: Arc::clone(&self.parameters), users: self.users.map().clone() }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &InterestSettings {
        &self.settings
    }

    /// Everything that predictions need, except for the users.
    #[must_use]
    pub fn parameters(&self) -> &InterestParameters {
        &self.parameters
    }

    /// The users.
    #[must_use]
    pub fn users(&self) -> &RecentUsers<UserRatings> {
        &self.users
    }

    /// Prequential error of ratings of users with an earlier rating.
    #[must_use]
    pub fn metrics(&self) -> &InterestMetrics {
        &self.metrics
    }

    /// Removes a user with all ratings. Item parameters keep what they learned from the ratings.
    /// Returns whether the user was known.
    pub fn remove_user(&mut self, user: &str) -> bool {
        self.users.remove(user)
    }

    /// Merges the ratings of a user into another user. Has no effect if `from` is unknown.
    pub fn merge_users(&mut self, from: &str, into: &str) {
        let kept = self.settings.ratings_kept;
        self.users.merge(from, into, |user, merged| user.merge(merged, kept));
    }

    /// Restores what an earlier state of the model had learned about items. The users keep their
    /// ratings.
    pub fn restore_parameters(&mut self, earlier: &Self) {
        self.parameters = Arc::clone(&earlier.parameters);
    }

    /// Removes the ratings of users before a time, and users without ratings.
    pub fn expire_ratings(&mut self, before: Timestamp) {
        let has_expired = |user: &UserRatings| user.iter().any(|rating| rating.at < before);
        self.users.change_users(has_expired, |user| user.expire(before));
    }
}
