//! The online listwise ranker: a small neural network trained by softmax over the candidates.

use super::features::{CONTEXT_FEATURES, ITEM_FEATURES, RankingFeatures};
use super::normaliser::FeatureNormaliser;
use crate::candidates::simd_math::exp;
use crate::domain::{ItemIx, PagedVec};
use pulp::Simd;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Number of hidden units.
pub const HIDDEN_UNITS: usize = 32;
/// Hidden activations of one candidate.
pub type HiddenUnits = [f32; HIDDEN_UNITS];

/// Adagrad learning rate of the shared weights.
const LEARNING_RATE: f32 = 0.08;
/// Adagrad learning rate of the item biases.
const BIAS_LEARNING_RATE: f32 = 0.02;
/// Initial value of Adagrad's sums of squares.
const INITIAL_SQUARES: f32 = 0.1;
/// Events per step; their gradients are summed.
const EVENTS_PER_STEP: u32 = 8;
/// Score gradients below this are skipped. Their sum is below the rounding error of the rest.
const MIN_GRADIENT: f32 = 1e-6;
/// Item biases change only for score gradients above this, so that an event touches few items.
const MIN_BIAS_GRADIENT: f32 = 1e-3;
/// Candidates per block, so that a row of weights is loaded once per block.
const CANDIDATES_PER_BLOCK: usize = 8;

/// `score = linear·x + out·relu(item·x + context·m + base)`, for candidate features x and context
/// features m.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RankerWeights {
    /// `(ITEM_FEATURES)`
    linear: Vec<f32>,
    /// `(ITEM_FEATURES, HIDDEN_UNITS)`
    item: Vec<HiddenUnits>,
    /// `(CONTEXT_FEATURES, HIDDEN_UNITS)`
    context: Vec<HiddenUnits>,
    base: HiddenUnits,
    out: HiddenUnits,
}

impl RankerWeights {
    fn constant(value: f32) -> Self {
        let units = [value; HIDDEN_UNITS];
        Self {
            linear: vec![value; ITEM_FEATURES],
            item: vec![units; ITEM_FEATURES],
            context: vec![units; CONTEXT_FEATURES],
            base: units,
            out: units,
        }
    }

    fn parts(&mut self) -> [&mut [f32]; 5] {
        [&mut self.linear, self.item.as_flattened_mut(), self.context.as_flattened_mut(), &mut self.base, &mut self.out]
    }
}

/// Online listwise ranker: a linear part, one hidden layer and a bias per item.
///
/// Trained by softmax cross-entropy over the candidates of a query. This is ListNet's top-one
/// probability with a single relevant item (Z. Cao et al., "Learning to rank: from pairwise
/// approach to listwise approach", ICML 2007). The optimiser is Adagrad [Duchi et al. 2011] on
/// gradients summed over 8 events; item biases step on every event.
///
/// The hidden layer also sees the context features, because the value of a source depends on the
/// context. A linear term that is the same for every candidate has no effect on a softmax.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ranker {
    weights: RankerWeights,
    squares: RankerWeights,
    /// Gradient summed since the last step.
    gradient: RankerWeights,
    events_summed: u32,
    normaliser: FeatureNormaliser,
    /// Per item, the bias and its Adagrad sum of squares.
    biases: PagedVec<(f32, f32), 64>,
}

