//! The only place that reads the time. Shells hold a [`Clock`]; what lies below them is told the
//! time as a parameter.

use crate::domain::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Tells the time, the world's or a test's own. Clones tell the same time.
///
/// ```
/// let clock = sequor::clock::Clock::manual(1_000);
/// clock.advance(250);
/// assert_eq!(clock.now(), 1_250);
/// ```
#[derive(Debug, Clone)]
pub struct Clock(ClockSource);

#[derive(Debug, Clone)]
enum ClockSource {
    /// The wall clock, and a moment from which the steady one counts.
    System { start: Instant },
    /// Stands still until it is moved.
    Manual { start: Timestamp, now: Arc<AtomicI64> },
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(ClockSource::System { start: Instant::now() })
    }

    /// A clock that stands at `now` until it is moved.
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        Self(ClockSource::Manual { start: now, now: Arc::new(AtomicI64::new(now)) })
    }

    /// The time of day, in milliseconds since 1970; it may be set back.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            // A machine that believes to be before 1970 is at its very beginning.
            ClockSource::System { .. } => {
                SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX))
            }
            ClockSource::Manual { now, .. } => now.load(Ordering::SeqCst),
        }
    }

    /// The time since this clock was made; it never goes back, and so measures how long something
    /// took.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            ClockSource::System { start } => start.elapsed(),
            ClockSource::Manual { start, now } => {
                Duration::from_millis(u64::try_from(now.load(Ordering::SeqCst).saturating_sub(*start)).unwrap_or(0))
            }
        }
    }

    /// Moves a manual clock on, by milliseconds; the machine's clock cannot be moved and is left
    /// alone.
    pub fn advance(&self, milliseconds: u32) {
        if let ClockSource::Manual { now, .. } = &self.0 {
            now.fetch_add(i64::from(milliseconds), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_clock_runs() {
        let clock = Clock::system();
        let (now, elapsed) = (clock.now(), clock.elapsed());
        assert!(now > 1_700_000_000_000);
        clock.advance(1_000_000);
        assert!(clock.now() - now < 1_000_000);
        assert!(clock.elapsed() >= elapsed);
    }

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let clock = Clock::manual(5);
        let other = clock.clone();
        clock.advance(10);
        assert_eq!((other.now(), other.elapsed()), (15, Duration::from_millis(10)));
    }
}
