//! `sequor export`: writes the journal as JSON lines.

use anyhow::{Context, bail};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

use super::client_auth::ClientAuth;
use super::data_dir::{self, AdminClient};
use super::flags::RuntimeFlags;
use super::progress_display::ProgressDisplay;
use crate::domain::Offset;
use crate::ingest::{ENTRY_KINDS, entry_kind_name, write_entry};
use crate::store::Store;

/// Arguments of `sequor export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each line is a journal entry with its `offset` and, in `entry`, its content, such as an `event` in the format of POST /v1/events, an `item` change in the format of \
    POST /v1/items, or an `impression` (the recommendations shown to a user). `sequor replay` and `sequor train` read the events.\n\nExamples:\n  sequor export events.ndjson.gz --only event\n  \
    sequor export --url http://127.0.0.1:9090 --from 120000 | head\n  \
    sequor export --only event | split -l 1000 --filter 'curl -s localhost:8080/v1/events --data-binary @-'"
)]
pub(super) struct Export {
    /// Output file, compressed if it ends in .gz; `-` is standard output [default: -]. An existing
    /// file is replaced once the new one is complete.
    file: Option<PathBuf>,
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

impl Export {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.to.is_some_and(|to| to < self.from) {
            bail!("--to {} lies before --from {}", self.to.unwrap_or_default(), self.from);
        }
        match self.file.as_deref().filter(|file| *file != Path::new("-")) {
            Some(file) => self.write_file(file),
            None => self.write_journal(&mut BufWriter::new(io::stdout().lock())),
        }
    }

    fn write_file(&self, file: &Path) -> anyhow::Result<()> {
        let error_context = || format!("cannot write {}", file.display());
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut unfinished = NamedTempFile::new_in(folder).with_context(error_context)?;
        if file.extension().is_some_and(|extension| extension == "gz") {
            let mut encoder = GzEncoder::new(BufWriter::new(&mut unfinished), Compression::default());
            self.write_journal(&mut encoder)?;
            encoder.finish().and_then(|mut inner| inner.flush()).with_context(error_context)?;
        } else {
            self.write_journal(&mut BufWriter::new(&mut unfinished))?;
        }
        unfinished.as_file().sync_all().with_context(error_context)?;
        unfinished.persist(file).with_context(error_context)?;
        Ok(())
    }

    fn write_journal(&self, sink: &mut impl Write) -> anyhow::Result<()> {
        match &self.url {
            Some(url) => self.export_from_daemon(url, sink)?,
            None => self.export_data_dir(sink)?,
        }
        Ok(sink.flush()?)
    }

    fn export_from_daemon(&self, url: &str, sink: &mut impl Write) -> anyhow::Result<()> {
        let to = self.to.map_or_else(String::new, |to| format!("&to={to}"));
        let only = self.only.as_ref().map_or_else(String::new, |only| format!("&only={only}"));
        let body = AdminClient::new(url, &self.auth)?.get(&format!("/admin/journal?from={}{to}{only}", self.from))?;
        let mut lines = BufReader::new(body.into_reader());
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).context("the daemon aborted the export; see its log")? > 0 {
            sink.write_all(&line)?;
            line.clear();
        }
        Ok(())
    }

    fn export_data_dir(&self, sink: &mut impl Write) -> anyhow::Result<()> {
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
            if self.only.as_deref().is_none_or(|only| only == entry_kind_name(&entry)) {
                write_entry(offset, &entry, &mut line)?;
                sink.write_all(&line)?;
                line.clear();
            }
            progress.update(offset + 1 - self.from);
        }
        progress.finish();
        Ok(())
    }
}
