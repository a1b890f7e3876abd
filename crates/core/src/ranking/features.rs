//! The input features of the ranker: features of each candidate, and features of the query context,
//! which are the same for all candidates.

use super::SourceAffinity;
use super::source_affinity::AFFINITY_COLUMN_COUNT;
use crate::candidates::simd_math::ln;
use crate::candidates::{
    CandidateSet, EVIDENCE_COLUMN_COUNT, EvidenceColumn, FEATURE_COLUMN_COUNT, FeatureColumn, QueryContext,
};

/// Parts of the features of a candidate, with their lengths: the log share and the log weight of each
/// evidence column, then the feature columns.
pub(super) const ITEM_FEATURE_PARTS: [usize; 3] = [EVIDENCE_COLUMN_COUNT, EVIDENCE_COLUMN_COUNT, FEATURE_COLUMN_COUNT];
/// Parts of the features of the query context, with their lengths: the log total weight of each
/// evidence column, the largest share feature of a candidate in each column, the session's
/// [`SourceAffinity`], the feature columns of the user's last item, and the features of the session.
pub(super) const CONTEXT_FEATURE_PARTS: [usize; 5] =
    [EVIDENCE_COLUMN_COUNT, EVIDENCE_COLUMN_COUNT, AFFINITY_COLUMN_COUNT, FEATURE_COLUMN_COUNT, SESSION_FEATURE_COUNT];
/// Number of features per candidate: those of all parts, and zeros up to a multiple of 16.
pub const ITEM_FEATURE_COUNT: usize = sum_of(&ITEM_FEATURE_PARTS).next_multiple_of(16);
/// Number of features of the query context.
pub const CONTEXT_FEATURE_COUNT: usize = sum_of(&CONTEXT_FEATURE_PARTS);
/// Number of context features that describe the session.
const SESSION_FEATURE_COUNT: usize = 10;
/// Position of the first feature column among the features of a candidate.
const FIRST_FEATURE_COLUMN: usize = 2 * EVIDENCE_COLUMN_COUNT;

const fn sum_of(lengths: &[usize]) -> usize {
    let (mut sum, mut position) = (0, 0);
    while position < lengths.len() {
        sum += lengths[position];
        position += 1;
    }
    sum
}

/// Features of one query. Later queries reuse the buffers.
#[derive(Debug, Clone)]
pub struct RankingFeatures {
    /// Candidate features before normalisation, `(candidates, ITEM_FEATURE_COUNT)`, typically 0 to
    /// 2.
    pub raw_items: Vec<[f32; ITEM_FEATURE_COUNT]>,
    /// Context features before normalisation, `(CONTEXT_FEATURE_COUNT)`, typically 0 to 2.
    pub raw_context: [f32; CONTEXT_FEATURE_COUNT],
    /// Normalised candidate features, the input of the ranker.
    pub items: Vec<[f32; ITEM_FEATURE_COUNT]>,
    /// Normalised context features, the input of the ranker.
    pub context: [f32; CONTEXT_FEATURE_COUNT],
}

impl Default for RankingFeatures {
    fn default() -> Self {
        Self {
            raw_items: Vec::new(),
            raw_context: [0.0; CONTEXT_FEATURE_COUNT],
            items: Vec::new(),
            context: [0.0; CONTEXT_FEATURE_COUNT],
        }
    }
}

impl RankingFeatures {
    /// Computes the features of the kept candidates, before normalisation.
    ///
    /// `best_log_probability` is the log-probability of the network's best item; `None` without a
    /// network.
    pub fn compute_raw_features(
        &mut self,
        candidates: &CandidateSet,
        context: &QueryContext<'_>,
        affinity: &SourceAffinity,
        best_log_probability: Option<f32>,
    ) {
        crate::simd::arch().dispatch(ItemFeatureKernel { raw: &mut self.raw_items, candidates });
        let mut recent = context.recent_items();
        let (last, previous) = (recent.next(), recent.next());
        let gap_seconds = match context.steps {
            [.., previous, last] => last.at.saturating_sub(previous.at).max(0) as f32 / 1000.0,
            _ => 0.0,
        };
        let session: [f32; SESSION_FEATURE_COUNT] = [
            ln(1.0 + context.steps.len() as f32) * 0.3,
            f32::from(last.is_some() && context.recent_items().skip(1).any(|item| Some(item) == last)),
            f32::from(last.is_some() && last == previous),
            ln(1.0 + gap_seconds) * 0.15,
            affinity.repeat_rate,
            affinity.hit_rate,
            best_log_probability.map_or(0.0, |log_probability| (log_probability.max(-12.0) + 12.0) / 12.0),
            f32::from(context.steps.last().is_some_and(|step| step.starts_session)),
            f32::from(context.begins_session),
            context.profile.map_or(0.0, |profile| ln(1.0 + profile.session_count() as f32) * 0.3),
        ];
        let evidence = candidates.column_totals().iter().map(|total| ln(1.0 + total) * 0.3);
        let best_shares = self.raw_items.iter().fold([0.0f32; EVIDENCE_COLUMN_COUNT], |mut best_shares, item| {
            best_shares.iter_mut().zip(item).for_each(|(best, share)| *best = best.max(*share));
            best_shares
        });
        let features = last
            .and_then(|last| {
                self.raw_items.get(candidates.position_of(last)?)?.get(FIRST_FEATURE_COLUMN..)?.first_chunk()
            })
            .copied()
            .unwrap_or([0.0; FEATURE_COLUMN_COUNT]);
        for (out, x) in self
            .raw_context
            .iter_mut()
            .zip(evidence.chain(best_shares).chain(affinity.shares).chain(features).chain(session))
        {
            *out = x;
        }
    }
}

struct ItemFeatureKernel<'a> {
    raw: &'a mut Vec<[f32; ITEM_FEATURE_COUNT]>,
    candidates: &'a CandidateSet,
}

impl pulp::NullaryFnOnce for ItemFeatureKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { raw, candidates } = self;
        let scale = candidates.column_totals().map(|total| if total > 0.0 { 1.0 / total } else { 0.0 });
        let (mut plain, mut logarithmic) = ([0.0; FEATURE_COLUMN_COUNT], [0.0; FEATURE_COLUMN_COUNT]);
        for column in FeatureColumn::ALL {
            (plain[column as usize], logarithmic[column as usize]) = column.scaling_factors();
        }
        raw.clear();
        raw.resize(candidates.len(), [0.0; ITEM_FEATURE_COUNT]);
        for ((evidence, features, column_count), out) in candidates.kept_rows().zip(raw) {
            for i in 0..EVIDENCE_COLUMN_COUNT {
                // The share feature is ln(share + 1e-4), shifted and scaled to 0 for share 0 and
                // 1.84 for share 1.
                out[i] = (ln(evidence[i] * scale[i] + 1e-4) + 9.210_34) * 0.2;
            }
            for i in 0..EVIDENCE_COLUMN_COUNT {
                out[EVIDENCE_COLUMN_COUNT + i] = ln(1.0 + evidence[i]) * 0.3;
            }
            let mut features = *features;
            features[FeatureColumn::ColumnCount as usize] = column_count as f32;
            features[FeatureColumn::NeighbourCount as usize] = evidence[EvidenceColumn::NeighbourCount as usize];
            for i in 0..FEATURE_COLUMN_COUNT {
                out[FIRST_FEATURE_COLUMN + i] =
                    plain[i] * features[i] + logarithmic[i] * ln(1.0 + features[i].max(0.0));
            }
        }
    }
}
