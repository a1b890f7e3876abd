//! Everything that predictions need, except for the users.

use crate::domain::{ItemIx, PagedVec, RecentUser, Timestamp};
use serde::{Deserialize, Serialize};

use super::item_parameters::{FACTORS, ItemParameters, split_mix};
use super::linear_regression::{LinearPosterior, LinearRegression, dot};
use super::user_ratings::{RatedItem, UserRatings};
use super::value_scale::ValueScale;

/// Number of coefficients of a user: bias, slope, mood, factors.
const COEFFICIENTS: usize = 3 + FACTORS;
/// Index of the first factor's coefficient.
const FIRST_FACTOR: usize = 3;
/// The mood feature of a rating decays by e after this many later ratings of the user.
const MOOD_RATINGS: f64 = 5.0;
/// The noise of a rating doubles after this many later ratings of the user.
const NOISE_DOUBLED_AFTER_RATINGS: f64 = 100.0;
/// The noise of a rating doubles after this many milliseconds.
const NOISE_DOUBLED_AFTER: f64 = 100.0 * 86_400_000.0;
/// Initial noise variance.
const INITIAL_NOISE: f64 = 0.7;
/// The noise variance is an exponential average over about this many ratings.
const NOISE_WINDOW: f64 = 1_000.0;
/// Initial prior variances of bias, slope and mood. Factors share the variance 1.
const INITIAL_PRIORS: [f64; FIRST_FACTOR] = [0.2, 0.1, 0.1];
/// Step size of the logarithms of prior variances.
const PRIOR_RATE: f64 = 0.05;
/// A rating changes the logarithm of a prior variance by at most this much.
const MAX_PRIOR_STEP: f64 = 0.1;
/// Squared errors above this multiple of their expectation count as this multiple in the updates of
/// the prior variances, so that an outlier does not dominate them.
const MAX_RELATIVE_SQUARED_ERROR: f64 = 9.0;
/// Degrees of freedom ν of Student's t distribution, by which the updates of items weight a rating.
const OUTLIER_DEGREES: f64 = 8.0;
/// Smallest and largest prior variance; the smallest noise variance is [`MIN_NOISE`].
const PRIOR_RANGE: (f64, f64) = (1e-4, 10.0);
/// Values further from the mean than this many standard deviations count as that many, so that a
/// single event cannot spoil the model.
const MAX_DEVIATIONS: f64 = 5.0;
/// Smallest noise variance. Values without noise would otherwise make the regression singular.
const MIN_NOISE: f64 = 1e-4;

/// The predicted value of a user, item and time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InterestPrediction {
    /// Predicted value, in the unit of the values. It is between the smallest and the largest value
    /// that the model has learned.
    pub mean: f32,
    /// Predicted variance of the value around the mean, in the squared unit of the values. It
    /// contains the noise of ratings.
    pub variance: f32,
    /// The prediction of the baseline: mean + user bias + item bias.
    pub baseline_mean: f32,
}

/// The coefficients of one user at one time: a Gaussian posterior. It is valid until the model
/// learns the next rating.
#[derive(Debug, Clone, PartialEq)]
pub struct UserInterest {
    posterior: LinearPosterior<COEFFICIENTS>,
    baseline_bias: f32,
}

/// A prediction in standardised units, with the values that the training step needs.
pub(super) struct StandardisedPrediction {
    mean: f64,
    variance: f64,
    /// Posterior covariance of the user's coefficients times the features.
    covariance: [f64; COEFFICIENTS],
    /// Derivative of the mean by the item bias.
    slope: f64,
}

/// Everything that predictions need, except for the users. A clone shares the pages of items that
/// do not change after it, so a published snapshot can hold a clone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InterestParameters {
    scale: ValueScale,
    /// Number of learned ratings, and their plain mean for the baseline.
    pub(super) ratings: u64,
    baseline_mean: f64,
    /// Smallest and largest learned value. Predictions stay between them.
    value_range: (f32, f32),
    /// Variance of ε.
    noise: f64,
    prior_variances: [f64; COEFFICIENTS],
    items: PagedVec<ItemParameters, 64>,
}

impl Default for InterestParameters {
    fn default() -> Self {
        let factor_prior = 1.0 / FACTORS as f64;
        Self {
            scale: ValueScale::default(),
            ratings: 0,
            baseline_mean: 0.0,
            value_range: (f32::MAX, f32::MIN),
            noise: INITIAL_NOISE,
            prior_variances: std::array::from_fn(|index| INITIAL_PRIORS.get(index).copied().unwrap_or(factor_prior)),
            items: PagedVec::default(),
        }
    }
}

/// The features h of an item, with a mood feature.
fn features_of(item: &ItemParameters, mood: f64) -> [f64; COEFFICIENTS] {
    std::array::from_fn(|index| match index {
        0 => 1.0,
        1 => f64::from(item.bias),
        2 => mood,
        _ => item.factors.get(index - FIRST_FACTOR).copied().map_or(0.0, f64::from),
    })
}

