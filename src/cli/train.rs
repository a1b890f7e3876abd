//! `sequor train`: trains the network offline on a recording.

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::fmt;
use std::io::{IsTerminal, Write, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::evaluate::{EvaluationFigures, write_json};
use super::file_flags::FileFlags;
use super::flags::{self, SettingFlags};
use super::interest_lines::InterestLines;
use super::plot::{self, PlotLine};
use super::{recording, training_checkpoint};
use crate::learner::{
    Corpus, EpochProgress, EpochReport, InterestErrors, OfflineTraining, score_sessions, score_values,
};
use crate::metrics::ProcessStats;
use crate::settings::{Period, SettingOrigin, Settings, SettingsLayers};

/// Arguments of `sequor train`.
#[derive(Debug, Args)]
pub(super) struct Train {
    /// Recording to read: CSV with a header `user,item,event,timestamp[,value][,session]`, or
    /// NDJSON (.ndjson, .jsonl). A further .gz or .zst means compressed. Other names and formats
    /// need --map and the flags below.
    file: PathBuf,
    #[command(flatten)]
    flags: SettingFlags,
    #[command(flatten)]
    format: FileFlags,
    /// Maximum number of epochs (train.epochs) [default: 10].
    #[arg(long, value_name = "COUNT")]
    epochs: Option<usize>,
    /// Session windows per mini-batch (train.batch) [default: 64].
    #[arg(long, value_name = "COUNT")]
    batch: Option<usize>,
    /// Epochs without improvement after which training stops (train.patience) [default: 3].
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<usize>,
    /// Test set: share of all sessions, the most recent ones (train.test) [default: 0.1].
    #[arg(long, value_name = "FRACTION")]
    test: Option<f64>,
    /// Validation set: share of the other sessions, the most recent ones (train.validation). Its
    /// Recall@20 selects the best epoch; 0 selects the last epoch [default: 0.02].
    #[arg(long, value_name = "FRACTION")]
    validation: Option<f64>,
    /// Seed of all random draws (train.seed) [default: 42].
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Time without events after which a new session starts, such as 30m [default: each `user` is
    /// one session].
    #[arg(long, value_name = "DURATION")]
    idle_gap: Option<Period>,
    /// Write the training state to this file after every epoch, for `--resume`, `sequor evaluate`
    /// and `sequor serve --checkpoint`.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Continue from the checkpoint, with its settings.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    /// Write the metrics to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a plot of the metrics per epoch to this file, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Defaults for offline training that differ from those for online learning.
const OFFLINE_DEFAULTS: [(&str, &str); 4] = [
    ("network.hidden", "100"),
    ("network.negatives", "2048"),
    ("network.input_dropout", "0.5"),
    ("network.hidden_dropout", "0.5"),
];

impl Train {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = |number: Option<usize>| number.map(|number| number.to_string());
        let layers = self.flags.settings_layers(
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
        drop(flags::init_logging(&layers.validated_settings()?.log)?);
        // Reports a missing folder now, not after the first epoch.
        [&self.checkpoint, &self.json, &self.plot]
            .into_iter()
            .flatten()
            .try_for_each(|file| ensure_folder_exists(file))?;
        let start = Instant::now();
        let StartedTraining { mut training, corpus, interest, rejected } = self.start_or_resume(&layers)?;
        let mut table = EpochTable::new(&training, &corpus);
        while !training.is_finished() {
            // The training time ends here: the evaluation at the end of the epoch does not count.
            let (epoch_start, mut training_time) = (Instant::now(), Duration::ZERO);
            let report = training.train_epoch(&corpus, |progress| {
                training_time = epoch_start.elapsed();
                table.show_progress(progress);
            })?;
            table.add_row(training.epochs().len(), &report, Some(training_time));
            if let Some(file) = &self.checkpoint {
                training_checkpoint::write_training_checkpoint(file, &training)?;
            }
        }
        let scores = score_sessions(&training.best_weights(), &corpus.test, training.kinds());
        let report = TrainReport::new(
            &self,
            &training,
            &corpus,
            rejected,
            (EvaluationFigures::new(&scores), interest),
            table,
            start.elapsed(),
        );
        writeln!(stdout(), "{report}")?;
        if let Some(file) = &self.json {
            write_json(file, &report)?;
        }
        if let Some(file) = &self.plot {
            report.write_plot(file)?;
        }
        Ok(())
    }

    /// Starts a training, or resumes the training of the checkpoint.
    fn start_or_resume(&self, layers: &SettingsLayers<Settings>) -> anyhow::Result<StartedTraining> {
        let settings = layers.validated_settings()?;
        let gap = self.idle_gap.map(Period::as_millis);
        let mapping = self.format.event_mapping()?;
        let Some(file) = self.checkpoint.as_ref().filter(|_| self.resume) else {
            let kinds = settings.events.resolved_kinds();
            let read = recording::read_recording(&self.file, mapping, &kinds, gap.unwrap_or(i64::MAX))?;
            let interest = score_values(&read.recording, settings.train.test, settings.interest, &kinds);
            let corpus = read.recording.into_corpus(&settings.train);
            let training = OfflineTraining::new(settings.train.clone(), settings.network.clone(), kinds, &corpus)
                .with_context(|| format!("cannot train on {}", self.file.display()))?;
            return Ok(StartedTraining { training, corpus, interest, rejected: read.rejected });
        };
        let mut training = training_checkpoint::read_training_checkpoint(file)?;
        flags::ensure_compatible(layers, "train", &settings.train, training.settings(), &["epochs"])?;
        flags::ensure_compatible(layers, "network", &settings.network, training.network_settings(), &[])?;
        if !settings.events.kinds.is_empty() && settings.events.resolved_kinds() != *training.kinds() {
            bail!("events.kinds differs from the kinds that the checkpoint was made with");
        }
        if gap.is_some_and(|gap| gap != training.idle_gap_ms()) {
            bail!("--idle-gap differs from the one that the checkpoint was made with");
        }
        let read = recording::read_recording(&self.file, mapping, training.kinds(), training.idle_gap_ms())?;
        let interest = score_values(&read.recording, training.settings().test, settings.interest, training.kinds());
        let corpus = read.recording.into_corpus(training.settings());
        let epochs = match layers.origin_of_key("train.epochs") {
            SettingOrigin::Default => training.settings().epochs,
            _ => settings.train.epochs,
        };
        training.resume(epochs, &corpus)?;
        Ok(StartedTraining { training, corpus, interest, rejected: read.rejected })
    }
}

/// A training that is about to begin or to continue.
struct StartedTraining {
    training: OfflineTraining,
    corpus: Corpus,
    /// Errors of the interest models on the test set.
    interest: Vec<InterestErrors>,
    /// Number of rejected rows of the recording.
    rejected: u64,
}

fn ensure_folder_exists(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => bail!("cannot write {}: there is no folder {}", file.display(), folder.display()),
        None => Ok(()),
    }
}

/// Prints a table with one row per epoch. During an epoch, it shows a progress bar on a terminal,
/// or prints progress periodically elsewhere.
struct EpochTable {
    bar: Option<ProgressBar>,
    last_printed_at: Instant,
    rows: Vec<EpochRow>,
}

/// A row of the table and of the JSON report.
#[derive(Debug, Clone, Serialize)]
struct EpochRow {
    epoch: usize,
    loss: f64,
    #[serde(flatten)]
    figures: EvaluationFigures,
    learning_rate: f32,
    examples: u64,
    skipped_batches: u64,
    /// Training speed. `None` for an epoch that an earlier run trained, before `--resume`.
    examples_per_second: Option<f64>,
}

impl EpochTable {
    /// Interval of progress messages.
    const PROGRESS_MESSAGE_INTERVAL: Duration = Duration::from_secs(10);

    fn new(training: &OfflineTraining, corpus: &Corpus) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} batches  {eta} left  loss {msg}");
            ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let (training_sessions, validation_sessions, test_sessions) =
            (corpus.training.len(), corpus.validation.len(), corpus.test.len());
        let mut table = Self { bar, last_printed_at: Instant::now(), rows: Vec::new() };
        table.print_line(&format!(
            "{} items; {training_sessions} sessions to train on, {validation_sessions} to validate on, {test_sessions} to test on",
            corpus.item_names.len()
        ));
        let evaluated_on = if corpus.validation.is_empty() { "test" } else { "validation" };
        table
            .print_line(&format!("epoch    loss  Recall@20  MRR@20  NDCG@20  examples/s  skipped    ({evaluated_on})"));
        for (index, report) in training.epochs().iter().enumerate() {
            table.add_row(index + 1, report, None);
        }
        table
    }

    fn show_progress(&mut self, progress: EpochProgress) {
        match &self.bar {
            Some(bar) => {
                bar.set_prefix(format!("epoch {}", progress.epoch));
                bar.set_length(progress.batch_count as u64);
                bar.set_position(progress.batches as u64);
                bar.set_message(format!("{:.4}", progress.loss));
            }
            None if self.last_printed_at.elapsed() >= Self::PROGRESS_MESSAGE_INTERVAL => {
                self.last_printed_at = Instant::now();
                eprintln!(
                    "epoch {}: {} of {} batches, loss {:.4}",
                    progress.epoch, progress.batches, progress.batch_count, progress.loss
                );
            }
            None => {}
        }
    }

    fn add_row(&mut self, epoch: usize, report: &EpochReport, training_time: Option<Duration>) {
        let row = EpochRow {
            epoch,
            loss: report.loss,
            figures: EvaluationFigures::new(&report.scores),
            learning_rate: report.learning_rate,
            examples: report.examples,
            skipped_batches: report.skipped,
            examples_per_second: training_time.map(|time| report.examples as f64 / time.as_secs_f64().max(1e-9)),
        };
        let quality = &report.scores.metrics;
        let speed = row.examples_per_second.map_or("-".to_owned(), |speed| format!("{speed:.0}"));
        self.print_line(&format!(
            "{epoch:>5}  {:>6.4}  {:>9.4}  {:>6.4}  {:>7.4}  {speed:>10}  {:>7}",
            report.loss,
            quality.recall(),
            quality.mrr(),
            quality.ndcg(),
            report.skipped
        ));
        self.rows.push(row);
        self.last_printed_at = Instant::now();
    }

    fn print_line(&self, line: &str) {
        // The training goes on without a reader of its progress.
        let print = || drop(writeln!(stdout(), "{line}"));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

/// Report of a training.
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
    /// Errors of the interest models on the test set, one per kind of events that carry values.
    interest: Vec<InterestErrors>,
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
        (figures, interest): (EvaluationFigures, Vec<InterestErrors>),
        table: EpochTable,
        elapsed: Duration,
    ) -> Self {
        if let Some(bar) = &table.bar {
            bar.finish_and_clear();
        }
        let process = ProcessStats::read_proc();
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
            interest,
            elapsed_seconds: elapsed.as_secs_f64(),
            cpu_seconds: process.map_or(0.0, |process| process.cpu_seconds),
            peak_rss_bytes: process.map_or(0, |process| process.peak_resident_bytes),
            epochs: table.rows,
        }
    }

    fn write_plot(&self, file: &Path) -> anyhow::Result<()> {
        let line = |name, value: fn(&EvaluationFigures) -> f64| PlotLine {
            name,
            points: self.epochs.iter().map(|row| (row.epoch as f64, value(&row.figures))).collect(),
        };
        let lines = [
            line("Recall@20", EvaluationFigures::recall),
            line("MRR@20", EvaluationFigures::mrr),
            line("NDCG@20", EvaluationFigures::ndcg),
        ];
        plot::draw_line_plot(
            file,
            &format!("{}: metrics per epoch", self.file),
            "epoch",
            "on held-out sessions",
            &lines,
        )
    }
}

impl fmt::Display for TrainReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.file)?;
        writeln!(out, "  best epoch        {:>12}   of {}", self.best_epoch, self.epochs.len())?;
        writeln!(out, "{}", self.figures)?;
        write!(out, "{}", InterestLines(&self.interest))?;
        writeln!(
            out,
            "  trained on        {:>12}   positions ({} batches skipped)",
            self.training_examples, self.skipped_batches
        )?;
        writeln!(out, "  CPU               {:>10.1} s   in {:.1} s", self.cpu_seconds, self.elapsed_seconds)?;
        write!(out, "  peak RSS          {:>8.1} MiB", self.peak_rss_bytes as f64 / 1_048_576.0)
    }
}
