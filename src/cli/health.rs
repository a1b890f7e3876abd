//! `sequor health`: reports whether a daemon is ready, as an exit code.

use anyhow::ensure;
use clap::Args;
use serde::Deserialize;
use std::io::{Write, stdout};
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::data_dir::AdminClient;

/// Arguments of `sequor health`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0, the daemon is ready; 1, it is not ready or does not answer, and standard error names the reason.\n\nExamples:\n  \
    sequor health                                      the daemon on this machine\n  \
    sequor health --alive --url http://10.0.0.5:9090   liveness only, for restart decisions"
)]
pub(super) struct Health {
    /// URL of the admin endpoint.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    /// Check only that the process answers (/healthz), not that it learns and accepts events
    /// (/readyz).
    #[arg(long)]
    alive: bool,
    /// Check only that the background scrub has found no damage in the journal (/healthz/journal).
    #[arg(long, conflicts_with = "alive")]
    journal: bool,
    /// Time limit for the answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// The answer of a probe that succeeds.
#[derive(Debug, Deserialize)]
struct ProbeAnswer {
    status: String,
}

impl Health {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (path, status, state) = match (self.alive, self.journal) {
            (true, _) => ("/healthz", "alive", "alive"),
            (_, true) => ("/healthz/journal", "intact", "free of known journal damage"),
            _ => ("/readyz", "ready", "ready"),
        };
        let admin = AdminClient::with_timeout(&self.url, &self.auth, Duration::from_secs(self.timeout))?;
        // Another server at this address can answer 200, too.
        let answer = admin.get(path)?.json::<ProbeAnswer>();
        ensure!(answer.is_ok_and(|answer| answer.status == status), admin.unexpected_response());
        writeln!(stdout(), "{} is {state}", self.url)?;
        Ok(())
    }
}
