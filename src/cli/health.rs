//! `sequor health`: reports whether a daemon is ready, as an exit code.

use anyhow::{Context, ensure};
use clap::Args;
use serde::Deserialize;
use std::io::{Write, stdout};
use std::time::Duration;

use super::client_auth::ClientAuth;
use super::data_dir::AdminClient;
use crate::settings::Period;

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
    /// Time limit for the answer, 1s to 1h. A number without a unit counts seconds.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_timeout)]
    timeout: Duration,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let timeout = seconds.or_else(|| text.parse::<Period>().ok()?.get());
    let allowed = Duration::from_secs(1)..=Duration::from_secs(3600);
    timeout.filter(|timeout| allowed.contains(timeout)).ok_or_else(|| "must be from 1s to 1h, such as 5s".to_owned())
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
        let admin = AdminClient::with_timeout(&self.url, &self.auth, self.timeout)?;
        // Another server at this address can answer 200, too.
        let body = admin.get(path)?.bytes().with_context(|| format!("{} sends no whole response", self.url))?;
        let answer = serde_json::from_slice::<ProbeAnswer>(&body);
        ensure!(answer.is_ok_and(|answer| answer.status == status), admin.unexpected_response());
        writeln!(stdout(), "{} is {state}", self.url)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_a_unit_or_counts_seconds() {
        let seconds = |text| parse_timeout(text).map(|timeout| timeout.as_secs()).ok();
        assert_eq!(["5", "5s", "1m", "1h", "3600"].map(seconds), [Some(5), Some(5), Some(60), Some(3600), Some(3600)]);
        assert_eq!(["0", "999ms", "3601", "2h", "off", "-1", "", "soon"].map(seconds), [None; 8]);
    }
}
