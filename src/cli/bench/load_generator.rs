//! Load generator: an endless sequence of requests from a simulated shop or from a recording.

use clap::ValueEnum;
use std::collections::VecDeque;

use crate::cli::daemon_client::ApiRequest;
use crate::clock::Clock;
use crate::domain::Entry;

/// In the mixed load, this many of every five requests send events; the others request
/// recommendations.
const EVENT_REQUESTS_PER_FIVE_REQUESTS: u64 = 4;
/// Recommendations are requested for this many of the most recent visitors.
const MAX_RECENT_VISITORS: usize = 1_024;
/// Consecutive requests use visitors this far apart in the list of recent visitors, so that the
/// requests spread over all of them.
const VISITOR_STRIDE: usize = 617;

/// The kinds of request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RequestMix {
    /// Events only.
    Events,
    /// Recommendations only.
    Recommendations,
    /// Four event requests to one recommendation request.
    Mixed,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    Events,
    Recommendations,
    /// Recommendations of the compared server.
    Compared,
}

/// A visitor of the most recent events.
#[derive(Debug, Clone)]
pub(super) struct RecentVisitor {
    pub(super) user: String,
    /// The item of the visitor's event, if it has one.
    pub(super) item: Option<String>,
}

/// A request of the load.
pub(super) struct BenchRequest {
    pub(super) kind: RequestKind,
    pub(super) request: ApiRequest,
    /// The visitor for whom recommendations are requested.
    pub(super) visitor: Option<RecentVisitor>,
}

/// Generates requests from a stream of catalog changes and events.
pub(super) struct LoadGenerator {
    entries: Box<dyn Iterator<Item = Entry>>,
    mix: RequestMix,
    batch: usize,
    clock: Clock,
    /// Prefix of the event ids, unique per run. Without the prefix, the daemon would skip the
    /// events as duplicates of an earlier run.
    run_id: String,
    event_count: u64,
    request_count: u64,
    recent_visitors: VecDeque<RecentVisitor>,
}

impl LoadGenerator {
    /// Creates a generator. `entries` starts with the items of the catalog, if there are any, and
    /// must not end.
    pub(super) fn new(entries: Box<dyn Iterator<Item = Entry>>, mix: RequestMix, batch: usize, clock: Clock) -> Self {
        let run_id = format!("bench-{}", clock.now());
        Self { entries, mix, batch, clock, run_id, event_count: 0, request_count: 0, recent_visitors: VecDeque::new() }
    }

    /// The requests to send before the measurement: first all items, then at least `events` events.
    pub(super) fn history_requests(&mut self, events: u64) -> anyhow::Result<Vec<ApiRequest>> {
        const ENTRIES_PER_HISTORY_REQUEST: usize = 500;
        let (mut items, mut history) = (Vec::new(), Vec::new());
        while (history.len() as u64) < events {
            let Some(entry) = self.next_entry() else { break };
            if matches!(entry, Entry::Item(_)) { items.push(entry) } else { history.push(entry) }
        }
        let items = items.chunks(ENTRIES_PER_HISTORY_REQUEST).map(ApiRequest::items_request);
        items.chain(history.chunks(ENTRIES_PER_HISTORY_REQUEST).map(ApiRequest::events_request)).collect()
    }

    /// The next request.
    pub(super) fn next_request(&mut self) -> anyhow::Result<BenchRequest> {
        let number = self.request_count;
        self.request_count += 1;
        let sends_events = match self.mix {
            RequestMix::Events => true,
            RequestMix::Recommendations => false,
            RequestMix::Mixed => number % 5 < EVENT_REQUESTS_PER_FIVE_REQUESTS,
        };
        let index = (number as usize).wrapping_mul(VISITOR_STRIDE) % self.recent_visitors.len().max(1);
        match self.recent_visitors.get(index).filter(|_| !sends_events).cloned() {
            Some(visitor) => {
                let request = ApiRequest::recommendations_request(&visitor.user, 20);
                Ok(BenchRequest { kind: RequestKind::Recommendations, request, visitor: Some(visitor) })
            }
            None => Ok(BenchRequest { kind: RequestKind::Events, request: self.event_request()?, visitor: None }),
        }
    }

    fn event_request(&mut self) -> anyhow::Result<ApiRequest> {
        let mut events = Vec::with_capacity(self.batch);
        while events.len() < self.batch {
            // Item changes would need a separate request, so they are left out. New items occur
            // only in events.
            events.extend(self.next_entry().filter(|entry| matches!(entry, Entry::Event(_))));
        }
        ApiRequest::events_request(&events)
    }

    /// The next entry, with the current time.
    fn next_entry(&mut self) -> Option<Entry> {
        let mut entry = self.entries.next()?;
        match &mut entry {
            Entry::Event(event) => {
                self.event_count += 1;
                event.event_id = Some(format!("{}-{}", self.run_id, self.event_count));
                event.timestamp = self.clock.now();
                if self.recent_visitors.len() >= MAX_RECENT_VISITORS {
                    self.recent_visitors.pop_front();
                }
                let (user, item) = (event.user_id.clone(), event.item_id.clone());
                self.recent_visitors.push_back(RecentVisitor { user, item });
            }
            Entry::Item(change) => change.timestamp = self.clock.now(),
            // The stream contains only events and item changes.
            _ => {}
        }
        Some(entry)
    }
}
