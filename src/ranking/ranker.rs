//! The online listwise ranker.

use super::features::{Features, ITEM, MOMENT};
use super::lanes::exp;
use pulp::Simd;
use crate::domain::{ItemIx, Pages};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

/// Hidden units.
pub const HIDDEN: usize = 32;
type Unit = [f32; HIDDEN];

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Weights {
    linear: Vec<f32>,
    item: Vec<Unit>,
    moment: Vec<Unit>,
    base: Unit,
    out: Unit,
}

impl Weights {
    fn constant(value: f32) -> Self {
        Self { linear: vec![value; ITEM], item: vec![[value; HIDDEN]; ITEM], moment: vec![[value; HIDDEN]; MOMENT], base: [value; HIDDEN], out: [value; HIDDEN] }
    }
    fn parts(&mut self) -> [&mut [f32]; 5] {
        [&mut self.linear, self.item.as_flattened_mut(), self.moment.as_flattened_mut(), &mut self.base, &mut self.out]
    }
}

/// Scores candidates.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ranker {
    weights: Weights,
    squares: Weights,
    bias: Pages<(f32, f32), 64>,
    /// Rate
    pub rate: f32,
    /// Bias rate
    pub bias_rate: f32,
    /// Probability below which a candidate is not learned from
    pub floor: f32,
}

/// Workspace.
#[derive(Debug, Clone)]
pub struct Work {
    hidden: Vec<Unit>,
    /// Scores.
    pub scores: Vec<f32>,
    gradient: Weights,
}

impl Default for Work {
    fn default() -> Self {
        Self { hidden: Vec::new(), scores: Vec::new(), gradient: Weights::constant(0.0) }
    }
}

impl Ranker {
    /// New.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut draw = |bound: f32| ((rng.next_u64() >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * bound;
        let mut weights = Weights::constant(0.0);
        weights.linear[..16].fill(0.5);
        weights.item.as_flattened_mut().iter_mut().for_each(|w| *w = draw(0.2));
        weights.moment.as_flattened_mut().iter_mut().for_each(|w| *w = draw(0.2));
        weights.out.iter_mut().for_each(|w| *w = draw(0.2));
        let e = |k: &str, d: f32| std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d);
        Self { weights, squares: Weights::constant(0.1), bias: Pages::default(), rate: e("RATE", 0.05), bias_rate: e("BRATE", 0.02), floor: e("FLOOR", 1e-4) }
    }

    /// Scores.
    pub fn score(&self, features: &Features, items: impl Iterator<Item = ItemIx>, work: &mut Work) {
        work.scores.clear();
        work.scores.extend(items.map(|item| self.bias.get(item as usize).map_or(0.0, |(bias, _)| *bias)));
        work.hidden.resize(features.items.len(), [0.0; HIDDEN]);
        pulp::Arch::new().dispatch(Forward { weights: &self.weights, features, hidden: &mut work.hidden, scores: &mut work.scores });
    }

    /// Learns that `target` came, after [`Ranker::score`] of the same moment.
    pub fn learn(&mut self, features: &Features, items: impl Iterator<Item = ItemIx>, target: usize, work: &mut Work) {
        let Work { hidden, scores, gradient } = work;
        let (rate, floor) = (self.rate, self.floor);
        pulp::Arch::new().dispatch(Descend { weights: &mut self.weights, squares: &mut self.squares, features, hidden, scores, gradient, target, rate, floor });
        if self.bias_rate > 0.0 {
            for (item, &delta) in items.zip(scores.iter()) {
                if delta.abs() < 1e-3 {
                    continue;
                }
                if item as usize >= self.bias.len() {
                    self.bias.grow(item as usize + 1, || (0.0, 0.1));
                }
                if let Some((bias, square)) = self.bias.get_mut(item as usize) {
                    *square += delta * delta;
                    *bias -= self.bias_rate * delta / square.sqrt();
                }
            }
        }
    }
}


struct Forward<'a> {
    weights: &'a Weights,
    features: &'a Features,
    hidden: &'a mut [Unit],
    scores: &'a mut [f32],
}

/// Candidates taken together, so that a row of weights is loaded once for all of them.
const BLOCK: usize = 8;

fn vectors<S: Simd>(row: &[f32]) -> &[S::f32s] {
    S::as_simd_f32s(row).0
}

fn vectors_mut<S: Simd>(row: &mut [f32]) -> &mut [S::f32s] {
    S::as_mut_simd_f32s(row).0
}

