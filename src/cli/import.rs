//! `sequor import`: recorded behaviour, or a catalog, into a daemon or a data directory, each row
//! once.

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write, stdout};
use std::path::{Path, PathBuf};

use super::client_auth::ClientAuth;
use super::event_sender::EventSender;
use super::flags::{self, RuntimeFlags};
use super::import_target::{DirectoryTarget, ImportTarget};
use super::progress_display::ProgressDisplay;
use super::progress_file::ProgressFile;
use super::rejects::{RejectFlags, RejectReport, RowLocation};
use crate::clock::Clock;
use crate::domain::{Entry, Timestamp, WithConsent};
use crate::ingest::{
    ColumnMapping, EventField, EventFileReader, FileError, ItemFileReader, KeyedDigest, ReorderBuffer, TimeUnit, ValidationError,
    ValidationRules, write_entry_with_consent,
};
use crate::settings::Period;

/// Arguments of `sequor import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Files are CSV with a header, or one JSON object a line (.ndjson, .jsonl); with .gz or .zst after the name they are unpacked.\n\n\
    Each row counts once: its event id is made of the file's digest and the row's line, and FILE.import notes how far everything was acknowledged. So an import that was killed is \
    started again with the same command and goes on. To import a file again, remove FILE.import; but the daemon still knows the ids of its last store.dedup_window entries.\n\n\
    Exit code: 0 if every row was taken, 2 if some rows are faulty and all others were taken (or if the command line is wrong), 1 if the import broke off.\n\nExamples:\n  \
    sequor import events.csv.gz\n  \
    sequor import events.csv --map user=visitorid,item=itemid,time=timestamp,type=event --time-unit ms\n  \
    sequor import plays.ndjson.zst --map user=uid,item=track,time=at --type play --faults faults.ndjson\n  \
    sequor import --items catalog.csv --map item=sku\n  \
    sequor import events.csv --data-dir sequor-data    while no daemon serves it"
)]
pub(super) struct Import {
    /// What to import, in this order.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// The API of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", conflicts_with = "data_dir")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    /// The files describe items: CSV with the columns item_id, categories, brand, price, tags,
    /// available, published, expires (lists with | between their parts), or what POST /v1/items
    /// takes.
    #[arg(long)]
    items: bool,
    /// Under which names the files hold what is needed: of user, item, time, type, value, session,
    /// id; of items `item` and their fields.
    #[arg(long, value_name = "FIELD=NAME", value_delimiter = ',')]
    map: Vec<String>,
    /// The unit of the timestamps [default: seconds, milliseconds above 1e11, or RFC 3339].
    #[arg(long, value_name = "UNIT", conflicts_with = "items")]
    time_unit: Option<TimestampUnit>,
    /// The kind of the events that name none.
    #[arg(long = "type", value_name = "KIND", conflicts_with = "items")]
    kind: Option<String>,
    /// Put events that come unsorted in order within this span; what comes later still is sent as
    /// it comes and counted. `0s` leaves them as they come.
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    window: Period,
    /// The most rows in one request; the daemon's server.max_batch is its bound.
    #[arg(long, value_name = "ROWS", default_value_t = 500, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=100_000))]
    batch: u64,
    /// Where it is noted how far a file was acknowledged; for one FILE [default: FILE.import].
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    reject_flags: RejectFlags,
    /// Say what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// The unit of a column of timestamps.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TimestampUnit {
    /// Seconds since 1970.
    S,
    /// Milliseconds since 1970.
    Ms,
    /// ISO 8601, such as 2014-04-01T01:15:41Z; UTC if it names no offset.
    Iso,
}

/// How far a file was acknowledged, and by whom.
#[derive(Debug, Serialize, Deserialize)]
struct ImportState {
    digest: String,
    target: String,
    /// Every row up to this line is acknowledged.
    through: u64,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
struct ImportSummary {
    /// Rows that are in the journal now and were not before.
    taken: u64,
    /// Rows that it had already.
    duplicates: u64,
    /// Rows that were not taken since their users do not let them be kept.
    withheld: u64,
    /// Rows that an earlier run had brought to the end, and that were not sent again.
    skipped: u64,
    /// Rows that came later than the window.
    late: u64,
    faulty: u64,
}

/// The bytes of a request's body at which it is full: half of what `server.max_body_bytes` is by
/// default.
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// For how many lines an event may be held back. What is sent again after a kill is no more than
/// that, well within the ids that the daemon remembers.
const MAX_HELD_LINES: u64 = 100_000;

impl Import {
    pub(super) fn run(self) -> anyhow::Result<()> {
        ensure!(self.state.is_none() || self.files.len() == 1, "--state notes the place in one file; give one FILE, or leave it out");
        let rules = flags::client_validation_rules(self.flags.layers(&[])?.validated()?);
        let wanted = if self.items { ImportKind::Items(self.names()?) } else { ImportKind::Events(self.shape()?) };
        let (target, name) = self.target()?;
        let rules = target.validation_rules().cloned().unwrap_or(rules);
        let faults = RejectReport::new(&self.reject_flags)?;
        let mut run =
            ImportRun { import: &self, rules, kind: wanted, target_name: name, target, rejects: faults, summary: ImportSummary::default() };
        for file in &self.files {
            run.file(file)?;
        }
        let ImportRun { target, rejects: faults, mut summary, .. } = run;
        target.finish()?;
        summary.faulty = faults.count();
        if self.json {
            writeln!(stdout(), "{}", serde_json::to_string_pretty(&summary)?)?;
        } else {
            for (what, count) in [
                ("taken", summary.taken),
                ("known already", summary.duplicates),
                ("withheld for want of consent", summary.withheld),
                ("skipped: acknowledged before", summary.skipped),
                ("later than the window", summary.late),
                ("faulty", summary.faulty),
            ] {
                writeln!(stdout(), "  {what:<30}{count:>12}")?;
            }
        }
        faults.finish()
    }

