//! Online linear projections from the vectors that a site gives its items into the embedding space
//! of the network. They initialise the embeddings of new items.
//!
//! For each vector name, the prediction of an item's embedding and bias is `W x + b`. x is the
//! item's vector, scaled to length 1, minus the mean of all such vectors, scaled to length 1 again:
//! embeddings of texts have a large component in common. W is learned with normalised LMS steps
//! [Widrow & Hoff 1960; Nagumo & Noda 1967] with weight decay (ridge regression), on items that are
//! no longer new. At most [`MAX_LEARNED_PER_BOUNDARY`] items are learned at a training boundary.
//!
//! The first step of an item first tests the prediction. The share of the variance of the embeddings
//! that these predictions explain decides whether a projection is used, and its weight.

use crate::domain::{ItemFlags, ItemIx, ItemVectors, QuantisedVector};
use crate::nn::Weights;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Number of items that the projections learn at a training boundary.
const MAX_LEARNED_PER_BOUNDARY: usize = 8;
/// Size of a step relative to the step that makes the prediction of its item exact: at first, and
/// in the long run.
const STEP_SIZES: [f32; 2] = [0.5, 0.1];
/// The number of steps after which the excess of the first step size has halved.
const STEP_SIZE_HALVING: f32 = 100.0;
/// Share by which each step shrinks W.
const DECAY: f32 = 1e-4;
/// Running means have the weight 1/n for step n, but at least this weight.
const MIN_MEAN_RATE: f32 = 1e-3;
/// The error of the predictions is averaged over about this many tests.
const ERROR_WINDOW: f32 = 200.0;
/// A projection is used after this many tests.
const MIN_TESTS: u64 = 30;
/// A projection is used if it explains at least this share of the variance.
const MIN_EXPLAINED: f32 = 0.02;

/// The projection of the vectors of one name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct VectorProjection {
    /// The mean of the vectors, scaled to length 1; `(dimension)`.
    vector_mean: Vec<f32>,
    /// W: for each value of the vector, the weights of all outputs; `(dimension, outputs)`.
    weights: Vec<f32>,
    /// b: the mean of the targets, `(outputs)`. The outputs are the embedding, scaled to length 1,
    /// and the bias.
    target_mean: Vec<f32>,
    /// Mean length of the embeddings.
    length: f32,
    steps: u64,
    tests: u64,
    /// Mean squared error of the embeddings predicted by the projection and by the mean.
    errors: [f32; 2],
}

impl VectorProjection {
    fn new(dimension: usize, outputs: usize) -> Self {
        Self {
            vector_mean: vec![0.0; dimension],
            weights: vec![0.0; dimension * outputs],
            target_mean: vec![0.0; outputs],
            length: 0.0,
            steps: 0,
            tests: 0,
            errors: [0.0; 2],
        }
    }

    /// The input x of a vector.
    fn input(&self, vector: &QuantisedVector) -> Vec<f32> {
        let mut input: Vec<f32> =
            vector.unit_values().zip(&self.vector_mean).map(|(value, mean)| value - mean).collect();
        let squares: f32 = input.iter().map(|value| value * value).sum();
        let factor = if squares > 1e-12 { 1.0 / squares.sqrt() } else { 0.0 };
        input.iter_mut().for_each(|value| *value *= factor);
        input
    }

    /// `W x + b`.
    fn predict(&self, input: &[f32]) -> Vec<f32> {
        let mut outputs = self.target_mean.clone();
        for (value, row) in input.iter().zip(self.weights.chunks_exact(outputs.len().max(1))) {
            outputs.iter_mut().zip(row).for_each(|(output, weight)| *output += value * weight);
        }
        outputs
    }

