//! `sequor verify`: checks a data directory for damage.

use clap::Args;
use std::io::{Write, stdout};
use std::path::PathBuf;

use super::consistency::check_consistency;
use super::consistency_report::ConsistencyReport;
use super::data_dir;
use super::evaluate::write_json;
use super::flags::RuntimeFlags;
use crate::store::{Store, StoreError};

/// Arguments of `sequor verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads every journal record, item name, session record and checkpoint. Checks checksums, references and counts, and compares items and sessions with the journal. \
    Reports each damage with location, reason and remedy. Exit codes: 0, no damage; 1, damage or an error.\n\n\
    The daemon must be stopped. To verify a running daemon's data, verify a backup: `sequor backup`, then `sequor verify --data-dir`. Opening a database with a torn log truncates the log: \
    before you verify the only copy of a damaged directory, copy it.\n\n\
    Example:\n  sequor verify --data-dir sequor-data --config sequor.toml"
)]
pub(super) struct Verify {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let settings = layers.validated_settings()?;
        data_dir::log_panics_at_debug_level();
        let report = match Store::open_for_inspection(&settings.store.data_dir, &super::flags::store_options(settings))
        {
            Ok(store) => check_consistency(&store, settings),
            Err(error @ (StoreError::Locked { .. } | StoreError::NotFound { .. } | StoreError::NewerFormat { .. })) => {
                return Err(error.into());
            }
            Err(error) if error.is_access_failure() => {
                let dir = settings.store.data_dir.display();
                return Err(anyhow::Error::from(error).context(format!(
                    "cannot verify {dir}; its data may be intact. Opening the database writes to it, so verify as its owner, or verify a writable copy"
                )));
            }
            Err(error) => ConsistencyReport::from_open_error(&settings.store.data_dir, &error),
        };
        writeln!(stdout(), "{report}")?;
        if let Some(file) = &self.json {
            write_json(file, &report)?;
        }
        report.ensure_undamaged()
    }
}
