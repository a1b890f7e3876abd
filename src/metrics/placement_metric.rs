//! Metrics by placement.

use super::handle::{MetricHandle, MetricType, SeriesHandle, series_key};
use crate::domain::EventKinds;
use metrics::Recorder;
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// The label of the metric.
const LABEL_NAME: &str = "placement";
/// The label value of lists without a placement, and of events that respond to them.
const NO_PLACEMENT: &str = "none";
/// The label value of placements beyond [`MAX_SERIES`].
const OTHER_PLACEMENT: &str = "other";
/// Maximum number of series. A process that sees more placements, because placements are deleted and
/// put, records the further ones together.
const MAX_SERIES: usize = 256;

/// One series per configured placement. A series appears with the first value of its placement.
pub struct PlacementMetric<H> {
    name: &'static str,
    without_placement: H,
    by_placement: RwLock<BTreeMap<String, H>>,
}

impl<H: SeriesHandle> PlacementMetric<H> {
    /// The series of a placement, or of lists without one. The caller has checked that the placement
    /// exists, or existed when the list was requested.
    pub(super) fn with_placement(&self, recorder: &dyn Recorder, placement: Option<&str>) -> H {
        let Some(placement) = placement else { return self.without_placement.clone() };
        let known = self.by_placement.read().unwrap_or_else(PoisonError::into_inner).get(placement).cloned();
        known.unwrap_or_else(|| self.add_series(recorder, placement))
    }

    fn add_series(&self, recorder: &dyn Recorder, placement: &str) -> H {
        let mut series = self.by_placement.write().unwrap_or_else(PoisonError::into_inner);
        let label = if series.len() < MAX_SERIES { placement } else { OTHER_PLACEMENT };
        let register = || H::register_series(recorder, &series_key(self.name, &[(LABEL_NAME, label)]));
        series.entry(label.to_owned()).or_insert_with(register).clone()
    }
}

impl<H: SeriesHandle> MetricHandle for PlacementMetric<H> {
    const TYPE: MetricType = H::TYPE;
    const LABEL_NAME: Option<&'static str> = Some(LABEL_NAME);

    fn register(recorder: &dyn Recorder, name: &'static str, _: &EventKinds) -> Self {
        let without_placement = H::register_series(recorder, &series_key(name, &[(LABEL_NAME, NO_PLACEMENT)]));
        Self { name, without_placement, by_placement: RwLock::default() }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::EventKinds;
    use crate::metrics::Metrics;

    #[test]
    fn lists_count_by_placement_in_a_bounded_number_of_series() {
        let metrics = Metrics::new(&EventKinds::default()).unwrap();
        let has_line = |line: &str| metrics.render().lines().any(|found| found == line);
        assert!(has_line("sequor_placement_lists_total{placement=\"none\"} 0"));
        metrics.count_list(None);
        (0..300).for_each(|number| metrics.count_list(Some(&format!("p{number}"))));
        metrics.count_list(Some("p7"));
        assert!(has_line("sequor_placement_lists_total{placement=\"none\"} 1"));
        assert!(has_line("sequor_placement_lists_total{placement=\"p7\"} 2"));
        assert!(has_line("sequor_placement_lists_total{placement=\"other\"} 44"));
    }

    #[test]
    fn quality_is_not_a_number_before_the_first_event() {
        let metrics = Metrics::new(&EventKinds::default()).unwrap();
        let has_line = |line: &str| metrics.render().lines().any(|found| found == line);
        assert!(has_line("sequor_live_recall_at_20_by_placement{placement=\"none\"} NaN"));
        metrics.set_placement_quality(Some("home"), 0.5, 0.25);
        assert!(has_line("sequor_live_recall_at_20_by_placement{placement=\"home\"} 0.5"));
        assert!(has_line("sequor_live_mrr_at_20_by_placement{placement=\"home\"} 0.25"));
    }
}
