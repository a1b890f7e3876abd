//! What a replay found, as a table, as JSON, as a picture.

use serde::Serialize;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::plot::{self, PlotLine};
use crate::domain::SourceName;
use crate::evaluation::CurvePoint;
use crate::learner::LearningReport;
use crate::metrics::ProcessStats;

/// The figures of a replay.
#[derive(Debug, Clone, Serialize)]
pub(super) struct ReplayReport {
    file: String,
    events: u64,
    rejected: u64,
    evaluated_steps: u64,
    recall_at_20: f64,
    mrr_at_20: f64,
    ndcg_at_20: f64,
    /// Every source alone, over the same steps.
    sources: Vec<SourceQualityReport>,
    /// `None` while the interest head is off.
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

/// One source's own list.
#[derive(Debug, Clone, Serialize)]
struct SourceQualityReport {
    source: SourceName,
    recall_at_20: f64,
    mrr_at_20: f64,
    ndcg_at_20: f64,
}

impl ReplayReport {
    pub(super) fn new(file: &Path, learned: &LearningReport, events: u64, rejected: u64, elapsed: Duration, journal_bytes: u64) -> Self {
        let process = ProcessStats::read();
        Self {
            file: file.display().to_string(),
            events,
            rejected,
            evaluated_steps: learned.evaluated.steps,
            recall_at_20: learned.evaluated.recall(),
            mrr_at_20: learned.evaluated.mrr(),
            ndcg_at_20: learned.evaluated.ndcg(),
            sources: SourceName::ALL
                .into_iter()
                .zip(&learned.by_source)
                .map(|(source, quality)| SourceQualityReport {
                    source,
                    recall_at_20: quality.recall(),
                    mrr_at_20: quality.mrr(),
                    ndcg_at_20: quality.ndcg(),
                })
                .collect(),
            interest_mse: learned.interest_error.mean(),
            items: learned.items,
            users: learned.users,
            training_examples: learned.training.examples,
            training_batches: learned.training.batches,
            skipped_batches: learned.training.skipped,
            events_per_second: events as f64 / elapsed.as_secs_f64().max(1e-9),
            elapsed_seconds: elapsed.as_secs_f64(),
            cpu_seconds: process.map_or(0.0, |process| process.cpu_seconds),
            peak_rss_bytes: process.map_or(0, |process| process.peak_resident_bytes),
            journal_bytes,
            curve: learned.curve.points().to_vec(),
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
        for alone in &self.sources {
            let name = alone.source.as_str();
            writeln!(out, "    {name:<14}  {:>12.4} / {:.4}   Recall@20 / MRR@20 of its own list", alone.recall_at_20, alone.mrr_at_20)?;
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

/// Draws Recall@20 and MRR@20 over the stream.
pub(super) fn write_plot(report: &ReplayReport, file: &Path) -> anyhow::Result<()> {
    let line = |name, value: fn(&CurvePoint) -> f64| {
        let points = report.curve.iter().map(|point| (point.from as f64, value(point)));
        PlotLine { name, points: points.collect() }
    };
    let lines = [line("Recall@20", |point| point.recall), line("MRR@20", |point| point.mrr)];
    plot::draw(file, &format!("{}: learning as it goes", report.file), "events", "within each stretch", &lines)
}
