//! The source of repeat consumption: items of the user's recent steps, and the repeat rate of each
//! item.

use super::candidate_set::CandidateSet;
use super::columns::{EvidenceColumn, FeatureColumn};
use super::query_context::QueryContext;
use super::source::CandidateSource;
use crate::domain::{PagedVec, SourceName, Step};
use serde::{Deserialize, Serialize};

/// For each item, the number of target events, and how many of them were repeats (the user's recent
/// steps already contained the item).
///
/// An occurrence of an item k items before the end of the user's recent steps adds evidence 0.8^k
/// for the item.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RepeatSource {
    items: PagedVec<(f32, f32), 64>,
}

impl CandidateSource for RepeatSource {
    fn name(&self) -> SourceName {
        SourceName::Session
    }

    fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        if item as usize >= self.items.len() {
            self.items.grow(item as usize + 1, Default::default);
        }
        if let Some((targets, repeated)) = self.items.get_mut(item as usize) {
            *targets += 1.0;
            if context.recent_items().any(|seen| seen == item) {
                *repeated += 1.0;
            }
        }
    }

    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        let mut weight = 1.0;
        for item in context.recent_items() {
            candidates.add_evidence(item, EvidenceColumn::SessionItems, weight);
            candidates.add_column_total(EvidenceColumn::SessionItems, weight);
            weight *= 0.8;
        }
    }

    fn add_features(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        let last = context.recent_items().next();
        for (item, evidence, features) in candidates.kept_rows_mut() {
            let rate =
                self.items.get(item as usize).map_or(0.0, |(targets, repeated)| (repeated + 0.5) / (targets + 2.0));
            features[FeatureColumn::RepeatRate as usize] = rate;
            features[FeatureColumn::IsLastItem as usize] = f32::from(Some(item) == last);
            if evidence[EvidenceColumn::SessionItems as usize] > 0.0 {
                let position = context.recent_items().position(|seen| seen == item).unwrap_or(0);
                let occurrences = context.recent_items().filter(|seen| *seen == item).count();
                features[FeatureColumn::IsInSession as usize] = 1.0;
                features[FeatureColumn::SessionRecency as usize] = 1.0 / (position + 1) as f32;
                features[FeatureColumn::CountInSession as usize] = occurrences as f32;
                features[FeatureColumn::RepeatRateInSession as usize] = rate;
                features[FeatureColumn::IsPreviousItem as usize] = f32::from(position == 1);
            }
        }
    }

    fn entry_count(&self) -> usize {
        self.items.len()
    }

    fn memory_bytes(&self) -> usize {
        self.items.len() * size_of::<(f32, f32)>()
    }
}
