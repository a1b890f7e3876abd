//! `sequor import`: imports events or a catalog from files into a daemon or a data directory, each
//! row once.

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::client_auth::ClientAuth;
use super::event_sender::{EventSender, RetryFlags};
use super::file_digest::FileDigest;
use super::flags::{self, RuntimeFlags};
use super::import_target::{DirectoryTarget, ImportTarget};
use super::progress_display::ProgressDisplay;
use super::progress_file::ProgressFile;
use super::rejects::{RejectFlags, RejectReport, RowLocation};
use super::time_flags::TimeFlags;
use crate::clock::Clock;
use crate::domain::{Entry, Timestamp, WithConsent};
use crate::ingest::{
    ColumnMapping, EventField, EventFileReader, FileError, ItemFileReader, ReorderBuffer, TimeFormat, ValidationError, ValidationRules,
    write_entry_with_consent,
};
use crate::settings::Period;

/// Arguments of `sequor import`.
#[derive(Debug, Args)]
#[command(after_help = "Files are CSV with a header, or NDJSON (.ndjson, .jsonl), optionally compressed (.gz, .zst).\n\n\
    Each row is imported once: its event id consists of the file's digest and the line number. The progress file FILE.import records the acknowledged lines. To resume a killed import, run \
    the same command again. To import a file again, remove FILE.import. The daemon still recognises the ids of its last store.dedup_window entries as duplicates.\n\n\
    Exit codes: 0, all rows were accepted; 2, some rows were rejected and all others accepted (or the command line is invalid); 1, the import failed. \
    If a compressed file is truncated, nothing is imported.\n\nExamples:\n  \
    sequor import events.csv.gz\n  \
    sequor import events.csv --map user=visitorid,item=itemid,time=timestamp,type=event --time-unit ms\n  \
    sequor import plays.ndjson.zst --map user=uid,item=track,time=at --type play --faults faults.ndjson\n  \
    sequor import --items catalog.csv --map item=sku\n  \
    sequor import events.csv --data-dir sequor-data    without a running daemon")]
pub(super) struct Import {
    /// Files to import, in this order.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// URL of the API of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", conflicts_with = "data_dir")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    #[command(flatten)]
    retry: RetryFlags,
    /// The files contain items: CSV with the columns item_id, categories, brand, price, tags,
    /// available, published, expires (lists separated by |), or NDJSON in the format of POST
    /// /v1/items.
    #[arg(long)]
    items: bool,
    /// Column or field names in the files, such as user=uid. Events have the fields user, item,
    /// time, type, value, session, consent, id; items have `item` and their attributes.
    #[arg(long, value_name = "FIELD=NAME", value_delimiter = ',')]
    map: Vec<String>,
    #[command(flatten)]
    time: TimeFlags,
    /// Kind of events that name none.
    #[arg(long = "type", value_name = "KIND", conflicts_with = "items")]
    kind: Option<String>,
    /// Sort events by time within this window. Later events are sent in file order and counted as
    /// late. `0s` disables sorting.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    window: Period,
    /// Maximum rows per request, at most the server.max_batch of the daemon.
    #[arg(long, value_name = "ROWS", default_value_t = 500, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=100_000))]
    batch: u64,
    /// Progress file, for a single FILE [default: FILE.import].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    reject_flags: RejectFlags,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Content of a progress file.
#[derive(Debug, Serialize, Deserialize)]
struct ImportState {
    digest: String,
    target: String,
    /// All rows up to this line are acknowledged.
    through: u64,
}

/// Summary of an import.
#[derive(Debug, Default, Serialize)]
struct ImportSummary {
    /// Rows that were added to the journal.
    taken: u64,
    /// Rows that the journal contained already.
    duplicates: u64,
    /// Rows that were not stored because their users do not consent.
    withheld: u64,
    /// Rows that an earlier run had completed. They were not sent again.
    skipped: u64,
    /// Rows outside the sorting window.
    late: u64,
    faulty: u64,
}

/// Size limit of a request body: half the default of `server.max_body_bytes`.
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// Maximum number of lines for which an event is held back for sorting. After a kill, at most this
/// many lines are sent again, which is within the default deduplication window of the daemon.
const MAX_HELD_LINES: u64 = 100_000;

impl Import {
    pub(super) fn run(self) -> anyhow::Result<()> {
        ensure!(self.state.is_none() || self.files.len() == 1, "--state applies to one file: name a single FILE, or omit --state");
        let rules = flags::client_validation_rules(self.flags.layers(&[])?.validated()?);
        let kind = if self.items {
            ImportKind::Items(self.item_mapping()?, self.time.format()?)
        } else {
            ImportKind::Events(self.event_mapping()?)
        };
        // A truncated file is refused before anything is sent: once it is complete, its rows have
        // other ids.
        let digests = self.files.iter().map(|file| FileDigest::read(file)).collect::<Result<Vec<_>, _>>();
        let digests = digests.context("nothing was imported")?;
        let (target, target_name) = self.target()?;
        let rules = target.validation_rules().cloned().unwrap_or(rules);
        let rejects = RejectReport::new(&self.reject_flags)?;
        let mut run = ImportRun { import: &self, rules, kind, target_name, target, rejects, summary: ImportSummary::default() };
        for (file, digest) in self.files.iter().zip(digests) {
            run.import_file(file, digest)?;
        }
        let ImportRun { target, rejects, mut summary, .. } = run;
        target.finish()?;
        summary.faulty = rejects.count();
        if self.json {
            writeln!(stdout(), "{}", serde_json::to_string_pretty(&summary)?)?;
        } else {
            for (label, count) in [
                ("accepted", summary.taken),
                ("duplicates", summary.duplicates),
                ("withheld (no consent)", summary.withheld),
                ("skipped (already imported)", summary.skipped),
                ("late (outside the window)", summary.late),
                ("rejected", summary.faulty),
            ] {
                writeln!(stdout(), "  {label:<30}{count:>12}")?;
            }
        }
        rejects.finish()
    }

