//! What the ranker is told of each candidate and of the moment.

use super::SourceAffinity;
use crate::candidates::simd_math::ln;
use crate::candidates::{CandidateSet, EVIDENCE_COLUMNS, EvidenceColumn, FEATURE_COLUMNS, FeatureColumn, QueryContext};

/// Features of a candidate: the logarithm of its share on each channel, of the weight behind it, and the facts.
pub const ITEM_FEATURES: usize = 2 * EVIDENCE_COLUMNS + FEATURE_COLUMNS;
/// Features of a moment: on each channel the evidence, the largest share and the session's mood; the facts of the last item; the session's shape.
pub const CONTEXT_FEATURES: usize = 3 * EVIDENCE_COLUMNS + FEATURE_COLUMNS + SHAPE;
/// Features of a session's shape.
const SHAPE: usize = 8;

/// The features of one moment, reused from moment to moment.
#[derive(Debug, Clone)]
pub struct RankingFeatures {
    /// `(candidates, ITEM)`, all about 0 to 2.
    pub raw_items: Vec<[f32; ITEM_FEATURES]>,
    /// `(MOMENT)`, all about 0 to 2.
    pub raw_context: [f32; CONTEXT_FEATURES],
    /// `(candidates, ITEM)`, brought to one scale: what the ranker sees.
    pub items: Vec<[f32; ITEM_FEATURES]>,
    /// `(MOMENT)`, likewise.
    pub context: [f32; CONTEXT_FEATURES],
}

impl Default for RankingFeatures {
    fn default() -> Self {
        Self { raw_items: Vec::new(), raw_context: [0.0; CONTEXT_FEATURES], items: Vec::new(), context: [0.0; CONTEXT_FEATURES] }
    }
}

impl RankingFeatures {
    /// Computes the raw features of the slate's kept candidates. `confidence` is the network's largest log-probability, if there is a network.
    pub fn compute(&mut self, slate: &CandidateSet, moment: &QueryContext<'_>, mood: &SourceAffinity, confidence: Option<f32>) {
        pulp::Arch::new().dispatch(ItemFeatureKernel { raw: &mut self.raw_items, slate });
        let mut recent = moment.recent_items();
        let (last, before) = (recent.next(), recent.next());
        let gap = match moment.steps {
            [.., before, last] => last.at.saturating_sub(before.at).max(0) as f32 / 1000.0,
            _ => 0.0,
        };
        let shape: [f32; SHAPE] = [
            ln(1.0 + moment.steps.len() as f32) * 0.3,
            f32::from(last.is_some() && moment.recent_items().skip(1).any(|item| Some(item) == last)),
            f32::from(last.is_some() && last == before),
            ln(1.0 + gap) * 0.15,
            mood.repeat_rate,
            mood.hit_rate,
            confidence.map_or(0.0, |log_probability| (log_probability.max(-12.0) + 12.0) / 12.0),
            f32::from(moment.steps.last().is_some_and(|step| step.starts_session)),
        ];
        let evidence = slate.totals().iter().map(|total| ln(1.0 + total) * 0.3);
        let best = self.raw_items.iter().fold([0.0f32; EVIDENCE_COLUMNS], |mut best, item| {
            best.iter_mut().zip(item).for_each(|(best, share)| *best = best.max(*share));
            best
        });
        let facts =
            last.and_then(|last| self.raw_items.get(slate.position(last)?)?.last_chunk()).copied().unwrap_or([0.0; FEATURE_COLUMNS]);
        for (out, x) in self.raw_context.iter_mut().zip(evidence.chain(best).chain(mood.shares).chain(facts).chain(shape)) {
            *out = x;
        }
    }
}

struct ItemFeatureKernel<'a> {
    raw: &'a mut Vec<[f32; ITEM_FEATURES]>,
    slate: &'a CandidateSet,
}

impl pulp::NullaryFnOnce for ItemFeatureKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { raw, slate } = self;
        let scale = slate.totals().map(|total| if total > 0.0 { 1.0 / total } else { 0.0 });
        let (mut plain, mut logarithmic) = ([0.0; FEATURE_COLUMNS], [0.0; FEATURE_COLUMNS]);
        for fact in FeatureColumn::ALL {
            (plain[fact as usize], logarithmic[fact as usize]) = fact.scaling();
        }
        raw.clear();
        raw.resize(slate.len(), [0.0; ITEM_FEATURES]);
        for ((evidence, facts, named), out) in slate.rows().zip(raw) {
            for lane in 0..EVIDENCE_COLUMNS {
                // From 0 for a share of nothing to 1.84 for all.
                out[lane] = (ln(evidence[lane] * scale[lane] + 1e-4) + 9.210_34) * 0.2;
            }
            for lane in 0..EVIDENCE_COLUMNS {
                out[EVIDENCE_COLUMNS + lane] = ln(1.0 + evidence[lane]) * 0.3;
            }
            let mut facts = *facts;
            facts[FeatureColumn::ColumnCount as usize] = named as f32;
            facts[FeatureColumn::NeighbourCount as usize] = evidence[EvidenceColumn::NeighbourCount as usize];
            for lane in 0..FEATURE_COLUMNS {
                out[2 * EVIDENCE_COLUMNS + lane] = plain[lane] * facts[lane] + logarithmic[lane] * ln(1.0 + facts[lane]);
            }
        }
    }
}
