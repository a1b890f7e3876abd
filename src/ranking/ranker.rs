//! The online listwise ranker.

use super::features::{CONTEXT_FEATURES, ITEM_FEATURES, RankingFeatures};
use super::normaliser::FeatureNormaliser;
use crate::candidates::simd_math::exp;
use crate::domain::{ItemIx, PagedVec};
use pulp::Simd;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Hidden units.
pub const HIDDEN_UNITS: usize = 32;
/// The hidden units of one candidate.
pub type HiddenUnits = [f32; HIDDEN_UNITS];

/// Learning rate of Adagrad for the shared weights.
const RATE: f32 = 0.08;
/// The same for the items' biases.
const BIAS_RATE: f32 = 0.02;
/// Where Adagrad's sums of squares begin.
const SQUARES: f32 = 0.1;
/// Events whose gradients are summed before a step is taken.
const BATCH: u32 = 8;
/// Gradients of the score below this are left out: together they are less than the rounding of the rest.
const NEGLIGIBLE: f32 = 1e-6;
/// An item's bias is moved only by gradients above this, so that an event touches few items.
const BIAS_NEGLIGIBLE: f32 = 1e-3;
/// Candidates taken together, so that a row of weights is loaded once for all of them.
const BLOCK: usize = 8;

/// `score = linear·x + out·relu(item·x + moment·m + base)`, for the features x of the candidate and m of the moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RankerWeights {
    /// `(ITEM)`
    linear: Vec<f32>,
    /// `(ITEM, HIDDEN)`
    item: Vec<HiddenUnits>,
    /// `(MOMENT, HIDDEN)`
    moment: Vec<HiddenUnits>,
    base: HiddenUnits,
    out: HiddenUnits,
}

impl RankerWeights {
    fn constant(value: f32) -> Self {
        let units = [value; HIDDEN_UNITS];
        Self {
            linear: vec![value; ITEM_FEATURES],
            item: vec![units; ITEM_FEATURES],
            moment: vec![units; CONTEXT_FEATURES],
            base: units,
            out: units,
        }
    }

    fn parts(&mut self) -> [&mut [f32]; 5] {
        [&mut self.linear, self.item.as_flattened_mut(), self.moment.as_flattened_mut(), &mut self.base, &mut self.out]
    }
}

/// One score a candidate: a linear part, one hidden layer, a bias per item; learned by a softmax over the candidates of the moment
/// (ListNet's top-one probability with a single relevant item: Z. Cao et al., "Learning to rank: from pairwise approach to listwise approach", ICML 2007)
/// with Adagrad.
///
/// The hidden layer sees the moment too: what a source is worth depends on it, and what is the same for every candidate cannot move a linear softmax.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ranker {
    weights: RankerWeights,
    squares: RankerWeights,
    /// Summed since the last step.
    gradient: RankerWeights,
    summed: u32,
    normaliser: FeatureNormaliser,
    /// Per item: bias and Adagrad's sum of squares.
    biases: PagedVec<(f32, f32), 64>,
}

