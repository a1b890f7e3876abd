//! The durations of recent recommendations. Unlike the buckets of the latency metric, these
//! durations are exact to one per cent.

use hdrhistogram::Histogram;
use std::time::Duration;

/// The longest duration that is recorded, in microseconds. A longer duration is recorded as this
/// one.
const MAX_RECORDED_MICROSECONDS: u64 = 600_000_000;

/// A histogram of durations.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct LatencyWindow(Option<Histogram<u32>>);

impl LatencyWindow {
    /// Adds a duration.
    pub(in crate::http) fn record(&mut self, duration: Duration) {
        if self.0.is_none() {
            self.0 = Histogram::new_with_bounds(1, MAX_RECORDED_MICROSECONDS, 2).ok();
        }
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Adds the durations of another window.
    pub(in crate::http) fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            // Adding cannot fail, because both histograms have the same bounds.
            (Some(histogram), Some(other)) => drop(histogram.add(other)),
            (None, Some(other)) => self.0 = Some(other.clone()),
            (_, None) => {}
        }
    }

    /// The duration in seconds that the fraction `share` of all durations does not exceed (0.5: the
    /// median). `None` if there are no durations.
    pub(in crate::http) fn quantile(&self, share: f64) -> Option<f64> {
        let histogram = self.0.as_ref().filter(|histogram| !histogram.is_empty())?;
        Some(histogram.value_at_quantile(share).min(histogram.max()) as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_duration_is_every_quantile() {
        let mut window = LatencyWindow::default();
        assert_eq!(window.quantile(0.99), None);
        window.record(Duration::from_secs(1));
        for share in [0.5, 0.99] {
            let seconds = window.quantile(share).unwrap();
            assert!((0.99..=1.01).contains(&seconds), "{seconds}");
        }
    }

    #[test]
    fn quantiles_cover_merged_windows() {
        let mut window = LatencyWindow::default();
        for milliseconds in 1..=100 {
            let mut other = LatencyWindow::default();
            other.record(Duration::from_millis(milliseconds));
            window.merge(&other);
        }
        for (share, expected) in [(0.5, 0.05), (0.99, 0.099), (1.0, 0.1)] {
            let seconds = window.quantile(share).unwrap();
            assert!((seconds / expected - 1.0).abs() < 0.011, "{share}: {seconds}");
        }
        window.record(Duration::from_secs(1_000_000));
        assert!(window.quantile(1.0).unwrap() < 610.0);
    }
}
