//! Report of a replay: table, JSON and plot.

use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::interest_lines::InterestLines;
use super::plot::{self, PlotLine};
use crate::domain::{EventKinds, SourceName};
use crate::evaluation::{CurvePoint, RankingMetrics};
use crate::learner::{InterestErrors, KindQuality, LearningReport};
use crate::metrics::ProcessStats;

/// Quality and cost of a replay.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ReplayReport {
    file: String,
    events: u64,
    rejected: u64,
    evaluated_steps: u64,
    recall_at_20: f64,
    mrr_at_20: f64,
    ndcg_at_20: f64,
    /// Ranking quality over the steps that begin a session of a returning user.
    first_events: QualityReport,
    /// Ranking quality over the other steps.
    later_events: QualityReport,
    /// Ranking quality over the steps whose item was new: fewer than 5 of its target events had
    /// been learned.
    new_items: QualityReport,
    /// Ranking quality by the kind of the target event.
    kinds: Vec<KindQualityReport>,
    /// Ranking quality if each candidate source ranked alone, over the same steps.
    sources: Vec<SourceQualityReport>,
    /// Mean squared error of the interest model of the kind with the most tests; `None` without
    /// tests.
    interest_mse: Option<f64>,
    /// Errors of the interest models, one per kind of events that carry values.
    interest: Vec<InterestErrors>,
    items: usize,
    users: usize,
    training_examples: u64,
    training_batches: u64,
    skipped_batches: u64,
    events_per_second: f64,
    elapsed_seconds: f64,
    cpu_seconds: f64,
    peak_rss_bytes: u64,
    journal_bytes: u64,
    #[serde(skip)]
    curve: Vec<CurvePoint>,
}

/// Ranking quality over some of the evaluated steps.
#[derive(Debug, Clone, Serialize)]
struct QualityReport {
    steps: u64,
    recall_at_20: f64,
    mrr_at_20: f64,
    ndcg_at_20: f64,
}

impl From<RankingMetrics> for QualityReport {
    fn from(quality: RankingMetrics) -> Self {
        Self {
            steps: quality.steps,
            recall_at_20: quality.recall(),
            mrr_at_20: quality.mrr(),
            ndcg_at_20: quality.ndcg(),
        }
    }
}

/// Ranking quality over the evaluated steps whose target event is of one kind.
#[derive(Debug, Clone, Serialize)]
struct KindQualityReport {
    kind: String,
    #[serde(flatten)]
    quality: QualityReport,
}

/// Ranking quality of a candidate source alone.
#[derive(Debug, Clone, Serialize)]
struct SourceQualityReport {
    source: SourceName,
    recall_at_20: f64,
    mrr_at_20: f64,
    ndcg_at_20: f64,
}

impl ReplayReport {
    pub(super) fn new(
        file: &Path,
        learning: &LearningReport,
        kinds: &EventKinds,
        events: u64,
        rejected: u64,
        elapsed: Duration,
        journal_bytes: u64,
    ) -> Self {
        let process = ProcessStats::read_proc();
        let interest: Vec<_> = learning.interest.iter().filter_map(|report| report.evaluated_errors(kinds)).collect();
        Self {
            file: file.display().to_string(),
            events,
            rejected,
            evaluated_steps: learning.evaluated.steps,
            recall_at_20: learning.evaluated.recall(),
            mrr_at_20: learning.evaluated.mrr(),
            ndcg_at_20: learning.evaluated.ndcg(),
            first_events: learning.evaluated_first_events.into(),
            later_events: learning.evaluated.without(&learning.evaluated_first_events).into(),
            new_items: learning.evaluated_new_items.into(),
            kinds: kind_reports(learning, kinds),
            sources: SourceName::ALL
                .into_iter()
                .zip(&learning.by_source)
                .map(|(source, quality)| SourceQualityReport {
                    source,
                    recall_at_20: quality.recall(),
                    mrr_at_20: quality.mrr(),
                    ndcg_at_20: quality.ndcg(),
                })
                .collect(),
            interest_mse: interest.iter().max_by_key(|report| report.tests).map(|report| report.mse),
            interest,
            items: learning.items,
            users: learning.users,
            training_examples: learning.training.examples,
            training_batches: learning.training.batches,
            skipped_batches: learning.training.skipped,
            events_per_second: events as f64 / elapsed.as_secs_f64().max(1e-9),
            elapsed_seconds: elapsed.as_secs_f64(),
            cpu_seconds: process.map_or(0.0, |process| process.cpu_seconds),
            peak_rss_bytes: process.map_or(0, |process| process.peak_resident_bytes),
            journal_bytes,
            curve: learning.curve.points().to_vec(),
        }
    }
}

