//! `sequor backup`: a copy that can be served, made while the daemon runs.

use clap::Args;
use serde_json::json;
use std::path::PathBuf;

use super::client_auth::ClientAuth;
use super::data_dir::{self, AdminClient};
use super::flags::RuntimeFlags;
use super::progress_display::ProgressDisplay;
use crate::store::{BackupSummary, Store};

/// Arguments of `sequor backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sequor backup /backups/monday --url http://127.0.0.1:9090   through the running daemon, which goes on taking events\n  \
    sequor backup monday.tar.gz --data-dir sequor-data           of a stopped one\n\n\
    The backup holds every event that was acknowledged before it began. A directory can be served as it is: `sequor serve --data-dir /backups/monday`. It is written under \
    another name until it is whole, and nothing that is there is overwritten."
)]
pub(super) struct Backup {
    /// A new directory, or a new file that ends in .tar.gz. Through a daemon it is written on the
    /// daemon's machine, by the daemon's user.
    target: PathBuf,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// The admin endpoint of the running daemon, such as http://127.0.0.1:9090.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
    #[command(flatten)]
    auth: ClientAuth,
}

impl Backup {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let copied = match &self.url {
            Some(url) => self.through(url)?,
            None => self.of_a_directory()?,
        };
        println!("{}", self.target.display());
        println!("  journal entries   {:>12}", copied.entries);
        println!("  item names        {:>12}", copied.items);
        println!("  session records   {:>12}", copied.sessions);
        println!("  checkpoint        {:>12}", copied.checkpoint.map_or_else(|| "none".to_owned(), |offset| format!("at {offset}")));
        Ok(())
    }

    fn through(&self, url: &str) -> anyhow::Result<BackupSummary> {
        let target = std::path::absolute(&self.target)?;
        Ok(AdminClient::new(url, &self.auth)?.post("/admin/backup", &json!({ "target": target }))?.read_json()?)
    }

    fn of_a_directory(&self) -> anyhow::Result<BackupSummary> {
        let layers = data_dir::load_settings(&self.flags)?;
        let command = format!("sequor backup {}", self.target.display());
        let store = data_dir::open_store(layers.validated()?, |dir, options| Store::open_existing(dir, options), Some(&command))?;
        let progress = ProgressDisplay::new(store.journal().next_offset()?, "entries copied");
        let copied = store.backup(&self.target, &mut |done, _| progress.update(done))?;
        progress.finish();
        Ok(copied)
    }
}
