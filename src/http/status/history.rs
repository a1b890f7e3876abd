//! Samples of the status since the daemon started, current rates, and the latest status for
//! subscribers.

use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::domain::{Offset, Timestamp};
use crate::http::status::latency_window::LatencyWindow;
use crate::metrics::MetricsSnapshot;

/// The interval between samples.
pub(in crate::http) const SAMPLING_INTERVAL: Duration = Duration::from_secs(1);
/// The number of samples that rates and latencies cover.
const WINDOW_SAMPLES: usize = 10;
/// The largest number of stored samples. When this number is reached, every other sample is
/// dropped, and the interval at which samples are stored doubles.
const MAX_STORED_SAMPLES: usize = 360;
/// The largest number of subscribers to the live status.
const MAX_SUBSCRIBERS: usize = 32;

/// The measurements at one time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(in crate::http) struct StatusSample {
    /// The time of the sample.
    pub(in crate::http) at: Timestamp,
    /// Events accepted since the daemon started.
    pub(in crate::http) events: f64,
    /// Recommendations since the daemon started.
    pub(in crate::http) lists: f64,
    /// The journal's next offset.
    pub(in crate::http) journal: Offset,
    /// Journal entries that the learner has not learned yet.
    pub(in crate::http) lag: u64,
    /// Median and 99th percentile of the duration of recent recommendation requests, in seconds;
    /// `None` if there were none.
    pub(in crate::http) latency: Option<[f64; 2]>,
    /// The loss of the latest batch, in nats; `None` before the first batch.
    pub(in crate::http) loss: Option<f64>,
}

/// The counters at one time. Rates are computed from the difference of two readings.
#[derive(Debug, Clone, Default)]
struct CounterReading {
    at: Timestamp,
    events: f64,
    lists: f64,
    /// The durations of the recommendation requests since the previous reading.
    latency: LatencyWindow,
}

/// Rates and latencies over the latest samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(in crate::http) struct StatusRates {
    /// Accepted events per second.
    pub(in crate::http) events_per_second: f64,
    /// Recommendations per second.
    pub(in crate::http) recommendations_per_second: f64,
    /// The median duration of a recommendation request, in seconds; absent if there were none.
    pub(in crate::http) latency_p50: Option<f64>,
    /// The 99th percentile of the duration of a recommendation request, in seconds.
    pub(in crate::http) latency_p99: Option<f64>,
}

#[derive(Debug, Default)]
struct StatusHistory {
    latest: VecDeque<CounterReading>,
    samples: Vec<StatusSample>,
    /// The number of readings after which one more sample is stored.
    readings_per_sample: u64,
    readings: u64,
}

/// The shared history and the latest status. Clones share both.
#[derive(Clone)]
pub(in crate::http) struct StatusSampler {
    history: Arc<Mutex<StatusHistory>>,
    /// The durations of the recommendation requests since the latest sample.
    latency: Arc<Mutex<LatencyWindow>>,
    status: watch::Receiver<Arc<str>>,
    subscribers: Arc<Semaphore>,
}

/// Publishes the status to subscribers. Dropping the publisher ends the streams of the subscribers.
pub(in crate::http) type StatusPublisher = watch::Sender<Arc<str>>;

impl StatusSampler {
    /// An empty history and its publisher.
    pub(in crate::http) fn new() -> (Self, StatusPublisher) {
        let (publisher, status) = watch::channel(Arc::from("{}"));
        (
            Self {
                history: Arc::default(),
                latency: Arc::default(),
                status,
                subscribers: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)),
            },
            publisher,
        )
    }

    /// Subscribes to the status. The receiver yields the latest status at once, and later every new
    /// status. Returns `None` if there are too many subscribers. The caller must hold the permit as
    /// long as it uses the receiver.
    pub(in crate::http) fn subscribe(&self) -> Option<(watch::Receiver<Arc<str>>, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.subscribers).try_acquire_owned().ok()?;
        let mut status = self.status.clone();
        status.mark_changed();
        Some((status, permit))
    }

    /// The stored samples, oldest first. The longer the service runs, the larger is the interval
    /// between them.
    pub(in crate::http) fn stored_samples(&self) -> Vec<StatusSample> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).samples.clone()
    }

    /// The rates and latencies over the latest samples.
    pub(in crate::http) fn current_rates(&self) -> StatusRates {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).rates_over_window()
    }

    /// Records the duration of a recommendation request.
    pub(in crate::http) fn record_latency(&self, duration: Duration) {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).record(duration);
    }

    /// How long the oldest untrained journal entry has waited, in seconds; 0 if there is none. An
    /// entry is untrained if the published weights are not trained on it.
    pub(in crate::http) fn weights_lag_seconds(&self, progress: LearningProgress, now: Timestamp) -> f64 {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).weights_lag_seconds(progress, now)
    }

    /// Adds a sample: the metrics at `now`, the journal's next offset, the number of entries that
    /// the learner lags behind, and the latest loss.
    pub(in crate::http) fn add_sample(
        &self,
        metrics: &MetricsSnapshot,
        now: Timestamp,
        journal: Offset,
        lag: u64,
        loss: Option<f64>,
    ) {
        let sum = |name: &str, label: &str, values: &[&str]| -> f64 {
            values.iter().map(|value| metrics.series_value(&format!("{name}{{{label}=\"{value}\"}}"))).sum()
        };
        let reading = CounterReading {
            at: now,
            events: sum("sequor_events_total", "outcome", &["accepted"]),
            lists: sum("sequor_recommendations_total", "outcome", &["answered", "cold"]),
            latency: std::mem::take(&mut *self.latency.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.add_reading(reading, journal, lag, loss);
    }
}

/// The progress of the learner and of the published weights through the journal.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct LearningProgress {
    /// The first offset that the published weights are not trained on.
    pub(in crate::http) trained_through: Offset,
    /// The first offset that the learner has not applied.
    pub(in crate::http) learned_through: Offset,
    /// The end of the journal.
    pub(in crate::http) end: Offset,
}

