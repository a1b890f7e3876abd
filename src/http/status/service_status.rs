//! The status of the whole service, and its history.

use serde::Serialize;

use crate::domain::{Objective, Offset};
use crate::http::state::ApiState;
use crate::http::status::history::{LearningProgress, StatusRates, StatusSample};
use crate::http::status::readiness::not_ready_reason;
use crate::learner::{HeadQuality, InterestErrors};
use crate::metrics::MetricsSnapshot;

/// The status of the service.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct ServiceStatus {
    pub(in crate::http) version: &'static str,
    /// Whether the service is ready, as `/readyz` reports.
    pub(in crate::http) ready: bool,
    pub(in crate::http) journal: JournalStatus,
    pub(in crate::http) learning: LearningStatus,
    pub(in crate::http) quality: QualityStatus,
    pub(in crate::http) catalog: CatalogStatus,
    pub(in crate::http) users: usize,
    pub(in crate::http) in_flight: AdmissionStatus,
    #[serde(rename = "pace")]
    pub(in crate::http) rates: StatusRates,
    /// Quarantined journal entries.
    pub(in crate::http) quarantined: usize,
}

#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct JournalStatus {
    pub(in crate::http) next_offset: Offset,
    pub(in crate::http) bytes_on_disk: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct LearningStatus {
    pub(in crate::http) next_offset: Offset,
    pub(in crate::http) lag_entries: u64,
    /// How long the oldest untrained entry has waited: the oldest entry on which the published
    /// weights are not trained. If the learner lags, the wait lasts until now. Otherwise it ends at
    /// the arrival of the newest entry.
    pub(in crate::http) weights_lag_seconds: f64,
    pub(in crate::http) failed: bool,
    /// Whether learning is paused.
    pub(in crate::http) paused: bool,
    pub(in crate::http) weights_version: u64,
    pub(in crate::http) batches: u64,
    pub(in crate::http) skipped_batches: u64,
    pub(in crate::http) examples: u64,
    /// Mean loss over all training batches, in nats.
    pub(in crate::http) mean_loss: Option<f64>,
    /// Loss of the latest batch, in nats.
    pub(in crate::http) latest_loss: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct QualityStatus {
    pub(in crate::http) steps: u64,
    pub(in crate::http) recall_at_20: f64,
    pub(in crate::http) mrr_at_20: f64,
    pub(in crate::http) ndcg_at_20: f64,
    /// Quality over all evaluated events. The quality between two readings can be computed from
    /// both readings and their `steps`.
    pub(in crate::http) total: TotalQuality,
    /// Errors of the predicted event values over the latest events with a value, one element per
    /// kind. Empty until events carry values.
    pub(in crate::http) interest: Vec<InterestErrors>,
    /// Rankings for objectives, at the latest events of each objective.
    pub(in crate::http) objectives: Vec<ObjectiveQuality>,
}

/// Quality of the rankings with and without an objective at the latest events of the objective.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct ObjectiveQuality {
    pub(in crate::http) objective: Objective,
    /// Number of events that the head of the objective has learned.
    pub(in crate::http) learned_events: u64,
    /// Number of events over which the quality is measured.
    pub(in crate::http) steps: u64,
    pub(in crate::http) recall_at_20: f64,
    pub(in crate::http) mrr_at_20: f64,
    /// Recall@20 of the ranking without the objective.
    pub(in crate::http) base_recall_at_20: f64,
    /// MRR@20 of the ranking without the objective.
    pub(in crate::http) base_mrr_at_20: f64,
}

impl From<&HeadQuality> for ObjectiveQuality {
    fn from(quality: &HeadQuality) -> Self {
        let HeadQuality { objective, learned_events, with, without } = quality;
        Self {
            objective: *objective,
            learned_events: *learned_events,
            steps: with.steps,
            recall_at_20: with.recall(),
            mrr_at_20: with.mrr(),
            base_recall_at_20: without.recall(),
            base_mrr_at_20: without.mrr(),
        }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct TotalQuality {
    pub(in crate::http) recall_at_20: f64,
    pub(in crate::http) mrr_at_20: f64,
    pub(in crate::http) ndcg_at_20: f64,
}

#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct CatalogStatus {
    pub(in crate::http) items: usize,
    pub(in crate::http) clusters: usize,
}

#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct AdmissionStatus {
    pub(in crate::http) entries: usize,
    pub(in crate::http) bound: usize,
}

