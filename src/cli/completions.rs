//! `sequor completions`: writes the completion script of a shell.

use clap::{Args, Command};
use clap_complete::Shell;
use std::io::{Write, stdout};

/// Arguments of `sequor completions`.
#[derive(Debug, Args)]
#[command(after_help = "The packages for Debian and the archive contain these scripts.\n\nExamples:\n  \
    sequor completions bash > /etc/bash_completion.d/sequor\n  \
    sequor completions zsh > ~/.zfunc/_sequor        with ~/.zfunc in fpath\n  \
    sequor completions fish > ~/.config/fish/completions/sequor.fish")]
pub(super) struct Completions {
    /// The shell that reads the script.
    shell: Shell,
}

impl Completions {
    /// Writes the script for the whole command line, `command`.
    pub(super) fn run(self, mut command: Command) -> anyhow::Result<()> {
        // `generate` panics if its writer fails, so the script is complete before it is written.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "sequor", &mut script);
        let mut out = stdout().lock();
        out.write_all(&script)?;
        Ok(out.flush()?)
    }
}
