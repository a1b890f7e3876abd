//! Where the demo's events come from, and when each is due.

use anyhow::Context;
use rustc_hash::FxHashMap;
use std::time::Duration;

use crate::domain::{Consent, Entry, Event, Timestamp};
use crate::ingest::EventFileReader;
use crate::simulation::ShopSimulator;

/// Entries that are sent at a time, at most.
const MAX_BATCH: usize = 1_000;

/// A made-up shop, or a file of recorded behaviour.
pub(super) enum DemoSource<'r> {
    /// So many events a second, whatever the shop's own time says.
    Shop { shop: Box<ShopSimulator>, rate: f64 },
    /// As they were recorded, so many times as fast.
    File { events: Box<RecordedEvents<'r>>, speed: f64 },
}

impl DemoSource<'_> {
    /// What is due by a time after the beginning, in its order, of so many events that were sent so
    /// far; `None` once nothing will ever be due again.
    pub(super) fn due_entries(&mut self, elapsed: Duration, sent: u64) -> anyhow::Result<Option<Vec<Entry>>> {
        match self {
            Self::Shop { shop, rate } => {
                let wanted = ((elapsed.as_secs_f64() * *rate) as u64).saturating_sub(sent).min(MAX_BATCH as u64);
                let end = shop.event_count() + wanted;
                let mut entries = Vec::new();
                while shop.event_count() < end {
                    entries.extend(shop.next());
                }
                Ok(Some(entries))
            }
            Self::File { events, speed } => events.due_entries((elapsed.as_secs_f64() * *speed * 1_000.0) as Timestamp),
        }
    }

    /// The shop, if it is one.
    pub(super) fn shop(&mut self) -> Option<&mut ShopSimulator> {
        if let Self::Shop { shop, .. } = self { Some(shop) } else { None }
    }
}

/// The events of a file.
pub(super) struct RecordedEvents<'r> {
    events: EventFileReader<'r>,
    idle_gap_ms: i64,
    /// Read, but not yet due.
    next: Option<Event>,
    /// When the first happened.
    first_timestamp: Option<Timestamp>,
    read_count: u64,
    /// When each user was last there, and in which visit: played faster than it was, idle gaps are
    /// not seen by the clock.
    visits: FxHashMap<String, (Timestamp, u64)>,
}

impl<'r> RecordedEvents<'r> {
    pub(super) fn new(events: EventFileReader<'r>, idle_gap_ms: i64) -> Self {
        Self { events, idle_gap_ms, next: None, first_timestamp: None, read_count: 0, visits: FxHashMap::default() }
    }

    /// What happened up to so many milliseconds after the first event. Bad rows are passed over:
    /// `sequor replay` names them.
    fn due_entries(&mut self, after: Timestamp) -> anyhow::Result<Option<Vec<Entry>>> {
        let mut entries = Vec::new();
        while entries.len() < MAX_BATCH {
            let Some(event) = &self.next else {
                match self.events.next() {
                    None => return Ok((!entries.is_empty()).then_some(entries)),
                    // A show needs nobody's data against their will.
                    Some(event) => {
                        let event = event.context("the recording cannot be read on")?.ok();
                        self.next = event.filter(|event| event.consent.unwrap_or_default() == Consent::Full).map(|event| event.value);
                    }
                }
                continue;
            };
            let began = *self.first_timestamp.get_or_insert(event.timestamp);
            let Some(event) = self.next.take_if(|event| event.timestamp.saturating_sub(began) <= after) else { break };
            entries.push(Entry::Event(self.prepared(event)));
        }
        Ok(Some(entries))
    }

    /// With an id, so that it is known if it is sent again, and with its visit.
    fn prepared(&mut self, mut event: Event) -> Event {
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
