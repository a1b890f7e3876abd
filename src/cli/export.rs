//! `sequor export`: writes the journal as JSON lines, or its events as a Parquet file.

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

use super::client_auth::ClientAuth;
use super::data_dir::{self, AdminClient};
#[cfg(feature = "parquet")]
use super::event_table::EventTableWriter;
use super::flags::RuntimeFlags;
use super::output_file::replaced_file;
use super::progress_display::ProgressDisplay;
use crate::domain::Offset;
#[cfg(not(feature = "parquet"))]
use crate::ingest::PARQUET_MISSING;
use crate::ingest::{ENTRY_KINDS, entry_kind_name, write_entry};
use crate::store::Store;

/// Arguments of `sequor export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each line is a journal entry with its `offset` and, in `entry`, its content, such as an `event` in the format of POST /v1/events, an `item` change in the format of \
    POST /v1/items, or an `impression` (the recommendations shown to a user). `sequor replay` and `sequor train` read the events.\n\n\
    A .parquet file, which needs a build with `--features parquet`, has one row per event, with the fields of an event as columns: the timestamp in milliseconds in UTC, \
    `properties` and `context` as texts of JSON. `sequor import` reads it. Other entries are left out.\n\nExamples:\n  sequor export events.ndjson.gz --only event\n  sequor export events.parquet\n  \
    sequor export --url http://127.0.0.1:9090 --from 120000 | head\n  \
    sequor export --only event | split -l 1000 --filter 'curl -s localhost:8080/v1/events --data-binary @-'"
)]
pub(super) struct Export {
    /// Output file, compressed if it ends in .gz; `-` is standard output [default: -]. An existing
    /// file is replaced once the new one is complete.
    file: Option<PathBuf>,
    /// Format of the output [default: parquet if the file is named .parquet, otherwise ndjson].
    #[arg(long, value_name = "FORMAT")]
    format: Option<ExportFormat>,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// URL of the admin endpoint of a running daemon, such as http://127.0.0.1:9090. Without it,
    /// the command reads the data directory of a stopped daemon.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
    #[command(flatten)]
    auth: ClientAuth,
    /// First offset to export.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: Offset,
    /// Offset to stop before [default: the end of the journal].
    #[arg(long, value_name = "OFFSET")]
    to: Option<Offset>,
    /// Export only entries of this kind.
    #[arg(long, value_name = "KIND", value_parser = ENTRY_KINDS)]
    only: Option<String>,
}

/// Format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object per line, for all kinds of entries.
    Ndjson,
    /// A Parquet file with one row per event.
    Parquet,
}

/// Names of the standard output.
const STANDARD_OUTPUT_NAMES: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// The end of the name of a file that is not complete yet.
const UNFINISHED_SUFFIX: &str = ".unfinished";

/// Creates the file that becomes `name` once it is complete, and locks it. Removes the files of the
/// same kind that killed commands left: no process has locked them.
fn create_unfinished(folder: &Path, name: &str) -> io::Result<NamedTempFile> {
    let prefix = format!(".{name}.");
    for found in folder.read_dir()?.flatten() {
        let is_unfinished = found
            .file_name()
            .to_str()
            .is_some_and(|found| found.starts_with(&prefix) && found.ends_with(UNFINISHED_SUFFIX));
        if is_unfinished && File::open(found.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(found.path())?;
        }
    }
    let unfinished = tempfile::Builder::new().prefix(&prefix).suffix(UNFINISHED_SUFFIX).tempfile_in(folder)?;
    unfinished.as_file().lock()?;
    Ok(unfinished)
}

/// Receives the lines of an export.
type LineSink<'s> = dyn FnMut(&[u8]) -> anyhow::Result<()> + 's;

