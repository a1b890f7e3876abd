//! Metric handles and the macros that declare them.

use crate::domain::{EventKinds, KindId};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Level, Metadata, Recorder};
use std::marker::PhantomData;

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// A number of objects.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A ratio, 0 to 1.
    Ratio,
    /// No unit.
    None,
}

impl MetricUnit {
    /// The name of the unit; empty for [`MetricUnit::None`].
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio, 0 to 1",
            Self::None => "",
        }
    }
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// A value that only increases.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Numbers of samples, by bucket.
    Histogram,
}

impl MetricType {
    /// The type's name in Prometheus' text format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The declaration of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricDeclaration {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: MetricType,
    /// The unit.
    pub unit: MetricUnit,
    /// The help text.
    pub help: &'static str,
    /// The name of the metric's label, if it has a label.
    pub label: Option<&'static str>,
    /// The values of the label; empty for the label `kind`, whose values the settings define.
    pub values: &'static [&'static str],
}

/// A label whose possible values are fixed in the code.
pub trait MetricLabel: Copy {
    /// The name of the label.
    const LABEL_NAME: &'static str;
    /// The values of the label.
    const LABEL_VALUES: &'static [&'static str];
    /// The index of this value in [`Self::LABEL_VALUES`].
    fn index(self) -> usize;
}

/// A registered metric, to which values are recorded.
pub trait MetricHandle: Sized {
    /// The type of the metric.
    const TYPE: MetricType;
    /// The name of the metric's label, if it has a label.
    const LABEL_NAME: Option<&'static str> = None;
    /// The values of the metric's label.
    const LABEL_VALUES: &'static [&'static str] = &[];
    /// Registers every series of the metric.
    fn register(recorder: &dyn Recorder, name: &'static str, kinds: &EventKinds) -> Self;
}

pub(super) const RECORDER_METADATA: Metadata<'static> = Metadata::new("sequor", Level::INFO, None);

pub(super) fn series_key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(
        name,
        labels.iter().map(|(key, value)| metrics::Label::new(*key, (*value).to_owned())).collect::<Vec<_>>(),
    )
}

/// Registers the help text of a metric and returns its name.
pub(super) fn register_help<H: MetricHandle>(
    recorder: &dyn Recorder,
    name: &'static str,
    help: &'static str,
) -> &'static str {
    let (key, help) = (KeyName::from_const_str(name), help.into());
    match H::TYPE {
        MetricType::Counter => recorder.describe_counter(key, None, help),
        MetricType::Gauge => recorder.describe_gauge(key, None, help),
        MetricType::Histogram => recorder.describe_histogram(key, None, help),
    }
    name
}

