//! The online listwise ranker: a small neural network trained by softmax cross-entropy over the
//! candidates of a query.

use super::features::{CONTEXT_FEATURE_COUNT, ITEM_FEATURE_COUNT, RankingFeatures};
use super::normaliser::FeatureNormaliser;
use super::stored_ranker::{FeatureCountError, FeatureVersion};
use crate::candidates::simd_math::exp;
use crate::domain::{ItemIx, PagedVec};
use pulp::Simd;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Number of units in the hidden layer.
pub const HIDDEN_UNIT_COUNT: usize = 32;
/// Activations of the hidden layer for one candidate.
pub type HiddenActivations = [f32; HIDDEN_UNIT_COUNT];

/// Adagrad learning rate of the weights. The weights are the same for all items.
const WEIGHT_LEARNING_RATE: f32 = 0.08;
/// Adagrad learning rate of the item biases.
const BIAS_LEARNING_RATE: f32 = 0.02;
/// Initial value of the sums of squared gradients in Adagrad.
const INITIAL_SUM_OF_SQUARES: f32 = 0.1;
/// Number of target events per optimiser step. The step uses the sum of their gradients.
const EVENTS_PER_OPTIMISER_STEP: u32 = 8;
/// Training skips candidates whose score gradient has at most this absolute value. Their
/// contributions together are smaller than the rounding error of the others.
const MIN_SCORE_GRADIENT: f32 = 1e-6;
/// The bias of an item changes only if the absolute value of its score gradient is above this
/// value, so that an event changes few biases.
const MIN_SCORE_GRADIENT_FOR_BIAS: f32 = 1e-3;
/// Number of candidates that are scored together, so that each row of weights is loaded once for
/// all of them.
const CANDIDATES_PER_BLOCK: usize = 8;

/// Weights of the ranker. For candidate features x and context features m, `score = linear·x +
/// out·relu(item·x + context·m + base)`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RankerWeights {
    /// `(ITEM_FEATURE_COUNT)`
    linear: Vec<f32>,
    /// `(ITEM_FEATURE_COUNT, HIDDEN_UNIT_COUNT)`
    item: Vec<HiddenActivations>,
    /// `(CONTEXT_FEATURE_COUNT, HIDDEN_UNIT_COUNT)`
    context: Vec<HiddenActivations>,
    base: HiddenActivations,
    out: HiddenActivations,
}

impl RankerWeights {
    fn filled_with(value: f32) -> Self {
        let units = [value; HIDDEN_UNIT_COUNT];
        Self {
            linear: vec![value; ITEM_FEATURE_COUNT],
            item: vec![units; ITEM_FEATURE_COUNT],
            context: vec![units; CONTEXT_FEATURE_COUNT],
            base: units,
            out: units,
        }
    }

    /// Adds the features that an earlier version lacks, with the value `new`.
    fn with_all_features(self, new: f32) -> Result<Self, FeatureCountError> {
        let units = [new; HIDDEN_UNIT_COUNT];
        let version = FeatureVersion::of_counts(self.item.len(), self.context.len())?;
        Ok(Self {
            linear: version.item_values(self.linear, &new),
            item: version.item_values(self.item, &units),
            context: version.context_values(self.context, &units),
            ..self
        })
    }

    fn parameter_slices(&mut self) -> [&mut [f32]; 5] {
        [&mut self.linear, self.item.as_flattened_mut(), self.context.as_flattened_mut(), &mut self.base, &mut self.out]
    }
}

/// Online listwise ranker: a linear part, one hidden layer and a bias per item.
///
/// The loss is the softmax cross-entropy over the candidates of a query. The softmax is ListNet's
/// top-one probability with a single relevant item (Z. Cao et al., "Learning to rank: from pairwise
/// approach to listwise approach", ICML 2007). The optimiser is Adagrad [Duchi et al. 2011] on
/// gradients summed over 8 events; item biases change on every event.
///
/// The context features are inputs of the hidden layer only. There the ranker learns how reliable
/// each source is in a given context. The linear part does not use them: its term would be the same
/// for every candidate, so it would not change the softmax.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "StoredRanker")]
pub struct Ranker {
    weights: RankerWeights,
    squares: RankerWeights,
    /// Sum of the gradients since the last optimiser step.
    gradient: RankerWeights,
    events_summed: u32,
    normaliser: FeatureNormaliser,
    /// The bias of each item with the Adagrad sum of its squared gradients.
    biases: PagedVec<(f32, f32), 64>,
}

/// Serialised form of [`Ranker`]. Rankers of earlier versions have fewer features.
#[derive(Deserialize)]
struct StoredRanker {
    weights: RankerWeights,
    squares: RankerWeights,
    gradient: RankerWeights,
    events_summed: u32,
    normaliser: FeatureNormaliser,
    biases: PagedVec<(f32, f32), 64>,
}

