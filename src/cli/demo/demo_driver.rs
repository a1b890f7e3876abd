//! Main loop of the demo: sends the source's events to the daemon and polls its status.

use futures_util::future::try_join_all;
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::demo_source::DemoSource;
use super::demo_stats::{DemoStats, DemoSummary};
use super::demo_view::DemoView;
use super::shop::ProductDescriber;
use crate::cli::daemon_client::{ApiRequest, DaemonClient, RecommendationList};
use crate::cli::serve::shutdown_signal;
use crate::clock::Clock;
use crate::domain::{Entry, Event, EventKind};

/// Interval between batches of events.
const BATCH_INTERVAL: Duration = Duration::from_millis(50);
/// Interval between status polls.
const STATUS_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Items in a list of recommendations.
const RECOMMENDATIONS_PER_LIST: usize = 20;
/// Trending items to request.
const MAX_TRENDING_ITEMS: usize = 10;
/// The demo requests recommendations for one in this many visitors.
const VISITORS_PER_RECOMMENDATION_LIST: u64 = 5;

/// The running demo.
pub(super) struct DemoDriver<'s, 'r> {
    daemon: DaemonClient,
    source: &'s mut DemoSource<'r>,
    view: DemoView,
    clock: Clock,
    /// Duration of the demo; `None` means that it runs until Ctrl-C.
    duration: Option<Duration>,
    /// Adds the products of item changes to the demo's shop.
    describer: Option<ProductDescriber>,
    stats: DemoStats,
    next_poll_at: Duration,
}

impl<'s, 'r> DemoDriver<'s, 'r> {
    /// Maximum number of concurrent requests.
    pub(super) const MAX_CONCURRENT_REQUESTS: usize = 16;

    pub(super) fn new(
        daemon: DaemonClient,
        source: &'s mut DemoSource<'r>,
        view: DemoView,
        clock: Clock,
        duration: Option<Duration>,
        describer: Option<ProductDescriber>,
    ) -> Self {
        let (stats, next_poll_at) = (DemoStats::default(), STATUS_POLL_INTERVAL);
        Self { daemon, source, view, clock, duration, describer, stats, next_poll_at }
    }

    /// Runs until the source has no more events, the duration is over, or a signal arrives. Returns
    /// the summary.
    pub(super) async fn run(mut self) -> anyhow::Result<DemoSummary> {
        let stopped = shutdown_signal()?;
        tokio::pin!(stopped);
        let mut ticks = actix::clock::interval(BATCH_INTERVAL);
        loop {
            let has_more = tokio::select! {
                () = &mut stopped => false,
                step = async { ticks.tick().await; self.send_due_events().await } => step?,
            };
            if !has_more {
                break;
            }
        }
        let elapsed = self.clock.elapsed();
        let stopped = shutdown_signal()?;
        tokio::select! {
            () = stopped => {}
            learned = self.daemon.wait_until_learned() => learned?,
        }
        self.poll_status(elapsed).await?;
        self.view.update(elapsed, &self.stats)?;
        let summary = self.stats.summary(elapsed);
        self.view.print_summary(&summary)?;
        Ok(summary)
    }

    /// Sends the events that are due, shows recommendations and polls the status. Returns whether
    /// the source has more events.
    async fn send_due_events(&mut self) -> anyhow::Result<bool> {
        let elapsed = self.clock.elapsed();
        if self.duration.is_some_and(|duration| elapsed >= duration) {
            return Ok(false);
        }
        let Some(mut entries) = self.source.due_entries(elapsed, self.stats.events)? else { return Ok(false) };
        let now = self.clock.now();
        for entry in &mut entries {
            // Events are sent with the current time, so that the daemon attributes a click to the
            // list shown just before.
            match entry {
                Entry::Event(event) => event.timestamp = now,
                Entry::Item(change) => {
                    change.timestamp = now;
                    self.describer.iter().for_each(|describer| describer.describe(change));
                }
                // The shop generates only events and item changes.
                _ => {}
            }
        }
        let (items, events): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| matches!(entry, Entry::Item(_)));
        for items in items.chunks(500) {
            self.daemon.send_until_accepted(ApiRequest::items_request(items)?).await?;
        }
        if !events.is_empty() {
            self.daemon.send_until_accepted(ApiRequest::events_request(&events)?).await?;
        }
        let events: Vec<_> = events.iter().filter_map(Entry::as_event).collect();
        // Visitors in a recording did not see the lists of this demo.
        let is_shop = self.source.simulated_shop().is_some();
        for event in &events {
            self.stats.record_event(event, is_shop && event.kind == EventKind::Click);
        }
        self.show_recommendations(&events).await?;
        if elapsed >= self.next_poll_at {
            self.poll_status(elapsed).await?;
            self.next_poll_at = elapsed + STATUS_POLL_INTERVAL;
            self.view.update(elapsed, &self.stats)?;
        }
        Ok(true)
    }

    /// Requests recommendations for the selected visitors and shows them.
    async fn show_recommendations(&mut self, events: &[&Event]) -> anyhow::Result<()> {
        let mut users: Vec<&str> =
            events.iter().map(|event| event.user_id.as_str()).filter(|user| gets_recommendations(user)).collect();
        users.dedup();
        users.truncate(Self::MAX_CONCURRENT_REQUESTS);
        let lists = users.iter().map(|user| {
            self.daemon
                .request_json::<RecommendationList>(ApiRequest::recommendations_request(user, RECOMMENDATIONS_PER_LIST))
        });
        for (user, list) in users.iter().zip(try_join_all(lists).await?) {
            self.stats.record_list(user, &list, self.source.simulated_shop().as_deref());
            if let Some(shop) = self.source.simulated_shop() {
                shop.show_list(user, list.items.iter().map(|item| item.item_id.as_str()));
            }
        }
        Ok(())
    }

    async fn poll_status(&mut self, elapsed: Duration) -> anyhow::Result<()> {
        let status = self.daemon.read_status().await?;
        let trending = self.daemon.request_json(ApiRequest::trending_request(MAX_TRENDING_ITEMS)).await?;
        self.stats.record_poll(elapsed, &status, trending, self.source.simulated_shop().as_deref());
        Ok(())
    }
}

/// Whether the demo requests recommendations for a visitor. The result depends only on the
/// visitor's id.
fn gets_recommendations(user: &str) -> bool {
    let mut hasher = FxHasher::default();
    user.hash(&mut hasher);
    hasher.finish().is_multiple_of(VISITORS_PER_RECOMMENDATION_LIST)
}
