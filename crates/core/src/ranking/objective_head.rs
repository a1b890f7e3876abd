//! A head of the ranker: a linear model that changes the ranker's scores towards the events of one
//! objective, such as conversions.

use super::features::ITEM_FEATURE_COUNT;
use super::stored_ranker::{FeatureCountError, FeatureVersion};
use crate::candidates::simd_math::exp;
use crate::domain::{ItemIx, PagedVec};
use serde::{Deserialize, Serialize};

/// Adagrad learning rate of the weights. A step changes a weight by at most this value.
const WEIGHT_LEARNING_RATE: f32 = 0.05;
/// Adagrad learning rate of the item biases. It is larger than that of the ranker's biases, because
/// the events of an objective are rare.
const BIAS_LEARNING_RATE: f32 = 0.1;
/// Initial value of the sums of squared gradients in Adagrad.
const INITIAL_SUM_OF_SQUARES: f32 = 0.1;
/// Factor of the L2 penalty, which pulls weights and biases towards 0, that is, towards the ranking
/// without the head.
const L2_PENALTY: f32 = 1e-3;
/// The bias of an item changes only if the absolute value of its score gradient is above this value,
/// so that an event changes few biases.
const MIN_SCORE_GRADIENT_FOR_BIAS: f32 = 1e-3;

/// A linear model of the normalised candidate features with a bias for each item. A list for the
/// objective is ranked by the ranker's score plus `weights·x + bias`, the contribution of the head.
///
/// The loss is the softmax cross-entropy over the candidates of an event of the objective, as for the
/// [`Ranker`](super::Ranker), with an L2 penalty. The ranker's scores are constants in this loss, so
/// the head learns only what distinguishes these events from other events. The optimiser is Adagrad
/// with one step an event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "StoredObjectiveHead")]
pub struct ObjectiveHead {
    /// `(ITEM_FEATURE_COUNT)`
    weights: Vec<f32>,
    /// The Adagrad sum of squared gradients of each weight.
    squares: Vec<f32>,
    /// The bias of each item with the Adagrad sum of its squared gradients.
    biases: PagedVec<(f32, f32), 64>,
    /// Number of learned events.
    events: u64,
}

/// Serialised form of [`ObjectiveHead`]. Heads of earlier versions can have fewer features.
#[derive(Deserialize)]
struct StoredObjectiveHead {
    weights: Vec<f32>,
    squares: Vec<f32>,
    biases: PagedVec<(f32, f32), 64>,
    events: u64,
}

impl TryFrom<StoredObjectiveHead> for ObjectiveHead {
    type Error = FeatureCountError;

    fn try_from(stored: StoredObjectiveHead) -> Result<Self, FeatureCountError> {
        let StoredObjectiveHead { weights, squares, biases, events } = stored;
        let version = FeatureVersion::of_item_count(weights.len())?;
        FeatureVersion::of_item_count(squares.len())?;
        Ok(Self {
            weights: version.item_values(weights, &0.0),
            squares: version.item_values(squares, &INITIAL_SUM_OF_SQUARES),
            biases,
            events,
        })
    }
}

impl Default for ObjectiveHead {
    fn default() -> Self {
        Self {
            weights: vec![0.0; ITEM_FEATURE_COUNT],
            squares: vec![INITIAL_SUM_OF_SQUARES; ITEM_FEATURE_COUNT],
            biases: PagedVec::default(),
            events: 0,
        }
    }
}

impl ObjectiveHead {
    /// Number of learned events of the objective.
    #[must_use]
    pub fn learned_events(&self) -> u64 {
        self.events
    }

    /// What the head adds to the score of an item with these normalised features.
    #[must_use]
    pub fn contribution(&self, features: &[f32; ITEM_FEATURE_COUNT], item: ItemIx) -> f32 {
        let bias = self.biases.get(item as usize).map_or(0.0, |(bias, _)| *bias);
        // Separate sums, so that the compiler can use vector instructions.
        let mut sums = [0.0_f32; 16];
        for (x, w) in features.chunks_exact(16).zip(self.weights.chunks_exact(16)) {
            for ((sum, x), w) in sums.iter_mut().zip(x).zip(w) {
                *sum += x * w;
            }
        }
        bias + sums.iter().sum::<f32>()
    }

