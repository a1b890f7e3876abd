//! `sequor migrate`: a store of an earlier version, brought to the present format.

use clap::Args;

use super::data_dir;
use super::flags::RuntimeFlags;
use crate::store::{FORMAT, Store};

/// Arguments of `sequor migrate`.
#[derive(Debug, Args)]
#[command(
    after_help = "`sequor serve` does the same when it starts; this does it beforehand, and says what it did. There is no way back to an earlier format: make a backup with the \
    earlier version first. A store of a newer version is refused."
)]
pub(super) struct Migrate {
    #[command(flatten)]
    flags: RuntimeFlags,
}

impl Migrate {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let store = data_dir::open_store(layers.validated()?, |dir, options| Store::open_existing(dir, options), None)?;
        let (dir, found) = (store.dir().display(), store.format_found()?);
        if found == FORMAT {
            println!("{dir} has format {FORMAT}, the present one; nothing was to be done");
        } else {
            println!("{dir} was migrated from format {found} to {FORMAT}");
        }
        Ok(())
    }
}
