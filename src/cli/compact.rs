//! `sequor compact`: rewrites the database without unused space.

use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::io::{Write, stdout};
use std::ops::ControlFlow;

use super::client_auth::ClientAuth;
use super::data_dir::{self, AdminClient};
use super::flags::RuntimeFlags;
use super::progress_display::ProgressDisplay;
use crate::store::{CompactionSummary, Store};

/// Arguments of `sequor compact`.
#[derive(Debug, Args)]
#[command(
    after_help = "Copies the live data to a new database, compares both, and then replaces the old database. Until then, nothing changes. The disk needs free space of three times the \
    live data. A daemon compacts by itself once the database is larger than store.compact_ratio times its live data.\n\n\
    Examples:\n  sequor compact --url http://127.0.0.1:9090   a running daemon, which keeps accepting events\n  \
    sequor compact --data-dir sequor-data        a stopped daemon"
)]
pub(super) struct Compact {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// URL of the admin endpoint of a running daemon, such as http://127.0.0.1:9090. Without it,
    /// the command opens the data directory of a stopped daemon.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
    #[command(flatten)]
    auth: ClientAuth,
}

impl Compact {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let CompactionSummary { bytes_before, bytes_after } = match &self.url {
            Some(url) => {
                AdminClient::for_long_work(url, &self.auth)?.post("/admin/store/compact", &json!({}))?.json()?
            }
            None => self.compact_data_dir()?,
        };
        writeln!(stdout(), "bytes before   {bytes_before:>15}")?;
        writeln!(stdout(), "bytes after    {bytes_after:>15}")?;
        Ok(())
    }

    fn compact_data_dir(&self) -> anyhow::Result<CompactionSummary> {
        let layers = data_dir::load_settings(&self.flags)?;
        let settings = layers.validated_settings()?;
        data_dir::log_panics_at_debug_level();
        let open = || {
            data_dir::open_store(settings, |dir, options| Store::open_existing(dir, options), Some("sequor compact"))
        };
        let store = open()?;
        store.check_journal_end()?;
        // A compaction reads all data twice: once to copy it, and once to compare the copies.
        let progress = ProgressDisplay::new(2 * store.live_bytes()?, "bytes copied and compared");
        let compacted = store.compact(&mut |done, _| {
            progress.update(done);
            ControlFlow::Continue(())
        })?;
        progress.finish();
        store.close()?;
        // Opening the store completes the replacement and proves that the new database can be
        // opened.
        open()?.close()?;
        compacted.context("the compaction did not finish")
    }
}
