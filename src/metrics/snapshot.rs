//! Metric values. They are parsed from the rendered text, because metric handles cannot be read.

/// The values of all series at one time, as rendered text.
#[derive(Debug, Clone, Default)]
pub struct MetricsSnapshot(String);

impl MetricsSnapshot {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// Returns the value of a series, or 0 if there is no such series. `series` is in Prometheus'
    /// notation, such as `sequor_events_total{outcome="accepted"}`.
    #[must_use]
    pub fn series_value(&self, series: &str) -> f64 {
        let series_value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(series_value).unwrap_or_default()
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
            (
                snapshot.series_value("sequor_events_total{outcome=\"accepted\"}"),
                snapshot.series_value("sequor_nothing")
            ),
            (7.0, 0.0)
        );
    }
}
