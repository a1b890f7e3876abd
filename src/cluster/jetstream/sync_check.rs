//! Asks the servers whether they sync every message before they acknowledge it.
//!
//! The servers tell this on their monitoring endpoints only.

use crate::cluster::error::JoinError;
use serde::Deserialize;
use std::time::Duration;

/// The longest time of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The part of the answer of `/jsz` that the check needs.
#[derive(Debug, Deserialize)]
struct JetStreamReport {
    #[serde(default)]
    config: JetStreamConfig,
}

#[derive(Debug, Default, Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
}

/// Checks all servers.
///
/// # Errors
/// [`JoinError::LazySync`] if a server syncs later, or if it cannot be asked.
pub(super) async fn check_servers_sync(monitors: Vec<String>) -> Result<(), JoinError> {
    if monitors.is_empty() {
        let reason = "it is not known whether the servers sync messages before they acknowledge them, because cluster.monitors is empty".to_owned();
        return Err(JoinError::LazySync { reason });
    }
    let checked = tokio::task::spawn_blocking(move || monitors.iter().try_for_each(|monitor| check_server(monitor)));
    checked.await.unwrap_or_else(|error| Err(error.to_string())).map_err(|reason| JoinError::LazySync { reason })
}

fn check_server(monitor: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(REQUEST_TIMEOUT)).build().into();
    let unknown =
        |error: &dyn std::fmt::Display| format!("the server at {monitor} does not tell whether it syncs: {error}");
    let mut response =
        agent.get(format!("{}/jsz", monitor.trim_end_matches('/'))).call().map_err(|error| unknown(&error))?;
    let report: JetStreamReport = response.body_mut().read_json().map_err(|error| unknown(&error))?;
    if report.config.sync_always {
        Ok(())
    } else {
        Err(format!("the server at {monitor} acknowledges messages before it syncs them"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_reports_it_syncs_always() {
        let syncs = |text: &str| serde_json::from_str::<JetStreamReport>(text).unwrap().config.sync_always;
        assert!(syncs(r#"{"streams": 1, "config": {"sync_interval": 120000000000, "sync_always": true}}"#));
        assert!(!syncs(r#"{"config": {"sync_interval": 120000000000}}"#));
        assert!(!syncs("{}"));
    }
}