impl pulp::WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, features, hidden, scores } = self;
        let mut base = weights.base;
        for (x, row) in features.moment.iter().zip(&weights.moment) {
            let x = simd.splat_f32s(*x);
            for (base, w) in vectors_mut::<S>(&mut base).iter_mut().zip(vectors::<S>(row)) {
                *base = simd.mul_add_f32s(x, *w, *base);
            }
        }
        let base = vectors::<S>(&base);
        for ((xs, hidden), scores) in features.items.chunks(BLOCK).zip(hidden.chunks_mut(BLOCK)).zip(scores.chunks_mut(BLOCK)) {
            let x: [&[f32; ITEM]; BLOCK] = std::array::from_fn(|c| xs.get(c).unwrap_or(&xs[0]));
            for (v, base) in base.iter().enumerate() {
                let mut units = [*base; BLOCK];
                for (f, row) in weights.item.iter().enumerate() {
                    let w = vectors::<S>(row)[v];
                    for (unit, x) in units.iter_mut().zip(&x) {
                        *unit = simd.mul_add_f32s(simd.splat_f32s(x[f]), w, *unit);
                    }
                }
                let zero = simd.splat_f32s(0.0);
                for (hidden, unit) in hidden.iter_mut().zip(units) {
                    vectors_mut::<S>(hidden)[v] = simd.max_f32s(unit, zero);
                }
            }
            for ((x, hidden), score) in xs.iter().zip(hidden).zip(scores) {
                let mut sums = [0.0f32; 16];
                for (x, w) in x.chunks_exact(16).zip(weights.linear.chunks_exact(16)).chain(hidden.chunks_exact(16).zip(weights.out.chunks_exact(16))) {
                    for lane in 0..16 {
                        sums[lane] += x[lane] * w[lane];
                    }
                }
                *score += sums.iter().sum::<f32>();
            }
        }
    }
}

#[inline(always)]
fn softmax(scores: &mut [f32]) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = exp(*score - top);
    }
    for score in scores.iter() {
        sum += *score;
    }
    let scale = 1.0 / sum;
    scores.iter_mut().for_each(|score| *score *= scale);
}

struct Descend<'a> {
    weights: &'a mut Weights,
    squares: &'a mut Weights,
    features: &'a Features,
    hidden: &'a mut [Unit],
    scores: &'a mut [f32],
    gradient: &'a mut Weights,
    target: usize,
    rate: f32,
    floor: f32,
}

impl pulp::WithSimd for Descend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weights, squares, features, hidden, scores, gradient, target, rate, floor } = self;
        softmax(scores);
        if let Some(score) = scores.get_mut(target) {
            *score -= 1.0;
        }
        let out = vectors::<S>(&weights.out);
        let zero = simd.splat_f32s(0.0);
        let mut active = features.items.iter().zip(hidden).zip(scores.iter()).filter(|(_, delta)| delta.abs() >= floor);
        loop {
            let mut x: [&[f32; ITEM]; BLOCK] = [&[0.0; ITEM]; BLOCK];
            let mut units = [[0.0f32; HIDDEN]; BLOCK];
            let mut count = 0;
            for ((features, hidden), delta) in active.by_ref().take(BLOCK) {
                let deltas = simd.splat_f32s(*delta);
                for v in 0..out.len() {
                    let hidden = vectors::<S>(hidden)[v];
                    let sum = &mut vectors_mut::<S>(&mut gradient.out)[v];
                    *sum = simd.mul_add_f32s(deltas, hidden, *sum);
                    let unit = simd.mul_f32s(deltas, out[v]);
                    let unit = simd.select_f32s(simd.greater_than_f32s(hidden, zero), unit, zero);
                    vectors_mut::<S>(&mut units[count])[v] = unit;
                    let sum = &mut vectors_mut::<S>(&mut gradient.base)[v];
                    *sum = simd.add_f32s(*sum, unit);
                }
                for (sum, x) in vectors_mut::<S>(&mut gradient.linear).iter_mut().zip(vectors::<S>(features)) {
                    *sum = simd.mul_add_f32s(deltas, *x, *sum);
                }
                x[count] = features;
                count += 1;
            }
            if count == 0 {
                break;
            }
            for v in 0..out.len() {
                let units: [S::f32s; BLOCK] = std::array::from_fn(|c| vectors::<S>(&units[c])[v]);
                for (f, row) in gradient.item.iter_mut().enumerate() {
                    let sum = &mut vectors_mut::<S>(row)[v];
                    let mut total = *sum;
                    for (x, unit) in x.iter().zip(units) {
                        total = simd.mul_add_f32s(simd.splat_f32s(x[f]), unit, total);
                    }
                    *sum = total;
                }
            }
        }
        for (x, row) in features.moment.iter().zip(&mut gradient.moment) {
            let x = simd.splat_f32s(*x);
            for (sum, unit) in vectors_mut::<S>(row).iter_mut().zip(vectors::<S>(&gradient.base)) {
                *sum = simd.mul_f32s(x, *unit);
            }
        }
        for ((weights, squares), gradient) in weights.parts().into_iter().zip(squares.parts()).zip(gradient.parts()) {
            for ((weight, square), gradient) in weights.iter_mut().zip(squares).zip(gradient) {
                *square += *gradient * *gradient;
                *weight -= rate * *gradient / square.sqrt();
                *gradient = 0.0;
            }
        }
    }
}
