//! What the declared features contribute to the ranking.

use actix_web::web::{Data, Json};
use serde::Serialize;

use crate::domain::Offset;
use crate::http::state::ApiState;
use crate::learner::{FeatureEffect, FeatureQuality, FeatureReport, ModelSnapshot};

/// The declared features, with their gains over the latest sampled events.
#[derive(Debug, Serialize)]
pub(in crate::http) struct FeaturesView {
    /// The offset of the snapshot: the figures include every entry before it.
    pub(in crate::http) offset: Offset,
    /// Number of events for which the ranking was measured again without features, one in 16.
    pub(in crate::http) sampled_events: u64,
    /// The quality of the ranking.
    pub(in crate::http) with: QualityView,
    /// The quality without all features.
    pub(in crate::http) without: QualityView,
    /// The difference.
    pub(in crate::http) gain: QualityView,
    /// The features, in the order of their names.
    pub(in crate::http) features: Vec<FeatureView>,
}

/// One declared feature.
#[derive(Debug, Serialize)]
pub(in crate::http) struct FeatureView {
    pub(in crate::http) name: String,
    /// The operands, as declared.
    pub(in crate::http) operands: String,
    /// Share of the candidates of the sampled events that have a value.
    pub(in crate::http) candidate_share: f64,
    /// Number of weights in use.
    pub(in crate::http) weights: u64,
    pub(in crate::http) with: QualityView,
    /// The quality of the ranking without this feature.
    pub(in crate::http) without: QualityView,
    pub(in crate::http) gain: QualityView,
}

/// Recall@20 and MRR@20, or differences of them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::http) struct QualityView {
    pub(in crate::http) recall_at_20: f64,
    pub(in crate::http) mrr_at_20: f64,
}

impl From<FeatureQuality> for QualityView {
    fn from(FeatureQuality { recall, mrr }: FeatureQuality) -> Self {
        Self { recall_at_20: recall, mrr_at_20: mrr }
    }
}

impl FeaturesView {
    pub(in crate::http) fn new(snapshot: &ModelSnapshot) -> Self {
        let FeatureReport { sampled_events, with, without_all, features } = snapshot.features().report();
        let to_view = |effect: FeatureEffect| FeatureView {
            name: effect.name.to_string(),
            operands: effect.operands,
            candidate_share: effect.candidate_share,
            weights: effect.weights,
            with: with.into(),
            without: effect.without.into(),
            gain: with.gain_over(effect.without).into(),
        };
        Self {
            offset: snapshot.offset(),
            sampled_events,
            with: with.into(),
            without: without_all.into(),
            gain: with.gain_over(without_all).into(),
            features: features.into_iter().map(to_view).collect(),
        }
    }
}

pub(in crate::http) async fn get_features(api: Data<ApiState>) -> Json<FeaturesView> {
    Json(FeaturesView::new(&api.system.recommender.snapshot()))
}
