//! `sequor verify`: whether a data directory is what was written.

use clap::Args;
use std::path::PathBuf;

use super::consistency::{ConsistencyReport, check_consistency};
use super::data_dir;
use super::evaluate::write_json;
use super::flags::RuntimeFlags;
use crate::store::{Store, StoreError};

/// Arguments of `sequor verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads every journal record, item name, session record and checkpoint: checksums, references, counts, and whether items and sessions are what the \
    journal makes of them. Each damage is told with its place, its reason and a remedy. The exit code is 0 if there is none, else 1.\n\n\
    The daemon must be stopped; while it runs, verify a backup: `sequor backup`, then `sequor verify --data-dir` on it. Opening a database whose log is torn cuts off \
    what stands behind: of the only copy of a damaged directory, make another first."
)]
pub(super) struct Verify {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Write what was found as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Verify {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let settings = layers.validated()?;
        data_dir::silence_panics();
        let found = match Store::open_for_inspection(&settings.store.data_dir, &super::flags::store_options(settings)) {
            Ok(store) => check_consistency(&store, settings),
            Err(error @ (StoreError::Locked { .. } | StoreError::NotFound { .. } | StoreError::NewerFormat { .. })) => {
                return Err(error.into());
            }
            Err(error) => ConsistencyReport::from_open_error(&settings.store.data_dir, &error),
        };
        println!("{found}");
        if let Some(file) = &self.json {
            write_json(file, &found)?;
        }
        found.ensure_undamaged()
    }
}
