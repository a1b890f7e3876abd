//! The values of the declared features of all candidates of one query.

use super::declaration::{FeatureDeclaration, term_hashes};
use super::key_hash::ValueHashes;
use super::weight_table::{WeightTable, slot_of};
use crate::domain::{Catalog, ItemIx};
use crate::ranking::filter::FeatureContext;

/// Changes of scores below this absolute value are not learned.
const MIN_SCORE_GRADIENT: f32 = 1e-4;

/// A gradient of the weight in a slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotGradient {
    pub(super) slot: u32,
    /// The number of the gradient in the order of the candidates.
    sequence: u32,
    /// The position of the feature in the declarations.
    pub(super) feature: usize,
    pub(super) gradient: f32,
}

/// Slots and scores of the declared features of the candidates of the last query. Each thread reuses
/// its buffers, so later queries allocate nothing.
#[derive(Debug, Clone, Default)]
pub struct FeatureValues {
    feature_count: usize,
    /// The slots of all values, by candidate and then by feature.
    slots: Vec<u32>,
    /// Where the slots of a feature of a candidate end; `(candidates, features)`.
    ends: Vec<usize>,
    /// What each feature adds to the score of a candidate; `(candidates, features)`.
    scores: Vec<f32>,
    /// The hashes of the terms of each feature that do not depend on the item, or `None` for a
    /// feature of which an operand is missing for all candidates.
    fixed: Vec<Option<[Option<ValueHashes>; FeatureDeclaration::MAX_OPERANDS]>>,
    gradients: Vec<SlotGradient>,
}

impl FeatureValues {
    /// Forgets the candidates of the last query.
    pub(super) fn clear(&mut self) {
        self.feature_count = 0;
        self.slots.clear();
        self.ends.clear();
        self.scores.clear();
    }

    /// Computes the values of all candidates, and what they add to the scores.
    pub(super) fn compute(
        &mut self,
        features: &[FeatureDeclaration],
        weights: &WeightTable,
        items: &[ItemIx],
        catalog: &Catalog,
        context: &FeatureContext<'_>,
    ) {
        self.clear();
        self.feature_count = features.len();
        self.fixed.clear();
        self.fixed.extend(features.iter().map(|feature| fixed_hashes(feature, context)));
        let Self { slots, ends, scores, fixed, .. } = self;
        for item in items {
            let known = catalog.get(*item);
            for (feature, fixed) in features.iter().zip(fixed.iter()) {
                let mut score = 0.0;
                if let Some(fixed) = fixed {
                    feature.visit_values(fixed, known, context, |hash| {
                        let slot = slot_of(hash);
                        score += weights.weight(slot);
                        slots.push(slot);
                    });
                }
                ends.push(slots.len());
                scores.push(score);
            }
        }
    }

    /// What each feature adds to the score of each candidate.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.scores.chunks_exact(self.feature_count.max(1))
    }

    /// Number of candidates with a value, of each feature.
    pub(super) fn candidates_with_value(&self, counts: &mut [f64]) {
        let mut begin = 0;
        for row in self.ends.chunks_exact(self.feature_count.max(1)) {
            for (end, count) in row.iter().zip(counts.iter_mut()) {
                *count += f64::from(u8::from(*end > begin));
                begin = *end;
            }
        }
    }

    /// The gradients of the weights, given those of the scores of the candidates: one gradient for
    /// each slot, in the order of the slots. If features share a slot, the first one counts.
    pub(super) fn slot_gradients(&mut self, score_gradients: &[f32]) -> &[SlotGradient] {
        let Self { slots, ends, gradients, feature_count, .. } = self;
        gradients.clear();
        let (mut begin, mut sequence) = (0, 0);
        for (row, gradient) in ends.chunks_exact((*feature_count).max(1)).zip(score_gradients) {
            for (feature, end) in row.iter().enumerate() {
                let of_feature = slots.get(begin..*end).unwrap_or_default();
                begin = *end;
                if gradient.abs() < MIN_SCORE_GRADIENT {
                    continue;
                }
                for slot in of_feature {
                    gradients.push(SlotGradient { slot: *slot, sequence, feature, gradient: *gradient });
                    sequence += 1;
                }
            }
        }
        // The order of equal slots decides how their sum is rounded.
        gradients.sort_unstable_by_key(|gradient| (gradient.slot, gradient.sequence));
        gradients.dedup_by(|next, kept| {
            let is_same = next.slot == kept.slot;
            kept.gradient += if is_same { next.gradient } else { 0.0 };
            is_same
        });
        gradients
    }
}

/// The hashes of the terms that do not depend on the item; `None` if an operand of such a term is
/// missing, so that the feature is absent for all candidates.
fn fixed_hashes(
    feature: &FeatureDeclaration,
    context: &FeatureContext<'_>,
) -> Option<[Option<ValueHashes>; FeatureDeclaration::MAX_OPERANDS]> {
    let mut fixed = [None; FeatureDeclaration::MAX_OPERANDS];
    for (fixed, term) in fixed.iter_mut().zip(feature.terms()).filter(|(_, term)| !term.reads_item()) {
        *fixed = Some(term_hashes(term, None, context)?);
    }
    Some(fixed)
}