impl TryFrom<StoredRanker> for Ranker {
    type Error = FeatureCountError;

    fn try_from(stored: StoredRanker) -> Result<Self, FeatureCountError> {
        let StoredRanker { weights, squares, gradient, events_summed, normaliser, biases } = stored;
        Ok(Self {
            weights: weights.with_all_features(0.0)?,
            squares: squares.with_all_features(INITIAL_SUM_OF_SQUARES)?,
            gradient: gradient.with_all_features(0.0)?,
            events_summed,
            normaliser: normaliser.with_all_features()?,
            biases,
        })
    }
}

impl Ranker {
    /// Creates an untrained ranker: equal weights for all share features, and hidden-layer weights
    /// drawn with `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut draw = || ((rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.2;
        let mut weights = RankerWeights::filled_with(0.0);
        weights.linear.iter_mut().take(crate::candidates::EVIDENCE_COLUMN_COUNT).for_each(|weight| *weight = 0.5);
        let drawn = weights
            .item
            .as_flattened_mut()
            .iter_mut()
            .chain(weights.context.as_flattened_mut())
            .chain(&mut weights.out);
        drawn.for_each(|weight| *weight = draw());
        Self {
            weights,
            squares: RankerWeights::filled_with(INITIAL_SUM_OF_SQUARES),
            gradient: RankerWeights::filled_with(0.0),
            events_summed: 0,
            normaliser: FeatureNormaliser::default(),
            biases: PagedVec::default(),
        }
    }

    /// Computes the normalised features from the raw features.
    pub fn normalise(&self, features: &mut RankingFeatures) {
        self.normaliser.normalise_features(features);
    }

    /// Scores every candidate. Resizes `hidden` and `scores` to the length of `items`.
    pub fn score(
        &self,
        features: &RankingFeatures,
        items: &[ItemIx],
        hidden: &mut Vec<HiddenActivations>,
        scores: &mut Vec<f32>,
    ) {
        scores.clear();
        scores.extend(items.iter().map(|item| self.biases.get(*item as usize).map_or(0.0, |(bias, _)| *bias)));
        hidden.resize(items.len(), [0.0; HIDDEN_UNIT_COUNT]);
        crate::simd::arch().dispatch(RankerForwardKernel { weights: &self.weights, features, hidden, scores });
    }

    /// Trains the ranker with the candidate at index `target` as the target item, and returns the
    /// loss −ln p(target). Multiplies the gradient of the loss by `weight`.
    ///
    /// `hidden` and `scores` must be the results of [`Ranker::score`] for the same features. The
    /// call overwrites `scores` with the weighted gradient of the loss.
    pub fn train_on_target(
        &mut self,
        features: &RankingFeatures,
        items: &[ItemIx],
        hidden: &[HiddenActivations],
        scores: &mut [f32],
        target: usize,
        weight: f32,
    ) -> f32 {
        softmax(scores);
        let Some(probability) = scores.get_mut(target) else { return 0.0 };
        let loss = -probability.max(f32::MIN_POSITIVE).ln();
        *probability -= 1.0;
        if weight != 1.0 {
            scores.iter_mut().for_each(|gradient| *gradient *= weight);
        }
        self.normaliser.update_statistics(features);
        let Self { weights, squares, gradient, events_summed, .. } = self;
        crate::simd::arch().dispatch(RankerBackwardKernel { weights, features, hidden, deltas: scores, gradient });
        *events_summed += 1;
        if *events_summed >= EVENTS_PER_OPTIMISER_STEP {
            *events_summed = 0;
            crate::simd::arch().dispatch(RankerAdagradKernel { weights, squares, gradient });
        }
        for (&item, &delta) in
            items.iter().zip(scores.iter()).filter(|(_, delta)| delta.abs() > MIN_SCORE_GRADIENT_FOR_BIAS)
        {
            self.update_bias(item, delta);
        }
        loss
    }

    /// Trains the bias of a dismissed item, the candidate at `position`. Makes one Adagrad step on
    /// the loss −ln(1 − p), where p is the item's softmax probability. The gradient of this loss
    /// with respect to the item's score is p.
    pub fn train_dismissal(&mut self, scores: &[f32], position: usize, item: ItemIx) {
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| exp(score - top)).sum();
        if let Some(score) = scores.get(position) {
            self.update_bias(item, exp(score - top) / sum);
        }
    }

    fn update_bias(&mut self, item: ItemIx, gradient: f32) {
        let index = item as usize;
        self.biases.grow(index + 1, || (0.0, INITIAL_SUM_OF_SQUARES));
        if let Some((bias, square)) = self.biases.get_mut(index) {
            *square += gradient * gradient;
            *bias -= BIAS_LEARNING_RATE * gradient / square.sqrt();
        }
    }
}

