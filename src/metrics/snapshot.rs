//! Metric values parsed from Prometheus' text format, because handles are write-only.

/// The values of all series at one time.
#[derive(Debug, Clone, Default)]
pub struct MetricsSnapshot(String);

impl MetricsSnapshot {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The value of a series in Prometheus' notation (`sequor_events_total{outcome="accepted"}`); 0
    /// if there is no such series.
    #[must_use]
    pub fn value(&self, series: &str) -> f64 {
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value).unwrap_or_default()
    }

    /// The buckets of a histogram with one label.
    #[must_use]
    pub fn buckets(&self, name: &str, label: &str, value: &str) -> HistogramBuckets {
        let prefix = format!("{name}_bucket{{{label}=\"{value}\",le=\"");
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix(prefix.as_str())?.split_once("\"} ")?;
            Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? }, count.parse().ok()?))
        };
        HistogramBuckets(self.0.lines().filter_map(bucket).collect())
    }
}

/// Cumulative histogram buckets: (upper bound, number of samples up to it), ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramBuckets(Vec<(f64, f64)>);

impl HistogramBuckets {
    /// The samples since an earlier snapshot.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        if earlier.0.len() != self.0.len() {
            return self.clone();
        }
        Self(self.0.iter().zip(&earlier.0).map(|((bound, now), (_, then))| (*bound, (now - then).max(0.0))).collect())
    }

    /// The `share` quantile, 0 to 1; `None` without samples. Samples are assumed to be spread
    /// evenly within each bucket, as in Prometheus' `histogram_quantile`.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let target = total * share.clamp(0.0, 1.0);
        let (mut below, mut before) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= target {
                let within = if *count > before { (target - before) / (count - before) } else { 0.0 };
                return Some(if bound.is_finite() { below + within * (bound - below) } else { below });
            }
            (below, before) = (*bound, *count);
        }
        Some(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventKinds;
    use crate::metrics::{Endpoint, EventOutcome, Metrics};
    use std::time::Duration;

    #[test]
    fn reads_recorded_values_back() {
        let metrics = Metrics::new(&EventKinds::default()).unwrap();
        metrics.events.with_label(EventOutcome::Accepted).increment(7);
        let before = metrics.snapshot();
        assert_eq!((before.value("sequor_events_total{outcome=\"accepted\"}"), before.value("sequor_nothing")), (7.0, 0.0));
        let of = |reading: &MetricsSnapshot| reading.buckets("sequor_request_seconds", "endpoint", "events");
        assert_eq!(of(&before).quantile(0.5), None);
        let sample = |milliseconds| metrics.request_seconds.with_label(Endpoint::Events).record(Duration::from_millis(milliseconds));
        // Between 5 and 10 ms.
        (0..100).for_each(|_| sample(7));
        let slow = metrics.snapshot();
        // Half of the samples lie below the middle of the bucket.
        assert_eq!(of(&slow).quantile(0.5), Some(0.0075));
        (0..4).for_each(|_| sample(300));
        let later = of(&metrics.snapshot()).since(&of(&slow));
        assert_eq!(later.quantile(0.5), Some(0.375), "only the later samples: between 0.25 and 0.5 s");
    }
}
