//! `sequor backup`: copies a data directory. A daemon that serves it keeps running.

use clap::Args;
use serde_json::json;
use std::io::{Write, stdout};
use std::path::PathBuf;

use super::client_auth::ClientAuth;
use super::data_dir::{self, AdminClient};
use super::flags::RuntimeFlags;
use super::progress_display::ProgressDisplay;
use crate::store::{BackupSummary, Store};

/// Arguments of `sequor backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "The backup contains every event that was acknowledged before it started. A backup directory can be served directly: `sequor serve --data-dir /backups/monday`. \
    The backup gets its name once it is complete. Existing files are never overwritten.\n\n\
    Examples:\n  sequor backup /backups/monday --url http://127.0.0.1:9090   a running daemon, which keeps accepting events\n  \
    sequor backup monday.tar.gz --data-dir sequor-data           a stopped daemon"
)]
pub(super) struct Backup {
    /// The backup to create: a directory, or a file that ends in .tar.gz. With --url, the daemon
    /// writes it on its own machine, as its own user.
    target: PathBuf,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// URL of the admin endpoint of a running daemon, such as http://127.0.0.1:9090. Without it,
    /// the command reads the data directory of a stopped daemon.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
    #[command(flatten)]
    auth: ClientAuth,
}

impl Backup {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let summary = match &self.url {
            Some(url) => self.back_up_daemon(url)?,
            None => self.back_up_data_dir()?,
        };
        writeln!(stdout(), "{}", self.target.display())?;
        writeln!(stdout(), "  journal entries   {:>12}", summary.entries)?;
        writeln!(stdout(), "  item names        {:>12}", summary.items)?;
        writeln!(stdout(), "  session records   {:>12}", summary.sessions)?;
        writeln!(
            stdout(),
            "  checkpoint        {:>12}",
            summary.checkpoint.map_or_else(|| "none".to_owned(), |offset| format!("at {offset}"))
        )?;
        Ok(())
    }

    fn back_up_daemon(&self, url: &str) -> anyhow::Result<BackupSummary> {
        let target = std::path::absolute(&self.target)?;
        Ok(AdminClient::for_long_work(url, &self.auth)?.post("/admin/backup", &json!({ "target": target }))?.json()?)
    }

    fn back_up_data_dir(&self) -> anyhow::Result<BackupSummary> {
        let layers = data_dir::load_settings(&self.flags)?;
        let command = format!("sequor backup {}", self.target.display());
        let store = data_dir::open_store(
            layers.validated_settings()?,
            |dir, options| Store::open_existing(dir, options),
            Some(&command),
        )?;
        let progress = ProgressDisplay::new(store.journal().next_offset()?, "entries copied");
        let summary = store.backup(&self.target, &mut |done, _| progress.update(done))?;
        progress.finish();
        Ok(summary)
    }
}
