//! Sees to it that nothing is kept for longer than its kind may be.

use std::time::{Duration, Instant};

use super::erasure::run_blocking;
use crate::actors::error::SystemError;
use crate::actors::system::System;
use crate::clock::Clock;
use crate::domain::{Entry, EventKind, Expiry, Timestamp};

/// How often it is looked whether something is to be done.
const TICK: Duration = Duration::from_secs(1);
/// How long it takes at most from one look at all that is kept to the next.
const LOOK_AT_LEAST: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long what is kept; what is not named, for good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Events, by kind, in milliseconds.
    pub events: Vec<(EventKind, i64)>,
    /// What was recommended, in milliseconds.
    pub impressions_ms: Option<i64>,
}

impl RetentionPolicy {
    /// What is too old at a time; `None` if everything is kept for good.
    #[must_use]
    pub fn expiry_at(&self, now: Timestamp) -> Option<Expiry> {
        let before = |kept: i64| now.saturating_sub(kept);
        let is_bounded = !self.events.is_empty() || self.impressions_ms.is_some();
        is_bounded.then(|| Expiry {
            events: self.events.iter().map(|(kind, kept)| (kind.clone(), before(*kept))).collect(),
            impressions: self.impressions_ms.map(before),
            timestamp: now,
        })
    }

    /// How long it takes from one look to the next: a tenth of the shortest time, between a second
    /// and a day. So much longer may something be kept.
    #[must_use]
    pub fn interval(&self) -> Duration {
        let times = self.events.iter().map(|(_, kept)| *kept).chain(self.impressions_ms);
        let tenth = times.min().map_or(LOOK_AT_LEAST, |shortest| Duration::from_millis(u64::try_from(shortest / 10).unwrap_or(0)));
        tenth.clamp(TICK, LOOK_AT_LEAST)
    }
}

/// Looks, for as long as the system runs, whether something was kept long enough, and takes it out:
/// first of the journal, by an entry that says so to everything that is folded from it, then of the
/// sessions. What was begun is gone on with by the next start.
pub async fn run_retention(system: System, keeping: RetentionPolicy, clock: Clock) {
    let mut every = actix::clock::interval(TICK);
    let mut looked: Option<Instant> = None;
    loop {
        every.tick().await;
        let is_time = looked.is_none_or(|looked| looked.elapsed() >= keeping.interval());
        let outcome = async {
            if is_time && let Some(expiry) = keeping.expiry_at(clock.now()) {
                look(&system, expiry).await?;
                // Only now: where there was no room for the entry it is looked again at the next
                // tick.
                looked = Some(Instant::now());
            }
            carry_out(&system).await
        };
        match outcome.await {
            Ok(()) | Err(SystemError::NotReached { .. } | SystemError::Busy(_) | SystemError::Draining) => {}
            Err(SystemError::ActorStopped(_) | SystemError::Stopping) => return,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what was kept long enough could not be taken out yet; it is tried again"
                );
            }
        }
    }
}

/// Begins an expiry if it covers anything.
async fn look(system: &System, expiry: Expiry) -> Result<(), SystemError> {
    let (store, sought) = (system.store().clone(), expiry.clone());
    if run_blocking(move || Ok(store.has_expired_entries(&sought)?)).await? {
        let permit = system.try_admit(1)?;
        system.append(vec![Entry::Expire(expiry)], permit).await?;
    }
    Ok(())
}

/// Carries out what is under way.
async fn carry_out(system: &System) -> Result<(), SystemError> {
    let store = system.store().clone();
    let due = store.expiries().in_progress()?;
    let Some((last, newest)) = due.last().cloned() else { return Ok(()) };
    let beyond = last + 1;
    system.wait_for_offset(beyond, TICK).await?;
    let reached = system.persist_with(false).await?;
    if reached < beyond {
        return Err(SystemError::NotReached { wanted: beyond, reached });
    }
    let (held, listed) = (store.clone(), due.clone());
    let entries = run_blocking(move || Ok(held.remove_expired(&listed)?)).await?;
    // Only now: a session that is begun again reads the journal.
    let mut sessions = 0;
    for (_, expiry) in &due {
        sessions += system.expire_sessions(expiry).await?;
    }
    run_blocking(move || Ok(store.expiries().finish(&due)?)).await?;
    system.metrics().expired_entries.increment(entries);
    tracing::info!(entries, sessions, timestamp = newest.timestamp, "what was kept long enough is no more");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_time_says_how_often_it_is_looked() {
        let keeping = |events: &[i64], impressions_ms| RetentionPolicy {
            events: events.iter().map(|kept| (EventKind::Search, *kept)).collect(),
            impressions_ms,
        };
        assert_eq!((RetentionPolicy::default().interval(), RetentionPolicy::default().expiry_at(5)), (LOOK_AT_LEAST, None));
        assert_eq!(keeping(&[3_600_000, 60_000], None).interval(), Duration::from_secs(6));
        assert_eq!(keeping(&[3_600_000_000], Some(1)).interval(), TICK);
        assert_eq!(keeping(&[i64::MAX], None).interval(), LOOK_AT_LEAST);
        let expiry = keeping(&[30], Some(70)).expiry_at(100).unwrap();
        assert_eq!((expiry.events, expiry.impressions), (vec![(EventKind::Search, 70)], Some(30)));
    }
}
