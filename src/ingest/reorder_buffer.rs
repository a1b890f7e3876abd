//! Sorts a stream of events by timestamp within a time window.

use crate::domain::{Timestamp, WithConsent};
use std::collections::BTreeMap;

/// Holds each event until it is older than the time window, then returns it in timestamp order.
#[derive(Debug)]
pub struct ReorderBuffer {
    window_ms: i64,
    max_lines: u64,
    latest: Timestamp,
    late: u64,
    /// The held events, by timestamp and then by position.
    held: BTreeMap<(Timestamp, EventPosition), WithConsent>,
    /// The timestamps of the held events, by position.
    positions: BTreeMap<EventPosition, Timestamp>,
    inserted: u64,
}

/// The line of an event, and the number of events inserted before it. A line can hold several
/// events.
type EventPosition = (u64, u64);

impl ReorderBuffer {
    /// Creates a buffer that sorts events which arrive at most `window_ms` late. The buffer holds
    /// no event for more than `max_lines` lines. Without this limit, an event with a timestamp far
    /// in the future would hold back the position from which a restart resumes, and fill the
    /// memory.
    #[must_use]
    pub fn new(window_ms: i64, max_lines: u64) -> Self {
        Self {
            window_ms,
            max_lines,
            latest: Timestamp::MIN,
            late: 0,
            held: BTreeMap::new(),
            positions: BTreeMap::new(),
            inserted: 0,
        }
    }

    /// Inserts the event of a line. Line numbers must not decrease. An event older than the window is
    /// counted as late and is the next to be returned.
    pub fn insert(&mut self, line: u64, event: WithConsent) {
        self.late += u64::from(event.value.timestamp < self.window_start());
        self.latest = self.latest.max(event.value.timestamp);
        let position = (line, self.inserted);
        self.inserted += 1;
        self.positions.insert(position, event.value.timestamp);
        self.held.insert((event.value.timestamp, position), event);
    }

    /// Removes and returns the next event that is ready after `line` was read.
    pub fn pop_ready(&mut self, line: u64) -> Option<(u64, WithConsent)> {
        let aged = self
            .positions
            .first_key_value()
            .filter(|((first, _), _)| *first + self.max_lines <= line)
            .map(|(first, timestamp)| (*timestamp, *first));
        let ready = || {
            self.held.first_key_value().map(|(key, _)| *key).filter(|(timestamp, _)| *timestamp <= self.window_start())
        };
        let key = aged.or_else(ready)?;
        self.remove_event(key)
    }

    /// Removes the earliest held event, after the stream has ended.
    pub fn pop_remaining(&mut self) -> Option<(u64, WithConsent)> {
        let key = *self.held.first_key_value()?.0;
        self.remove_event(key)
    }

    /// The smallest line number among the held events.
    #[must_use]
    pub fn first_held_line(&self) -> Option<u64> {
        self.positions.first_key_value().map(|((line, _), _)| *line)
    }

    /// The number of events that arrived later than the window.
    #[must_use]
    pub fn late_count(&self) -> u64 {
        self.late
    }

    /// The start of the window. Events up to this time can be returned.
    fn window_start(&self) -> Timestamp {
        self.latest.saturating_sub(self.window_ms)
    }

    fn remove_event(&mut self, key: (Timestamp, EventPosition)) -> Option<(u64, WithConsent)> {
        let (_, position) = key;
        self.positions.remove(&position);
        self.held.remove(&key).map(|event| (position.0, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, EventKind};
    use proptest::prelude::*;

    fn reorder_timestamps(window_ms: i64, max_lines: u64, times: &[Timestamp]) -> (Vec<(u64, Timestamp)>, u64) {
        let mut buffer = ReorderBuffer::new(window_ms, max_lines);
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
                details: None,
            };
            buffer.insert(line, event.into());
            while let Some((line, event)) = buffer.pop_ready(line) {
                out.push((line, event.value.timestamp));
            }
        }
        while let Some((line, event)) = buffer.pop_remaining() {
            out.push((line, event.value.timestamp));
        }
        assert_eq!(buffer.first_held_line(), None);
        (out, buffer.late_count())
    }

    #[test]
    fn sorts_within_the_window_and_counts_late_events() {
        assert_eq!(
            reorder_timestamps(10, 100, &[5, 3, 12, 9, 30]),
            (vec![(2, 3), (1, 5), (4, 9), (3, 12), (5, 30)], 0)
        );
        assert_eq!(reorder_timestamps(10, 100, &[5, 30, 9, 31]), (vec![(1, 5), (3, 9), (2, 30), (4, 31)], 1));
        assert_eq!(reorder_timestamps(0, 100, &[5, 3, 4]), (vec![(1, 5), (2, 3), (3, 4)], 2));
    }

    #[test]
    fn releases_an_event_dated_far_ahead_after_max_lines() {
        let (out, late) = reorder_timestamps(1000, 2, &[900_000, 1, 2, 3]);
        assert_eq!((out[0], late), ((2, 1), 3));
        assert_eq!(out.iter().position(|(line, _)| *line == 1), Some(1), "{out:?}");
    }

    proptest! {
        #[test]
        fn returns_every_event_and_sorts_those_not_late(times in proptest::collection::vec(0..1000_i64, 0..60), window in 0..500_i64) {
            let (out, late) = reorder_timestamps(window, 1000, &times);
            let mut lines: Vec<_> = out.iter().map(|(line, _)| *line).collect();
            lines.sort_unstable();
            prop_assert_eq!(lines, (1..=times.len() as u64).collect::<Vec<_>>());
            prop_assert!(late > 0 || out.is_sorted_by_key(|(_, at)| *at));
        }
    }
}
