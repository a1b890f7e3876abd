//! What the bench asks, one question after the other.

use clap::ValueEnum;
use std::collections::VecDeque;

use crate::cli::daemon_client::ApiRequest;
use crate::clock::Clock;
use crate::domain::Entry;
use crate::simulation::ShopSimulator;

/// Of five questions of the mix, so many tell events.
const EVENT_REQUESTS_OF_FIVE: u64 = 4;
/// Visitors of late, whose recommendations are asked for.
const MAX_RECENT_USERS: usize = 1_024;
/// From one question to the next the visitor who is asked for is so many further on: far enough
/// apart to be anybody.
const USER_STRIDE: usize = 617;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RequestMix {
    /// Only events are told.
    Events,
    /// Only recommendations are asked for.
    Recommendations,
    /// Of five requests four tell events and one asks for recommendations.
    Mixed,
}

/// The two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    Events,
    Recommendations,
}

/// An endless line of questions, all from a made-up shop.
pub(super) struct LoadGenerator {
    shop: ShopSimulator,
    mix: RequestMix,
    batch: usize,
    clock: Clock,
    /// Of this run alone: a daemon that knows the ids of an earlier one would have little to do.
    run_id: String,
    request_count: u64,
    recent_users: VecDeque<String>,
}

impl LoadGenerator {
    pub(super) fn new(shop: ShopSimulator, mix: RequestMix, batch: usize, clock: Clock) -> Self {
        let run = format!("bench-{}", clock.now());
        Self { shop, mix, batch, clock, run_id: run, request_count: 0, recent_users: VecDeque::new() }
    }

    /// What is told before anything is measured: the items, and so many events.
    pub(super) fn history_requests(&mut self, events: u64) -> anyhow::Result<Vec<ApiRequest>> {
        const AT_A_TIME: usize = 500;
        let (mut items, mut past) = (Vec::new(), Vec::new());
        while (past.len() as u64) < events || items.is_empty() {
            let Some(entry) = self.draw() else { break };
            if matches!(entry, Entry::Item(_)) { items.push(entry) } else { past.push(entry) }
        }
        let items = items.chunks(AT_A_TIME).map(ApiRequest::items);
        items.chain(past.chunks(AT_A_TIME).map(ApiRequest::events)).collect()
    }

    /// The next question.
    pub(super) fn next_request(&mut self) -> anyhow::Result<(RequestKind, ApiRequest)> {
        let number = self.request_count;
        self.request_count += 1;
        let tells = match self.mix {
            RequestMix::Events => true,
            RequestMix::Recommendations => false,
            RequestMix::Mixed => number % 5 < EVENT_REQUESTS_OF_FIVE,
        };
        let asks_for = (number as usize).wrapping_mul(USER_STRIDE) % self.recent_users.len().max(1);
        match self.recent_users.get(asks_for).filter(|_| !tells) {
            Some(user) => Ok((RequestKind::Recommendations, ApiRequest::recommendations(user, 20))),
            None => Ok((RequestKind::Events, self.tell()?)),
        }
    }

    fn tell(&mut self) -> anyhow::Result<ApiRequest> {
        let mut events = Vec::with_capacity(self.batch);
        while events.len() < self.batch {
            // New items are another request; here they are known by their events alone.
            events.extend(self.draw().filter(|entry| matches!(entry, Entry::Event(_))));
        }
        ApiRequest::events(&events)
    }

    /// The shop's next entry, as of now.
    fn draw(&mut self) -> Option<Entry> {
        let mut entry = self.shop.next()?;
        match &mut entry {
            Entry::Event(event) => {
                event.event_id = Some(format!("{}-{}", self.run_id, self.shop.event_count()));
                event.timestamp = self.clock.now();
                if self.recent_users.len() >= MAX_RECENT_USERS {
                    self.recent_users.pop_front();
                }
                self.recent_users.push_back(event.user_id.clone());
            }
            Entry::Item(change) => change.timestamp = self.clock.now(),
            // The shop makes no others.
            _ => {}
        }
        Some(entry)
    }
}