    /// The target, and its name in the progress file.
    fn target(&self) -> anyhow::Result<(ImportTarget, String)> {
        match self.flags.data_dir() {
            Some(dir) => {
                let directory = DirectoryTarget::open(&self.flags)?;
                let name = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
                Ok((ImportTarget::Directory(Box::new(directory)), name.display().to_string()))
            }
            None => Ok((
                ImportTarget::Daemon(Box::new(EventSender::new(&self.url, &self.auth, self.retry)?)),
                self.url.trim_end_matches('/').to_owned(),
            )),
        }
    }

    fn map_pairs(&self) -> impl Iterator<Item = anyhow::Result<(&str, &str)>> {
        self.map.iter().map(|pair| pair.split_once('=').with_context(|| format!("invalid --map {pair}: write FIELD=NAME")))
    }

    fn event_mapping(&self) -> anyhow::Result<ColumnMapping> {
        self.map_pairs().try_fold(ColumnMapping::new(self.time.format()?, self.kind.clone()), |mapping, pair| {
            let (field, name) = pair?;
            let known = EventField::from_name(field);
            let field = known.with_context(|| {
                format!("invalid --map {field}={name}: the fields are user, item, time, type, value, session, consent and id")
            })?;
            Ok(mapping.with_column(field, name.to_owned()))
        })
    }

    fn item_mapping(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        self.map_pairs()
            .map(|pair| {
                let (field, name) = pair?;
                let known = ItemFileReader::field_from_name(field);
                let field = known.with_context(|| format!("invalid --map {field}={name}: an item has no field `{field}`"))?;
                Ok((field, name.to_owned()))
            })
            .collect()
    }
}

/// Content of the files, with its column mapping.
enum ImportKind {
    Events(ColumnMapping),
    Items(Vec<(&'static str, String)>, TimeFormat),
}

/// A parsed row.
enum ImportRow {
    Event(WithConsent),
    Item(Entry),
}

/// Reader of the rows of a file.
enum ImportRows<'r> {
    Events(Box<EventFileReader<'r>>),
    Items(Box<ItemFileReader>),
}

impl ImportRows<'_> {
    fn next(&mut self) -> Option<Result<Result<ImportRow, ValidationError>, FileError>> {
        match self {
            Self::Events(events) => Some(events.next()?.map(|event| event.map(ImportRow::Event))),
            Self::Items(items) => Some(items.next()?.map(|item| item.map(|change| ImportRow::Item(Entry::Item(change))))),
        }
    }

    fn line(&self) -> u64 {
        match self {
            Self::Events(events) => events.line_number(),
            Self::Items(items) => items.line_number(),
        }
    }

    fn bytes_read(&self) -> u64 {
        match self {
            Self::Events(events) => events.bytes_read(),
            Self::Items(items) => items.bytes_read(),
        }
    }
}

/// A batch: entries and their line numbers.
#[derive(Default)]
struct ImportBatch {
    lines: Vec<u64>,
    entries: Vec<WithConsent<Entry>>,
    bytes: usize,
    scratch: Vec<u8>,
}

impl ImportBatch {
    fn push(&mut self, line: u64, entry: WithConsent<Entry>) -> anyhow::Result<()> {
        self.scratch.clear();
        write_entry_with_consent(&entry, &mut self.scratch)?;
        self.bytes += self.scratch.len();
        self.lines.push(line);
        self.entries.push(entry);
        Ok(())
    }

