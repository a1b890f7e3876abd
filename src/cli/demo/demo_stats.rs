//! Statistics of the demo, and its summary.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;
use std::time::Duration;

use crate::cli::daemon_client::{DaemonStatus, QualityFigures, RecommendationList};
use crate::domain::Event;
use crate::simulation::{ShopSimulator, Trend};

/// A current value, such as the event rate, covers this many recent polls.
const POLLS_PER_WINDOW: usize = 5;
/// Maximum number of visitors whose visits are remembered.
const MAX_TRACKED_VISITORS: usize = 4_096;
/// The view shows this many items of the example visit.
const MAX_EXAMPLE_ITEMS: usize = 4;

/// Recall@20 and MRR@20 over a range of evaluated steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct DemoMetrics {
    pub(super) recall_at_20: f64,
    pub(super) mrr_at_20: f64,
}

/// Sums over all evaluated steps up to a poll. The difference between the sums of two polls gives
/// the metrics between them.
#[derive(Debug, Clone, Copy, Default)]
struct DemoMetricSums {
    steps: f64,
    hits: f64,
    reciprocal_ranks: f64,
}

impl DemoMetricSums {
    fn new(quality: &QualityFigures) -> Self {
        let steps = quality.steps as f64;
        Self { steps, hits: quality.total.recall_at_20 * steps, reciprocal_ranks: quality.total.mrr_at_20 * steps }
    }

    /// Metrics since an earlier poll; `None` if there were no steps.
    fn metrics_since(&self, earlier: &Self) -> Option<DemoMetrics> {
        let steps = self.steps - earlier.steps;
        let share = |now: f64, then: f64| ((now - then) / steps).clamp(0.0, 1.0);
        (steps > 0.0).then(|| DemoMetrics {
            recall_at_20: share(self.hits, earlier.hits),
            mrr_at_20: share(self.reciprocal_ranks, earlier.reciprocal_ranks),
        })
    }
}

/// A trend of the simulated shop, and when the daemon detected it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TrendProgress {
    pub(super) items: Vec<String>,
    pub(super) since_event: u64,
    /// Number of events from the start of the trend until its first item appeared in the daemon's
    /// trending list.
    pub(super) found_after_events: Option<u64>,
}

/// An example visitor: the last viewed items and the recommendations.
#[derive(Debug, Clone)]
pub(super) struct ExampleSession {
    pub(super) user: String,
    pub(super) recent_items: Vec<String>,
    pub(super) recommended_items: Vec<String>,
}

/// Statistics collected so far.
#[derive(Debug, Default)]
pub(super) struct DemoStats {
    pub(super) events: u64,
    pub(super) lag_entries: u64,
    /// The daemon's trending items, best first.
    pub(super) trending: Vec<String>,
    pub(super) trends: Vec<TrendProgress>,
    pub(super) new_item_count: usize,
    pub(super) example: Option<ExampleSession>,
    /// Until the poll with this number, no other visitor becomes the example. So an example stays
    /// on the screen long enough to be read.
    example_until: usize,
    sums: Vec<DemoMetricSums>,
    /// The time of each poll, and the number of events sent until then.
    event_counts: Vec<(Duration, u64)>,
    list_count: u64,
    listed_items: u64,
    listed_new_items: u64,
    recommended_new_items: FxHashSet<String>,
    click_count: u64,
    /// Viewed items of each visitor's current visit.
    visit_paths: FxHashMap<String, (Option<String>, Vec<String>)>,
}

impl DemoStats {
    /// Records an event that the daemon accepted.
    pub(super) fn record_event(&mut self, event: &Event, clicked: bool) {
        self.events += 1;
        self.click_count += u64::from(clicked);
        let Some(item) = &event.item_id else { return };
        if self.visit_paths.len() >= MAX_TRACKED_VISITORS {
            self.visit_paths.clear();
        }
        let (visit, path) = self.visit_paths.entry(event.user_id.clone()).or_default();
        if *visit != event.session_id {
            visit.clone_from(&event.session_id);
            path.clear();
        }
        if path.last() != Some(item) {
            path.push(item.clone());
        }
    }

