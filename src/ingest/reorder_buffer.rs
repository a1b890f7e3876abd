//! Events that come unsorted, put into the order of their timestamps within a window.

use crate::domain::{Timestamp, WithConsent};
use std::collections::BTreeMap;

/// Holds events back until the window has passed, and gives them out by their timestamps.
#[derive(Debug)]
pub struct ReorderBuffer {
    window_ms: i64,
    most: u64,
    latest: Timestamp,
    late: u64,
    /// The events held back, by timestamp and then by line.
    held: BTreeMap<(Timestamp, u64), WithConsent>,
    /// Their timestamps by line.
    lines: BTreeMap<u64, Timestamp>,
}

impl ReorderBuffer {
    /// Puts in order what comes at most `window_ms` late. No event is held back for more than `most` lines, so that one dated far ahead neither keeps the place from which reading
    /// would be resumed nor fills the memory.
    #[must_use]
    pub fn new(window_ms: i64, most: u64) -> Self {
        Self { window_ms, most, latest: Timestamp::MIN, late: 0, held: BTreeMap::new(), lines: BTreeMap::new() }
    }

    /// Takes the event of a line, which comes after every line so far. One that comes later than the window is counted, and given out next.
    pub fn insert(&mut self, line: u64, event: WithConsent) {
        self.late += u64::from(event.value.timestamp < self.begin());
        self.latest = self.latest.max(event.value.timestamp);
        self.lines.insert(line, event.value.timestamp);
        self.held.insert((event.value.timestamp, line), event);
    }

    /// The next event that need not be held back when reading has come to `line`.
    pub fn pop_ready(&mut self, line: u64) -> Option<(u64, WithConsent)> {
        let aged = self.lines.first_key_value().filter(|(first, _)| *first + self.most <= line).map(|(first, at)| (*at, *first));
        let passed = || self.held.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= self.begin());
        let key = aged.or_else(passed)?;
        self.take(key)
    }

    /// The next event of those still held back, at the end of the stream.
    pub fn pop_remaining(&mut self) -> Option<(u64, WithConsent)> {
        let key = *self.held.first_key_value()?.0;
        self.take(key)
    }

    /// The first line that is still held back.
    #[must_use]
    pub fn first_held_line(&self) -> Option<u64> {
        self.lines.first_key_value().map(|(line, _)| *line)
    }

    /// How many came later than the window.
    #[must_use]
    pub fn late_count(&self) -> u64 {
        self.late
    }

    /// Where the window begins: nothing before it is waited for.
    fn begin(&self) -> Timestamp {
        self.latest.saturating_sub(self.window_ms)
    }

    fn take(&mut self, key: (Timestamp, u64)) -> Option<(u64, WithConsent)> {
        self.lines.remove(&key.1);
        self.held.remove(&key).map(|event| (key.1, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, EventKind};
    use proptest::prelude::*;

    fn through(window_ms: i64, most: u64, times: &[Timestamp]) -> (Vec<(u64, Timestamp)>, u64) {
        let mut reorder = ReorderBuffer::new(window_ms, most);
        let mut out = Vec::new();
        for (line, &timestamp) in (1..).zip(times) {
            let event = Event {
                event_id: None,
                user_id: "u".to_owned(),
                session_id: None,
                kind: EventKind::View,
                item_id: Some("i".to_owned()),
                value: None,
                timestamp,
                properties: None,
            };
            reorder.insert(line, event.into());
            while let Some((line, event)) = reorder.pop_ready(line) {
                out.push((line, event.value.timestamp));
            }
        }
        while let Some((line, event)) = reorder.pop_remaining() {
            out.push((line, event.value.timestamp));
        }
        assert_eq!(reorder.first_held_line(), None);
        (out, reorder.late_count())
    }

    #[test]
    fn within_the_window_order_is_made_and_beyond_it_nothing_waits() {
        assert_eq!(through(10, 100, &[5, 3, 12, 9, 30]), (vec![(2, 3), (1, 5), (4, 9), (3, 12), (5, 30)], 0));
        assert_eq!(through(10, 100, &[5, 30, 9, 31]), (vec![(1, 5), (3, 9), (2, 30), (4, 31)], 1));
        assert_eq!(through(0, 100, &[5, 3, 4]), (vec![(1, 5), (2, 3), (3, 4)], 2));
    }

    #[test]
    fn one_dated_far_ahead_is_not_held_for_ever() {
        let (out, late) = through(1000, 2, &[900_000, 1, 2, 3]);
        assert_eq!((out[0], late), ((2, 1), 3));
        assert_eq!(out.iter().position(|(line, _)| *line == 1), Some(1), "{out:?}");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_what_is_not_late_is_sorted(times in proptest::collection::vec(0..1000_i64, 0..60), window in 0..500_i64) {
            let (out, late) = through(window, 1000, &times);
            let mut lines: Vec<_> = out.iter().map(|(line, _)| *line).collect();
            lines.sort_unstable();
            prop_assert_eq!(lines, (1..=times.len() as u64).collect::<Vec<_>>());
            prop_assert!(late > 0 || out.is_sorted_by_key(|(_, at)| *at));
        }
    }
}
