//! The source of the user's long-term profile: items of earlier sessions.

use super::candidate_set::CandidateSet;
use super::cluster_affinity::ClusterAffinity;
use super::columns::{EvidenceColumn, FeatureColumn};
use super::query_context::QueryContext;
use super::source::CandidateSource;
use crate::domain::{SourceName, Step};

/// Generates the items of the user's profile, with their decayed counts as evidence. The profiles
/// belong to the users, so the source itself has no state.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProfileSource;

impl CandidateSource for ProfileSource {
    fn name(&self) -> SourceName {
        SourceName::Profile
    }

    fn learn(&mut self, _context: &QueryContext<'_>, _arrival: &Step) {}

    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        let Some(profile) = context.profile else { return };
        let mut total = 0.0;
        for (item, weight) in profile.weighted_items() {
            candidates.add_evidence(item, EvidenceColumn::ProfileItems, weight);
            total += weight;
        }
        candidates.add_column_total(EvidenceColumn::ProfileItems, total);
    }

    fn add_features(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        let Some(profile) = context.profile else { return };
        let affinity = ClusterAffinity::of(context);
        for (item, evidence, features) in candidates.kept_rows_mut() {
            if let Some(cluster) = context.clusters.and_then(|clusters| clusters.assigned_cluster(item)) {
                features[FeatureColumn::ProfileClusterShare as usize] = affinity.share_of(cluster);
            }
            if evidence[EvidenceColumn::ProfileItems as usize] > 0.0 {
                features[FeatureColumn::ProfileRecency as usize] =
                    profile.sessions_since(item).map_or(0.0, |sessions| 1.0 / sessions as f32);
            }
        }
    }

    fn entry_count(&self) -> usize {
        0
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}