    /// Records a list of recommendations.
    pub(super) fn record_list(&mut self, user: &str, list: &RecommendationList, shop: Option<&ShopSimulator>) {
        self.list_count += 1;
        self.listed_items += list.items.len() as u64;
        for item in list.items.iter().filter(|item| shop.is_some_and(|shop| shop.is_new_item(&item.item_id))) {
            self.listed_new_items += 1;
            if !self.recommended_new_items.contains(&item.item_id) {
                self.recommended_new_items.insert(item.item_id.clone());
            }
        }
        let is_new_user = self.example.as_ref().is_none_or(|example| example.user != user);
        let Some((_, path)) = self.visit_paths.get(user).filter(|(_, path)| path.len() >= 3) else { return };
        if is_new_user && self.sums.len() < self.example_until {
            return;
        }
        if is_new_user {
            self.example_until = self.sums.len() + POLLS_PER_WINDOW;
        }
        let last = path.get(path.len().saturating_sub(MAX_EXAMPLE_ITEMS)..).unwrap_or_default().to_vec();
        let next = list.items.iter().take(5).map(|item| item.item_id.clone()).collect();
        self.example = Some(ExampleSession { user: user.to_owned(), recent_items: last, recommended_items: next });
    }

    /// Records a status poll.
    pub(super) fn record_poll(
        &mut self,
        elapsed: Duration,
        status: &DaemonStatus,
        trending: RecommendationList,
        shop: Option<&ShopSimulator>,
    ) {
        self.sums.push(DemoMetricSums::new(&status.quality));
        self.event_counts.push((elapsed, self.events));
        self.lag_entries = status.learning.lag_entries;
        self.trending = trending.items.into_iter().map(|item| item.item_id).collect();
        let Some(shop) = shop else { return };
        self.new_item_count = shop.new_item_count();
        if let Some(Trend { items, start_event: since }) = shop.current_trend() {
            if self.trends.last().is_none_or(|known| known.since_event != *since) {
                self.trends.push(TrendProgress { items: items.clone(), since_event: *since, found_after_events: None });
            }
            if let Some(trend) = self.trends.last_mut().filter(|trend| trend.found_after_events.is_none())
                && trend.items.first().is_some_and(|first| self.trending.contains(first))
            {
                trend.found_after_events = Some(self.events.saturating_sub(*since));
            }
        }
    }

    /// For each poll, the metrics over the window of polls that ends there.
    pub(super) fn metrics_curve(&self) -> Vec<DemoMetrics> {
        let start = DemoMetricSums::default();
        let earlier =
            |poll: usize| poll.checked_sub(POLLS_PER_WINDOW).and_then(|poll| self.sums.get(poll)).unwrap_or(&start);
        self.sums.iter().enumerate().filter_map(|(poll, sums)| sums.metrics_since(earlier(poll))).collect()
    }

    /// Current events per second.
    pub(super) fn events_per_second(&self) -> f64 {
        let Some((now, events)) = self.event_counts.last() else { return 0.0 };
        let start = (Duration::ZERO, 0);
        let (then, before) = self
            .event_counts
            .len()
            .checked_sub(1 + POLLS_PER_WINDOW)
            .and_then(|poll| self.event_counts.get(poll))
            .unwrap_or(&start);
        (events - before) as f64 / now.saturating_sub(*then).as_secs_f64().max(1e-9)
    }

    /// Share of new items among all recommended items.
    pub(super) fn new_item_share(&self) -> f64 {
        if self.listed_items == 0 { 0.0 } else { self.listed_new_items as f64 / self.listed_items as f64 }
    }

