//! Retention: how long events and impressions are kept.

use std::time::Duration;

use crate::domain::{EventKind, Expiry, Timestamp};

/// The shortest time between two scans for expired entries.
const MIN_SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time between two scans for expired entries.
const MAX_SCAN_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// How long entries of each kind are kept. Entries of a kind without a retention period are kept
/// forever.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// The retention period of each kind of event, in milliseconds.
    pub events: Vec<(EventKind, i64)>,
    /// The retention period of impressions, in milliseconds.
    pub impressions_ms: Option<i64>,
}

impl RetentionPolicy {
    /// The expiry that removes everything whose retention period has passed at `now`; `None` if all
    /// entries are kept forever.
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

    /// The time between two scans: a tenth of the shortest retention period, but at least one
    /// second and at most one day. An entry may be kept about this long beyond its retention
    /// period.
    #[must_use]
    pub fn scan_interval(&self) -> Duration {
        let times = self.events.iter().map(|(_, kept)| *kept).chain(self.impressions_ms);
        let tenth = times
            .min()
            .map_or(MAX_SCAN_INTERVAL, |shortest| Duration::from_millis(u64::try_from(shortest / 10).unwrap_or(0)));
        tenth.clamp(MIN_SCAN_INTERVAL, MAX_SCAN_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scan_interval_is_a_tenth_of_the_shortest_retention() {
        let policy = |events: &[i64], impressions_ms| RetentionPolicy {
            events: events.iter().map(|kept| (EventKind::Search, *kept)).collect(),
            impressions_ms,
        };
        assert_eq!(
            (RetentionPolicy::default().scan_interval(), RetentionPolicy::default().expiry_at(5)),
            (MAX_SCAN_INTERVAL, None)
        );
        assert_eq!(policy(&[3_600_000, 60_000], None).scan_interval(), Duration::from_secs(6));
        assert_eq!(policy(&[3_600_000_000], Some(1)).scan_interval(), MIN_SCAN_INTERVAL);
        assert_eq!(policy(&[i64::MAX], None).scan_interval(), MAX_SCAN_INTERVAL);
        let expiry = policy(&[30], Some(70)).expiry_at(100).unwrap();
        assert_eq!((expiry.events, expiry.impressions), (vec![(EventKind::Search, 70)], Some(30)));
    }
}
