//! `sequor compact`: the database written anew, so that the disk that it no longer needs is given
//! back.

use anyhow::Context;
use clap::Args;
use serde_json::json;
use std::ops::ControlFlow;

use super::client_auth::ClientAuth;
use super::data_dir::{self, AdminClient};
use super::flags::RuntimeFlags;
use super::progress_display::ProgressDisplay;
use crate::store::{CompactionSummary, Store};

/// Arguments of `sequor compact`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sequor compact --url http://127.0.0.1:9090   through the running daemon, which goes on taking events\n  \
    sequor compact --data-dir sequor-data        of a stopped one\n\n\
    Everything is copied into a fresh database, which then takes the place of the old one; nothing is changed before. There must be room for three times what is in it. A daemon does the same \
    by itself once the database takes more than store.compact_ratio times what is in it."
)]
pub(super) struct Compact {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// The admin endpoint of the running daemon, such as http://127.0.0.1:9090.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
    #[command(flatten)]
    auth: ClientAuth,
}

impl Compact {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let CompactionSummary { bytes_before, bytes_after } = match &self.url {
            Some(url) => AdminClient::new(url, &self.auth)?.post("/admin/store/compact", &json!({}))?.read_json()?,
            None => self.a_directory()?,
        };
        println!("bytes before   {bytes_before:>15}");
        println!("bytes after    {bytes_after:>15}");
        Ok(())
    }

    fn a_directory(&self) -> anyhow::Result<CompactionSummary> {
        let layers = data_dir::load_settings(&self.flags)?;
        let settings = layers.validated()?;
        data_dir::silence_panics();
        let open = || data_dir::open_store(settings, |dir, options| Store::open_existing(dir, options), Some("sequor compact"));
        let store = open()?;
        store.check_journal_end()?;
        // Everything is read twice: copied, and held against its copy.
        let progress = ProgressDisplay::new(2 * store.live_bytes()?, "bytes copied and compared");
        let compacted = store.compact(&mut |done, _| {
            progress.update(done);
            ControlFlow::Continue(())
        })?;
        progress.finish();
        store.close()?;
        // An opening gives the new database the old one's name, and shows that it can be opened.
        open()?.close()?;
        compacted.context("broken off")
    }
}