    /// Tests the prediction of an item's embedding if `is_test` is set, then learns from the embedding
    /// and the bias.
    fn learn(&mut self, vector: &QuantisedVector, embedding: &[f32], bias: f32, is_test: bool) {
        let squares: f32 = embedding.iter().map(|value| value * value).sum();
        if !(squares > 1e-12 && squares.is_finite() && bias.is_finite()) {
            return;
        }
        let length = squares.sqrt();
        let input = self.input(vector);
        let mut residuals = self.predict(&input);
        let target = embedding.iter().map(|value| value / length).chain([bias]);
        residuals.iter_mut().zip(target.clone()).for_each(|(output, target)| *output = target - *output);
        if is_test {
            let squared_error = |errors: &mut dyn Iterator<Item = f32>| errors.map(|error| error * error).sum::<f32>();
            let of_mean = target.clone().zip(&self.target_mean).map(|(target, mean)| target - mean);
            let tested = [
                squared_error(&mut residuals.iter().copied().take(embedding.len())),
                squared_error(&mut of_mean.take(embedding.len())),
            ];
            self.tests += 1;
            let rate = (1.0 / self.tests as f32).max(1.0 / ERROR_WINDOW);
            self.errors.iter_mut().zip(tested).for_each(|(mean, error)| *mean += rate * (error - *mean));
        }
        self.steps += 1;
        let steps = self.steps as f32;
        let mean_rate = (1.0 / steps).max(MIN_MEAN_RATE);
        self.length += mean_rate * (length - self.length);
        self.target_mean.iter_mut().zip(target).for_each(|(mean, target)| *mean += mean_rate * (target - *mean));
        self.vector_mean
            .iter_mut()
            .zip(vector.unit_values())
            .for_each(|(mean, value)| *mean += mean_rate * (value - *mean));
        let [first, last] = STEP_SIZES;
        let step_size = last + (first - last) / (1.0 + steps / STEP_SIZE_HALVING);
        for (value, row) in input.iter().zip(self.weights.chunks_exact_mut(residuals.len())) {
            let factor = step_size * value;
            for (weight, residual) in row.iter_mut().zip(&residuals) {
                *weight = *weight * (1.0 - DECAY) + factor * residual;
            }
        }
    }

    /// The share of the variance of the embeddings that the predictions explain; `None` if the
    /// projection is not to be used.
    fn explained_share(&self) -> Option<f32> {
        let [error, of_mean] = self.errors;
        let explained = 1.0 - error / of_mean.max(f32::MIN_POSITIVE);
        (self.tests >= MIN_TESTS && explained >= MIN_EXPLAINED).then_some(explained)
    }
}

/// The projections of all vector names, and the items to learn at the next training boundary.
///
/// Memory: 4 · dimension · (hidden + 1) bytes a name, at most 0.3 MiB with 64 hidden units, and one
/// byte an item.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct VectorProjections {
    by_name: BTreeMap<String, VectorProjection>,
    touched_items: Vec<ItemIx>,
    /// Items that the projections have learned.
    learned_items: ItemFlags,
}

impl VectorProjections {
    /// Adds an item that is no longer new to the items to learn at the next boundary, unless there
    /// are enough.
    pub(super) fn add_touched_item(&mut self, item: ItemIx) {
        if self.touched_items.len() < MAX_LEARNED_PER_BOUNDARY && !self.touched_items.contains(&item) {
            self.touched_items.push(item);
        }
    }

    /// Learns from the embeddings of the touched items. Forgets the projections of names that no
    /// item has.
    pub(super) fn learn_touched_items(&mut self, vectors: &ItemVectors, weights: &Weights) {
        let is_known = |name: &str, projection: &VectorProjection| {
            vectors.dimensions().any(|known| known == (name, projection.vector_mean.len()))
        };
        self.by_name.retain(|name, projection| is_known(name, projection));
        for item in std::mem::take(&mut self.touched_items) {
            let Some((embedding, bias)) = weights.embedding_and_bias(item) else { continue };
            let is_test = self.learned_items.get(item as usize) != Some(&true);
            for (name, vector) in vectors.vectors_of(item) {
                let outputs = embedding.len() + 1;
                let new = || VectorProjection::new(vector.dimension(), outputs);
                let projection = self.by_name.entry(name.to_owned()).or_insert_with(new);
                if projection.target_mean.len() != outputs {
                    *projection = new();
                }
                projection.learn(vector, embedding, bias, is_test);
            }
            if is_test {
                self.learned_items.grow(item as usize + 1, || false);
                self.learned_items.get_mut(item as usize).into_iter().for_each(|is_learned| *is_learned = true);
            }
        }
    }