impl Ranker {
    /// Creates a ranker with equal weights for all share features and a hidden layer drawn from
    /// `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut draw = || ((rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.2;
        let mut weights = RankerWeights::constant(0.0);
        weights.linear.iter_mut().take(crate::candidates::EVIDENCE_COLUMNS).for_each(|weight| *weight = 0.5);
        let drawn = weights
            .item
            .as_flattened_mut()
            .iter_mut()
            .chain(weights.context.as_flattened_mut())
            .chain(&mut weights.out);
        drawn.for_each(|weight| *weight = draw());
        Self {
            weights,
            squares: RankerWeights::constant(INITIAL_SQUARES),
            gradient: RankerWeights::constant(0.0),
            events_summed: 0,
            normaliser: FeatureNormaliser::default(),
            biases: PagedVec::default(),
        }
    }

    /// Computes the normalised features from the raw ones.
    pub fn normalise(&self, features: &mut RankingFeatures) {
        self.normaliser.apply(features);
    }

    /// Scores every candidate. Resizes `hidden` and `scores` to the length of `items`.
    pub fn score(
        &self,
        features: &RankingFeatures,
        items: &[ItemIx],
        hidden: &mut Vec<HiddenUnits>,
        scores: &mut Vec<f32>,
    ) {
        scores.clear();
        scores.extend(items.iter().map(|item| self.biases.get(*item as usize).map_or(0.0, |(bias, _)| *bias)));
        hidden.resize(items.len(), [0.0; HIDDEN_UNITS]);
        pulp::Arch::new().dispatch(RankerForwardKernel { weights: &self.weights, features, hidden, scores });
    }

    /// Trains with the candidate at index `target` as the target and returns the loss −ln
    /// p(target).
    ///
    /// `hidden` and `scores` are the results of [`Ranker::score`] for the same features. `scores`
    /// is overwritten with the gradient.
    pub fn train(
        &mut self,
        features: &RankingFeatures,
        items: &[ItemIx],
        hidden: &[HiddenUnits],
        scores: &mut [f32],
        target: usize,
    ) -> f32 {
        softmax(scores);
        let Some(probability) = scores.get_mut(target) else { return 0.0 };
        let loss = -probability.max(f32::MIN_POSITIVE).ln();
        *probability -= 1.0;
        self.normaliser.update(features);
        let Self { weights, squares, gradient, events_summed, .. } = self;
        pulp::Arch::new().dispatch(RankerBackwardKernel { weights, features, hidden, deltas: scores, gradient });
        *events_summed += 1;
        if *events_summed >= EVENTS_PER_STEP {
            *events_summed = 0;
            pulp::Arch::new().dispatch(RankerAdagradKernel { weights, squares, gradient });
        }
        for (&item, &delta) in items.iter().zip(scores.iter()).filter(|(_, delta)| delta.abs() > MIN_BIAS_GRADIENT) {
            self.update_bias(item, delta);
        }
        loss
    }

    /// Trains with a dismissal of the candidate at `position`: one Adagrad step of the item's bias
    /// on the loss −ln(1 − p), whose gradient is the softmax probability p.
    pub fn train_dismissal(&mut self, scores: &[f32], position: usize, item: ItemIx) {
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| exp(score - top)).sum();
        if let Some(score) = scores.get(position) {
            self.update_bias(item, exp(score - top) / sum);
        }
    }

    fn update_bias(&mut self, item: ItemIx, gradient: f32) {
        let index = item as usize;
        self.biases.grow(index + 1, || (0.0, INITIAL_SQUARES));
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
fn vectors<S: Simd>(row: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(row).0
}

#[inline(always)]
fn vectors_mut<S: Simd>(row: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(row).0
}

struct RankerForwardKernel<'a> {
    weights: &'a RankerWeights,
    features: &'a RankingFeatures,
    hidden: &'a mut [HiddenUnits],
    scores: &'a mut [f32],
}

