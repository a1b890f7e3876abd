//! Combination of the model's scores with the relevance that a site gives to the items of a list,
//! such as the scores of its search. The weights of both are learned from clicks.

use crate::candidates::simd_math::exp;
use serde::{Deserialize, Serialize};

/// Adagrad learning rate of the weights.
const LEARNING_RATE: f32 = 0.1;
/// Initial value of the sums of squared gradients in Adagrad.
const INITIAL_SUM_OF_SQUARES: f32 = 0.1;

/// An item of a list that was shown, for learning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct JudgedListItem {
    /// The model's score.
    pub score: f32,
    /// The site's relevance; `None` if the site gave none.
    pub relevance: Option<f32>,
    /// Whether the user clicked the item.
    pub is_clicked: bool,
}

/// A listwise logistic model of clicks with two weights and no bias.
///
/// The combined score of an item is `a·s + b·r`. Here s is the model's score and r is the site's
/// relevance, both standardised within the list. So the combination does not depend on the scales of
/// the two, which differ between sites and between searches. An item without relevance has r = 0, the
/// mean of the list.
///
/// The loss of a list is the softmax cross-entropy of its clicked items under the combined scores.
/// The optimiser is Adagrad. Until the first list, a = b = 1: both count the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RelevanceModel {
    /// The weights a and b.
    weights: [f32; 2],
    /// The Adagrad sums of squared gradients.
    squares: [f32; 2],
    /// Number of learned lists.
    lists: u64,
}

impl Default for RelevanceModel {
    fn default() -> Self {
        Self { weights: [1.0; 2], squares: [INITIAL_SUM_OF_SQUARES; 2], lists: 0 }
    }
}

impl RelevanceModel {
    /// The weight of the model's standardised score.
    #[must_use]
    pub fn score_weight(&self) -> f32 {
        self.weights[0]
    }

    /// The weight of the site's standardised relevance.
    #[must_use]
    pub fn relevance_weight(&self) -> f32 {
        self.weights[1]
    }

    /// Number of learned lists.
    #[must_use]
    pub fn learned_lists(&self) -> u64 {
        self.lists
    }

    /// The combined score of each item of a list. `relevance` has one value for each score.
    #[must_use]
    pub fn combine(&self, scores: &[f32], relevance: &[Option<f32>]) -> Vec<f32> {
        let inputs = standardised_inputs(scores.iter().copied(), relevance.iter().copied());
        inputs.iter().map(|input| self.combined_score(input)).collect()
    }

    /// What the relevance adds to the combined score of each item.
    #[must_use]
    pub fn relevance_contributions(&self, relevance: &[Option<f32>]) -> Vec<f32> {
        standardised(relevance.to_vec()).into_iter().map(|value| self.relevance_weight() * value).collect()
    }

    /// Learns from the clicks on a list. Returns `false` and learns nothing if the list says nothing
    /// about the weights: if no item or every item was clicked, or if no item has a relevance.
    pub fn learn_list(&mut self, items: &[JudgedListItem]) -> bool {
        let clicks = items.iter().filter(|item| item.is_clicked).count();
        if clicks == 0 || clicks == items.len() || items.iter().all(|item| item.relevance.is_none()) {
            return false;
        }
        let scores = items.iter().map(|item| item.score);
        let inputs = standardised_inputs(scores, items.iter().map(|item| item.relevance));
        let combined: Vec<f32> = inputs.iter().map(|input| self.combined_score(input)).collect();
        let top = combined.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f32> = combined.iter().map(|score| exp(score - top)).collect();
        let total: f32 = exponentials.iter().sum();
        let mut gradient = [0.0_f32; 2];
        for ((input, exponential), item) in inputs.iter().zip(&exponentials).zip(items) {
            let clicked_share = if item.is_clicked { 1.0 / clicks as f32 } else { 0.0 };
            let delta = exponential / total - clicked_share;
            gradient.iter_mut().zip(input).for_each(|(sum, value)| *sum += delta * value);
        }
        for ((weight, square), gradient) in self.weights.iter_mut().zip(&mut self.squares).zip(gradient) {
            *square += gradient * gradient;
            *weight -= LEARNING_RATE * gradient / square.sqrt();
        }
        self.lists += 1;
        true
    }

    fn combined_score(&self, input: &[f32; 2]) -> f32 {
        self.weights.iter().zip(input).map(|(weight, value)| weight * value).sum()
    }
}

