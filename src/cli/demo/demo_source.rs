//! Sources of the demo's events: the simulated shop, or a recording.

use anyhow::Context;
use rustc_hash::FxHashMap;
use std::time::Duration;

use crate::domain::{Consent, Entry, Event, Timestamp};
use crate::ingest::EventFileReader;
use crate::simulation::ShopSimulator;

/// Maximum number of entries per batch.
const MAX_BATCH_ENTRIES: usize = 1_000;

/// A source of timed events.
pub(super) enum DemoSource<'r> {
    /// A simulated shop. It sends `rate` events per second, whatever timestamps the shop generates.
    Shop { shop: Box<ShopSimulator>, rate: f64 },
    /// A recording at `speed` times its original speed.
    File { events: Box<RecordedEvents<'r>>, speed: f64 },
}

impl DemoSource<'_> {
    /// The entries that are due `elapsed` after the start, in order. `sent` is the number of events
    /// sent so far. `None` means that the source is exhausted.
    pub(super) fn due_entries(&mut self, elapsed: Duration, sent: u64) -> anyhow::Result<Option<Vec<Entry>>> {
        match self {
            Self::Shop { shop, rate } => {
                let due = ((elapsed.as_secs_f64() * *rate) as u64).saturating_sub(sent).min(MAX_BATCH_ENTRIES as u64);
                let end = shop.event_count() + due;
                let mut entries = Vec::new();
                while shop.event_count() < end {
                    entries.extend(shop.next());
                }
                Ok(Some(entries))
            }
            Self::File { events, speed } => events.due_entries((elapsed.as_secs_f64() * *speed * 1_000.0) as Timestamp),
        }
    }

    /// The simulated shop; `None` for a recording.
    pub(super) fn simulated_shop(&mut self) -> Option<&mut ShopSimulator> {
        if let Self::Shop { shop, .. } = self { Some(shop) } else { None }
    }
}

/// The events of a recording.
pub(super) struct RecordedEvents<'r> {
    events: EventFileReader<'r>,
    idle_gap_ms: i64,
    /// The next event, if it was read but is not due yet.
    next: Option<Event>,
    /// Timestamp of the first event.
    first_timestamp: Option<Timestamp>,
    read_count: u64,
    /// The last event time and the number of the current visit of each user. At a higher speed, the
    /// recording's idle gaps are too short for the daemon to see. The demo therefore sends session
    /// ids.
    visits: FxHashMap<String, (Timestamp, u64)>,
}

impl<'r> RecordedEvents<'r> {
    pub(super) fn new(events: EventFileReader<'r>, idle_gap_ms: i64) -> Self {
        Self { events, idle_gap_ms, next: None, first_timestamp: None, read_count: 0, visits: FxHashMap::default() }
    }

    /// The events up to `offset_ms` milliseconds after the first one. Skips invalid rows; `sequor
    /// replay` reports them.
    fn due_entries(&mut self, offset_ms: Timestamp) -> anyhow::Result<Option<Vec<Entry>>> {
        let mut entries = Vec::new();
        while entries.len() < MAX_BATCH_ENTRIES {
            let Some(event) = &self.next else {
                match self.events.next() {
                    None => return Ok((!entries.is_empty()).then_some(entries)),
                    // Skips events whose users have not given full consent.
                    Some(event) => {
                        let event = event.context("cannot read the recording")?.ok();
                        self.next = event
                            .filter(|event| event.consent.unwrap_or_default() == Consent::Full)
                            .map(|event| event.value);
                    }
                }
                continue;
            };
            let first = *self.first_timestamp.get_or_insert(event.timestamp);
            let Some(event) = self.next.take_if(|event| event.timestamp.saturating_sub(first) <= offset_ms) else {
                break;
            };
            entries.push(Entry::Event(self.with_ids(event)));
        }
        Ok(Some(entries))
    }

    /// Adds an event id, for idempotent retries, and a session id.
    fn with_ids(&mut self, mut event: Event) -> Event {
        let number = self.read_count;
        self.read_count += 1;
        event.event_id.get_or_insert_with(|| format!("demo-{number}"));
        let visit = self.visits.entry(event.user_id.clone()).or_insert((event.timestamp, number));
        if event.timestamp.saturating_sub(visit.0) > self.idle_gap_ms {
            visit.1 = number;
        }
        visit.0 = event.timestamp;
        event.session_id.get_or_insert_with(|| format!("visit-{}", visit.1));
        event
    }
}
