//! `sequor train`: the network learned from recorded behaviour, epoch by epoch.

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::evaluate::{EvaluationFigures, write_json};
use super::flags::{self, SettingFlags};
use super::plot::{self, PlotLine};
use super::{recording, training_checkpoint};
use crate::learner::{Corpus, EpochProgress, EpochReport, OfflineTraining, score_sessions};
use crate::metrics::ProcessStats;
use crate::settings::{Period, SettingOrigin, Settings, SettingsLayers};

/// Arguments of `sequor train`.
#[derive(Debug, Args)]
pub(super) struct Train {
    /// CSV with a header `user,item,event,timestamp[,value][,session]`, or NDJSON by file name
    /// (.ndjson, .jsonl); with .gz unpacked as it is read.
    file: PathBuf,
    #[command(flatten)]
    flags: SettingFlags,
    /// The most epochs (train.epochs).
    #[arg(long, value_name = "COUNT")]
    epochs: Option<usize>,
    /// Session windows a mini-batch (train.batch).
    #[arg(long, value_name = "COUNT")]
    batch: Option<usize>,
    /// Epochs without a better one after which training ends (train.patience).
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// The last sessions that are kept back to be tested on, as a share of all (train.test).
    #[arg(long, value_name = "FRACTION")]
    test: Option<f64>,
    /// The last of the other sessions, by whose Recall@20 the best epoch is chosen, as a share of
    /// those; 0: all epochs, and the last is kept (train.validation).
    #[arg(long, value_name = "FRACTION")]
    validation: Option<f64>,
    /// Everything random follows from it (train.seed).
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// The idle gap after which a user's next event begins a new session, such as 30m. Without it
    /// one `user` is one session.
    #[arg(long, value_name = "DURATION")]
    idle_gap: Option<Period>,
    /// Write the training here after every epoch: for `--resume`, for `sequor evaluate`, for
    /// `sequor serve --checkpoint`.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Go on from the checkpoint, with the settings that it was begun with.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the figures of every epoch as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// What training from a recording prefers to what is best on a stream.
const OFFLINE_DEFAULTS: [(&str, &str); 4] =
    [("network.hidden", "100"), ("network.negatives", "2048"), ("network.input_dropout", "0.5"), ("network.hidden_dropout", "0.5")];

impl Train {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = |number: Option<usize>| number.map(|number| number.to_string());
        let layers = self.flags.layers(
            &OFFLINE_DEFAULTS,
            &[
                ("train.epochs", text(self.epochs)),
                ("train.batch", text(self.batch)),
                ("train.patience", text(self.patience)),
                ("train.test", self.test.map(|share| share.to_string())),
                ("train.validation", self.validation.map(|share| share.to_string())),
                ("train.seed", self.seed.map(|seed| seed.to_string())),
            ],
        )?;
        drop(flags::init_logging(&layers.validated()?.log)?);
        // Told now, not after the first epoch.
        [&self.checkpoint, &self.json, &self.plot].into_iter().flatten().try_for_each(|file| in_a_folder(file))?;
        let began = Instant::now();
        let (mut training, corpus, rejected) = self.begin(&layers)?;
        let mut table = EpochTable::new(&training, &corpus);
        while !training.is_finished() {
            // The scores that end the epoch are no part of its training.
            let (began, mut took) = (Instant::now(), Duration::ZERO);
            let report = training.train_epoch(&corpus, |underway| {
                took = began.elapsed();
                table.show(underway);
            })?;
            table.row(training.epochs().len(), &report, Some(took));
            if let Some(file) = &self.checkpoint {
                training_checkpoint::write(file, &training)?;
            }
        }
        let scores = score_sessions(&training.best_weights(), &corpus.test, training.kinds());
        let report = TrainReport::new(&self, &training, &corpus, rejected, EvaluationFigures::new(&scores), table, began.elapsed());
        println!("{report}");
        if let Some(file) = &self.json {
            write_json(file, &report)?;
        }
        if let Some(file) = &self.plot {
            report.plot(file)?;
        }
        Ok(())
    }

