//! `sequor replay`: replays recorded events through the daemon's actors, test-then-train.

use anyhow::{Context, bail, ensure};
use clap::Args;
use std::fs::File;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file_flags::FileFlags;
use super::flags::{self, RuntimeFlags};
use super::progress_display::ProgressDisplay;
use super::recording;
use super::replay_catalog::ReplayCatalog;
use super::replay_report::{ReplayReport, write_plot};
use crate::actors::system::System;
use crate::domain::{Entry, SourceName, WithConsent};
use crate::ingest::{EventFileReader, STANDARD_INPUT_NAME, ValidationRules};
use crate::learner::LearnerConfig;
use crate::metrics::Metrics;
use crate::services::ingest::{FullQueuePolicy, ingest};
use crate::settings::{CommitDurability, Period, Settings};
use crate::store::Store;

/// Arguments of `sequor replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each event is ranked before it is learned (prequential evaluation). The report contains Recall@20, MRR@20 and NDCG@20 of the ranking and of each candidate source, \
    and the cost. The replay uses a temporary data directory unless --data-dir names an empty one.\n\n\
    Examples:\n  sequor replay clicks.csv.gz\n  sequor replay clicks.csv.gz --idle-gap 30m --without network --json report.json\n  sequor replay clicks.csv.gz --set network.hidden=100 --plot curve.svg\n  sequor replay clicks.csv.gz --items catalog.csv"
)]
pub(super) struct Replay {
    /// Recording to read: CSV with a header `user,item,event,timestamp[,value][,session]`, or
    /// NDJSON (.ndjson, .jsonl). A further .gz or .zst means compressed. Other names and formats
    /// need --map and the flags below.
    file: PathBuf,
    #[command(flatten)]
    flags: RuntimeFlags,
    #[command(flatten)]
    format: FileFlags,
    /// Evaluate from this event on: a fraction of the file (0.5) or an event number (40000).
    #[arg(long, value_name = "FRACTION|EVENT", default_value = "0.5")]
    evaluate_from: String,
    /// Time without events after which a new session starts, such as 30m [default: each `user` is
    /// one session].
    #[arg(long, value_name = "DURATION")]
    idle_gap: Option<Period>,
    /// Disable a candidate source. Can be repeated. `network` disables the network altogether.
    #[arg(long, value_name = "SOURCE", value_parser = parse_source)]
    without: Vec<SourceName>,
    /// Stop learning at this event number; sessions continue. This matches the protocol of
    /// published results.
    #[arg(long, value_name = "EVENT")]
    freeze_from: Option<u64>,
    /// Catalog of the items, in the format of `sequor import --items`. An item with a `published`
    /// time is added before the first event at or after this time, every other item before the
    /// first event.
    #[arg(long, value_name = "FILE")]
    items: Option<PathBuf>,
    /// Write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a plot of the learning curve to this file, as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

fn parse_source(text: &str) -> Result<SourceName, String> {
    let known = || SourceName::ALL.map(SourceName::as_str).join(", ");
    SourceName::ALL
        .into_iter()
        .find(|source| source.as_str() == text)
        .ok_or_else(|| format!("there is no such source; there are {}", known()))
}

/// The replay passes events to the committer in batches of this size.
const EVENTS_PER_BATCH: usize = 512;

/// Name prefix of temporary data directories.
const TEMP_DIR_PREFIX: &str = "sequor-replay-";

/// Removes temporary directories of killed replays: those whose store lock is free. A directory
/// without a database may belong to a replay that is starting, so it stays.
fn remove_stale_temp_dirs(folder: &Path) {
    // Best effort: failures are ignored.
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let is_replay_dir = entry.file_name().to_string_lossy().starts_with(TEMP_DIR_PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        let has_store = is_replay_dir && entry.path().join("store").exists();
        let lock = has_store.then(|| File::open(entry.path().join("lock")).ok()).flatten();
        if lock.is_some_and(|lock| lock.try_lock().is_ok()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut settings = self.flags.settings_layers(&[])?.validated_settings()?.clone();
        drop(flags::init_logging(&settings.log)?);
        let metrics = Arc::new(Metrics::new(&settings.events.resolved_kinds())?);
        // Commits need not survive a power failure, because the replay can be repeated.
        settings.store.durability = CommitDurability::ProcessCrash;
        // Unless the command line names a directory, the replay uses a temporary one. The directory
        // in the settings belongs to a daemon.
        let temp_dir;
        if !self.flags.has_data_dir() {
            remove_stale_temp_dirs(&std::env::temp_dir());
            let created = tempfile::Builder::new().prefix(TEMP_DIR_PREFIX).tempdir();
            temp_dir = created.context("cannot create a temporary directory; name a directory with --data-dir")?;
            settings.store.data_dir = temp_dir.path().to_owned();
        }
        if settings.store.data_dir.join("addresses.json").exists() {
            bail!("{} belongs to a daemon; name an empty directory with --data-dir", settings.store.data_dir.display());
        }
        ensure!(
            self.file != Path::new(STANDARD_INPUT_NAME),
            "replay reads the recording twice, so it cannot read standard input: name a file"
        );
        let rules = flags::server_validation_rules(&settings)?;
        let events = self.count_events(&rules)?;
        let catalog = self.items.as_deref().map(ReplayCatalog::read).transpose()?.unwrap_or_default();
        let mut config = flags::learner_config(&settings);
        config.sequence.idle_gap_ms = self.idle_gap.map_or(i64::MAX, |gap| gap.as_millis());
        config.evaluate_from = self.first_evaluated_event(events)?;
        config.evaluate_sources = true;
        config.freeze_from = self.freeze_from;
        config.candidates.without.extend(&self.without);
        let report =
            actix::System::new().block_on(self.replay_events(&settings, config, &rules, (events, catalog), metrics))?;
        writeln!(stdout(), "{report}")?;
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&report)? + "\n";
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        if let Some(file) = &self.plot {
            write_plot(&report, file)?;
        }
        Ok(())
    }

    fn open_events<'r>(&self, rules: &'r ValidationRules) -> anyhow::Result<EventFileReader<'r>> {
        let mapping = self.format.event_mapping()?;
        Ok(EventFileReader::open_with_mapping(&self.file, mapping, rules, i64::MAX / 2)?)
    }

    /// Counts the valid events of the file. If `--evaluate-from` is a fraction, the replay needs
    /// this number before it starts.
    fn count_events(&self, rules: &ValidationRules) -> anyhow::Result<u64> {
        let (mut events, mut first_error) = (0, None);
        for event in self.open_events(rules)? {
            match event? {
                Ok(_) => events += 1,
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        if events == 0 {
            return Err(recording::no_event_error(&self.file, first_error));
        }
        Ok(events)
    }

    fn first_evaluated_event(&self, events: u64) -> anyhow::Result<u64> {
        let text = &self.evaluate_from;
        let from = match text.parse::<u64>() {
            Ok(number) if !text.contains('.') => number,
            _ => {
                let share: f64 = text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).with_context(|| {
                    format!("--evaluate-from {text}: give a fraction from 0.0 to 1.0, or an event's number")
                })?;
                (events as f64 * share) as u64
            }
        };
        Ok(from)
    }

    async fn replay_events(
        &self,
        settings: &Settings,
        config: LearnerConfig,
        rules: &ValidationRules,
        (events, mut catalog): (u64, ReplayCatalog),
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<ReplayReport> {
        let store = Store::open(&settings.store.data_dir, &flags::store_options(settings))?;
        if store.journal().next_offset()? > 0 {
            bail!(
                "{} already holds a journal; give the replay an empty directory with --data-dir",
                settings.store.data_dir.display()
            );
        }
        store.check_pseudonym_secret(rules.pseudonymiser.as_ref().map(|pseudonymiser| pseudonymiser.fingerprint()))?;
        let kinds = config.kinds.clone();
        let mut system_settings = flags::system_settings(settings, config);
        // The metrics must not depend on the speed of the machine.
        system_settings.queue_wait = None;
        system_settings.checkpoints.interval = 0;
        let system = System::start(store, system_settings, metrics)?;
        let progress = ProgressDisplay::new(events, "events learned");
        let start = Instant::now();
        let mut rejected = 0_u64;
        let mut batch = Vec::with_capacity(EVENTS_PER_BATCH);
        for event in self.open_events(rules)? {
            match event? {
                Ok(event) => {
                    while let Some(change) = catalog.pop_due(event.value.timestamp) {
                        batch.push(Entry::Item(change).into());
                        if batch.len() >= EVENTS_PER_BATCH {
                            append_batch(&system, &mut batch).await?;
                        }
                    }
                    batch.push(event.map(Entry::Event));
                }
                Err(error) => {
                    rejected += 1;
                    if rejected <= 10 {
                        eprintln!("{}: {error}", self.file.display());
                    }
                }
            }
            if batch.len() >= EVENTS_PER_BATCH {
                append_batch(&system, &mut batch).await?;
                progress.update(system.recommender.snapshot().offset());
            }
        }
        append_batch(&system, &mut batch).await?;
        let end = system.store.journal().next_offset()?;
        let status = loop {
            let status = system.model.status();
            if status.has_failed {
                bail!("learning stopped at entry {}; see the log", status.next_offset);
            }
            progress.update(status.next_offset);
            if status.next_offset >= end {
                break status;
            }
            actix::clock::sleep(Duration::from_millis(20)).await;
        };
        let elapsed = start.elapsed();
        progress.finish();
        let journal_bytes = system.store.size_on_disk()?;
        Ok(ReplayReport::new(&self.file, &status.report, &kinds, events, rejected, elapsed, journal_bytes))
    }
}

/// Appends a batch to the journal and empties it.
///
/// # Errors
/// If the journal does not accept the batch, or the vectors of an item do not fit those of others.
async fn append_batch(system: &System, batch: &mut Vec<WithConsent<Entry>>) -> anyhow::Result<()> {
    let outcome = ingest(&system.ingest, batch.drain(..), None, FullQueuePolicy::Wait).await?;
    match outcome.rejected.into_iter().next() {
        Some((_, error)) => Err(error).context("the catalog is invalid"),
        None => Ok(()),
    }
}