impl StatusHistory {
    /// If the learner still has entries to apply, the wait lasts until `now`. If not, the untrained
    /// entries wait for later entries, with which they will be trained. Their wait then ends at the
    /// arrival of the newest entry, so that it does not grow if no more entries arrive.
    fn weights_lag_seconds(&self, progress: LearningProgress, now: Timestamp) -> f64 {
        let LearningProgress { trained_through, learned_through, end } = progress;
        if end <= trained_through {
            return 0.0;
        }
        let arrival = |passed: &dyn Fn(Offset) -> bool| {
            self.samples.iter().find(|sample| passed(sample.journal)).map_or(now, |at| at.at)
        };
        let oldest = arrival(&|journal| journal > trained_through);
        let newest = if learned_through < end { now } else { arrival(&|journal| journal >= end) };
        (newest - oldest).max(0) as f64 / 1000.0
    }

    fn add_reading(&mut self, reading: CounterReading, journal: Offset, lag: u64, loss: Option<f64>) {
        let (at, events, lists) = (reading.at, reading.events, reading.lists);
        if self.latest.len() > WINDOW_SAMPLES {
            self.latest.pop_front();
        }
        self.latest.push_back(reading);
        self.readings_per_sample = self.readings_per_sample.max(1);
        if self.readings.is_multiple_of(self.readings_per_sample) {
            let rates = self.rates_over_window();
            self.samples.push(StatusSample {
                at,
                events,
                lists,
                journal,
                lag,
                latency: rates.latency_p50.zip(rates.latency_p99).map(|(p50, p99)| [p50, p99]),
                loss,
            });
        }
        self.readings += 1;
        if self.samples.len() >= MAX_STORED_SAMPLES {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.readings_per_sample *= 2;
        }
    }

    fn rates_over_window(&self) -> StatusRates {
        let (Some(first), Some(last)) = (self.latest.front(), self.latest.back()) else {
            return StatusRates::default();
        };
        let seconds = ((last.at - first.at) as f64 / 1000.0).max(SAMPLING_INTERVAL.as_secs_f64());
        let mut latency = LatencyWindow::default();
        self.latest.iter().skip(1).for_each(|reading| latency.merge(&reading.latency));
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
    fn halves_the_resolution_when_the_history_is_full() {
        let mut history = StatusHistory::default();
        for second in 0..5000_u32 {
            let reading = CounterReading {
                at: i64::from(second) * 1000,
                events: f64::from(second) * 5.0,
                ..CounterReading::default()
            };
            history.add_reading(reading, u64::from(second), 0, None);
        }
        let at: Vec<_> = history.samples.iter().map(|sample| sample.at).collect();
        assert!((MAX_STORED_SAMPLES / 2..MAX_STORED_SAMPLES).contains(&at.len()), "{}", at.len());
        // After 360 samples at 1 s, 180 samples at 2 s remain, and so on. After 5,000 s, one sample
        // per 16 s remains.
        assert!(at[0] == 0 && at.windows(2).all(|pair| pair[1] - pair[0] == 16_000), "{at:?}");
        assert_eq!(history.rates_over_window().events_per_second, 5.0);
    }

    #[test]
    fn latency_quantiles_cover_only_the_window() {
        let mut history = StatusHistory::default();
        let mut slow = LatencyWindow::default();
        slow.record(Duration::from_secs(1));
        history.add_reading(CounterReading::default(), 0, 0, None);
        history.add_reading(CounterReading { at: 1000, latency: slow, ..CounterReading::default() }, 0, 0, None);
        let p99 = |history: &StatusHistory| history.rates_over_window().latency_p99;
        assert!(p99(&history).is_some_and(|seconds| (0.99..1.01).contains(&seconds)), "{:?}", p99(&history));
        for second in 2..=12 {
            history.add_reading(CounterReading { at: second * 1000, ..CounterReading::default() }, 0, 0, None);
        }
        assert_eq!(p99(&history), None);
    }

    #[test]
    fn weights_lag_stays_constant_while_no_event_arrives() {
        let mut history = StatusHistory::default();
        for second in 0..60_u32 {
            // 10 entries a second for 20 seconds, and then no more.
            let reading = CounterReading { at: i64::from(second) * 1000, ..CounterReading::default() };
            history.add_reading(reading, u64::from(second.min(20)) * 10, 0, None);
        }
        let lag = |trained_through, learned_through| {
            history.weights_lag_seconds(LearningProgress { trained_through, learned_through, end: 200 }, 60_000)
        };
        assert_eq!((lag(200, 200), lag(150, 200)), (0.0, 4.0));
        assert_eq!(lag(150, 190), 44.0, "an entry that waits for the learner still ages");
    }
}