impl pulp::WithSimd for RankerForwardKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, features, hidden, scores } = self;
        // The context contribution is the same for every candidate.
        let mut base = weights.base;
        for (x, row) in features.context.iter().zip(&weights.context) {
            let x = simd.splat_f32s(*x);
            for (base, w) in vectors_mut::<S>(&mut base).iter_mut().zip(vectors::<S>(row)) {
                *base = simd.mul_add_f32s(x, *w, *base);
            }
        }
        let base = vectors::<S>(&base);
        let zero = simd.splat_f32s(0.0);
        for ((xs, hidden), scores) in features
            .items
            .chunks(CANDIDATES_PER_BLOCK)
            .zip(hidden.chunks_mut(CANDIDATES_PER_BLOCK))
            .zip(scores.chunks_mut(CANDIDATES_PER_BLOCK))
        {
            let x: [&[f32; ITEM_FEATURES]; CANDIDATES_PER_BLOCK] =
                std::array::from_fn(|c| xs.get(c).unwrap_or(&[0.0; ITEM_FEATURES]));
            for (v, base) in base.iter().enumerate() {
                let mut units = [*base; CANDIDATES_PER_BLOCK];
                for (f, row) in weights.item.iter().enumerate() {
                    let w = vectors::<S>(row)[v];
                    for (unit, x) in units.iter_mut().zip(&x) {
                        *unit = simd.mul_add_f32s(simd.splat_f32s(x[f]), w, *unit);
                    }
                }
                for (hidden, unit) in hidden.iter_mut().zip(units) {
                    vectors_mut::<S>(hidden)[v] = simd.max_f32s(unit, zero);
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
    hidden: &'a [HiddenUnits],
    deltas: &'a [f32],
    gradient: &'a mut RankerWeights,
}

impl pulp::WithSimd for RankerBackwardKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, features, hidden, deltas, gradient } = self;
        let out = vectors::<S>(&weights.out);
        let zero = simd.splat_f32s(0.0);
        let mut base: HiddenUnits = [0.0; HIDDEN_UNITS];
        let mut candidates =
            features.items.iter().zip(hidden).zip(deltas).filter(|(_, delta)| delta.abs() > MIN_GRADIENT);
        loop {
            let mut x: [&[f32; ITEM_FEATURES]; CANDIDATES_PER_BLOCK] = [&[0.0; ITEM_FEATURES]; CANDIDATES_PER_BLOCK];
            let mut units: [HiddenUnits; CANDIDATES_PER_BLOCK] = [[0.0; HIDDEN_UNITS]; CANDIDATES_PER_BLOCK];
            let mut count = 0;
            for (((features, hidden), delta), (x, units)) in
                candidates.by_ref().take(CANDIDATES_PER_BLOCK).zip(x.iter_mut().zip(&mut units))
            {
                let delta = simd.splat_f32s(*delta);
                let sums = vectors_mut::<S>(&mut gradient.out).iter_mut().zip(vectors_mut::<S>(&mut base));
                for (((sum, base), (hidden, out)), unit) in
                    sums.zip(vectors::<S>(hidden).iter().zip(out)).zip(vectors_mut::<S>(units))
                {
                    *sum = simd.mul_add_f32s(delta, *hidden, *sum);
                    *unit = simd.select_f32s(simd.greater_than_f32s(*hidden, zero), simd.mul_f32s(delta, *out), zero);
                    *base = simd.add_f32s(*base, *unit);
                }
                for (sum, x) in vectors_mut::<S>(&mut gradient.linear).iter_mut().zip(vectors::<S>(features)) {
                    *sum = simd.mul_add_f32s(delta, *x, *sum);
                }
                *x = features;
                count += 1;
            }
            if count == 0 {
                break;
            }
            for v in 0..out.len() {
                let units: [S::f32s; CANDIDATES_PER_BLOCK] = std::array::from_fn(|c| vectors::<S>(&units[c])[v]);
                for (f, row) in gradient.item.iter_mut().enumerate() {
                    let sum = &mut vectors_mut::<S>(row)[v];
                    *sum = x
                        .iter()
                        .zip(units)
                        .fold(*sum, |sum, (x, unit)| simd.mul_add_f32s(simd.splat_f32s(x[f]), unit, sum));
                }
            }
        }
        for (x, row) in features.context.iter().zip(&mut gradient.context) {
            let x = simd.splat_f32s(*x);
            for (sum, unit) in vectors_mut::<S>(row).iter_mut().zip(vectors::<S>(&base)) {
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
        let parts = self.weights.parts().into_iter().zip(self.squares.parts()).zip(self.gradient.parts());
        for ((weights, squares), gradient) in parts {
            for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradient) {
                *square += *gradient * *gradient;
                *weight -= LEARNING_RATE * *gradient / square.sqrt();
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
    fn the_gradient_matches_finite_differences() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut draw = || (rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        // 11 candidates: a full block and a partial one.
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
        let reported = trained.train(&features, &items, &hidden, &mut scores, target);
        assert!((f64::from(reported) - expected).abs() < 1e-4);
        let gradients: Vec<Vec<f32>> = trained.gradient.parts().into_iter().map(|part| part.to_vec()).collect();
        for (part, gradient) in gradients.iter().enumerate() {
            let largest = gradient.iter().fold(0.0f32, |largest, g| largest.max(g.abs()));
            assert!(largest > 0.0);
            for at in (0..gradient.len()).step_by(7) {
                let mut shifted = |by: f32| {
                    let old = ranker.weights.parts()[part][at];
                    ranker.weights.parts()[part][at] = old + by;
                    let value = loss(&ranker);
                    ranker.weights.parts()[part][at] = old;
                    value
                };
                let slope = (shifted(1e-3) - shifted(-1e-3)) / 2e-3;
                assert!(
                    (slope - f64::from(gradient[at])).abs() < f64::from(largest) * 0.02,
                    "part {part}, weight {at}: {slope} against {}",
                    gradient[at]
                );
            }
        }
    }
}