/// The weight of a rating in the updates of its item, `(ν + 1) / (ν + z²)`: the expected precision of
/// its noise if the noise has Student's t distribution. z is the error in standard deviations.
fn outlier_weight(squared_deviations: f64) -> f64 {
    (OUTLIER_DEGREES + 1.0) / (OUTLIER_DEGREES + squared_deviations)
}

/// The mood feature of a rating after `age` later ratings of the user.
fn mood_after(age: usize) -> f64 {
    (-(age as f64) / MOOD_RATINGS).exp()
}

impl InterestParameters {
    /// Learning rate of the baseline, and its L2 penalty.
    const BASELINE_RATE: f32 = 0.02;
    const BASELINE_PENALTY: f32 = 0.05;

    /// The parameters of an item. An item without ratings has [`ItemParameters::initial`].
    #[must_use]
    pub fn item(&self, item: ItemIx) -> ItemParameters {
        self.items.get(item as usize).copied().unwrap_or_else(|| ItemParameters::initial(item))
    }

    /// Variance of a rating that no parameter explains, in the squared unit of the values.
    #[must_use]
    pub fn noise_variance(&self) -> f64 {
        self.scale.unstandardise_squared(self.noise)
    }

    /// Computes the coefficients of a user for predictions at time `at`. The cost is proportional
    /// to the number of the user's ratings.
    #[must_use]
    pub fn user_interest(&self, user: &UserRatings, at: Timestamp) -> UserInterest {
        let mut regression = LinearRegression::new(&self.prior_variances);
        for (age, rating) in (1..).zip(user.iter().rev()) {
            let item = self.item(rating.item);
            let elapsed = at.saturating_sub(rating.at).max(0) as f64;
            let growth = 1.0 + age as f64 / NOISE_DOUBLED_AFTER_RATINGS + elapsed / NOISE_DOUBLED_AFTER;
            let noise = (self.noise + f64::from(item.bias_variance)) * growth;
            let value = f64::from(self.scale.standardise(rating.value)) - f64::from(item.bias);
            regression.observe(&features_of(&item, mood_after(age)), value, noise);
        }
        UserInterest { posterior: regression.solve(), baseline_bias: user.baseline_bias }
    }

    /// Predicts a user's value of an item.
    #[must_use]
    pub fn predict(&self, user: &UserInterest, item: ItemIx) -> InterestPrediction {
        let parameters = self.item(item);
        self.unstandardise(&self.predict_standardised(user, &parameters), user, &parameters)
    }

    pub(super) fn predict_standardised(&self, user: &UserInterest, item: &ItemParameters) -> StandardisedPrediction {
        let features = features_of(item, 1.0);
        let covariance = user.posterior.covariance_times(&features);
        let [_, slope_deviation, ..] = user.posterior.mean;
        let slope = 1.0 + slope_deviation;
        StandardisedPrediction {
            mean: f64::from(item.bias) + dot(&features, &user.posterior.mean),
            variance: dot(&features, &covariance) + slope * slope * f64::from(item.bias_variance) + self.noise,
            covariance,
            slope,
        }
    }

    pub(super) fn unstandardise(
        &self,
        prediction: &StandardisedPrediction,
        user: &UserInterest,
        item: &ItemParameters,
    ) -> InterestPrediction {
        InterestPrediction {
            mean: self.within_range(self.scale.unstandardise(prediction.mean as f32)),
            variance: self.scale.unstandardise_squared(prediction.variance) as f32,
            baseline_mean: self.baseline_mean as f32 + user.baseline_bias + item.baseline_bias,
        }
    }

    /// The value that counts instead of `value`: an outlier counts as
    /// [`MAX_DEVIATIONS`] standard deviations.
    pub(super) fn limited_value(&self, value: f32) -> f32 {
        self.scale.limited(value, MAX_DEVIATIONS)
    }

    /// The value nearest to `value` that is not outside the learned values.
    fn within_range(&self, value: f32) -> f32 {
        let (smallest, largest) = self.value_range;
        if self.ratings == 0 { value } else { value.max(smallest).min(largest) }
    }

    /// Learns a rating. `interest` and `prediction` are those of just before the rating. Updates
    /// the bias of the user's baseline, but does not add the rating to the user. Returns the user's
    /// coefficients after the rating.
    pub(super) fn learn(
        &mut self,
        mut interest: UserInterest,
        prediction: &StandardisedPrediction,
        user: &mut UserRatings,
        rating: RatedItem,
    ) -> UserInterest {
        self.add_items(rating.item);
        self.scale.add_value(rating.value);
        self.value_range = (self.value_range.0.min(rating.value), self.value_range.1.max(rating.value));
        let error = f64::from(self.scale.standardise(rating.value)) - prediction.mean;
        if !user.is_empty() {
            self.adapt_variances(&interest, prediction, error);
        }

        let weight = outlier_weight(error * error / prediction.variance);
        let variance = prediction.variance + self.noise * (weight.recip() - 1.0);
        let gain = error / variance;
        interest.posterior.mean.iter_mut().zip(&prediction.covariance).for_each(|(mean, c)| *mean += gain * c);
        self.learn_baseline(user, rating);
        if let Some(item) = self.items.get_mut(rating.item as usize) {
            item.update_bias(error, variance, prediction.slope);
        }
        self.ratings += 1;
        interest
    }

