//! `sequor migrate`: migrates a data directory to the current format.

use clap::Args;
use std::io::{Write, stdout};

use super::data_dir;
use super::flags::RuntimeFlags;
use crate::store::{STORE_FORMAT, Store};

/// Arguments of `sequor migrate`.
#[derive(Debug, Args)]
#[command(
    after_help = "`sequor serve` migrates at its start, too; this command does it beforehand and reports the result. A migration cannot be undone: first make a backup with the \
    earlier version. A data directory of a newer version is an error.\n\nExample:\n  sequor migrate --data-dir sequor-data"
)]
pub(super) struct Migrate {
    #[command(flatten)]
    flags: RuntimeFlags,
}

impl Migrate {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let store = data_dir::open_store(
            layers.validated_settings()?,
            |dir, options| Store::open_existing(dir, options),
            None,
        )?;
        let (dir, found) = (store.dir().display(), store.format_at_open()?);
        if found == STORE_FORMAT {
            writeln!(stdout(), "{dir} has format {STORE_FORMAT}, the current one; there is nothing to do")?;
        } else {
            writeln!(stdout(), "{dir} was migrated from format {found} to {STORE_FORMAT}")?;
        }
        Ok(())
    }
}