fn softmax(scores: &mut [f32]) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = exp(*score - top));
    let scale = 1.0 / scores.iter().sum::<f32>();
    scores.iter_mut().for_each(|score| *score *= scale);
}

#[inline(always)]
fn simd_vectors<S: Simd>(row: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(row).0
}

#[inline(always)]
fn simd_vectors_mut<S: Simd>(row: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(row).0
}

struct RankerForwardKernel<'a> {
    weights: &'a RankerWeights,
    features: &'a RankingFeatures,
    hidden: &'a mut [HiddenActivations],
    scores: &'a mut [f32],
}

impl pulp::WithSimd for RankerForwardKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, features, hidden, scores } = self;
        // Compute the contribution of the context features once; it is the same for every
        // candidate.
        let mut base = weights.base;
        for (x, row) in features.context.iter().zip(&weights.context) {
            let x = simd.splat_f32s(*x);
            for (base, w) in simd_vectors_mut::<S>(&mut base).iter_mut().zip(simd_vectors::<S>(row)) {
                *base = simd.mul_add_f32s(x, *w, *base);
            }
        }
        let base = simd_vectors::<S>(&base);
        let zero = simd.splat_f32s(0.0);
        for ((xs, hidden), scores) in features
            .items
            .chunks(CANDIDATES_PER_BLOCK)
            .zip(hidden.chunks_mut(CANDIDATES_PER_BLOCK))
            .zip(scores.chunks_mut(CANDIDATES_PER_BLOCK))
        {
            let x: [&[f32; ITEM_FEATURE_COUNT]; CANDIDATES_PER_BLOCK] =
                std::array::from_fn(|c| xs.get(c).unwrap_or(&[0.0; ITEM_FEATURE_COUNT]));
            for (v, base) in base.iter().enumerate() {
                let mut units = [*base; CANDIDATES_PER_BLOCK];
                for (f, row) in weights.item.iter().enumerate() {
                    let w = simd_vectors::<S>(row)[v];
                    for (unit, x) in units.iter_mut().zip(&x) {
                        *unit = simd.mul_add_f32s(simd.splat_f32s(x[f]), w, *unit);
                    }
                }
                for (hidden, unit) in hidden.iter_mut().zip(units) {
                    simd_vectors_mut::<S>(hidden)[v] = simd.max_f32s(unit, zero);
                }
            }
            for ((x, hidden), score) in xs.iter().zip(hidden).zip(scores) {
                let linear = x.chunks_exact(16).zip(weights.linear.chunks_exact(16));
                let mut sums = [0.0f32; 16];
                for (x, w) in linear.chain(hidden.chunks_exact(16).zip(weights.out.chunks_exact(16))) {
                    for ((sum, x), w) in sums.iter_mut().zip(x).zip(w) {
                        *sum += x * w;
                    }
                }
                *score += sums.iter().sum::<f32>();
            }
        }
    }
}

struct RankerBackwardKernel<'a> {
    weights: &'a RankerWeights,
    features: &'a RankingFeatures,
    hidden: &'a [HiddenActivations],
    deltas: &'a [f32],
    gradient: &'a mut RankerWeights,
}