    /// Metrics over a part of all steps: `from` and `to` are fractions of their number, such as 0.9
    /// and 1.0. Interpolates linearly between polls.
    fn metrics_between_shares(&self, from: f64, to: f64) -> Option<DemoMetrics> {
        let all = self.sums.last()?.steps;
        let at = |steps: f64| {
            let after = self.sums.partition_point(|sums| sums.steps < steps);
            let later = self.sums.get(after).copied().unwrap_or_default();
            let earlier = after.checked_sub(1).and_then(|poll| self.sums.get(poll)).copied().unwrap_or_default();
            let share = (steps - earlier.steps) / (later.steps - earlier.steps).max(1e-9);
            let mean = |earlier: f64, later: f64| earlier + (later - earlier) * share;
            DemoMetricSums {
                steps,
                hits: mean(earlier.hits, later.hits),
                reciprocal_ranks: mean(earlier.reciprocal_ranks, later.reciprocal_ranks),
            }
        };
        at(all * to).metrics_since(&at(all * from))
    }

    /// The summary of the demo.
    pub(super) fn summary(&self, elapsed: Duration) -> DemoSummary {
        DemoSummary {
            events: self.events,
            seconds: elapsed.as_secs_f64(),
            events_per_second: self.events as f64 / elapsed.as_secs_f64().max(1e-9),
            steps: self.sums.last().map_or(0, |sums| sums.steps as u64),
            first_tenth: self.metrics_between_shares(0.0, 0.1),
            last_tenth: self.metrics_between_shares(0.9, 1.0),
            trends: self.trends.clone(),
            new_items: NewItemSummary {
                arrived: self.new_item_count,
                recommended: self.recommended_new_items.len(),
                share_of_recommended: self.new_item_share(),
            },
            recommendations: RecommendationSummary { answered: self.list_count, clicked: self.click_count },
        }
    }
}

/// Summary of the demo.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DemoSummary {
    pub(super) events: u64,
    pub(super) seconds: f64,
    pub(super) events_per_second: f64,
    /// Events that were evaluated before they were learned.
    pub(super) steps: u64,
    pub(super) first_tenth: Option<DemoMetrics>,
    pub(super) last_tenth: Option<DemoMetrics>,
    pub(super) trends: Vec<TrendProgress>,
    pub(super) new_items: NewItemSummary,
    pub(super) recommendations: RecommendationSummary,
}

/// New items that arrived during the demo, and how many were recommended.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NewItemSummary {
    pub(super) arrived: usize,
    pub(super) recommended: usize,
    pub(super) share_of_recommended: f64,
}

/// Number of shown lists, and of clicks on their items.
#[derive(Debug, Clone, Serialize)]
pub(super) struct RecommendationSummary {
    pub(super) answered: u64,
    pub(super) clicked: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::daemon_client::QualityMeans;

    #[test]
    fn metrics_between_polls_follow_from_the_sums_at_the_polls() {
        let mut stats = DemoStats::default();
        // 100 steps with 10 hits, then 900 steps with 450 hits: together 460 hits in 1,000 steps.
        for (second, steps, recall) in [(1, 100, 0.1), (2, 1_000, 0.46)] {
            let total = QualityMeans { recall_at_20: recall, mrr_at_20: recall / 2.0 };
            let status = DaemonStatus { quality: QualityFigures { steps, total }, ..DaemonStatus::default() };
            stats.record_poll(Duration::from_secs(second), &status, RecommendationList::default(), None);
        }
        let assert_near = |found: Option<DemoMetrics>, recall: f64| {
            let found = found.unwrap();
            assert!(
                (found.recall_at_20 - recall).abs() < 1e-9 && (found.mrr_at_20 - recall / 2.0).abs() < 1e-9,
                "{found:?}"
            );
        };
        let summary = stats.summary(Duration::from_secs(2));
        assert_near(summary.first_tenth, 0.1);
        assert_near(summary.last_tenth, 0.5);
        assert_near(stats.metrics_between_shares(0.0, 0.2), 0.3);
        assert_eq!(stats.metrics_curve().len(), 2);
        assert_eq!(DemoStats::default().summary(Duration::ZERO).last_tenth, None);
    }
}