/// The standardised score and relevance of each item.
fn standardised_inputs(
    scores: impl Iterator<Item = f32>,
    relevance: impl Iterator<Item = Option<f32>>,
) -> Vec<[f32; 2]> {
    // An item that the ranker did not score has the lowest possible score.
    let scores = standardised(scores.map(|score| Some(score).filter(|score| *score > f32::MIN)).collect());
    scores.into_iter().zip(standardised(relevance.collect())).map(|(score, relevance)| [score, relevance]).collect()
}

/// Subtracts the mean of the values and divides by their standard deviation. Absent values become
/// 0; if all values are equal, all become 0.
fn standardised(values: Vec<Option<f32>>) -> Vec<f32> {
    let present = || values.iter().flatten().map(|value| f64::from(*value));
    let count = present().count().max(1) as f64;
    let mean = present().sum::<f64>() / count;
    let deviation = (present().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count).sqrt();
    let standardise = |value: f32| if deviation > 0.0 { (f64::from(value) - mean) / deviation } else { 0.0 };
    values.iter().map(|value| value.map_or(0.0, |value| standardise(value) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{RngCore, SeedableRng};

    /// A uniform number in [0, 1).
    fn uniform(rng: &mut Xoshiro256PlusPlus) -> f32 {
        (rng.next_u64() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// Lists of ten items. The user clicks one item, drawn by the softmax of `a·s + b·r` with
    /// standardised s and r.
    fn learn_generated_lists(true_weights: [f32; 2], lists: u64) -> RelevanceModel {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let (mut model, truth) =
            (RelevanceModel::default(), RelevanceModel { weights: true_weights, ..Default::default() });
        for _ in 0..lists {
            // The two have very different scales.
            let mut item = || JudgedListItem {
                score: uniform(&mut rng) - 7.0,
                relevance: Some(1_000.0 * uniform(&mut rng)),
                is_clicked: false,
            };
            let mut items: Vec<_> = (0..10).map(|_| item()).collect();
            let (scores, relevance): (Vec<_>, Vec<_>) = items.iter().map(|item| (item.score, item.relevance)).unzip();
            let chances: Vec<f32> = truth.combine(&scores, &relevance).into_iter().map(f32::exp).collect();
            let mut draw = uniform(&mut rng) * chances.iter().sum::<f32>();
            let clicked = chances.iter().position(|chance| {
                draw -= chance;
                draw < 0.0
            });
            items[clicked.unwrap_or(0)].is_clicked = true;
            assert!(model.learn_list(&items));
        }
        model
    }

    #[test]
    fn the_weights_of_generated_clicks_are_learned() {
        // The standard error of a weight after 4,000 lists is about 0.04.
        for truth in [[0.5, 2.0], [2.0, 0.5], [1.0, 0.0], [0.3, -0.5]] {
            let model = learn_generated_lists(truth, 4_000);
            let learned = [model.score_weight(), model.relevance_weight()];
            assert!(
                learned.iter().zip(truth).all(|(learned, truth)| (learned - truth).abs() < 0.2),
                "{learned:?} {truth:?}"
            );
            assert_eq!(model, learn_generated_lists(truth, 4_000), "deterministic");
        }
    }

    #[test]
    fn an_untrained_model_weighs_score_and_relevance_equally() {
        let model = RelevanceModel::default();
        let combined = model.combine(&[1.0, 2.0, 3.0], &[Some(30.0), Some(20.0), Some(10.0)]);
        assert!(combined.iter().all(|score| score.abs() < 1e-6), "{combined:?}");
        let combined = model.combine(&[1.0, 2.0, f32::MIN], &[None, None, Some(5.0)]);
        assert!(combined[0] < combined[2] && combined[2] < combined[1], "absent values are average: {combined:?}");
        assert_eq!(model.combine(&[2.0, 2.0], &[Some(3.0), Some(3.0)]), [0.0, 0.0]);
        assert!(model.combine(&[], &[]).is_empty());
    }

    #[test]
    fn a_list_without_information_teaches_nothing() {
        let mut model = RelevanceModel::default();
        let item = |is_clicked, relevance| JudgedListItem { score: 1.0, relevance, is_clicked };
        assert!(!model.learn_list(&[]));
        assert!(!model.learn_list(&[item(false, Some(1.0)), item(false, Some(2.0))]));
        assert!(!model.learn_list(&[item(true, Some(1.0)), item(true, Some(2.0))]));
        assert!(!model.learn_list(&[item(true, None), item(false, None)]));
        assert_eq!(model, RelevanceModel::default());
        assert!(model.learn_list(&[item(true, Some(1.0)), item(false, Some(2.0))]) && model.learned_lists() == 1);
        assert!(model.relevance_weight() < 1.0 && model.score_weight() == 1.0);
    }
}
