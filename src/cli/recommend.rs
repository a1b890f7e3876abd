//! `sequor recommend`: writes the recommendations of many users to a file.

use anyhow::{Context, bail};
use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, Args};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::batch_users::{BatchUsers, read_user_file};
use super::client_auth::ClientAuth;
use super::flags::RuntimeFlags;
use super::list_file::{ListFileFormat, ListFileWriter};
use super::list_source::{DirectoryListSource, ListSource};
use super::output_file::{ensure_not_read, replaced_file};
use super::progress_display::ProgressDisplay;
use crate::ingest::STANDARD_INPUT_NAME;
use crate::learner::RecommendationRequest;

/// Number of batches that each worker thread has, so that it has work while it waits for sessions.
const BATCHES_PER_WORKER: usize = 2;

/// Arguments of `sequor recommend`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("who").required(true).args(["users", "all"])),
    after_help = "The file has one line per user: in .ndjson, the `user_id`, the `items` with `item_id`, `score` and `source`, best first, and the `fallback`; \
    in .csv, the columns `user_id` and `item_ids`, which separates the ids by |. \
    A .parquet file, which needs a build with `--features parquet`, has one row per item: `user_id`, `position` (from 1), `item_id`, `score`, `source` and `fallback`.\n\n\
    The lists are not impressions: all requests have the consent level `session`, so the journal does not record them.\n\n\
    The lines are written to OUTPUT.unfinished, which becomes OUTPUT (or is converted to it, if it is .parquet) once it is complete. If the command is interrupted, run it again with the same arguments: \
    it continues after the last complete line. OUTPUT.progress holds the arguments until then.\n\n\
    With --data-dir, the daemon must be stopped. The command needs its settings (--config, --set), and appends nothing to the journal.\n\n\
    Examples:\n  \
    sequor recommend --users customers.txt --limit 10 --output lists.csv\n  \
    sequor recommend --all --admin-url http://127.0.0.1:9090 --placement newsletter --output lists.ndjson\n  \
    sequor recommend --all --data-dir sequor-data --output lists.ndjson    without a running daemon"
)]
pub(super) struct RecommendLists {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// File with one user id per line; `-` is the standard input. A repeated id counts once.
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// Recommend to all users, in the order of their ids. A running daemon lists its users on the
    /// admin endpoint.
    #[arg(long)]
    all: bool,
    /// URL of the API of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", conflicts_with = "data_dir")]
    url: String,
    /// URL of the daemon's admin endpoint, which --all needs.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090", conflicts_with = "data_dir")]
    admin_url: String,
    #[command(flatten)]
    auth: ClientAuth,
    /// The placement for which the lists are. Its type must not need an item.
    #[arg(long, value_name = "NAME")]
    placement: Option<String>,
    /// Number of items per list, 1 to 1,000 [default: the limit of the placement, or 20].
    #[arg(long, value_name = "ITEMS", value_parser = RangedU64ValueParser::<u64>::new().range(1..=RecommendationRequest::MAX_LIMIT as u64))]
    limit: Option<u64>,
    /// Output file, in a format that its name says: .ndjson, .jsonl, .csv or .parquet. An
    /// existing file is replaced once the new one is complete.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Number of requests in flight to the daemon, 1 to 1,000.
    #[arg(long, value_name = "REQUESTS", default_value_t = 16, value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000))]
    in_flight: u64,
}

/// The arguments on which the lines of the file depend. A continued file must have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListArguments {
    /// The file of the users; `None` for all users.
    users: Option<PathBuf>,
    /// The URL of the daemon, or the data directory.
    source: String,
    placement: Option<String>,
    limit: Option<u64>,
}

/// Numbers of written lists.
#[derive(Debug, Default)]
struct ListCounts {
    /// Lists of an earlier run.
    skipped: usize,
    written: usize,
    /// Written lists without an item.
    empty: usize,
}

