//! Declared features: attributes of items, users and requests as features of the ranker.
//!
//! The settings declare each feature as up to three operands. The values of the operands are crossed
//! and hashed, and each hash selects one weight of a table. The score of a candidate is the logit of
//! the [`Ranker`](super::Ranker) plus the weights of all its values: a linear model with hashed
//! features [Weinberger et al. 2009], beside the ranker. It learns online with Adagrad, from the same
//! gradient of the listwise loss.
//!
//! On a sample of the events, the rank of the target item is measured again without each feature
//! (ablation), which gives the gain of the feature.
//!
//! - `declaration`: declared features, and their values for a candidate
//! - `key_hash`: hashes of values
//! - `weight_table`: the weights
//! - `feature_values`: buffers of one query
//! - `feature_gain`: the measured gains

mod declaration;
mod feature_gain;
mod feature_values;
mod key_hash;
mod weight_table;

pub use declaration::{FeatureDeclaration, FeatureDeclarationError, FeatureDeclarations};
pub use feature_gain::{FeatureQuality, ScoredTarget};
pub use feature_values::FeatureValues;

use super::filter::FeatureContext;
use crate::domain::{Catalog, ItemIx};
use feature_gain::FeatureGains;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use weight_table::WeightTable;

/// The weights of the declared features, and their measured gains. A clone shares the weights.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FeatureModel {
    declarations: FeatureDeclarations,
    weights: WeightTable,
    /// Number of weights in use, of each feature.
    weights_used: Vec<u64>,
    gains: FeatureGains,
}

/// What the declared features contribute to the quality of the ranking, over the latest sampled
/// events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureReport {
    /// Number of sampled events so far.
    pub sampled_events: u64,
    /// The quality of the ranking.
    pub with: FeatureQuality,
    /// The quality without all features.
    pub without_all: FeatureQuality,
    /// The features, in the order of their names.
    pub features: Vec<FeatureEffect>,
}

/// What one feature contributes.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureEffect {
    /// The name.
    pub name: Arc<str>,
    /// The operands as declared.
    pub operands: String,
    /// Share of the candidates that have a value.
    pub candidate_share: f64,
    /// Number of weights in use.
    pub weights: u64,
    /// The quality of the ranking without the feature.
    pub without: FeatureQuality,
}

impl FeatureModel {
    /// A model without weights.
    #[must_use]
    pub fn new(declarations: FeatureDeclarations) -> Self {
        let count = declarations.features().len();
        Self {
            declarations,
            weights: WeightTable::default(),
            weights_used: vec![0; count],
            gains: FeatureGains::new(count),
        }
    }

    /// The declared features.
    #[must_use]
    pub fn declarations(&self) -> &FeatureDeclarations {
        &self.declarations
    }

    /// Adds the features of the candidates to their scores.
    pub fn add_scores(
        &self,
        (items, scores): (&[ItemIx], &mut [f32]),
        catalog: &Catalog,
        context: &FeatureContext<'_>,
        values: &mut FeatureValues,
    ) {
        values.compute(self.declarations.features(), &self.weights, items, catalog, context);
        for (score, row) in scores.iter_mut().zip(values.rows()) {
            *score += row.iter().sum::<f32>();
        }
    }

    /// Learns from the gradients of the loss with respect to the scores of the candidates.
    pub fn learn(&mut self, score_gradients: &[f32], values: &mut FeatureValues) {
        for gradient in values.slot_gradients(score_gradients) {
            if self.weights.step(gradient.slot, gradient.gradient)
                && let Some(used) = self.weights_used.get_mut(gradient.feature)
            {
                *used += 1;
            }
        }
    }

    /// Measures the gains of the features with a sampled event. Must precede [`FeatureModel::learn`].
    pub fn measure(&mut self, scored: &ScoredTarget<'_>, values: &FeatureValues) {
        self.gains.add(scored, values);
    }

    /// Restores the weights of an earlier model with the same declarations.
    pub fn roll_back(&mut self, earlier: &Self) {
        self.weights = earlier.weights.clone();
        self.weights_used.clone_from(&earlier.weights_used);
    }

    /// What the features contribute.
    #[must_use]
    pub fn report(&self) -> FeatureReport {
        let to_effect = |(index, feature): (usize, &FeatureDeclaration)| {
            let (without, candidate_share) = self.gains.of_feature(index);
            FeatureEffect {
                name: Arc::clone(feature.name()),
                operands: feature.text().to_owned(),
                candidate_share,
                weights: self.weights_used.get(index).copied().unwrap_or_default(),
                without,
            }
        };
        FeatureReport {
            sampled_events: self.gains.samples(),
            with: self.gains.with(),
            without_all: self.gains.without_all(),
            features: self.declarations.features().iter().enumerate().map(to_effect).collect(),
        }
    }
}
