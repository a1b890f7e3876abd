//! `sequor export`: the journal as lines of JSON.

use anyhow::{Context, bail};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
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
    after_help = "Each line is one entry with its `offset` and, in `entry`, what it is: an `event` as POST /v1/events takes it, an `item` change as POST /v1/items takes it, \
    or an `impression`, what was shown to whom. `sequor replay` and `sequor train` read the events.\n\nExamples:\n  sequor export events.ndjson.gz --only event\n  \
    sequor export --url http://127.0.0.1:9090 --from 120000 | head\n  \
    sequor export --only event | split -l 1000 --filter 'curl -s localhost:8080/v1/events --data-binary @-'"
)]
pub(super) struct Export {
    /// Where to; packed if it ends in .gz. A file that is there is replaced once the new one is
    /// whole. Standard output if it is left out, or `-`.
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// The admin endpoint of the running daemon, such as http://127.0.0.1:9090.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
    #[command(flatten)]
    auth: ClientAuth,
    /// The first offset.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: Offset,
    /// The offset to stop before [default: the journal's end].
    #[arg(long, value_name = "OFFSET")]
    to: Option<Offset>,
    /// Only entries of one kind.
    #[arg(long, value_name = "KIND", value_parser = ENTRY_KINDS)]
    only: Option<String>,
}

impl Export {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if self.to.is_some_and(|to| to < self.from) {
            bail!("--to {} lies before --from {}", self.to.unwrap_or_default(), self.from);
        }
        let written = match self.file.as_deref().filter(|file| *file != Path::new("-")) {
            Some(file) => self.write_file(file),
            None => self.write(&mut BufWriter::new(io::stdout().lock())),
        };
        // The reader of the output has closed it.
        let is_cut = |error: &anyhow::Error| error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe);
        written.or_else(|error| if is_cut(&error) { Ok(()) } else { Err(error) })
    }

    fn write_file(&self, file: &Path) -> anyhow::Result<()> {
        let unwritable = || format!("cannot write {}", file.display());
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut unfinished = NamedTempFile::new_in(folder).with_context(unwritable)?;
        if file.extension().is_some_and(|ending| ending == "gz") {
            let mut packed = GzEncoder::new(BufWriter::new(&mut unfinished), Compression::default());
            self.write(&mut packed)?;
            packed.finish().and_then(|mut rest| rest.flush()).with_context(unwritable)?;
        } else {
            self.write(&mut BufWriter::new(&mut unfinished))?;
        }
        unfinished.as_file().sync_all().with_context(unwritable)?;
        unfinished.persist(file).with_context(unwritable)?;
        Ok(())
    }

    fn write(&self, sink: &mut impl Write) -> anyhow::Result<()> {
        match &self.url {
            Some(url) => self.through(url, sink)?,
            None => self.of_a_directory(sink)?,
        }
        Ok(sink.flush()?)
    }

    fn through(&self, url: &str, sink: &mut impl Write) -> anyhow::Result<()> {
        let to = self.to.map_or_else(String::new, |to| format!("&to={to}"));
        let only = self.only.as_ref().map_or_else(String::new, |only| format!("&only={only}"));
        let body = AdminClient::new(url, &self.auth)?.get(&format!("/admin/journal?from={}{to}{only}", self.from))?;
        let mut lines = BufReader::new(body.into_reader());
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).context("the daemon broke off; its log names the reason")? > 0 {
            sink.write_all(&line)?;
            line.clear();
        }
        Ok(())
    }

    fn of_a_directory(&self, sink: &mut impl Write) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let store = data_dir::open_store(layers.validated()?, |dir, options| Store::open_existing(dir, options), Some("sequor export"))?;
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
