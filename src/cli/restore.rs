//! `sequor restore`: restores a backup into a data directory.

use anyhow::bail;
use clap::Args;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::consistency::check_consistency;
use super::consistency_report::ConsistencyReport;
use super::data_dir;
use super::flags::{self, RuntimeFlags};
use crate::domain::Timestamp;
use crate::settings::Settings;
use crate::store::{ErasedUserDigest, StoreError, restore};

/// Arguments of `sequor restore`.
#[derive(Debug, Args)]
#[command(
    after_help = "The data directory must be empty or absent: move a damaged one away first. The command verifies the backup before it creates the data directory, and only reads the backup. \
    Events that were accepted after the backup are missing. Clients that set `event_id` can send them again.\n\n\
    Example:\n  sequor restore monday.tar.gz --data-dir sequor-data --erasures erasures.ndjson"
)]
pub(super) struct Restore {
    /// The backup from `sequor backup`: a directory, or a file that ends in .tar.gz.
    backup: PathBuf,
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Erasure list from `sequor erasures`, with users who were erased after the backup. The daemon
    /// erases them at its first start.
    #[arg(long, value_name = "FILE")]
    erasures: Option<PathBuf>,
}

impl Restore {
    pub(super) fn run(self) -> anyhow::Result<()> {
        if !self.flags.has_data_dir() {
            bail!("--data-dir is missing: name an empty directory, or one that does not exist yet");
        }
        let layers = data_dir::load_settings(&self.flags)?;
        let settings = layers.validated_settings()?;
        let erasures = self.erasures.as_deref().map(super::erasures::read_erasure_list).transpose()?;
        data_dir::log_panics_at_debug_level();
        writeln!(stdout(), "{}", restore_backup(&self.backup, settings, erasures)?)?;
        Ok(())
    }
}

/// Restores a backup into the data directory of the settings, which must be empty or absent. Prints
/// the report and returns an error if the backup is damaged.
pub(super) fn restore_backup(
    backup: &Path,
    settings: &Settings,
    erasures: Option<Vec<(ErasedUserDigest, Timestamp)>>,
) -> anyhow::Result<ConsistencyReport> {
    let dir = &settings.store.data_dir;
    restore::<_, anyhow::Error>(backup, dir, &flags::store_options(settings), |store| {
        let report = check_consistency(store, settings).with_data_dir(dir);
        if report.damages().iter().any(|damage| damage.is_serious()) {
            writeln!(stdout(), "{report}")?;
            bail!("the backup {} is damaged; nothing was restored", backup.display());
        }
        if let Some(erasures) = &erasures {
            writeln!(
                stdout(),
                "{} of {} erased ids are in the backup; the daemon erases them at its first start",
                super::erasures::apply_erasure_list(store, erasures)?,
                erasures.len()
            )?;
        }
        Ok(report)
    })
    .map_err(|error| match error.downcast_ref::<StoreError>() {
        Some(StoreError::AlreadyExists { path }) => {
            anyhow::anyhow!("{} is not empty; restore into an empty directory", path.display())
        }
        _ => error,
    })
}