    /// A training that begins, or the one of the checkpoint to be gone on with; and what it learns
    /// from.
    fn begin(&self, layers: &SettingsLayers<Settings>) -> anyhow::Result<(OfflineTraining, Corpus, u64)> {
        let settings = layers.validated()?;
        let gap = self.idle_gap.map(Period::as_millis);
        let Some(file) = self.checkpoint.as_ref().filter(|_| self.resume) else {
            let kinds = settings.events.resolved_kinds();
            let read = recording::read(&self.file, &kinds, gap.unwrap_or(i64::MAX))?;
            let corpus = read.recording.into_corpus(&settings.train);
            let training = OfflineTraining::new(settings.train.clone(), settings.network.clone(), kinds, &corpus)
                .with_context(|| format!("{} cannot be learned from", self.file.display()))?;
            return Ok((training, corpus, read.rejected));
        };
        let mut training = training_checkpoint::read(file)?;
        flags::ensure_compatible(layers, "train", &settings.train, training.settings(), &["epochs"])?;
        flags::ensure_compatible(layers, "network", &settings.network, training.network_settings(), &[])?;
        if !settings.events.kinds.is_empty() && settings.events.resolved_kinds() != *training.kinds() {
            bail!("events.kinds: the checkpoint was made with other kinds");
        }
        if gap.is_some_and(|gap| gap != training.idle_gap_ms()) {
            bail!("--idle-gap: the checkpoint was made with another");
        }
        let read = recording::read(&self.file, training.kinds(), training.idle_gap_ms())?;
        let corpus = read.recording.into_corpus(training.settings());
        let epochs = match layers.origin("train.epochs") {
            SettingOrigin::Default => training.settings().epochs,
            _ => settings.train.epochs,
        };
        training.resume(epochs, &corpus)?;
        Ok((training, corpus, read.rejected))
    }
}

fn in_a_folder(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => bail!("cannot write {}: there is no folder {}", file.display(), folder.display()),
        None => Ok(()),
    }
}

/// One line an epoch; while it is under way a bar on a terminal, and otherwise a line now and then.
struct EpochTable {
    bar: Option<ProgressBar>,
    with_interest: bool,
    last_printed_at: Instant,
    rows: Vec<EpochRow>,
}

/// An epoch as it is written.
#[derive(Debug, Clone, Serialize)]
struct EpochRow {
    epoch: usize,
    loss: f64,
    #[serde(flatten)]
    figures: EvaluationFigures,
    learning_rate: f32,
    examples: u64,
    skipped_batches: u64,
    /// Of this process alone: `None` for the epochs before it went on.
    examples_per_second: Option<f64>,
}

impl EpochTable {
    /// Between two lines of an epoch under way.
    const LINE_INTERVAL: Duration = Duration::from_secs(10);

    fn new(training: &OfflineTraining, corpus: &Corpus) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} batches  {eta} left  loss {msg}");
            ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let (learned, validated, tested) = (corpus.training.len(), corpus.validation.len(), corpus.test.len());
        println!("{} items; {learned} sessions to learn from, {validated} to choose by, {tested} to test on", corpus.item_names.len());
        let with_interest = training.network_settings().interest_weight > 0.0;
        let mut table = Self { bar, with_interest, last_printed_at: Instant::now(), rows: Vec::new() };
        let on = if corpus.validation.is_empty() { "test" } else { "validation" };
        let interest = if with_interest { "  interest MSE" } else { "" };
        table.print(&format!("epoch    loss  Recall@20  MRR@20  NDCG@20{interest}  examples/s  skipped    ({on})"));
        for (place, report) in training.epochs().iter().enumerate() {
            table.row(place + 1, report, None);
        }
        table
    }

    fn show(&mut self, underway: EpochProgress) {
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(format!("epoch {}", underway.epoch));
                bar.set_length(underway.batch_count as u64);
                bar.set_position(underway.batches as u64);
                bar.set_message(format!("{:.4}", underway.loss));
            }
            None if self.last_printed_at.elapsed() >= Self::LINE_INTERVAL => {
                self.last_printed_at = Instant::now();
                eprintln!("epoch {}: {} of {} batches, loss {:.4}", underway.epoch, underway.batches, underway.batch_count, underway.loss);
            }
            None => {}
        }
    }

    fn row(&mut self, epoch: usize, report: &EpochReport, took: Option<Duration>) {
        let row = EpochRow {
            epoch,
            loss: report.loss,
            figures: EvaluationFigures::new(&report.scores),
            learning_rate: report.learning_rate,
            examples: report.examples,
            skipped_batches: report.skipped,
            examples_per_second: took.map(|took| report.examples as f64 / took.as_secs_f64().max(1e-9)),
        };
        let quality = &report.scores.metrics;
        let interest =
            if self.with_interest { format!("  {:>12.4}", report.scores.interest_mse().unwrap_or(f64::NAN)) } else { String::new() };
        let speed = row.examples_per_second.map_or("-".to_owned(), |speed| format!("{speed:.0}"));
        self.print(&format!(
            "{epoch:>5}  {:>6.4}  {:>9.4}  {:>6.4}  {:>7.4}{interest}  {speed:>10}  {:>7}",
            report.loss,
            quality.recall(),
            quality.mrr(),
            quality.ndcg(),
            report.skipped
        ));
        self.rows.push(row);
        self.last_printed_at = Instant::now();
    }

    fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }
}

