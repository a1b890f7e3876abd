//! Online feature normalisation to zero mean and the same variance for every feature.

use super::features::{CONTEXT_FEATURE_COUNT, ITEM_FEATURE_COUNT, RankingFeatures};
use super::stored_ranker::{FeatureCountError, FeatureVersion};
use serde::{Deserialize, Serialize};

/// Running mean and variance of every feature, over the candidates of the queries on which the
/// ranker trains.
///
/// Without normalisation, the ranker could hardly learn from a feature whose mean is large and
/// whose variance is small. With normalisation, the ranker learns from all features at about the
/// same speed. The normalised value of x is `clamp(0.5 (x − mean) / √(variance + 1e-3), ±4)`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FeatureNormaliser {
    item: FeatureStatistics,
    context: FeatureStatistics,
    updates: u64,
}

/// Mean and variance of each feature, `(features)` each.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FeatureStatistics {
    mean: Vec<f32>,
    variance: Vec<f32>,
}

/// Smallest weight of a new value in the averages. The averages begin as plain means and become
/// exponential averages when the weight has fallen to this value.
const MIN_AVERAGING_RATE: f32 = 1e-4;
/// Standard deviation of a normalised feature.
const NORMALISED_STANDARD_DEVIATION: f32 = 0.5;
/// Constant added to every variance, so that normalisation does not amplify a constant feature.
const VARIANCE_FLOOR: f32 = 1e-3;
/// Largest absolute value of a normalised feature; larger values are clamped.
const MAX_NORMALISED_VALUE: f32 = 4.0;

impl FeatureStatistics {
    fn new(features: usize) -> Self {
        Self { mean: vec![0.0; features], variance: vec![1.0; features] }
    }

    /// Returns the means and the scale factors of the `N` features.
    #[inline(always)]
    fn means_and_scale_factors<const N: usize>(&self) -> ([f32; N], [f32; N]) {
        let (mut mean, mut factor) = ([0.0; N], [0.0; N]);
        for (((mean, factor), known), variance) in mean.iter_mut().zip(&mut factor).zip(&self.mean).zip(&self.variance)
        {
            *mean = *known;
            *factor = NORMALISED_STANDARD_DEVIATION / (variance + VARIANCE_FLOOR).sqrt();
        }
        (mean, factor)
    }

    #[inline(always)]
    fn add_rows<const N: usize>(&mut self, rows: &[[f32; N]], rate: f32) {
        let (mut sums, mut squares) = ([0.0f32; N], [0.0f32; N]);
        for row in rows {
            for (((x, mean), sum), square) in row.iter().zip(&self.mean).zip(&mut sums).zip(&mut squares) {
                let deviation = x - mean;
                *sum += deviation;
                *square += deviation * deviation;
            }
        }
        let share = rate / rows.len().max(1) as f32;
        for (((mean, variance), sum), square) in self.mean.iter_mut().zip(&mut self.variance).zip(sums).zip(squares) {
            *mean += share * sum;
            *variance += share * square - rate * *variance;
        }
    }
}

#[inline(always)]
fn normalise_row<const N: usize>(raw: &[f32; N], mean: &[f32; N], factor: &[f32; N], out: &mut [f32; N]) {
    for (((out, x), mean), factor) in out.iter_mut().zip(raw).zip(mean).zip(factor) {
        *out = ((x - mean) * factor).clamp(-MAX_NORMALISED_VALUE, MAX_NORMALISED_VALUE);
    }
}

impl Default for FeatureNormaliser {
    fn default() -> Self {
        Self {
            item: FeatureStatistics::new(ITEM_FEATURE_COUNT),
            context: FeatureStatistics::new(CONTEXT_FEATURE_COUNT),
            updates: 0,
        }
    }
}

impl FeatureNormaliser {
    /// Adds the features that an earlier version lacks, with the mean and the variance of a new
    /// normaliser.
    pub(super) fn with_all_features(self) -> Result<Self, FeatureCountError> {
        let FeatureNormaliser { item, context, updates } = self;
        let version = FeatureVersion::of_counts(item.mean.len(), context.mean.len())?;
        let item = FeatureStatistics {
            mean: version.item_values(item.mean, &0.0),
            variance: version.item_values(item.variance, &1.0),
        };
        let context = FeatureStatistics {
            mean: version.context_values(context.mean, &0.0),
            variance: version.context_values(context.variance, &1.0),
        };
        Ok(Self { item, context, updates })
    }

    /// Computes the normalised features from the raw features.
    pub fn normalise_features(&self, features: &mut RankingFeatures) {
        crate::simd::arch().dispatch(NormaliseKernel { normaliser: self, features });
    }

    /// Updates the means and variances with the raw features of a query.
    pub fn update_statistics(&mut self, features: &RankingFeatures) {
        if features.raw_items.is_empty() {
            return;
        }
        self.updates += 1;
        let rate = (1.0 / self.updates as f32).max(MIN_AVERAGING_RATE);
        crate::simd::arch().dispatch(StatisticsKernel { normaliser: self, features, rate });
    }
}

struct NormaliseKernel<'a> {
    normaliser: &'a FeatureNormaliser,
    features: &'a mut RankingFeatures,
}

impl pulp::NullaryFnOnce for NormaliseKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let RankingFeatures { raw_items: raw, raw_context, items, context } = self.features;
        let (mean, factor) = self.normaliser.item.means_and_scale_factors();
        items.resize(raw.len(), [0.0; ITEM_FEATURE_COUNT]);
        for (raw, out) in raw.iter().zip(items) {
            normalise_row(raw, &mean, &factor, out);
        }
        let (mean, factor) = self.normaliser.context.means_and_scale_factors();
        normalise_row(raw_context, &mean, &factor, context);
    }
}

struct StatisticsKernel<'a> {
    normaliser: &'a mut FeatureNormaliser,
    features: &'a RankingFeatures,
    rate: f32,
}

impl pulp::NullaryFnOnce for StatisticsKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.normaliser.item.add_rows(&self.features.raw_items, self.rate);
        self.normaliser.context.add_rows(std::slice::from_ref(&self.features.raw_context), self.rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalised_features_have_zero_mean_and_equal_spread() {
        let mut normaliser = FeatureNormaliser::default();
        // Feature f of candidate c is 10·f ± (0.1 + f). Feature f has mean 10·f and standard
        // deviation 0.1 + f.
        let value =
            |c: usize, f: usize| 10.0 * f as f32 + (0.1 + f as f32) * if c.is_multiple_of(2) { 1.0 } else { -1.0 };
        let raw = (0..8).map(|c| std::array::from_fn(|f| value(c, f))).collect();
        let mut features = RankingFeatures { raw_items: raw, ..RankingFeatures::default() };
        for _ in 0..4000 {
            normaliser.update_statistics(&features);
        }
        normaliser.normalise_features(&mut features);
        for f in [0, 1, ITEM_FEATURE_COUNT - 1] {
            let mean: f32 = features.items.iter().map(|row| row[f]).sum::<f32>() / 8.0;
            let square: f32 = features.items.iter().map(|row| row[f] * row[f]).sum::<f32>() / 8.0;
            // Feature 0 has the standard deviation 0.1. VARIANCE_FLOOR lowers its normalised
            // deviation by 5 %, from 0.5 to 0.477. After 4,000 updates, the influence of the
            // initial mean 0 is negligible.
            assert!(mean.abs() < 0.02, "feature {f}: mean {mean}");
            assert!(
                (square.sqrt() - NORMALISED_STANDARD_DEVIATION).abs() < 0.05,
                "feature {f}: deviation {}",
                square.sqrt()
            );
        }
    }
}
