//! `sequor man`: writes the manual pages of all commands, for packages.

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;
use std::fs;
use std::path::{Path, PathBuf};

/// Arguments of `sequor man`.
#[derive(Debug, Args)]
pub(super) struct ManPages {
    /// Existing folder for the pages. Pages of the same names are replaced.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

impl ManPages {
    /// Writes the pages of the whole command line, `command`.
    pub(super) fn run(self, command: Command) -> anyhow::Result<()> {
        // Each command has a page, so pages of `sequor help …` would repeat them.
        let mut command = command.disable_help_subcommand(true);
        command.build();
        write_pages(&command, &self.dir)
    }
}

/// Writes the page of the command and those of its subcommands.
fn write_pages(command: &Command, dir: &Path) -> anyhow::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, dir)?;
    }
    let page = Man::new(command.clone()).manual("Sequor manual");
    let file = dir.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    // The heading that `clap_mangen` gives to the text after the options says nothing.
    let text = String::from_utf8(text)?.replace("\n.SH EXTRA\n", "\n.SH NOTES\n");
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}
