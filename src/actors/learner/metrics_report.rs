//! Metrics of the learner.

use super::LearnerActor;
use crate::domain::{ModelOperation, SourceName};
use crate::learner::{FeatureQuality, FeatureReport, HeadQuality, InterestReport, KindQuality, POSITION_BUCKETS};
use crate::metrics::{EventKindMetric, HeldBackReason, ListPosition, Metrics};
use metrics::Gauge;

/// Counts by source and list position.
type CountsBySourceAndPosition = [[u64; POSITION_BUCKETS.len()]; SourceName::ALL.len()];

impl LearnerActor {
    /// Updates the metrics with the learner's progress since the last call.
    pub(super) fn report_metrics(&mut self) {
        let (metrics, status, last) = (&self.metrics, self.status.load_full(), &self.last_status.report);
        let report = &status.report;
        let (new, old) = (&report.training, &last.training);
        metrics.training_batches.increment(new.batches - old.batches);
        metrics.training_skipped_batches.increment(new.skipped - old.skipped);
        metrics.training_examples.increment(new.examples - old.examples);
        if new.batches > old.batches {
            let batches = (new.batches - old.batches) as f64;
            metrics.training_loss.set((new.loss - old.loss) / batches);
            metrics.training_gradient_norm.set((new.gradient_norm - old.gradient_norm) / batches);
        }
        for (reason, (new, old)) in HeldBackReason::ALL.into_iter().zip(report.held_back.iter().zip(&last.held_back)) {
            metrics.held_back_events.with_label(reason).increment(new.saturating_sub(*old));
        }
        metrics.evaluated_steps.increment(report.total.steps - last.total.steps);
        metrics.evaluated_hits.increment(report.total.hits() - last.total.hits());
        if report.live.steps > 0 {
            metrics.live_recall_at_20.set(report.live.recall());
            metrics.live_mrr_at_20.set(report.live.mrr());
            metrics.live_ndcg_at_20.set(report.live.ndcg());
        }
        if report.live_new_items.steps > 0 {
            metrics.live_new_item_recall_at_20.set(report.live_new_items.recall());
            metrics.live_new_item_mrr_at_20.set(report.live_new_items.mrr());
        }
        for KindQuality { kind, live, .. } in report.by_kind.iter().filter(|quality| quality.live.steps > 0) {
            metrics.live_recall_at_20_by_kind.with_label(*kind).set(live.recall());
            metrics.live_mrr_at_20_by_kind.with_label(*kind).set(live.mrr());
        }
        report_objectives(metrics, &report.objectives);
        report_interest(metrics, &report.interest);
        report_features(metrics, &self.published.load().features().report());
        let (new, old) = (&report.clickthrough, &last.clickthrough);
        for (row, source) in SourceName::ALL.into_iter().enumerate() {
            for (column, position) in ListPosition::ALL.into_iter().enumerate() {
                let increase = |new: &CountsBySourceAndPosition, old: &CountsBySourceAndPosition| {
                    new[row][column] - old[row][column]
                };
                let (displayed, clicked) =
                    (increase(&new.displayed, &old.displayed), increase(&new.clicked, &old.clicked));
                metrics.shown_items.with_label(source).increment(displayed);
                metrics.shown_items_by_place.with_label(position).increment(displayed);
                metrics.credited_choices.with_label(source).increment(clicked);
                metrics.credited_choices_by_place.with_label(position).increment(clicked);
            }
        }
        for (_, change) in self.learner.model_operations().filter(|(offset, _)| *offset >= self.uncounted_from) {
            if matches!(change.operation, ModelOperation::Rollback { .. }) {
                metrics.rollbacks.with_label(change.cause).increment(1);
            }
        }
        self.uncounted_from = self.uncounted_from.max(self.learner.next_offset());
        metrics.learning_paused.set(f64::from(u8::from(report.is_paused)));
        metrics.training_share.set(1.0 / f64::from(1_u32 << self.learner.training_share_halvings()));
        metrics.learning_rate.set(report.learning_rate.map_or(f64::NAN, f64::from));
        for (source, (new, old)) in
            SourceName::ALL.into_iter().zip(report.hits_by_source.iter().zip(&last.hits_by_source))
        {
            metrics.evaluated_hits_by_source.with_label(source).increment(new - old);
        }
        for (source, quality) in
            SourceName::ALL.into_iter().zip(&report.live_by_source).filter(|(_, quality)| quality.steps > 0)
        {
            metrics.live_recall_at_20_by_source.with_label(source).set(quality.recall());
            metrics.live_mrr_at_20_by_source.with_label(source).set(quality.mrr());
        }
        metrics.users.set(report.users as f64);
        metrics.items.set(report.items as f64);
        metrics.item_clusters.set(report.clusters as f64);
        metrics.weights_version.set(self.published.load().weights_version() as f64);
        metrics.learner_offset.set(self.learner.next_offset() as f64);
        metrics.checkpoint_pending_entries.set(self.checkpoints.pending_entries());
        self.last_status = status;
    }
}

/// Sets the gains of the declared features.
fn report_features(metrics: &Metrics, report: &FeatureReport) {
    if report.sampled_events == 0 || report.features.is_empty() {
        return;
    }
    let effects = report.features.iter().map(|effect| (Some(&*effect.name), effect.without));
    for (feature, without) in effects.chain([(None, report.without_all)]) {
        let FeatureQuality { recall, mrr } = report.with.gain_over(without);
        metrics.set_feature_gain(feature, recall, mrr);
    }
}

/// Sets the quality of the rankings for objectives.
fn report_objectives(metrics: &Metrics, qualities: &[HeadQuality]) {
    for HeadQuality { objective, with, without, .. } in qualities.iter().filter(|quality| quality.with.steps > 0) {
        metrics.live_objective_recall_at_20.with_label(*objective).set(with.recall());
        metrics.live_objective_mrr_at_20.with_label(*objective).set(with.mrr());
        metrics.live_objective_base_recall_at_20.with_label(*objective).set(without.recall());
        metrics.live_objective_base_mrr_at_20.with_label(*objective).set(without.mrr());
    }
}

/// Sets the errors of the predicted values.
fn report_interest(metrics: &Metrics, reports: &[InterestReport]) {
    for InterestReport { kind, live, .. } in reports.iter().filter(|report| report.live.ratings > 0) {
        let set = |metric: &EventKindMetric<Gauge>, value: Option<f64>| {
            metric.with_label(*kind).set(value.unwrap_or(f64::NAN));
        };
        set(&metrics.live_interest_mse, live.mse());
        set(&metrics.live_interest_baseline_mse, live.baseline_mse());
        set(&metrics.live_interest_rmse, live.rmse());
        set(&metrics.live_interest_mae, live.mae());
        set(&metrics.live_interest_calibration, live.calibration());
    }
}