    /// Predicts the embedding and the bias of an item, `(hidden + 1)`: the mean of the projections
    /// of its vectors, weighted by the share of the variance that they explain. `None` without a
    /// vector whose projection is good enough.
    pub(super) fn predict_row<'v>(
        &self,
        vectors: impl Iterator<Item = (&'v str, &'v QuantisedVector)>,
    ) -> Option<Vec<f32>> {
        let (mut row, mut length, mut total) = (Vec::new(), 0.0, 0.0);
        for (name, vector) in vectors {
            let Some(projection) = self.by_name.get(name) else { continue };
            let Some(share) = projection.explained_share() else { continue };
            let predicted = projection.predict(&projection.input(vector));
            row.resize(predicted.len(), 0.0);
            row.iter_mut().zip(predicted).for_each(|(sum, value)| *sum += share * value);
            length += share * projection.length;
            total += share;
        }
        let (bias, embedding) = row.split_last_mut().filter(|_| total > 0.0)?;
        let squares: f32 = embedding.iter().map(|value| value * value).sum();
        let factor = length / total / squares.max(1e-12).sqrt();
        embedding.iter_mut().for_each(|value| *value *= factor);
        *bias /= total;
        row.iter().all(|value| value.is_finite()).then_some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number from -1 to 1 [SplitMix64].
    fn noise(a: usize, b: usize) -> f32 {
        let mixed = (a as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (b as u64 + 1).wrapping_mul(0xD1B5_4A32_D192_ED03);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    /// A vector of 48 values with a large common part, and an embedding of 8 values that depends on
    /// the other part linearly.
    fn item(number: usize) -> (QuantisedVector, Vec<f32>) {
        let own: Vec<f32> = (0..6).map(|axis| noise(number, axis)).collect();
        let mix = |seed: usize, position: usize| -> f32 {
            own.iter().enumerate().map(|(axis, value)| value * noise(seed + axis, position)).sum()
        };
        let values: Vec<f32> = (0..48).map(|position| 3.0 + mix(1_000_000, position)).collect();
        (QuantisedVector::from_values(&values), (0..8).map(|position| mix(2_000_000, position)).collect())
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn a_linear_relation_is_found_although_the_vectors_have_a_common_part() {
        let mut projection = VectorProjection::new(48, 9);
        for number in 0..2_000 {
            let (vector, embedding) = item(number);
            projection.learn(&vector, &embedding, 0.25, true);
        }
        assert!(projection.explained_share().is_some_and(|share| share > 0.8), "{:?}", projection.errors);
        let projections = VectorProjections { by_name: [("text".to_owned(), projection)].into(), ..Default::default() };
        let similarity: f32 = (5_000..5_100)
            .map(|number| {
                let (vector, embedding) = item(number);
                let row = projections.predict_row([("text", &vector)].into_iter()).unwrap();
                assert!((row[8] - 0.25).abs() < 0.02, "{}", row[8]);
                cosine(&row[..8], &embedding) / 100.0
            })
            .sum();
        assert!(similarity > 0.9, "{similarity}");
    }

    #[test]
    fn a_projection_that_explains_nothing_is_not_used() {
        let mut projection = VectorProjection::new(48, 9);
        for number in 0..1_000 {
            projection.learn(&item(number).0, &item(number + 7_000).1, 0.0, true);
        }
        assert_eq!(projection.explained_share(), None, "{:?}", projection.errors);
        let (projections, vector) = (VectorProjections::default(), item(1).0);
        assert_eq!(projections.predict_row([("text", &vector)].into_iter()), None);
    }

    #[test]
    fn at_most_eight_items_are_learned_at_a_boundary() {
        let mut projections = VectorProjections::default();
        (0..100).for_each(|number| projections.add_touched_item(number / 2));
        assert_eq!(projections.touched_items, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