/// A gauge whose label values are known only at runtime.
pub(super) fn register_labeled_gauge(
    recorder: &dyn Recorder,
    name: &'static str,
    labels: &[(&'static str, &str)],
) -> Gauge {
    recorder.register_gauge(&series_key(name, labels), &RECORDER_METADATA)
}

/// A handle that records to one series.
pub trait SeriesHandle: MetricHandle + Clone {
    /// Registers a series.
    fn register_series(recorder: &dyn Recorder, key: &Key) -> Self;
    /// A handle that records nothing.
    fn noop() -> Self;
}

macro_rules! series {
    ($($handle:ident $register:ident),*) => {$(
        impl SeriesHandle for $handle {
            fn register_series(recorder: &dyn Recorder, key: &Key) -> Self {
                recorder.$register(key, &RECORDER_METADATA)
            }
            fn noop() -> Self {
                $handle::noop()
            }
        }
        impl MetricHandle for $handle {
            const TYPE: MetricType = MetricType::$handle;
            fn register(recorder: &dyn Recorder, name: &'static str, _: &EventKinds) -> Self {
                Self::register_series(recorder, &series_key(name, &[]))
            }
        }
    )*};
}

series!(Counter register_counter, Gauge register_gauge, Histogram register_histogram);

/// One series for each value of a label.
#[derive(Debug, Clone)]
pub struct LabeledMetric<L, H> {
    series: Vec<H>,
    /// A handle that records nothing, for label values without a series.
    fallback: H,
    label: PhantomData<L>,
}

impl<L: MetricLabel, H> LabeledMetric<L, H> {
    /// Returns the series of a label value.
    #[must_use]
    pub fn with_label(&self, label: L) -> &H {
        self.series.get(label.index()).unwrap_or(&self.fallback)
    }
}

impl<L: MetricLabel, H: SeriesHandle> MetricHandle for LabeledMetric<L, H> {
    const TYPE: MetricType = H::TYPE;
    const LABEL_NAME: Option<&'static str> = Some(L::LABEL_NAME);
    const LABEL_VALUES: &'static [&'static str] = L::LABEL_VALUES;
    fn register(recorder: &dyn Recorder, name: &'static str, _: &EventKinds) -> Self {
        let series = L::LABEL_VALUES
            .iter()
            .map(|value| H::register_series(recorder, &series_key(name, &[(L::LABEL_NAME, value)])))
            .collect();
        Self { series, fallback: H::noop(), label: PhantomData }
    }
}

/// One series per configured kind of event.
#[derive(Debug, Clone)]
pub struct EventKindMetric<H> {
    series: Vec<H>,
    fallback: H,
}

impl<H> EventKindMetric<H> {
    /// The series of a kind of event.
    pub fn with_label(&self, kind: KindId) -> &H {
        self.series.get(usize::from(kind)).unwrap_or(&self.fallback)
    }
}

impl<H: SeriesHandle> MetricHandle for EventKindMetric<H> {
    const TYPE: MetricType = H::TYPE;
    const LABEL_NAME: Option<&'static str> = Some("kind");
    fn register(recorder: &dyn Recorder, name: &'static str, kinds: &EventKinds) -> Self {
        let series =
            kinds.names().map(|kind| H::register_series(recorder, &series_key(name, &[("kind", kind)]))).collect();
        Self { series, fallback: H::noop() }
    }
}

/// Declares a metric label as an enum. The variants are the label's values.
macro_rules! declare_label {
    ($(#[$doc:meta])* $name:ident $key:literal { $($(#[$variant_doc:meta])* $variant:ident $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl MetricLabel for $name {
            const LABEL_NAME: &'static str = $key;
            const LABEL_VALUES: &'static [&'static str] = &[$($value),*];
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(super) use declare_label;

/// Declares all metrics from one list: the handles, the table of declarations and the registration.
/// The doc comment of a metric is its help text.
macro_rules! declare_metrics {
    ($($(#[doc = $help:literal])+ $name:literal Unit::$unit:ident $field:ident: $handle:ty,)*) => {
        /// The metric handles of a daemon.
        pub struct Metrics {
            exporter: PrometheusHandle,
            snapshot_latency: CommitLatencyTracker,
            weights_latency: CommitLatencyTracker,
            $($(#[doc = $help])+ pub $field: $handle,)*
            /// Registers series whose label values are known only at runtime.
            recorder: metrics_exporter_prometheus::PrometheusRecorder,
        }

        impl Metrics {
            /// All metrics in declaration order.
            pub const DECLARATIONS: &'static [MetricDeclaration] = &[$(MetricDeclaration {
                name: $name,
                kind: <$handle as MetricHandle>::TYPE,
                unit: MetricUnit::$unit,
                help: concat!($($help),+).trim_ascii(),
                label: <$handle as MetricHandle>::LABEL_NAME,
                values: <$handle as MetricHandle>::LABEL_VALUES,
            },)*];

            fn register(recorder: metrics_exporter_prometheus::PrometheusRecorder, kinds: &EventKinds) -> Self {
                Self {
                    exporter: recorder.handle(),
                    snapshot_latency: CommitLatencyTracker::default(),
                    weights_latency: CommitLatencyTracker::default(),
                    $($field: <$handle as MetricHandle>::register(
                        &recorder,
                        handle::register_help::<$handle>(&recorder, $name, concat!($($help),+).trim_ascii()),
                        kinds,
                    ),)*
                    recorder,
                }
            }
        }
    };
}
pub(super) use declare_metrics;
