//! `sequor migrate`: a store of an earlier version, brought to the present format.

use clap::Args;

use super::data;
use super::flags::SettingsFlags;
use crate::store::{FORMAT, Store};

/// Arguments of `sequor migrate`.
#[derive(Debug, Args)]
#[command(
    after_help = "`sequor serve` does the same when it starts; this does it beforehand, and says what it did. There is no way back to an earlier format: make a backup with the \
    earlier version first. A store of a newer version is refused."
)]
pub(super) struct Migrate {
    #[command(flatten)]
    flags: SettingsFlags,
}

impl Migrate {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data::settings(&self.flags)?;
        let store = data::open(layers.validated()?, |dir, options| Store::open_existing(dir, options), None)?;
        let (dir, found) = (store.dir().display(), store.format_found()?);
        if found == FORMAT {
            println!("{dir} has format {FORMAT}, the present one; nothing was to be done");
        } else {
            println!("{dir} was migrated from format {found} to {FORMAT}");
        }
        Ok(())
    }
}