impl Export {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.to.is_some_and(|to| to < self.from) {
            bail!("--to {} lies before --from {}", self.to.unwrap_or_default(), self.from);
        }
        let file =
            self.file.as_deref().filter(|file| !STANDARD_OUTPUT_NAMES.iter().any(|name| *file == Path::new(name)));
        match (self.output_format(), file) {
            (ExportFormat::Parquet, None) => {
                bail!("a Parquet file cannot be written to standard output; name a file, such as events.parquet")
            }
            (ExportFormat::Parquet, Some(file)) => {
                ensure!(
                    self.only.as_deref().is_none_or(|only| only == "event"),
                    "--only {}: a Parquet file holds events; omit --only, or write an .ndjson file",
                    self.only.as_deref().unwrap_or_default()
                );
                ensure!(
                    file.extension().is_none_or(|extension| extension != "gz"),
                    "{}: the pages of a Parquet file are compressed already; omit .gz",
                    file.display()
                );
                self.write_file(file)
            }
            (ExportFormat::Ndjson, Some(file)) => self.write_file(file),
            (ExportFormat::Ndjson, None) => self.write_lines(&mut BufWriter::new(io::stdout().lock())),
        }
    }

    fn output_format(&self) -> ExportFormat {
        let is_parquet = |file: &PathBuf| file.extension().is_some_and(|name| name.eq_ignore_ascii_case("parquet"));
        let named =
            if self.file.as_ref().is_some_and(is_parquet) { ExportFormat::Parquet } else { ExportFormat::Ndjson };
        self.format.unwrap_or(named)
    }

    /// The kind of the exported entries; `None` for all kinds.
    fn exported_kind(&self) -> Option<&str> {
        if self.output_format() == ExportFormat::Parquet { Some("event") } else { self.only.as_deref() }
    }

    fn write_file(&self, file: &Path) -> anyhow::Result<()> {
        let error_context = || format!("cannot write {}", file.display());
        let target = replaced_file(file)?;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let mut unfinished = create_unfinished(folder, &name).with_context(error_context)?;
        if self.output_format() == ExportFormat::Parquet {
            self.write_table(&mut unfinished)?;
        } else if file.extension().is_some_and(|extension| extension == "gz") {
            let mut encoder = GzEncoder::new(BufWriter::new(&mut unfinished), Compression::default());
            self.write_lines(&mut encoder)?;
            encoder.finish().and_then(|mut inner| inner.flush()).with_context(error_context)?;
        } else {
            self.write_lines(&mut BufWriter::new(&mut unfinished))?;
        }
        unfinished.as_file().sync_all().with_context(error_context)?;
        unfinished.persist(&target).with_context(error_context)?;
        Ok(())
    }

    fn write_lines(&self, sink: &mut impl Write) -> anyhow::Result<()> {
        self.write_journal(&mut |line| Ok(sink.write_all(line)?))?;
        Ok(sink.flush()?)
    }

    #[cfg(feature = "parquet")]
    fn write_table(&self, sink: &mut (impl Write + Send)) -> anyhow::Result<()> {
        let mut table = EventTableWriter::new(BufWriter::new(sink))?;
        self.write_journal(&mut |line| table.push_line(line))?;
        table.finish()
    }

    #[cfg(not(feature = "parquet"))]
    fn write_table(&self, _: &mut (impl Write + Send)) -> anyhow::Result<()> {
        bail!("{PARQUET_MISSING}, or write an .ndjson file")
    }

    fn write_journal(&self, write_line: &mut LineSink<'_>) -> anyhow::Result<()> {
        match &self.url {
            Some(url) => self.export_from_daemon(url, write_line),
            None => self.export_data_dir(write_line),
        }
    }

    fn export_from_daemon(&self, url: &str, write_line: &mut LineSink<'_>) -> anyhow::Result<()> {
        let to = self.to.map_or_else(String::new, |to| format!("&to={to}"));
        let only = self.exported_kind().map_or_else(String::new, |only| format!("&only={only}"));
        let path = format!("/admin/journal?from={}{to}{only}", self.from);
        let mut lines = AdminClient::new(url, &self.auth)?.get_lines(&path)?;
        while let Some(line) = lines.next_line()? {
            write_line(line)?;
        }
        Ok(())
    }

    fn export_data_dir(&self, write_line: &mut LineSink<'_>) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let store = data_dir::open_store(
            layers.validated_settings()?,
            |dir, options| Store::open_existing(dir, options),
            Some("sequor export"),
        )?;
        store.check_journal_end()?;
        let end = store.journal().next_offset()?;
        let end = self.to.map_or(end, |to| to.min(end));
        let progress = ProgressDisplay::new(end.saturating_sub(self.from), "entries exported");
        let mut line = Vec::new();
        for entry in store.journal().entries(self.from.max(store.journal().first_offset()?))? {
            let (offset, entry) = entry?;
            if offset >= end {
                break;
            }
            if self.exported_kind().is_none_or(|only| only == entry_kind_name(&entry)) {
                write_entry(offset, &entry, &mut line)?;
                write_line(&line)?;
                line.clear();
            }
            progress.update(offset + 1 - self.from);
        }
        progress.finish();
        Ok(())
    }
}
