//! `sequor health`: whether a daemon can be sent traffic, as an exit code.

use clap::Args;
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::data_dir::AdminClient;

/// Arguments of `sequor health`.
#[derive(Debug, Args)]
#[command(after_help = "Exit code 0: the daemon is ready. 1: it is not, or does not answer; standard error tells why.\n\nExamples:\n  \
    sequor health                                    of the daemon of this machine\n  \
    sequor health --alive --url http://10.0.0.5:9090 whether the process answers at all, ready or not")]
pub(super) struct Health {
    /// The admin endpoint of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    /// Ask only whether it is there, not whether it learns and takes events.
    #[arg(long)]
    alive: bool,
    /// How many seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Health {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (path, said) = if self.alive { ("/healthz", "alive") } else { ("/readyz", "ready") };
        AdminClient::with_timeout(&self.url, &self.auth, Duration::from_secs(self.timeout))?.get(path)?;
        println!("{} is {said}", self.url);
        Ok(())
    }
}