    fn add_items(&mut self, item: ItemIx) {
        let mut new_items = (self.items.len()..).map(|item| ItemParameters::initial(item as ItemIx));
        self.items.grow(item as usize + 1, || new_items.next().unwrap_or_else(|| ItemParameters::initial(item)));
    }

    /// Replaces the parameters of an item.
    pub(super) fn set_item(&mut self, item: ItemIx, parameters: ItemParameters) {
        self.add_items(item);
        if let Some(stored) = self.items.get_mut(item as usize) {
            *stored = parameters;
        }
    }

    /// Updates the noise, and ascends the gradient of the log-likelihood of the rating by the
    /// logarithms of the prior variances v_a. With the posterior covariance P and the mean x, the
    /// mean changes by `(P h)_a x_a / v_a` and the variance by `(P h)_a² / v_a`.
    fn adapt_variances(&mut self, interest: &UserInterest, prediction: &StandardisedPrediction, error: f64) {
        let variance = prediction.variance;
        self.noise = (self.noise + (error * error - variance) / NOISE_WINDOW).max(MIN_NOISE);
        let squared = (error * error).min(MAX_RELATIVE_SQUARED_ERROR * variance);
        let coefficients = interest.posterior.mean.iter().zip(&prediction.covariance);
        for (prior, (mean, covariance)) in self.prior_variances.iter_mut().zip(coefficients) {
            let mean_change = covariance * mean / *prior;
            let variance_change = covariance * covariance / *prior;
            let gradient =
                error * mean_change / variance + 0.5 * (squared / variance - 1.0) * variance_change / variance;
            let step = (PRIOR_RATE * gradient).clamp(-MAX_PRIOR_STEP, MAX_PRIOR_STEP);
            *prior = (*prior * step.exp()).clamp(PRIOR_RANGE.0, PRIOR_RANGE.1);
        }
    }

    /// One step of stochastic gradient descent of the baseline.
    fn learn_baseline(&mut self, user: &mut UserRatings, rating: RatedItem) {
        if let Some(item) = self.items.get_mut(rating.item as usize) {
            let error = rating.value - (self.baseline_mean as f32 + user.baseline_bias + item.baseline_bias);
            for bias in [&mut user.baseline_bias, &mut item.baseline_bias] {
                Self::step_baseline_bias(bias, error);
            }
        }
        self.baseline_mean += (f64::from(rating.value) - self.baseline_mean) / (self.ratings + 1) as f64;
    }

    fn step_baseline_bias(bias: &mut f32, error: f32) {
        *bias += Self::BASELINE_RATE * (error - Self::BASELINE_PENALTY * *bias);
    }

    /// The step of the baseline for a rating that must not train the model. It changes only the bias
    /// of the user, so that the baseline knows as much about the user as the model.
    pub(super) fn learn_baseline_of_user(&self, user: &mut UserRatings, rating: RatedItem) {
        let item = self.item(rating.item);
        let error = rating.value - (self.baseline_mean as f32 + user.baseline_bias + item.baseline_bias);
        Self::step_baseline_bias(&mut user.baseline_bias, error);
    }

    /// Trains the factors of the user's latest item, and of `replayed` other ratings of the user.
    /// The ratings are drawn by a hash of the number of learned ratings.
    pub(super) fn train_factors(
        &mut self,
        interest: &UserInterest,
        user: &UserRatings,
        replayed: usize,
        learning_rate: f64,
    ) {
        let (learned, ratings) = (self.ratings, user.count().max(1) as u64);
        let draws = (0..replayed as u64).map(|draw| split_mix(learned << 8 | draw) % ratings);
        for age in std::iter::once(0).chain(draws.map(|age| age as usize)) {
            let Some(rating) = user.by_age(age) else { continue };
            let Some(item) = self.items.get_mut(rating.item as usize) else { continue };
            let features = features_of(item, mood_after(age));
            let predicted = f64::from(item.bias) + dot(&features, &interest.posterior.mean);
            let error = f64::from(self.scale.standardise(rating.value)) - predicted;
            let weighted = error * outlier_weight(error * error / self.noise).min(1.0);
            let (_, coefficients) = interest.posterior.mean.split_at(FIRST_FACTOR);
            item.update_factors(weighted, coefficients, learning_rate);
        }
    }
}
