//! Counts the recent events of each API key, and how many of them the learner held back.

use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::OriginHash;

/// Length of a period. The counts cover the current period and the one before it.
const PERIOD: Duration = Duration::from_secs(5 * 60);
/// Maximum number of keys per period. Further keys are not counted.
const MAX_KEYS: usize = 1024;
/// A sender is suspicious only if at least this number of its recent events was held back.
const SUSPICIOUS_HELD_BACK: u64 = 100;
/// A sender is suspicious only if at least one in this number of its recent events was held back.
const SUSPICIOUS_ONE_IN: u64 = 5;

/// Recent events of one sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderCounts {
    /// Events that the learner applied.
    pub events: u64,
    /// Those of `events` that the learner held back.
    pub held_back: u64,
}

impl SenderCounts {
    /// Whether so many events were held back that an operator should look at the sender.
    #[must_use]
    pub fn is_suspicious(self) -> bool {
        self.held_back >= SUSPICIOUS_HELD_BACK && self.held_back * SUSPICIOUS_ONE_IN >= self.events
    }

    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.held_back += other.held_back;
    }
}

type CountsByKey = FxHashMap<OriginHash, SenderCounts>;

#[derive(Debug)]
struct CountedPeriods {
    started: Instant,
    current: CountsByKey,
    previous: CountsByKey,
}

impl CountedPeriods {
    fn advance_to(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started);
        if elapsed >= PERIOD {
            let ended = std::mem::take(&mut self.current);
            self.previous = if elapsed < 2 * PERIOD { ended } else { CountsByKey::default() };
            self.started = now;
        }
    }
}

/// Events and held-back events of each API key in the last five to ten minutes. The learner actor
/// counts, and the servers read. The counts have no effect on what the model learns. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct SenderActivity {
    periods: Arc<Mutex<CountedPeriods>>,
}

impl SenderActivity {
    /// Creates empty counts.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let periods =
            CountedPeriods { started: now, current: CountsByKey::default(), previous: CountsByKey::default() };
        Self { periods: Arc::new(Mutex::new(periods)) }
    }

    /// Counts an event of the key.
    pub fn record_event(&self, key: OriginHash, is_held_back: bool, now: Instant) {
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods.advance_to(now);
        if periods.current.len() < MAX_KEYS || periods.current.contains_key(&key) {
            let event = SenderCounts { events: 1, held_back: u64::from(is_held_back) };
            periods.current.entry(key).or_default().add(event);
        }
    }

    /// The counts of all keys with held-back events, in descending order of these events.
    #[must_use]
    pub fn held_back_by_key(&self, now: Instant) -> Vec<(OriginHash, SenderCounts)> {
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods.advance_to(now);
        let mut total = periods.current.clone();
        periods.previous.iter().for_each(|(key, counts)| total.entry(*key).or_default().add(*counts));
        drop(periods);
        let mut counts: Vec<_> = total.into_iter().filter(|(_, counts)| counts.held_back > 0).collect();
        counts.sort_unstable_by_key(|(key, counts)| (std::cmp::Reverse(counts.held_back), *key));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> OriginHash {
        OriginHash::new(number).unwrap()
    }

    #[test]
    fn counts_cover_the_current_period_and_the_one_before() {
        let start = Instant::now();
        let activity = SenderActivity::new(start);
        (0..10).for_each(|number| activity.record_event(key(1), number < 4, start));
        activity.record_event(key(2), false, start);
        activity.record_event(key(3), true, start + PERIOD);
        activity.record_event(key(1), true, start + PERIOD);
        let read = |periods: u32| activity.held_back_by_key(start + periods * PERIOD);
        let counts = |events, held_back| SenderCounts { events, held_back };
        assert_eq!(read(1), [(key(1), counts(11, 5)), (key(3), counts(1, 1))]);
        assert_eq!(read(2), [(key(1), counts(1, 1)), (key(3), counts(1, 1))]);
        assert_eq!(read(9), []);
    }

    #[test]
    fn the_number_of_keys_is_bounded() {
        let start = Instant::now();
        let activity = SenderActivity::new(start);
        (1..=2 * MAX_KEYS as u64).for_each(|number| activity.record_event(key(number), true, start));
        assert_eq!(activity.held_back_by_key(start).len(), MAX_KEYS);
    }

    #[test]
    fn a_sender_is_suspicious_if_many_of_its_events_are_held_back() {
        let is_suspicious = |events, held_back| SenderCounts { events, held_back }.is_suspicious();
        assert!(is_suspicious(100, 100) && is_suspicious(500, 100));
        assert!(!is_suspicious(99, 99) && !is_suspicious(501, 100));
    }
}
