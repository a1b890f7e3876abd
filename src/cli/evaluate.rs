//! `sequor evaluate`: evaluates a trained network on sessions that it was not trained on.

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::file_flags::FileFlags;
use super::interest_lines::InterestLines;
use super::{recording, training_checkpoint};
use crate::learner::{InterestErrors, InterestSettings, OfflineScores, score_sessions, score_values};
use crate::settings::Period;

/// Arguments of `sequor evaluate`.
#[derive(Debug, Args)]
pub(super) struct Evaluate {
    /// Recording to read: CSV with a header `user,item,event,timestamp[,value][,session]`, or
    /// NDJSON (.ndjson, .jsonl). A further .gz or .zst means compressed. Other names and formats
    /// need --map and the flags below.
    file: PathBuf,
    #[command(flatten)]
    format: FileFlags,
    /// Checkpoint from `sequor train --checkpoint`.
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// Share of the sessions to test on, the most recent ones, from 0.0 to 1.0 [default: the share
    /// that the training held out].
    #[arg(long, value_name = "FRACTION", value_parser = parse_share)]
    test: Option<f64>,
    /// Time without events after which a new session starts, such as 30m [default: the value of the
    /// training].
    #[arg(long, value_name = "DURATION")]
    idle_gap: Option<Period>,
    /// Write the metrics to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn parse_share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "must be a number from 0.0 to 1.0".to_owned())
}

impl Evaluate {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut training = training_checkpoint::read_training_checkpoint(&self.checkpoint)?;
        let idle_gap_ms = self.idle_gap.map_or(training.idle_gap_ms(), Period::as_millis);
        let mapping = self.format.event_mapping()?;
        let read = recording::read_recording(&self.file, mapping, training.kinds(), idle_gap_ms)?;
        let share = self.test.unwrap_or(training.settings().test);
        let interest = score_values(&read.recording, share, InterestSettings::default(), training.kinds());
        let test = read.recording.into_test_sessions(share, training.item_names());
        if test.is_empty() {
            bail!(
                "{} has no session to test on: no held-out session has two events on known items; try a larger --test",
                self.file.display()
            );
        }
        let scores = score_sessions(&training.best_weights(), &test, training.kinds());
        let evaluation = EvaluationReport {
            file: self.file.display().to_string(),
            checkpoint: self.checkpoint.display().to_string(),
            epoch: training.best_epoch(),
            items: training.item_names().len(),
            test_sessions: test.len(),
            figures: EvaluationFigures::new(&scores),
            interest,
        };
        writeln!(stdout(), "{evaluation}")?;
        self.json.as_deref().map_or(Ok(()), |file| write_json(file, &evaluation))
    }
}

/// Writes a report to a file as JSON.
pub(super) fn write_json<T: Serialize>(file: &Path, figures: &T) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(figures)? + "\n";
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

#[derive(Debug, Serialize)]
struct EvaluationReport {
    file: String,
    checkpoint: String,
    epoch: usize,
    items: usize,
    test_sessions: usize,
    #[serde(flatten)]
    figures: EvaluationFigures,
    /// Errors of the interest models, one per kind of events that carry values.
    interest: Vec<InterestErrors>,
}

impl fmt::Display for EvaluationReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.file)?;
        writeln!(out, "  checkpoint        {}, epoch {}, {} items", self.checkpoint, self.epoch, self.items)?;
        writeln!(out, "{}", self.figures)?;
        write!(out, "{}", InterestLines(&self.interest))?;
        write!(out, "  test sessions     {:>12}", self.test_sessions)
    }
}

/// Ranking metrics over the test steps.
#[derive(Debug, Clone, Serialize)]
pub(super) struct EvaluationFigures {
    evaluated_steps: u64,
    recall_at_20: f64,
    mrr_at_20: f64,
    ndcg_at_20: f64,
}

impl EvaluationFigures {
    pub(super) fn new(scores: &OfflineScores) -> Self {
        let quality = &scores.metrics;
        Self {
            evaluated_steps: quality.steps,
            recall_at_20: quality.recall(),
            mrr_at_20: quality.mrr(),
            ndcg_at_20: quality.ndcg(),
        }
    }
}

impl EvaluationFigures {
    pub(super) fn recall(&self) -> f64 {
        self.recall_at_20
    }

    pub(super) fn mrr(&self) -> f64 {
        self.mrr_at_20
    }

    pub(super) fn ndcg(&self) -> f64 {
        self.ndcg_at_20
    }
}

impl fmt::Display for EvaluationFigures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.evaluated_steps == 0 {
            return write!(out, "  evaluated steps   {:>12}", "none");
        }
        writeln!(out, "  evaluated steps   {:>12}", self.evaluated_steps)?;
        writeln!(out, "  Recall@20         {:>12.4}", self.recall_at_20)?;
        writeln!(out, "  MRR@20            {:>12.4}", self.mrr_at_20)?;
        write!(out, "  NDCG@20           {:>12.4}", self.ndcg_at_20)
    }
}
