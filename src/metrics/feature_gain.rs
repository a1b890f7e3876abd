//! Gauges by declared feature.

use super::handle::{MetricHandle, MetricType, register_labeled_gauge};
use crate::domain::EventKinds;
use metrics::{Gauge, Recorder};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// The label of the metric.
const LABEL_NAME: &str = "feature";
/// The label value of all features together, which is no name of a feature.
const ALL_FEATURES: &str = "all";

/// One series per declared feature, of which there are at most 32, and one for all together. The
/// series of a feature appears with its first value.
pub struct FeatureGainMetric {
    name: &'static str,
    of_all: Gauge,
    by_feature: RwLock<BTreeMap<String, Gauge>>,
}

impl FeatureGainMetric {
    /// Sets the value of a feature, or of all features together.
    pub(super) fn set(&self, recorder: &dyn Recorder, feature: Option<&str>, value: f64) {
        let Some(feature) = feature else { return self.of_all.set(value) };
        let known = self.by_feature.read().unwrap_or_else(PoisonError::into_inner).get(feature).cloned();
        let add_series = || {
            let gauge = register_labeled_gauge(recorder, self.name, &[(LABEL_NAME, feature)]);
            let mut series = self.by_feature.write().unwrap_or_else(PoisonError::into_inner);
            series.entry(feature.to_owned()).or_insert(gauge).clone()
        };
        known.unwrap_or_else(add_series).set(value);
    }
}

impl MetricHandle for FeatureGainMetric {
    const TYPE: MetricType = MetricType::Gauge;
    const LABEL_NAME: Option<&'static str> = Some(LABEL_NAME);

    fn register(recorder: &dyn Recorder, name: &'static str, _: &EventKinds) -> Self {
        let of_all = register_labeled_gauge(recorder, name, &[(LABEL_NAME, ALL_FEATURES)]);
        of_all.set(f64::NAN);
        Self { name, of_all, by_feature: RwLock::default() }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::EventKinds;
    use crate::metrics::Metrics;

    #[test]
    fn gains_have_a_series_per_feature_and_one_for_all() {
        let metrics = Metrics::new(&EventKinds::default()).unwrap();
        let has_line = |line: &str| metrics.render().lines().any(|found| found == line);
        assert!(has_line("sequor_feature_recall_at_20_gain{feature=\"all\"} NaN"));
        metrics.set_feature_gain(Some("language"), 0.5, 0.25);
        metrics.set_feature_gain(Some("language"), 0.25, 0.125);
        metrics.set_feature_gain(None, 0.75, 0.5);
        assert!(has_line("sequor_feature_recall_at_20_gain{feature=\"language\"} 0.25"));
        assert!(has_line("sequor_feature_mrr_at_20_gain{feature=\"language\"} 0.125"));
        assert!(has_line("sequor_feature_recall_at_20_gain{feature=\"all\"} 0.75"));
    }
}