impl ServiceStatus {
    /// Reads the current status.
    pub(in crate::http) fn collect(api: &ApiState) -> Self {
        Self::from_metrics(api, &api.system.inspection.refresh_metrics().snapshot())
    }

    /// Builds the status from a snapshot of the metrics.
    pub(in crate::http) fn from_metrics(api: &ApiState, metrics: &MetricsSnapshot) -> Self {
        let learner = api.system.model.status();
        let (report, store) = (&learner.report, &api.system.store);
        let end = store.journal().next_offset().unwrap_or_default();
        let trained_through = api.system.recommender.snapshot().trained_through();
        let progress = LearningProgress { trained_through, learned_through: learner.next_offset, end };
        let loss = metrics.series_value("sequor_training_loss");
        let kinds = api.system.recommender.kinds();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            ready: not_ready_reason(&api.system, &learner).is_none(),
            journal: JournalStatus { next_offset: end, bytes_on_disk: store.size_on_disk().unwrap_or_default() },
            learning: LearningStatus {
                next_offset: learner.next_offset,
                lag_entries: end.saturating_sub(learner.next_offset),
                weights_lag_seconds: api.status_sampler.weights_lag_seconds(progress, api.clock.now()),
                failed: learner.has_failed,
                paused: report.is_paused,
                weights_version: api.system.recommender.snapshot().weights_version(),
                batches: report.training.batches,
                skipped_batches: report.training.skipped,
                examples: report.training.examples,
                mean_loss: report.training.mean_loss(),
                latest_loss: Some(loss).filter(|loss| loss.is_finite()),
            },
            quality: QualityStatus {
                steps: report.total.steps,
                recall_at_20: report.live.recall(),
                mrr_at_20: report.live.mrr(),
                ndcg_at_20: report.live.ndcg(),
                total: TotalQuality {
                    recall_at_20: report.total.recall(),
                    mrr_at_20: report.total.mrr(),
                    ndcg_at_20: report.total.ndcg(),
                },
                interest: report.interest.iter().filter_map(|report| report.live_errors(kinds)).collect(),
                objectives: report.objectives.iter().map(ObjectiveQuality::from).collect(),
            },
            catalog: CatalogStatus { items: report.items, clusters: report.clusters },
            users: report.users,
            in_flight: AdmissionStatus {
                entries: api.system.ingest.admission().in_flight(),
                bound: api.system.ingest.admission().limit(),
            },
            rates: api.status_sampler.current_rates(),
            quarantined: store.quarantine().count().unwrap_or_default(),
        }
    }
}

/// The history of the service.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct ServiceHistory {
    /// Samples since the daemon started, oldest first. The interval between them is one second at
    /// first, and grows the longer the service runs.
    #[serde(rename = "moments")]
    pub(in crate::http) samples: Vec<StatusSample>,
    /// Live quality since the journal's first event.
    pub(in crate::http) quality: Vec<QualityPoint>,
}

/// Live quality within a range of events. Each event is evaluated before the model learns it.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct QualityPoint {
    /// The number of the first event in the range.
    pub(in crate::http) from: u64,
    pub(in crate::http) steps: u64,
    pub(in crate::http) recall_at_20: f64,
    pub(in crate::http) mrr_at_20: f64,
}

impl ServiceHistory {
    /// Reads the history.
    pub(in crate::http) fn collect(api: &ApiState) -> Self {
        let status = api.system.model.status();
        let points = status.report.curve.points().iter();
        let quality = points
            .map(|at| QualityPoint { from: at.from, steps: at.steps, recall_at_20: at.recall, mrr_at_20: at.mrr })
            .collect();
        Self { samples: api.status_sampler.stored_samples(), quality }
    }
}