    /// Learns one event on the candidate at index `target`. `scores` are the scores of the candidates
    /// with the contribution of the head. The call overwrites them with the gradient of the loss,
    /// multiplied by `weight`.
    pub(super) fn learn(
        &mut self,
        features: &[[f32; ITEM_FEATURE_COUNT]],
        items: &[ItemIx],
        scores: &mut [f32],
        target: usize,
        weight: f32,
    ) {
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores.iter_mut().for_each(|score| *score = exp(*score - top));
        let scale = weight / scores.iter().sum::<f32>();
        scores.iter_mut().for_each(|score| *score *= scale);
        let Some(of_target) = scores.get_mut(target) else { return };
        *of_target -= weight;
        let mut gradient = [0.0_f32; ITEM_FEATURE_COUNT];
        for (x, delta) in features.iter().zip(scores.iter()) {
            gradient.iter_mut().zip(x).for_each(|(sum, x)| *sum += delta * x);
        }
        for ((value, square), gradient) in self.weights.iter_mut().zip(&mut self.squares).zip(gradient) {
            step(value, square, gradient, WEIGHT_LEARNING_RATE);
        }
        for (&item, &delta) in
            items.iter().zip(scores.iter()).filter(|(_, delta)| delta.abs() > MIN_SCORE_GRADIENT_FOR_BIAS)
        {
            let index = item as usize;
            self.biases.grow(index + 1, || (0.0, INITIAL_SUM_OF_SQUARES));
            if let Some((bias, square)) = self.biases.get_mut(index) {
                step(bias, square, delta, BIAS_LEARNING_RATE);
            }
        }
        self.events += 1;
    }
}

/// One Adagrad step with L2 penalty.
fn step(value: &mut f32, square: &mut f32, gradient: f32, learning_rate: f32) {
    let gradient = gradient + L2_PENALTY * *value;
    *square += gradient * gradient;
    *value -= learning_rate * gradient / square.sqrt();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{RngCore, SeedableRng};

    const CANDIDATES: usize = 20;

    /// Features of candidates, of which feature 3 is drawn and feature 5 is the same for all.
    fn drawn_features(rng: &mut Xoshiro256PlusPlus) -> Vec<[f32; ITEM_FEATURE_COUNT]> {
        let mut row = || {
            let mut row = [0.0; ITEM_FEATURE_COUNT];
            row[3] = (rng.next_u64() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
            row[5] = 2.0;
            row
        };
        (0..CANDIDATES).map(|_| row()).collect()
    }

    /// Learns events whose target is the candidate with the largest feature 3, or item 7.
    fn learn_events(on_item_7: bool, weight: f32) -> ObjectiveHead {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        let (mut head, items) = (ObjectiveHead::default(), (0..CANDIDATES as ItemIx).collect::<Vec<_>>());
        for _ in 0..300 {
            let features = drawn_features(&mut rng);
            let largest = (0..CANDIDATES).max_by(|a, b| features[*a][3].total_cmp(&features[*b][3])).unwrap();
            let mut scores: Vec<f32> =
                features.iter().zip(&items).map(|(row, item)| head.contribution(row, *item)).collect();
            head.learn(&features, &items, &mut scores, if on_item_7 { 7 } else { largest }, weight);
        }
        head
    }

    #[test]
    fn a_head_learns_the_features_and_items_of_its_events() {
        let contribution = |head: &ObjectiveHead, feature, item| {
            let mut row = [0.0; ITEM_FEATURE_COUNT];
            row[3] = feature;
            head.contribution(&row, item)
        };
        let by_feature = learn_events(false, 1.0);
        assert!(contribution(&by_feature, 1.0, 1) > contribution(&by_feature, 0.5, 1) + 0.5);
        assert!(by_feature.weights[5].abs() < 0.05, "a feature without differences has no weight");
        let by_item = learn_events(true, 1.0);
        assert!(contribution(&by_item, 0.0, 7) > contribution(&by_item, 0.0, 8) + 2.0);
        assert_eq!((by_item.learned_events(), contribution(&by_item, 0.0, 1_000)), (300, 0.0));
    }

    #[test]
    fn the_same_events_give_the_same_bytes_and_weights_count() {
        let encode = |head: &ObjectiveHead| bincode::serde::encode_to_vec(head, bincode::config::standard()).unwrap();
        let once = encode(&learn_events(false, 1.0));
        assert_eq!(once, encode(&learn_events(false, 1.0)));
        assert_ne!(once, encode(&learn_events(false, 0.1)));
        let (decoded, _) =
            bincode::serde::decode_from_slice::<ObjectiveHead, _>(&once, bincode::config::standard()).unwrap();
        assert_eq!(encode(&decoded), once);
    }

    #[test]
    fn heads_of_earlier_versions_get_weights_for_new_features() {
        let stored = StoredObjectiveHead {
            weights: vec![0.5; 48],
            squares: vec![0.25; 48],
            biases: PagedVec::default(),
            events: 9,
        };
        let head = ObjectiveHead::try_from(stored).unwrap();
        assert_eq!((head.weights.len(), head.squares.len(), head.events), (ITEM_FEATURE_COUNT, ITEM_FEATURE_COUNT, 9));
        let damaged = StoredObjectiveHead {
            weights: vec![0.5; 47],
            squares: vec![0.25; 48],
            biases: PagedVec::default(),
            events: 9,
        };
        assert!(ObjectiveHead::try_from(damaged).is_err());
    }
}
