//! `sequor replay`: recorded behaviour through the very same actors, test-then-train.

use anyhow::{Context, bail};
use clap::Args;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flags::{self, RuntimeFlags};
use super::progress_display::ProgressDisplay;
use super::replay_report::{ReplayReport, write_plot};
use crate::actors::system::System;
use crate::domain::{Entry, SourceName};
use crate::ingest::{EventFileReader, ValidationRules};
use crate::learner::LearnerConfig;
use crate::metrics::Metrics;
use crate::services::ingest::{WhenFull, ingest};
use crate::settings::{CommitDurability, Period, Settings};
use crate::store::Store;

/// Arguments of `sequor replay`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// CSV with a header `user,item,event,timestamp[,value][,session]`, or NDJSON by file name
    /// (.ndjson, .jsonl); with .gz unpacked as it is read.
    file: PathBuf,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Count the steps of the events from here on: a fraction of the file (0.5) or an event's
    /// number (40000).
    #[arg(long, value_name = "FRACTION|EVENT", default_value = "0.5")]
    evaluate_from: String,
    /// The idle gap after which a user's next event begins a new session, such as 30m. Without it
    /// one `user` is one session.
    #[arg(long, value_name = "DURATION")]
    idle_gap: Option<Period>,
    /// Leave a source of candidates out; may be given more than once. `network` leaves the network
    /// out altogether.
    #[arg(long, value_name = "SOURCE", value_parser = source)]
    without: Vec<SourceName>,
    /// Stop all learning at this event, while sessions go on: what published tables measure.
    #[arg(long, value_name = "EVENT")]
    freeze_from: Option<u64>,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the learning curve as SVG.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

fn source(text: &str) -> Result<SourceName, String> {
    let known = || SourceName::ALL.map(SourceName::as_str).join(", ");
    SourceName::ALL
        .into_iter()
        .find(|source| source.as_str() == text)
        .ok_or_else(|| format!("there is no such source; there are {}", known()))
}

/// Events sent to the committer at a time.
const BATCH_EVENTS: usize = 512;

/// Begins the names of the directories that replays make for themselves.
const TEMP_DIR_PREFIX: &str = "sequor-replay-";

/// Removes what earlier replays left that were killed: directories of that name whose store nobody
/// holds. One without a database may be another's that just begins and has no lock yet.
fn remove_left_behind(folder: &Path) {
    // Best effort: what cannot be removed is in nobody's way.
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(TEMP_DIR_PREFIX) && entry.file_type().is_ok_and(|kind| kind.is_dir());
        let has_begun = is_one && entry.path().join("store").exists();
        let lock = has_begun.then(|| File::open(entry.path().join("lock")).ok()).flatten();
        if lock.is_some_and(|lock| lock.try_lock().is_ok()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Replay {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut settings = self.flags.layers(&[])?.validated()?.clone();
        drop(flags::init_logging(&settings.log)?);
        let metrics = Arc::new(Metrics::new(&settings.events.resolved_kinds())?);
        // A replay is a rehearsal: what a power cut takes can be replayed again.
        settings.store.durability = CommitDurability::ProcessCrash;
        // Of its own and gone afterwards unless one is named: the directory of the settings is a
        // daemon's.
        let rehearsal;
        if !self.flags.has_data_dir() {
            remove_left_behind(&std::env::temp_dir());
            let made = tempfile::Builder::new().prefix(TEMP_DIR_PREFIX).tempdir();
            rehearsal = made.context("cannot make a directory for the replay; name one with --data-dir")?;
            settings.store.data_dir = rehearsal.path().to_owned();
        }
        if settings.store.data_dir.join("addresses.json").exists() {
            bail!("{} belongs to a daemon; give the replay a directory of its own with --data-dir", settings.store.data_dir.display());
        }
        let rules = flags::server_validation_rules(&settings)?;
        let events = self.count(&rules)?;
        let mut fold = flags::learner_config(&settings);
        fold.sequence.idle_gap_ms = self.idle_gap.map_or(i64::MAX, |gap| gap.as_millis());
        fold.evaluate_from = self.first_counted(events)?;
        fold.evaluate_sources = true;
        fold.freeze_from = self.freeze_from;
        fold.candidates.without.extend(&self.without);
        let report = actix::System::new().block_on(self.drive(&settings, fold, &rules, events, metrics))?;
        println!("{report}");
        if let Some(file) = &self.json {
            let text = serde_json::to_string_pretty(&report)? + "\n";
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        if let Some(file) = &self.plot {
            write_plot(&report, file)?;
        }
        Ok(())
    }

    /// How many events the file holds: half of them may have to be known before the first is
    /// counted.
    fn count(&self, rules: &ValidationRules) -> anyhow::Result<u64> {
        let mut events = 0;
        for event in EventFileReader::open(&self.file, rules, i64::MAX / 2)? {
            events += u64::from(event?.is_ok());
        }
        if events == 0 {
            bail!("{} holds no event", self.file.display());
        }
        Ok(events)
    }

    fn first_counted(&self, events: u64) -> anyhow::Result<u64> {
        let text = &self.evaluate_from;
        let from = match text.parse::<u64>() {
            Ok(number) if !text.contains('.') => number,
            _ => {
                let share: f64 = text
                    .parse()
                    .ok()
                    .filter(|share| (0.0..=1.0).contains(share))
                    .with_context(|| format!("--evaluate-from {text}: give a fraction from 0.0 to 1.0, or an event's number"))?;
                (events as f64 * share) as u64
            }
        };
        Ok(from)
    }

    async fn drive(
        &self,
        settings: &Settings,
        fold: LearnerConfig,
        rules: &ValidationRules,
        events: u64,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<ReplayReport> {
        let store = Store::open(&settings.store.data_dir, &flags::store_options(settings))?;
        if store.journal().next_offset()? > 0 {
            bail!("{} already holds a journal; give the replay an empty directory with --data-dir", settings.store.data_dir.display());
        }
        store.check_pseudonym_secret(rules.pseudonymiser.as_ref().map(|pseudonyms| pseudonyms.fingerprint()))?;
        let mut system_settings = flags::system_settings(settings, fold);
        system_settings.checkpoints.interval = 0;
        let system = System::start(store, system_settings, metrics)?;
        let progress = ProgressDisplay::new(events, "events learned");
        let began = Instant::now();
        let mut faults = 0_u64;
        let mut batch = Vec::with_capacity(BATCH_EVENTS);
        for event in EventFileReader::open(&self.file, rules, i64::MAX / 2)? {
            match event? {
                Ok(event) => batch.push(event.map(Entry::Event)),
                Err(fault) => {
                    faults += 1;
                    if faults <= 10 {
                        eprintln!("{}: {fault}", self.file.display());
                    }
                }
            }
            if batch.len() >= BATCH_EVENTS {
                ingest(&system.ingest, batch.drain(..), WhenFull::Wait).await?;
                progress.update(system.recommender.snapshot().offset());
            }
        }
        ingest(&system.ingest, batch.drain(..), WhenFull::Wait).await?;
        let end = system.store.journal().next_offset()?;
        let standing = loop {
            let standing = system.model.status().await?;
            if standing.has_failed {
                bail!("learning stopped at entry {}; the log names the reason", standing.next_offset);
            }
            progress.update(standing.next_offset);
            if standing.next_offset >= end {
                break standing;
            }
            actix::clock::sleep(Duration::from_millis(20)).await;
        };
        let elapsed = began.elapsed();
        progress.finish();
        let journal_bytes = system.store.size_on_disk()?;
        Ok(ReplayReport::new(&self.file, &standing.report, events, faults, elapsed, journal_bytes))
    }
}