    /// Where to, and what that is called in a state.
    fn target(&self) -> anyhow::Result<(ImportTarget, String)> {
        match self.flags.data_dir() {
            Some(dir) => {
                let directory = DirectoryTarget::open(&self.flags)?;
                let name = dir.canonicalize().with_context(|| format!("{} cannot be found", dir.display()))?;
                Ok((ImportTarget::Directory(Box::new(directory)), name.display().to_string()))
            }
            None => {
                Ok((ImportTarget::Daemon(Box::new(EventSender::new(&self.url, &self.auth)?)), self.url.trim_end_matches('/').to_owned()))
            }
        }
    }

    fn pairs(&self) -> impl Iterator<Item = anyhow::Result<(&str, &str)>> {
        self.map.iter().map(|pair| pair.split_once('=').with_context(|| format!("--map {pair}: write FIELD=NAME")))
    }

    fn shape(&self) -> anyhow::Result<ColumnMapping> {
        let unit = match self.time_unit {
            None => TimeUnit::Auto,
            Some(TimestampUnit::S) => TimeUnit::Seconds,
            Some(TimestampUnit::Ms) => TimeUnit::Milliseconds,
            Some(TimestampUnit::Iso) => TimeUnit::Iso8601,
        };
        self.pairs().try_fold(ColumnMapping::new(unit, self.kind.clone()), |shape, pair| {
            let (field, name) = pair?;
            let known = EventField::from_name(field);
            let field =
                known.with_context(|| format!("--map {field}={name}: there are user, item, time, type, value, session, consent and id"))?;
            Ok(shape.with_column(field, name.to_owned()))
        })
    }

    fn names(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        self.pairs()
            .map(|pair| {
                let (field, name) = pair?;
                let known = ItemFileReader::field_from_name(field);
                let field = known.with_context(|| format!("--map {field}={name}: an item has no such field"))?;
                Ok((field, name.to_owned()))
            })
            .collect()
    }
}

/// What the files hold.
enum ImportKind {
    Events(ColumnMapping),
    Items(Vec<(&'static str, String)>),
}

/// One row.
enum ImportRow {
    Event(WithConsent),
    Item(Entry),
}

/// The rows of a file.
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

/// A request under way: entries and the lines that they stood in.
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

    fn is_full(&self, most: u64) -> bool {
        self.lines.len() as u64 >= most || self.bytes >= MAX_BATCH_BYTES
    }
}

/// An import under way.
struct ImportRun<'i> {
    import: &'i Import,
    rules: ValidationRules,
    kind: ImportKind,
    /// What the target is called.
    target_name: String,
    target: ImportTarget,
    rejects: RejectReport,
    summary: ImportSummary,
}

impl ImportRun<'_> {
    fn file(&mut self, file: &Path) -> anyhow::Result<()> {
        let (digest, size) = digest(file)?;
        let state = ProgressFile::for_file(file, ".import", self.import.state.as_deref());
        let earlier = state.read::<ImportState>()?.filter(|state| state.digest == digest && state.target == self.target_name);
        let mut through = earlier.map_or(0, |state| state.through);
        if through > 0 {
            eprintln!("{}: going on after line {through}, as {} says", file.display(), state.path().display());
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
                Ok(Err(fault)) => self.rejects.record_invalid(file, RowLocation::Line(line), &fault)?,
                Err(error) => self.rejects.record_unreadable(file, line, &error)?,
            }
            if batch.is_full(self.import.batch) {
                self.send(file, &mut batch)?;
                // A row that is held back must be read again.
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
            ImportKind::Events(shape) => ImportRows::Events(Box::new(EventFileReader::open_with_mapping(file, shape.clone(), rules, now)?)),
            ImportKind::Items(names) => ImportRows::Items(Box::new(ItemFileReader::open(file, names.clone(), now)?)),
        })
    }

    /// Sends what was gathered and waits until it is acknowledged.
    fn send(&mut self, file: &Path, batch: &mut ImportBatch) -> anyhow::Result<()> {
        let ImportBatch { lines, entries, .. } = std::mem::take(batch);
        if lines.is_empty() {
            return Ok(());
        }
        let told = self.target.append(entries)?;
        self.summary.taken += told.accepted;
        self.summary.duplicates += told.duplicates;
        self.summary.withheld += told.withheld;
        for rejected in &told.rejected {
            let Some(line) = lines.get(rejected.index) else { bail!("the daemon refused a row that was not sent: {}", rejected.reason) };
            self.rejects.record_rejected(file, RowLocation::Line(*line), rejected)?;
        }
        Ok(())
    }
}

/// A file's digest, and its size in bytes.
fn digest(file: &Path) -> anyhow::Result<(String, u64)> {
    let unreadable = || format!("{}: cannot be read", file.display());
    let mut source = File::open(file).with_context(unreadable)?;
    let progress = ProgressDisplay::new(source.metadata().with_context(unreadable)?.len(), "bytes looked through");
    let (mut digest, mut size, mut buffer) = (KeyedDigest::new(&[0; 16]), 0, vec![0; 1 << 20]);
    loop {
        let read = source.read(&mut buffer).with_context(unreadable)?;
        if read == 0 {
            progress.finish();
            return Ok((digest.hex(), size));
        }
        digest.update(buffer.get(..read).unwrap_or_default());
        size += read as u64;
        progress.update(size);
    }
}
