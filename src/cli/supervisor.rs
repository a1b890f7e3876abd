//! Reports the state of the daemon to its service manager, such as systemd, over the socket in
//! `NOTIFY_SOCKET` [sd_notify(3)].

use sd_notify::NotifyState;
use std::time::Duration;

use crate::actors::system::System;

/// Interval of status reports if no watchdog is enabled.
const DEFAULT_STATUS_INTERVAL: Duration = Duration::from_secs(30);

/// Whether the service manager expects notifications.
fn is_enabled() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn send_notification(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

/// Reports that the daemon is ready. From then on, it periodically reports the status. Each time,
/// if all actors answer, it also resets the watchdog. Must be called within an actix system.
pub(super) fn notify_ready(system: System, endpoints: &str) {
    if !is_enabled() {
        return;
    }
    send_notification(&[NotifyState::Ready, NotifyState::Status(endpoints)]);
    let watchdog = sd_notify::watchdog_enabled();
    let period = watchdog.map_or(DEFAULT_STATUS_INTERVAL, |limit| limit / 2);
    let endpoints = endpoints.to_owned();
    actix::spawn(async move {
        let mut ticks = actix::clock::interval(period.max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            // An actor that answers after one period would make the reset miss the deadline of the
            // watchdog.
            match actix::clock::timeout(period, system.inspection.check_liveness()).await {
                Ok(Ok(())) => {
                    let status = status_text(&system, &endpoints);
                    send_notification(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
                }
                Ok(Err(error)) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the liveness check failed; the watchdog is not reset"
                    )
                }
                Err(_) => tracing::error!("an actor does not answer; the watchdog is not reset"),
            }
        }
    });
}

/// Reports that the daemon is stopping.
pub(super) fn notify_stopping() {
    if is_enabled() {
        send_notification(&[NotifyState::Stopping, NotifyState::Status("completing requests in progress")]);
    }
}

fn status_text(system: &System, endpoints: &str) -> String {
    let entries = system.store.journal().next_offset().unwrap_or_default();
    let lag = entries.saturating_sub(system.recommender.snapshot().offset());
    let write_state =
        if system.store.has_failed() { "the journal accepts no writes" } else { "the journal accepts writes" };
    format!("{endpoints}; {entries} entries, {lag} yet to be learned; {write_state}")
}