/// The quality by kind, for the kinds with evaluated steps.
fn kind_reports(learning: &LearningReport, kinds: &EventKinds) -> Vec<KindQualityReport> {
    let report = |quality: &KindQuality| {
        let kind = kinds.name_of(quality.kind)?.to_owned();
        (quality.evaluated.steps > 0).then(|| KindQualityReport { kind, quality: quality.evaluated.into() })
    };
    learning.by_kind.iter().filter_map(report).collect()
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.file)?;
        writeln!(out, "  events            {:>12}   ({} rejected)", self.events, self.rejected)?;
        writeln!(out, "  evaluated steps   {:>12}", self.evaluated_steps)?;
        writeln!(out, "  Recall@20         {:>12.4}", self.recall_at_20)?;
        writeln!(out, "  MRR@20            {:>12.4}", self.mrr_at_20)?;
        writeln!(out, "  NDCG@20           {:>12.4}", self.ndcg_at_20)?;
        let parts = [
            ("first events", &self.first_events, self.first_events.steps),
            ("later events", &self.later_events, self.first_events.steps),
            ("new items", &self.new_items, self.new_items.steps),
        ];
        for (name, part, _) in parts.into_iter().filter(|(_, _, steps)| *steps > 0) {
            writeln!(
                out,
                "    {name:<14}  {:>12.4} / {:.4}   Recall@20 / MRR@20 of {} steps",
                part.recall_at_20, part.mrr_at_20, part.steps
            )?;
        }
        // With one kind, its quality is that of all steps.
        for KindQualityReport { kind, quality } in self.kinds.iter().filter(|_| self.kinds.len() > 1) {
            writeln!(
                out,
                "    {kind:<14}  {:>12.4} / {:.4}   Recall@20 / MRR@20 of {} steps of this kind",
                quality.recall_at_20, quality.mrr_at_20, quality.steps
            )?;
        }
        for source in &self.sources {
            let name = source.source.as_str();
            writeln!(
                out,
                "    {name:<14}  {:>12.4} / {:.4}   Recall@20 / MRR@20 of this source alone",
                source.recall_at_20, source.mrr_at_20
            )?;
        }
        write!(out, "{}", InterestLines(&self.interest))?;
        writeln!(out, "  items             {:>12}", self.items)?;
        writeln!(
            out,
            "  trained on        {:>12}   positions in {} batches ({} skipped)",
            self.training_examples, self.training_batches, self.skipped_batches
        )?;
        writeln!(out, "  events/s          {:>12.0}   in {:.1} s", self.events_per_second, self.elapsed_seconds)?;
        writeln!(out, "  CPU               {:>10.1} s", self.cpu_seconds)?;
        writeln!(out, "  peak RSS          {:>8.1} MiB", self.peak_rss_bytes as f64 / 1_048_576.0)?;
        write!(out, "  on disk           {:>8.1} MiB", self.journal_bytes as f64 / 1_048_576.0)
    }
}

/// Plots Recall@20 and MRR@20 over the replayed events.
pub(super) fn write_plot(report: &ReplayReport, file: &Path) -> anyhow::Result<()> {
    let line = |name, value: fn(&CurvePoint) -> f64| {
        let points = report.curve.iter().map(|point| (point.from as f64, value(point)));
        PlotLine { name, points: points.collect() }
    };
    let lines = [line("Recall@20", |point| point.recall), line("MRR@20", |point| point.mrr)];
    plot::draw_line_plot(file, &format!("{}: learning curve", report.file), "events", "mean per interval", &lines)
}
