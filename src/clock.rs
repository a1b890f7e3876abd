//! The clock, the only module that reads the system time. Actors and services hold a [`Clock`] and
//! pass the time to the code below them as a parameter.

use crate::domain::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A clock: the system clock, or a manual clock for tests. All clones of a manual clock show the
/// same time.
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
    /// The system clock. `start` is the monotonic time at which this value was created.
    System { start: Instant },
    /// A clock that changes only through [`Clock::advance`].
    Manual { start: Timestamp, now: Arc<AtomicI64> },
}

impl Clock {
    /// Creates a clock that follows the system clock.
    #[must_use]
    pub fn system() -> Self {
        Self(ClockSource::System { start: Instant::now() })
    }

    /// Creates a clock that stays at `now` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        Self(ClockSource::Manual { start: now, now: Arc::new(AtomicI64::new(now)) })
    }

    /// The wall-clock time in milliseconds since 1970. The wall-clock time can go back when the
    /// system clock is adjusted.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            // A system time before 1970 counts as 1970.
            ClockSource::System { .. } => SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| Timestamp::try_from(since.as_millis()).unwrap_or(Timestamp::MAX)),
            ClockSource::Manual { now, .. } => now.load(Ordering::SeqCst),
        }
    }

    /// The time since this clock was created, for measuring durations. Unlike the wall-clock time,
    /// it never goes back.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            ClockSource::System { start } => start.elapsed(),
            ClockSource::Manual { start, now } => {
                Duration::from_millis(u64::try_from(now.load(Ordering::SeqCst).saturating_sub(*start)).unwrap_or(0))
            }
        }
    }

    /// Advances a manual clock. Has no effect on a system clock.
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
    fn the_system_clock_advances() {
        let clock = Clock::system();
        let (now, elapsed) = (clock.now(), clock.elapsed());
        assert!(now > 1_700_000_000_000);
        clock.advance(1_000_000);
        assert!(clock.now() - now < 1_000_000);
        assert!(clock.elapsed() >= elapsed);
    }

    #[test]
    fn clones_of_a_manual_clock_show_the_same_time() {
        let clock = Clock::manual(5);
        let other = clock.clone();
        clock.advance(10);
        assert_eq!((other.now(), other.elapsed()), (15, Duration::from_millis(10)));
    }
}
