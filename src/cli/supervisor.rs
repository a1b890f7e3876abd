//! What the daemon tells the supervisor that started it, if that asked to be told by
//! `NOTIFY_SOCKET`, as systemd does [sd_notify(3)].

use sd_notify::NotifyState;
use std::time::Duration;

use crate::actors::system::System;

/// How often the state is told where no watchdog wants it more often.
const DEFAULT_STATUS_INTERVAL: Duration = Duration::from_secs(30);

/// Whether anybody listens.
fn is_asked() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the supervisor was not told");
    }
}

/// The daemon serves: from here on it tells how it stands, and keeps the watchdog quiet while the
/// actors answer. Must be called within an actix system.
pub(super) fn notify_ready(system: System, serving: &str) {
    if !is_asked() {
        return;
    }
    tell(&[NotifyState::Ready, NotifyState::Status(serving)]);
    let watchdog = sd_notify::watchdog_enabled();
    let period = watchdog.map_or(DEFAULT_STATUS_INTERVAL, |limit| limit / 2);
    let serving = serving.to_owned();
    actix::spawn(async move {
        let mut every = actix::clock::interval(period.max(Duration::from_millis(1)));
        loop {
            every.tick().await;
            // One that answers later than this would be too late for the watchdog.
            match actix::clock::timeout(period, system.inspection.check_liveness()).await {
                Ok(Ok(())) => {
                    let status = status(&system, &serving);
                    tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
                }
                Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "the watchdog is not told to wait"),
                Err(_) => tracing::error!("an actor does not answer; the watchdog is not told to wait"),
            }
        }
    });
}

/// The daemon stops.
pub(super) fn notify_stopping() {
    if is_asked() {
        tell(&[NotifyState::Stopping, NotifyState::Status("finishing what is under way")]);
    }
}

fn status(system: &System, serving: &str) -> String {
    let journal = system.store.journal().next_offset().unwrap_or_default();
    let lag = journal.saturating_sub(system.recommender.snapshot().offset());
    let journal_takes = if system.store.has_failed() { "the journal takes no writes" } else { "the journal takes writes" };
    format!("{serving}; {journal} entries, {lag} yet to be learned; {journal_takes}")
}
