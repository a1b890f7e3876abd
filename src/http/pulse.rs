//! The service's pulse: its status every second, for whoever watches, and how it went since the
//! start.

use actix_web::rt::{self, task::JoinHandle, time};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::admin::status::ServiceStatus;
use super::api::ApiState;
use crate::domain::{Offset, Timestamp};
use crate::metrics::{HistogramBuckets, MetricsSnapshot};

/// How often it beats.
const BEAT: Duration = Duration::from_secs(1);
/// The beats over which rates and latencies are taken.
const WINDOW: usize = 10;
/// The moments that are remembered; when there are too many every second one goes, and from then on
/// half as many are added.
const REMEMBERED: usize = 360;
/// Who may watch at once.
const LISTENERS: usize = 32;

/// What was measured at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct StatusSample {
    /// When.
    pub(super) at: Timestamp,
    /// Events taken since the start.
    pub(super) events: f64,
    /// Lists answered since the start.
    pub(super) lists: f64,
    /// The journal's next entry.
    pub(super) journal: Offset,
    /// Entries that the learner had yet to learn from.
    pub(super) lag: u64,
    /// Median and 99th percentile of the latest recommendations' time, in seconds; `None` if there
    /// were none.
    pub(super) latency: Option<[f64; 2]>,
    /// The loss of the latest training, in nats; `None` before the first.
    pub(super) loss: Option<f64>,
}

/// What is read at a beat to be compared with the next ones.
#[derive(Debug, Clone, Default)]
struct CounterReading {
    at: Timestamp,
    events: f64,
    lists: f64,
    latency: HistogramBuckets,
}

/// How fast it goes, over the latest seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct StatusRates {
    /// Events taken a second.
    pub(super) events_per_second: f64,
    /// Lists answered a second.
    pub(super) recommendations_per_second: f64,
    /// Half of the recommendations took at most so many seconds; absent if there were none.
    pub(super) latency_p50: Option<f64>,
    /// All but a hundredth took at most so many.
    pub(super) latency_p99: Option<f64>,
}

#[derive(Debug, Default)]
struct StatusHistory {
    latest: VecDeque<CounterReading>,
    moments: Vec<StatusSample>,
    /// Beats from one moment that is remembered to the next.
    every: u64,
    beats: u64,
}

/// Shared by all who watch.
#[derive(Clone)]
pub(super) struct StatusSampler {
    memory: Arc<Mutex<StatusHistory>>,
    status: watch::Receiver<Arc<str>>,
    listeners: Arc<Semaphore>,
}

/// Tells the pulse's listeners; they are let go when it is.
pub(super) type StatusPublisher = watch::Sender<Arc<str>>;

impl StatusSampler {
    /// A pulse that does not beat yet.
    pub(super) fn new() -> (Self, StatusPublisher) {
        let (teller, status) = watch::channel(Arc::from("{}"));
        (Self { memory: Arc::default(), status, listeners: Arc::new(Semaphore::new(LISTENERS)) }, teller)
    }

    /// Lets it beat until the task is ended.
    pub(super) fn spawn(api: ApiState, teller: StatusPublisher) -> JoinHandle<()> {
        rt::spawn(async move {
            let mut every = time::interval(BEAT);
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                every.tick().await;
                let reading = api.system.refresh_metrics().snapshot();
                let Ok(status) = ServiceStatus::from_metrics(&api, &reading).await else { continue };
                api.status_sampler.remember(&status, &reading, api.clock.now());
                // What was measured with it belongs to it.
                let status = ServiceStatus { rates: api.status_sampler.current_rates(), ..status };
                teller.send_replace(serde_json::to_string(&status).unwrap_or_default().into());
            }
        })
    }

    /// The status as it comes, beginning with the latest; `None` if too many listen already. The
    /// permit is held as long as one listens.
    pub(super) fn subscribe(&self) -> Option<(watch::Receiver<Arc<str>>, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.listeners).try_acquire_owned().ok()?;
        let mut status = self.status.clone();
        status.mark_changed();
        Some((status, permit))
    }

    /// What is remembered, oldest first: dense at first, coarser the longer the service runs.
    pub(super) fn samples(&self) -> Vec<StatusSample> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).moments.clone()
    }

    /// How fast it went over the latest beats.
    pub(super) fn current_rates(&self) -> StatusRates {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).pace()
    }

    /// How long ago, in seconds, the journal first had an entry that the weights in use do not
    /// know; 0 if they know all.
    pub(super) fn weights_lag_seconds(&self, known: Offset, end: Offset, now: Timestamp) -> f64 {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let first = memory.moments.iter().find(|moment| moment.journal > known).map_or(now, |moment| moment.at);
        if end > known { (now - first).max(0) as f64 / 1000.0 } else { 0.0 }
    }

    fn remember(&self, status: &ServiceStatus, reading: &MetricsSnapshot, now: Timestamp) {
        let sum = |name: &str, label: &str, values: &[&str]| -> f64 {
            values.iter().map(|value| reading.value(&format!("{name}{{{label}=\"{value}\"}}"))).sum()
        };
        let beat = CounterReading {
            at: now,
            events: sum("sequor_events_total", "outcome", &["accepted"]),
            lists: sum("sequor_recommendations_total", "outcome", &["answered", "cold"]),
            latency: reading.buckets("sequor_request_seconds", "endpoint", "recommendations"),
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.add(beat, status.journal.next_offset, status.learning.lag_entries, status.learning.latest_loss);
    }
}

impl StatusHistory {
    fn add(&mut self, beat: CounterReading, journal: Offset, lag: u64, loss: Option<f64>) {
        let (at, events, lists) = (beat.at, beat.events, beat.lists);
        if self.latest.len() > WINDOW {
            self.latest.pop_front();
        }
        self.latest.push_back(beat);
        self.every = self.every.max(1);
        if self.beats.is_multiple_of(self.every) {
            let pace = self.pace();
            self.moments.push(StatusSample {
                at,
                events,
                lists,
                journal,
                lag,
                latency: pace.latency_p50.zip(pace.latency_p99).map(|(half, most)| [half, most]),
                loss,
            });
        }
        self.beats += 1;
        if self.moments.len() >= REMEMBERED {
            let mut place = 0;
            self.moments.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.every *= 2;
        }
    }

    fn pace(&self) -> StatusRates {
        let (Some(first), Some(last)) = (self.latest.front(), self.latest.back()) else { return StatusRates::default() };
        let seconds = ((last.at - first.at) as f64 / 1000.0).max(BEAT.as_secs_f64());
        let latency = last.latency.since(&first.latency);
        StatusRates {
            events_per_second: (last.events - first.events) / seconds,
            recommendations_per_second: (last.lists - first.lists) / seconds,
            latency_p50: latency.quantile(0.5),
            latency_p99: latency.quantile(0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_service_is_remembered_whole_ever_more_coarsely() {
        let mut memory = StatusHistory::default();
        for second in 0..5000_u32 {
            let beat = CounterReading { at: i64::from(second) * 1000, events: f64::from(second) * 5.0, ..CounterReading::default() };
            memory.add(beat, u64::from(second), 0, None);
        }
        let at: Vec<_> = memory.moments.iter().map(|moment| moment.at).collect();
        assert!((REMEMBERED / 2..REMEMBERED).contains(&at.len()), "{}", at.len());
        // 360 at 1 s are 180 at 2 s, …: after 5,000 s every sixteenth second is kept.
        assert!(at[0] == 0 && at.windows(2).all(|pair| pair[1] - pair[0] == 16_000), "{at:?}");
        assert_eq!(memory.pace().events_per_second, 5.0);
    }
}
