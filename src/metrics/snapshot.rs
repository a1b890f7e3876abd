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
}

#[cfg(test)]
mod tests {
    use crate::domain::EventKinds;
    use crate::metrics::{EventOutcome, Metrics};

    #[test]
    fn reads_recorded_values_back() {
        let metrics = Metrics::new(&EventKinds::default()).unwrap();
        metrics.events.with_label(EventOutcome::Accepted).increment(7);
        let snapshot = metrics.snapshot();
        assert_eq!(
            (snapshot.value("sequor_events_total{outcome=\"accepted\"}"), snapshot.value("sequor_nothing")),
            (7.0, 0.0)
        );
    }
}
