//! The learned state of one item.

use crate::domain::ItemIx;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Number of factors of an item.
pub const FACTORS: usize = 8;

/// The learned state of one item, in standardised units except for the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ItemParameters {
    /// Mean of the item's bias.
    pub bias: f32,
    /// Variance of the item's bias, at most [`ItemParameters::PRIOR_VARIANCE`].
    pub bias_variance: f32,
    /// The factors.
    pub factors: [f32; FACTORS],
    /// The item's bias in the baseline, in the unit of the values.
    pub baseline_bias: f32,
    /// Number of ratings of the item that the model has learned.
    pub ratings: u32,
}

impl ItemParameters {
    /// Variance of the bias of an item without ratings.
    pub const PRIOR_VARIANCE: f32 = 0.3;
    /// Standard deviation of the initial factors. Factors must differ from zero, because the
    /// gradient of a factor is zero while both sides are zero.
    const INITIAL_FACTOR: f64 = 0.02;
    /// Number of unrated items that count in the initial parameters of an item with similar items.
    const INITIAL_WEIGHT: f32 = 2.0;
    /// L2 penalty of the factors.
    const DECAY: f64 = 0.05;
    /// The learning rate halves after this many ratings of the item.
    const RATE_HALVED_AFTER: f64 = 100.0;

    /// The parameters of an item without ratings. The factors are a hash of the item number.
    #[must_use]
    pub fn initial(item: ItemIx) -> Self {
        let mut draws = (0_u64..).map(|draw| split_mix(u64::from(item) << 8 | draw));
        let factors = std::array::from_fn(|_| {
            // The sum of four uniform numbers has the variance 1/3.
            let sum: f64 = draws.by_ref().take(4).map(|bits| (bits >> 11) as f64 / (1_u64 << 53) as f64 - 0.5).sum();
            (sum * 3_f64.sqrt() * Self::INITIAL_FACTOR) as f32
        });
        Self { bias: 0.0, bias_variance: Self::PRIOR_VARIANCE, factors, baseline_bias: 0.0, ratings: 0 }
    }

    /// The parameters of an item without ratings that is similar to other items: the mean of those
    /// of them that have ratings, shrunk towards [`ItemParameters::initial`] as if
    /// [`ItemParameters::INITIAL_WEIGHT`] of them were unrated. The variance of the bias is that of an
    /// unrated item, so that the first ratings count as much. `None` if none of them has ratings.
    pub(super) fn initial_like(item: ItemIx, similar: &[Self]) -> Option<Self> {
        let rated: Vec<_> = similar.iter().filter(|other| other.ratings > 0).collect();
        if rated.is_empty() {
            return None;
        }
        let initial = Self::initial(item);
        let weight = 1.0 / (rated.len() as f32 + Self::INITIAL_WEIGHT);
        let bias = weight * rated.iter().map(|other| other.bias).sum::<f32>();
        let mut factors = initial.factors;
        for (index, factor) in factors.iter_mut().enumerate() {
            *factor += weight * rated.iter().filter_map(|other| other.factors.get(index)).sum::<f32>();
        }
        Some(Self { bias, factors, ..initial })
    }

    /// Kalman update of the bias. `error` is the error of the prediction, `variance` is its
    /// variance, and `slope` is the derivative of the prediction by the bias.
    pub(super) fn update_bias(&mut self, error: f64, variance: f64, slope: f64) {
        let gain = f64::from(self.bias_variance) * slope / variance;
        self.bias += (gain * error) as f32;
        self.bias_variance *= (1.0 - gain * slope).clamp(0.0, 1.0) as f32;
        self.ratings = self.ratings.saturating_add(1);
    }

    /// Gradient step of the factors. `coefficients` are the user's coefficients of the factors.
    pub(super) fn update_factors(&mut self, error: f64, coefficients: &[f64], learning_rate: f64) {
        let rate = learning_rate / (1.0 + f64::from(self.ratings) / Self::RATE_HALVED_AFTER);
        for (factor, coefficient) in self.factors.iter_mut().zip(coefficients) {
            *factor += (rate * (error * coefficient - Self::DECAY * f64::from(*factor))) as f32;
        }
    }
}

/// The first number of the SplitMix64 generator with this seed, as a hash of the seed.
pub(super) fn split_mix(seed: u64) -> u64 {
    SplitMix64::seed_from_u64(seed).next_u64()
}
