//! `sequor restore`: a backup becomes a data directory again.

use anyhow::bail;
use clap::Args;
use std::path::PathBuf;

use super::consistency::check_consistency;
use super::data_dir;
use super::erasures;
use super::flags::{self, RuntimeFlags};
use crate::store::{StoreError, restore};

/// Arguments of `sequor restore`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sequor restore monday.tar.gz --data-dir sequor-data\n\n\
    The directory must be empty or absent: move a damaged one away first. The backup is verified before it gets its place, and is itself only read. Events that were taken after \
    the backup are not in it; senders that give each event an `event_id` can send them again.")]
pub(super) struct Restore {
    /// What `sequor backup` made: a directory, or a file that ends in .tar.gz.
    backup: PathBuf,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Forget whom this list names, as `sequor erasures` wrote it: they were erased after the
    /// backup was made. It is carried out at the daemon's first start.
    #[arg(long, value_name = "FILE")]
    erasures: Option<PathBuf>,
}

impl Restore {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if !self.flags.has_data_dir() {
            bail!("say where to, with --data-dir: an empty directory, or one that is not there yet");
        }
        let layers = data_dir::load_settings(&self.flags)?;
        let settings = layers.validated()?;
        let erased = self.erasures.as_deref().map(erasures::read_list).transpose()?;
        data_dir::silence_panics();
        let dir = &settings.store.data_dir;
        let found = restore::<_, anyhow::Error>(&self.backup, dir, &flags::store_options(settings), |store| {
            let found = check_consistency(store, settings).with_data_dir(dir);
            if found.damages().iter().any(|damage| damage.is_serious()) {
                println!("{found}");
                bail!("the backup {} is damaged; nothing was restored", self.backup.display());
            }
            if let Some(erased) = &erased {
                println!(
                    "{} of {} erased ids are in the backup and are forgotten at the daemon's first start",
                    erasures::apply_list(store, erased)?,
                    erased.len()
                );
            }
            Ok(found)
        })
        .map_err(|error| match error.downcast_ref::<StoreError>() {
            Some(StoreError::AlreadyExists { path }) => anyhow::anyhow!("{} is not empty; restore into an empty directory", path.display()),
            _ => error,
        })?;
        println!("{found}");
        Ok(())
    }
}