impl pulp::WithSimd for RankerBackwardKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, features, hidden, deltas, gradient } = self;
        let out = simd_vectors::<S>(&weights.out);
        let zero = simd.splat_f32s(0.0);
        let mut base: HiddenActivations = [0.0; HIDDEN_UNIT_COUNT];
        let mut candidates =
            features.items.iter().zip(hidden).zip(deltas).filter(|(_, delta)| delta.abs() > MIN_SCORE_GRADIENT);
        loop {
            let mut x: [&[f32; ITEM_FEATURE_COUNT]; CANDIDATES_PER_BLOCK] =
                [&[0.0; ITEM_FEATURE_COUNT]; CANDIDATES_PER_BLOCK];
            let mut units: [HiddenActivations; CANDIDATES_PER_BLOCK] = [[0.0; HIDDEN_UNIT_COUNT]; CANDIDATES_PER_BLOCK];
            let mut count = 0;
            for (((features, hidden), delta), (x, units)) in
                candidates.by_ref().take(CANDIDATES_PER_BLOCK).zip(x.iter_mut().zip(&mut units))
            {
                let delta = simd.splat_f32s(*delta);
                let sums = simd_vectors_mut::<S>(&mut gradient.out).iter_mut().zip(simd_vectors_mut::<S>(&mut base));
                for (((sum, base), (hidden, out)), unit) in
                    sums.zip(simd_vectors::<S>(hidden).iter().zip(out)).zip(simd_vectors_mut::<S>(units))
                {
                    *sum = simd.mul_add_f32s(delta, *hidden, *sum);
                    *unit = simd.select_f32s(simd.greater_than_f32s(*hidden, zero), simd.mul_f32s(delta, *out), zero);
                    *base = simd.add_f32s(*base, *unit);
                }
                for (sum, x) in simd_vectors_mut::<S>(&mut gradient.linear).iter_mut().zip(simd_vectors::<S>(features))
                {
                    *sum = simd.mul_add_f32s(delta, *x, *sum);
                }
                *x = features;
                count += 1;
            }
            if count == 0 {
                break;
            }
            for v in 0..out.len() {
                let units: [S::f32s; CANDIDATES_PER_BLOCK] = std::array::from_fn(|c| simd_vectors::<S>(&units[c])[v]);
                for (f, row) in gradient.item.iter_mut().enumerate() {
                    let sum = &mut simd_vectors_mut::<S>(row)[v];
                    *sum = x
                        .iter()
                        .zip(units)
                        .fold(*sum, |sum, (x, unit)| simd.mul_add_f32s(simd.splat_f32s(x[f]), unit, sum));
                }
            }
        }
        for (x, row) in features.context.iter().zip(&mut gradient.context) {
            let x = simd.splat_f32s(*x);
            for (sum, unit) in simd_vectors_mut::<S>(row).iter_mut().zip(simd_vectors::<S>(&base)) {
                *sum = simd.mul_add_f32s(x, *unit, *sum);
            }
        }
        for (sum, unit) in gradient.base.iter_mut().zip(base) {
            *sum += unit;
        }
    }
}

struct RankerAdagradKernel<'a> {
    weights: &'a mut RankerWeights,
    squares: &'a mut RankerWeights,
    gradient: &'a mut RankerWeights,
}

impl pulp::NullaryFnOnce for RankerAdagradKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let parts = self
            .weights
            .parameter_slices()
            .into_iter()
            .zip(self.squares.parameter_slices())
            .zip(self.gradient.parameter_slices());
        for ((weights, squares), gradient) in parts {
            for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradient) {
                *square += *gradient * *gradient;
                *weight -= WEIGHT_LEARNING_RATE * *gradient / square.sqrt();
                *gradient = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the gradient with central differences of −ln p(target), ε = 0.001. The tolerance of
    /// 2 % of the largest gradient covers rounding and ReLU kinks.
    #[test]
    fn the_ranker_gradient_matches_finite_differences() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut draw = || (rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        // Eleven candidates are a full block and a partial block.
        let items: Vec<ItemIx> = (0..11).collect();
        let features = RankingFeatures {
            items: items.iter().map(|_| std::array::from_fn(|_| draw())).collect(),
            context: std::array::from_fn(|_| draw()),
            ..RankingFeatures::default()
        };
        let mut ranker = Ranker::new(5);
        let target = 9;
        let (mut hidden, mut scores) = (Vec::new(), Vec::new());
        let mut loss = |ranker: &Ranker| {
            ranker.score(&features, &items, &mut hidden, &mut scores);
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            f64::from(top - scores[target]) + scores.iter().map(|score| f64::from(score - top).exp()).sum::<f64>().ln()
        };
        let expected = loss(&ranker);
        let mut trained = ranker.clone();
        let (mut hidden, mut scores) = (Vec::new(), Vec::new());
        trained.score(&features, &items, &mut hidden, &mut scores);
        let weight = 2.0;
        let reported = trained.train_on_target(&features, &items, &hidden, &mut scores, target, weight);
        assert!((f64::from(reported) - expected).abs() < 1e-4);
        let gradients: Vec<Vec<f32>> =
            trained.gradient.parameter_slices().into_iter().map(|part| part.to_vec()).collect();
        for (part, gradient) in gradients.iter().enumerate() {
            let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
            assert!(largest > 0.0);
            for at in (0..gradient.len()).step_by(7) {
                let mut shifted = |by: f32| {
                    let old = ranker.weights.parameter_slices()[part][at];
                    ranker.weights.parameter_slices()[part][at] = old + by;
                    let value = loss(&ranker);
                    ranker.weights.parameter_slices()[part][at] = old;
                    value
                };
                let slope = f64::from(weight) * (shifted(1e-3) - shifted(-1e-3)) / 2e-3;
                assert!(
                    (slope - f64::from(gradient[at])).abs() < f64::from(largest) * 0.02,
                    "part {part}, weight {at}: {slope} against {}",
                    gradient[at]
                );
            }
        }
    }
}