    fn is_full(&self, limit: u64) -> bool {
        self.lines.len() as u64 >= limit || self.bytes >= MAX_BATCH_BYTES
    }
}

/// A running import.
struct ImportRun<'i> {
    import: &'i Import,
    rules: ValidationRules,
    kind: ImportKind,
    /// Name of the target in progress files.
    target_name: String,
    target: ImportTarget,
    rejects: RejectReport,
    summary: ImportSummary,
}

impl ImportRun<'_> {
    fn import_file(&mut self, file: &Path, FileDigest { digest, size }: FileDigest) -> anyhow::Result<()> {
        let state = ProgressFile::for_file(file, ".import", self.import.state.as_deref());
        let previous = state.read::<ImportState>()?.filter(|state| state.digest == digest && state.target == self.target_name);
        let mut through = previous.map_or(0, |state| state.through);
        if through > 0 {
            eprintln!("{}: resuming after line {through}, according to {}", file.display(), state.path().display());
        }
        let rules = self.rules.clone();
        let mut rows = self.open(file, &rules)?;
        let mut reorder = ReorderBuffer::new(self.import.window.as_millis(), MAX_HELD_LINES);
        let mut batch = ImportBatch::default();
        let progress = ProgressDisplay::new(size, "bytes imported");
        while let Some(row) = rows.next() {
            let line = rows.line();
            match row {
                Ok(Ok(_)) if line <= through => self.summary.skipped += 1,
                Ok(Ok(ImportRow::Event(mut event))) => {
                    event.value.event_id.get_or_insert_with(|| format!("{digest}-{line}"));
                    reorder.insert(line, event);
                    while let Some((line, event)) = reorder.pop_ready(line) {
                        batch.push(line, event.map(Entry::Event))?;
                    }
                }
                Ok(Ok(ImportRow::Item(item))) => batch.push(line, item.into())?,
                Ok(Err(error)) => self.rejects.record_invalid(file, RowLocation::Line(line), &error)?,
                Err(error) => return Err(error).context("the rows before it were imported"),
            }
            if batch.is_full(self.import.batch) {
                self.send(file, &mut batch)?;
                // Rows that are held back for sorting must be read again after a kill.
                through = through.max(reorder.first_held_line().map_or(line, |first| first.saturating_sub(1)));
                state.write(&ImportState { digest: digest.clone(), target: self.target_name.clone(), through })?;
                progress.update(rows.bytes_read());
            }
        }
        while let Some((line, event)) = reorder.pop_remaining() {
            batch.push(line, event.map(Entry::Event))?;
            if batch.is_full(self.import.batch) {
                self.send(file, &mut batch)?;
            }
        }
        self.send(file, &mut batch)?;
        state.write(&ImportState { digest, target: self.target_name.clone(), through: through.max(rows.line()) })?;
        progress.finish();
        self.summary.late += reorder.late_count();
        Ok(())
    }

    fn open<'r>(&self, file: &Path, rules: &'r ValidationRules) -> anyhow::Result<ImportRows<'r>> {
        let now: Timestamp = Clock::system().now();
        Ok(match &self.kind {
            ImportKind::Events(mapping) => {
                ImportRows::Events(Box::new(EventFileReader::open_with_mapping(file, mapping.clone(), rules, now)?))
            }
            ImportKind::Items(mapping, time) => {
                ImportRows::Items(Box::new(ItemFileReader::open(file, mapping.clone(), time.clone(), now)?))
            }
        })
    }

    /// Sends a batch and waits for its acknowledgement.
    fn send(&mut self, file: &Path, batch: &mut ImportBatch) -> anyhow::Result<()> {
        let ImportBatch { lines, entries, .. } = std::mem::take(batch);
        if lines.is_empty() {
            return Ok(());
        }
        let receipt = self.target.append(entries)?;
        self.summary.taken += receipt.accepted;
        self.summary.duplicates += receipt.duplicates;
        self.summary.withheld += receipt.withheld;
        for rejected in &receipt.rejected {
            let Some(line) = lines.get(rejected.index) else { bail!("the daemon rejected a row that was not sent: {}", rejected.reason) };
            self.rejects.record_rejected(file, RowLocation::Line(*line), rejected)?;
        }
        Ok(())
    }
}