impl Ranker {
    /// A ranker that weighs all shares alike, its hidden layer drawn from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut draw = || ((random.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.2;
        let mut weights = RankerWeights::constant(0.0);
        weights.linear.iter_mut().take(crate::candidates::EVIDENCE_COLUMNS).for_each(|weight| *weight = 0.5);
        let drawn = weights.item.as_flattened_mut().iter_mut().chain(weights.moment.as_flattened_mut()).chain(&mut weights.out);
        drawn.for_each(|weight| *weight = draw());
        Self {
            weights,
            squares: RankerWeights::constant(SQUARES),
            gradient: RankerWeights::constant(0.0),
            summed: 0,
            normaliser: FeatureNormaliser::default(),
            biases: PagedVec::default(),
        }
    }

    /// Fills the features that the ranker sees from the raw ones.
    pub fn normalise(&self, features: &mut RankingFeatures) {
        self.normaliser.apply(features);
    }

    /// Scores each candidate. `hidden` and `scores` are made as long as `items`.
    pub fn score(&self, features: &RankingFeatures, items: &[ItemIx], hidden: &mut Vec<HiddenUnits>, scores: &mut Vec<f32>) {
        scores.clear();
        scores.extend(items.iter().map(|item| self.biases.get(*item as usize).map_or(0.0, |(bias, _)| *bias)));
        hidden.resize(items.len(), [0.0; HIDDEN_UNITS]);
        pulp::Arch::new().dispatch(RankerForwardKernel { weights: &self.weights, features, hidden, scores });
    }

    /// Learns that `target`, a place among the candidates, came; `hidden` and `scores` are those of [`Ranker::score`] at the same moment, and
    /// `scores` becomes the gradient. Returns the loss −ln p(target).
    pub fn learn(
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
        let Self { weights, squares, gradient, summed, .. } = self;
        pulp::Arch::new().dispatch(RankerBackwardKernel { weights, features, hidden, deltas: scores, gradient });
        *summed += 1;
        if *summed >= BATCH {
            *summed = 0;
            pulp::Arch::new().dispatch(RankerAdagradKernel { weights, squares, gradient });
        }
        for (&item, &delta) in items.iter().zip(scores.iter()).filter(|(_, delta)| delta.abs() > BIAS_NEGLIGIBLE) {
            self.move_bias(item, delta);
        }
        loss
    }

    /// Learns that the candidate at `position` was waved away: a step on −ln(1 − p) for its bias.
    pub fn learn_dismissal(&mut self, scores: &[f32], position: usize, item: ItemIx) {
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|score| exp(score - top)).sum();
        if let Some(score) = scores.get(position) {
            self.move_bias(item, exp(score - top) / sum);
        }
    }

    fn move_bias(&mut self, item: ItemIx, gradient: f32) {
        let place = item as usize;
        self.biases.grow(place + 1, || (0.0, SQUARES));
        if let Some((bias, square)) = self.biases.get_mut(place) {
            *square += gradient * gradient;
            *bias -= BIAS_RATE * gradient / square.sqrt();
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
        // What the moment adds is the same for every candidate.
        let mut base = weights.base;
        for (x, row) in features.context.iter().zip(&weights.moment) {
            let x = simd.splat_f32s(*x);
            for (base, w) in vectors_mut::<S>(&mut base).iter_mut().zip(vectors::<S>(row)) {
                *base = simd.mul_add_f32s(x, *w, *base);
            }
        }
        let base = vectors::<S>(&base);
        let zero = simd.splat_f32s(0.0);
        for ((xs, hidden), scores) in features.items.chunks(BLOCK).zip(hidden.chunks_mut(BLOCK)).zip(scores.chunks_mut(BLOCK)) {
            let x: [&[f32; ITEM_FEATURES]; BLOCK] = std::array::from_fn(|c| xs.get(c).unwrap_or(&[0.0; ITEM_FEATURES]));
            for (v, base) in base.iter().enumerate() {
                let mut units = [*base; BLOCK];
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
        let mut candidates = features.items.iter().zip(hidden).zip(deltas).filter(|(_, delta)| delta.abs() > NEGLIGIBLE);
        loop {
            let mut x: [&[f32; ITEM_FEATURES]; BLOCK] = [&[0.0; ITEM_FEATURES]; BLOCK];
            let mut units: [HiddenUnits; BLOCK] = [[0.0; HIDDEN_UNITS]; BLOCK];
            let mut count = 0;
            for (((features, hidden), delta), (x, units)) in candidates.by_ref().take(BLOCK).zip(x.iter_mut().zip(&mut units)) {
                let delta = simd.splat_f32s(*delta);
                let sums = vectors_mut::<S>(&mut gradient.out).iter_mut().zip(vectors_mut::<S>(&mut base));
                for (((sum, base), (hidden, out)), unit) in sums.zip(vectors::<S>(hidden).iter().zip(out)).zip(vectors_mut::<S>(units)) {
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
                let units: [S::f32s; BLOCK] = std::array::from_fn(|c| vectors::<S>(&units[c])[v]);
                for (f, row) in gradient.item.iter_mut().enumerate() {
                    let sum = &mut vectors_mut::<S>(row)[v];
                    *sum = x.iter().zip(units).fold(*sum, |sum, (x, unit)| simd.mul_add_f32s(simd.splat_f32s(x[f]), unit, sum));
                }
            }
        }
        for (x, row) in features.context.iter().zip(&mut gradient.moment) {
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
                *weight -= RATE * *gradient / square.sqrt();
                *gradient = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Central differences of the loss −ln p(target), ε = 0.001, against the gradient; 2 % of the largest covers their rounding and a kink crossed.
    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut draw = || (random.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        // 11 candidates: one whole block and a part of one.
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
        let mut taught = ranker.clone();
        let (mut hidden, mut scores) = (Vec::new(), Vec::new());
        taught.score(&features, &items, &mut hidden, &mut scores);
        let told = taught.learn(&features, &items, &hidden, &mut scores, target);
        assert!((f64::from(told) - expected).abs() < 1e-4);
        let gradients: Vec<Vec<f32>> = taught.gradient.parts().into_iter().map(|part| part.to_vec()).collect();
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
