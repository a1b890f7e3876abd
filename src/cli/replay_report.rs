//! Report of a replay: table, JSON and plot.

use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::plot::{self, PlotLine};
use crate::domain::SourceName;
use crate::evaluation::CurvePoint;
use crate::learner::LearningReport;
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
    /// Ranking quality if each candidate source ranked alone, over the same steps.
    sources: Vec<SourceQualityReport>,
    /// Mean squared error of the interest head; `None` if the head is disabled.
    interest_mse: Option<f64>,
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
        events: u64,
        rejected: u64,
        elapsed: Duration,
        journal_bytes: u64,
    ) -> Self {
        let process = ProcessStats::read_proc();
        Self {
            file: file.display().to_string(),
            events,
            rejected,
            evaluated_steps: learning.evaluated.steps,
            recall_at_20: learning.evaluated.recall(),
            mrr_at_20: learning.evaluated.mrr(),
            ndcg_at_20: learning.evaluated.ndcg(),
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
            interest_mse: learning.interest_error.mean(),
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

impl fmt::Display for ReplayReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.file)?;
        writeln!(out, "  events            {:>12}   ({} rejected)", self.events, self.rejected)?;
        writeln!(out, "  evaluated steps   {:>12}", self.evaluated_steps)?;
        writeln!(out, "  Recall@20         {:>12.4}", self.recall_at_20)?;
        writeln!(out, "  MRR@20            {:>12.4}", self.mrr_at_20)?;
        writeln!(out, "  NDCG@20           {:>12.4}", self.ndcg_at_20)?;
        for source in &self.sources {
            let name = source.source.as_str();
            writeln!(
                out,
                "    {name:<14}  {:>12.4} / {:.4}   Recall@20 / MRR@20 of this source alone",
                source.recall_at_20, source.mrr_at_20
            )?;
        }
        if let Some(error) = self.interest_mse {
            writeln!(out, "  interest MSE      {error:>12.4}")?;
        }
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
