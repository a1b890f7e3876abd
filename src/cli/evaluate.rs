//! `sequor evaluate`: a trained network against sessions that it never learned from.

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{recording, training_checkpoint};
use crate::learner::{OfflineScores, score_sessions};
use crate::settings::Period;

/// Arguments of `sequor evaluate`.
#[derive(Debug, Args)]
pub(super) struct Evaluate {
    /// CSV with a header `user,item,event,timestamp[,value][,session]`, or NDJSON by file name
    /// (.ndjson, .jsonl); with .gz unpacked as it is read.
    file: PathBuf,
    /// The checkpoint of a training.
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// The last sessions that are tested on, as a share of all from 0.0 to 1.0. Without it, what
    /// the training kept back.
    #[arg(long, value_name = "FRACTION", value_parser = share)]
    test: Option<f64>,
    /// The idle gap after which a user's next event begins a new session, such as 30m. Without it,
    /// what the training took.
    #[arg(long, value_name = "DURATION")]
    idle_gap: Option<Period>,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "give a share from 0.0 to 1.0".to_owned())
}

impl Evaluate {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut training = training_checkpoint::read(&self.checkpoint)?;
        let idle_gap_ms = self.idle_gap.map_or(training.idle_gap_ms(), Period::as_millis);
        let read = recording::read(&self.file, training.kinds(), idle_gap_ms)?;
        let test = read.recording.into_test(self.test.unwrap_or(training.settings().test), training.item_names());
        if test.is_empty() {
            bail!(
                "{} has no session to test on: none of those kept back has two events of items that were learned; see --test",
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
        };
        println!("{evaluation}");
        self.json.as_deref().map_or(Ok(()), |file| write_json(file, &evaluation))
    }
}

/// Writes figures as JSON.
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
}

impl fmt::Display for EvaluationReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.file)?;
        writeln!(out, "  checkpoint        {}, epoch {}, {} items", self.checkpoint, self.epoch, self.items)?;
        write!(out, "{}", self.figures)
    }
}

/// What the steps of the test gave.
#[derive(Debug, Clone, Serialize)]
pub(super) struct EvaluationFigures {
    evaluated_steps: u64,
    recall_at_20: f64,
    mrr_at_20: f64,
    ndcg_at_20: f64,
    /// Of the interest head, in squared values; `None` if it is off.
    interest_mse: Option<f64>,
}

impl EvaluationFigures {
    pub(super) fn new(scores: &OfflineScores) -> Self {
        let quality = &scores.metrics;
        Self {
            evaluated_steps: quality.steps,
            recall_at_20: quality.recall(),
            mrr_at_20: quality.mrr(),
            ndcg_at_20: quality.ndcg(),
            interest_mse: scores.interest_mse(),
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
        write!(out, "  NDCG@20           {:>12.4}", self.ndcg_at_20)?;
        match self.interest_mse {
            Some(mse) => write!(out, "\n  interest MSE      {mse:>12.4}"),
            None => Ok(()),
        }
    }
}
