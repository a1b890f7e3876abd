//! The session's own items, and how often an item is chosen again once seen.

use super::{CandidateSet, CandidateSource, EvidenceColumn, FeatureColumn, QueryContext};
use crate::domain::{PagedVec, SourceName, Step};
use serde::{Deserialize, Serialize};

/// Per item: how often it came, and how often as a repetition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RepeatSource {
    items: PagedVec<(f32, f32), 64>,
}

impl CandidateSource for RepeatSource {
    fn name(&self) -> SourceName {
        SourceName::Session
    }

    fn learn(&mut self, moment: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        if item as usize >= self.items.len() {
            self.items.grow(item as usize + 1, Default::default);
        }
        if let Some((came, repeated)) = self.items.get_mut(item as usize) {
            *came += 1.0;
            if moment.recent_items().any(|seen| seen == item) {
                *repeated += 1.0;
            }
        }
    }

    fn generate(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        let mut weight = 1.0;
        for item in moment.recent_items() {
            slate.add(item, EvidenceColumn::SessionItems, weight);
            slate.add_total(EvidenceColumn::SessionItems, weight);
            weight *= 0.8;
        }
    }

    fn add_features(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        let last = moment.recent_items().next();
        for (item, evidence, facts) in slate.rows_mut() {
            let rate = self.items.get(item as usize).map_or(0.0, |(came, repeated)| (repeated + 0.5) / (came + 2.0));
            facts[FeatureColumn::RepeatRate as usize] = rate;
            facts[FeatureColumn::IsLastItem as usize] = f32::from(Some(item) == last);
            if evidence[EvidenceColumn::SessionItems as usize] > 0.0 {
                let place = moment.recent_items().position(|seen| seen == item).unwrap_or(0);
                let times = moment.recent_items().filter(|seen| *seen == item).count();
                facts[FeatureColumn::IsInSession as usize] = 1.0;
                facts[FeatureColumn::SessionRecency as usize] = 1.0 / (place + 1) as f32;
                facts[FeatureColumn::CountInSession as usize] = times as f32;
                facts[FeatureColumn::RepeatRateInSession as usize] = rate;
                facts[FeatureColumn::IsPreviousItem as usize] = f32::from(place == 1);
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