impl RecommendLists {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let format = ListFileFormat::of_file(&self.output)?;
        let output = replaced_file(&self.output)?;
        if let Some(users) = &self.users {
            ensure_not_read("--output", &self.output, [users.as_path()])?;
        }
        // A missing file of users is reported before a data directory is opened.
        let listed = self.users.as_deref().map(read_listed_users).transpose()?;
        let (source, name) = self.open_source()?;
        let users = match listed {
            Some(users) => users,
            None => BatchUsers::sorted(source.all_users(&self.admin_url, &self.auth)?),
        };
        let arguments = ListArguments {
            users: self.users.clone(),
            source: name,
            placement: self.placement.clone(),
            limit: self.limit,
        };
        let mut writer = ListFileWriter::open(&output, format, &arguments)?;
        let total = users.len();
        let remaining = match writer.last_user() {
            Some(last) => users.after(last).with_context(|| {
                format!(
                    "the last user in {} is not in the list of users; remove this file to start from the beginning",
                    writer.unfinished_path().display()
                )
            })?,
            None => users.into_ids(),
        };
        let mut counts = ListCounts { skipped: total - remaining.len(), ..ListCounts::default() };
        if counts.skipped > 0 {
            eprintln!("{}: continuing after {} lists", self.output.display(), counts.skipped);
        }
        let start = Instant::now();
        let written = self.write_lists(&source, remaining, &mut writer, &mut counts);
        if let Err(error) = written {
            writer.discard_if_empty()?;
            return Err(error);
        }
        writer.finish()?;
        report_counts(&counts, start)
    }

    /// Opens the daemon or the data directory. Returns it with its name in the progress file.
    fn open_source(&self) -> anyhow::Result<(ListSource, String)> {
        let limit = self.limit.map(|limit| limit as usize);
        match self.flags.data_dir() {
            Some(dir) => {
                let name = dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
                let source = DirectoryListSource::open(&self.flags, self.placement.clone(), limit)?;
                Ok((ListSource::Directory(Box::new(source)), name.display().to_string()))
            }
            None => {
                let connections = self.in_flight as usize;
                let source = ListSource::connect(&self.url, &self.auth, connections, self.placement.clone(), limit)?;
                Ok((source, self.url.trim_end_matches('/').to_owned()))
            }
        }
    }

    /// Requests the lists of users, several at a time, and writes them in the order of the users.
    fn write_lists(
        &self,
        source: &ListSource,
        users: Vec<String>,
        writer: &mut ListFileWriter,
        counts: &mut ListCounts,
    ) -> anyhow::Result<()> {
        let progress = ProgressDisplay::new(users.len() as u64, "lists written");
        let in_flight = source.worker_count().map_or(self.in_flight as usize, |workers| workers * BATCHES_PER_WORKER);
        let mut users = users.into_iter();
        let batches = std::iter::from_fn(|| {
            let batch: Vec<_> = users.by_ref().take(source.batch_len()).collect();
            (!batch.is_empty()).then_some(batch)
        });
        let written = source.runner().block_on(async {
            let mut lists = stream::iter(batches).map(|batch| source.lists_of_users(batch)).buffered(in_flight);
            while let Some(batch) = lists.next().await {
                for list in batch {
                    let list = list?;
                    writer.write_list(&list)?;
                    counts.written += 1;
                    counts.empty += usize::from(list.is_empty());
                    progress.update(counts.written as u64);
                }
            }
            Ok(())
        });
        progress.finish();
        // The lines before an error count: the next run continues after them.
        writer.flush()?;
        written
    }
}

fn read_listed_users(file: &Path) -> anyhow::Result<BatchUsers> {
    let users = if file == Path::new(STANDARD_INPUT_NAME) {
        read_user_file(&mut stdin().lock() as &mut dyn BufRead)
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        read_user_file(&mut std::io::BufReader::new(opened))
    };
    let users = users.with_context(|| format!("cannot read {}", file.display()))?;
    if users.len() == 0 {
        bail!("{} contains no user id; write one per line", file.display());
    }
    Ok(users)
}

/// Prints the numbers of lists and their rate.
fn report_counts(counts: &ListCounts, start: Instant) -> anyhow::Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    let rate = if seconds > 0.0 { counts.written as f64 / seconds } else { 0.0 };
    for (label, count) in
        [("lists written", counts.written), ("lists of an earlier run", counts.skipped), ("empty lists", counts.empty)]
    {
        writeln!(stdout(), "  {label:<30}{count:>12}")?;
    }
    writeln!(stdout(), "  {:<30}{rate:>12.0}", "lists per second")?;
    Ok(())
}