/// What a training gave.
#[derive(Debug, Serialize)]
struct TrainReport {
    file: String,
    rejected: u64,
    items: usize,
    training_sessions: usize,
    validation_sessions: usize,
    test_sessions: usize,
    training_examples: u64,
    skipped_batches: u64,
    best_epoch: usize,
    #[serde(flatten)]
    figures: EvaluationFigures,
    elapsed_seconds: f64,
    cpu_seconds: f64,
    peak_rss_bytes: u64,
    epochs: Vec<EpochRow>,
}

impl TrainReport {
    fn new(
        train: &Train,
        training: &OfflineTraining,
        corpus: &Corpus,
        rejected: u64,
        figures: EvaluationFigures,
        table: EpochTable,
        elapsed: Duration,
    ) -> Self {
        if let Some(bar) = &table.bar {
            bar.finish_and_clear();
        }
        let process = ProcessStats::read();
        Self {
            file: train.file.display().to_string(),
            rejected,
            items: corpus.item_names.len(),
            training_sessions: corpus.training.len(),
            validation_sessions: corpus.validation.len(),
            test_sessions: corpus.test.len(),
            training_examples: training.epochs().iter().map(|epoch| epoch.examples).sum(),
            skipped_batches: training.epochs().iter().map(|epoch| epoch.skipped).sum(),
            best_epoch: training.best_epoch(),
            figures,
            elapsed_seconds: elapsed.as_secs_f64(),
            cpu_seconds: process.map_or(0.0, |process| process.cpu_seconds),
            peak_rss_bytes: process.map_or(0, |process| process.peak_resident_bytes),
            epochs: table.rows,
        }
    }

    fn plot(&self, file: &Path) -> anyhow::Result<()> {
        let line = |name, value: fn(&EvaluationFigures) -> f64| PlotLine {
            name,
            points: self.epochs.iter().map(|row| (row.epoch as f64, value(&row.figures))).collect(),
        };
        let lines = [
            line("Recall@20", EvaluationFigures::recall),
            line("MRR@20", EvaluationFigures::mrr),
            line("NDCG@20", EvaluationFigures::ndcg),
        ];
        plot::draw(file, &format!("{}: epoch by epoch", self.file), "epochs", "on sessions that are not learned from", &lines)
    }
}

impl fmt::Display for TrainReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.file)?;
        writeln!(out, "  best epoch        {:>12}   of {}", self.best_epoch, self.epochs.len())?;
        writeln!(out, "{}", self.figures)?;
        writeln!(out, "  trained on        {:>12}   positions ({} batches skipped)", self.training_examples, self.skipped_batches)?;
        writeln!(out, "  CPU               {:>10.1} s   in {:.1} s", self.cpu_seconds, self.elapsed_seconds)?;
        write!(out, "  peak RSS          {:>8.1} MiB", self.peak_rss_bytes as f64 / 1_048_576.0)
    }
}
