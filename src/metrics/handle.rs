//! Handles on metrics, and how one is declared.

use crate::domain::{EventKinds, KindId};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Level, Metadata, Recorder};
use std::marker::PhantomData;

/// What a metric counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share, 0 to 1.
    Ratio,
    /// Nothing that has a name.
    None,
}

impl MetricUnit {
    /// The name in words; nothing for what has none.
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

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// Samples in buckets.
    Histogram,
}

impl MetricType {
    /// The name in Prometheus' text format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is known of a metric before anything is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricDeclaration {
    /// Its name.
    pub name: &'static str,
    /// How it moves.
    pub kind: MetricType,
    /// What it counts in.
    pub unit: MetricUnit,
    /// What it tells.
    pub help: &'static str,
    /// Its label, if it has one.
    pub label: Option<&'static str>,
    /// The label's values; none for the kinds of event, which the settings name.
    pub values: &'static [&'static str],
}

/// A closed set of values of one label.
pub trait MetricLabel: Copy {
    /// The label's name.
    const KEY: &'static str;
    /// Its values.
    const VALUES: &'static [&'static str];
    /// The place of this value among them.
    fn index(self) -> usize;
}

/// Something to record with, made once.
pub trait MetricHandle: Sized {
    /// How the metric moves.
    const TYPE: MetricType;
    /// The name of its label, if it has one.
    const LABEL: Option<&'static str> = None;
    /// The values of its label.
    const VALUES: &'static [&'static str] = &[];
    /// Registers every series of the metric.
    fn register(recorder: &dyn Recorder, name: &'static str, kinds: &EventKinds) -> Self;
}

const METADATA: Metadata<'static> = Metadata::new("sequor", Level::INFO, None);

fn key(name: &'static str, labels: &[(&'static str, &str)]) -> Key {
    Key::from_parts(name, labels.iter().map(|(key, value)| metrics::Label::new(*key, (*value).to_owned())).collect::<Vec<_>>())
}

/// Tells the recorder what a metric is about, and gives back its name.
pub(super) fn describe<H: MetricHandle>(recorder: &dyn Recorder, name: &'static str, help: &'static str) -> &'static str {
    let (key, help) = (KeyName::from_const_str(name), help.into());
    match H::TYPE {
        MetricType::Counter => recorder.describe_counter(key, None, help),
        MetricType::Gauge => recorder.describe_gauge(key, None, help),
        MetricType::Histogram => recorder.describe_histogram(key, None, help),
    }
    name
}

/// One gauge with labels that are known only at the start.
pub(super) fn gauge(recorder: &dyn Recorder, name: &'static str, labels: &[(&'static str, &str)]) -> Gauge {
    recorder.register_gauge(&key(name, labels), &METADATA)
}

/// A handle on one series.
trait SeriesHandle: MetricHandle + Clone {
    fn series(recorder: &dyn Recorder, key: &Key) -> Self;
    /// Records nothing.
    fn noop() -> Self;
}

macro_rules! series {
    ($($handle:ident $register:ident),*) => {$(
        impl SeriesHandle for $handle {
            fn series(recorder: &dyn Recorder, key: &Key) -> Self {
                recorder.$register(key, &METADATA)
            }
            fn noop() -> Self {
                $handle::noop()
            }
        }
        impl MetricHandle for $handle {
            const TYPE: MetricType = MetricType::$handle;
            fn register(recorder: &dyn Recorder, name: &'static str, _: &EventKinds) -> Self {
                Self::series(recorder, &key(name, &[]))
            }
        }
    )*};
}

series!(Counter register_counter, Gauge register_gauge, Histogram register_histogram);

/// One series for each value of a label.
#[derive(Debug, Clone)]
pub struct LabeledMetric<L, H> {
    series: Vec<H>,
    /// For a place that there is not; what it records goes nowhere.
    fallback: H,
    label: PhantomData<L>,
}

impl<L: MetricLabel, H> LabeledMetric<L, H> {
    /// The series of this value.
    #[must_use]
    pub fn with_label(&self, label: L) -> &H {
        self.series.get(label.index()).unwrap_or(&self.fallback)
    }
}

impl<L: MetricLabel, H: SeriesHandle> MetricHandle for LabeledMetric<L, H> {
    const TYPE: MetricType = H::TYPE;
    const LABEL: Option<&'static str> = Some(L::KEY);
    const VALUES: &'static [&'static str] = L::VALUES;
    fn register(recorder: &dyn Recorder, name: &'static str, _: &EventKinds) -> Self {
        let series = L::VALUES.iter().map(|value| H::series(recorder, &key(name, &[(L::KEY, value)]))).collect();
        Self { series, fallback: H::noop(), label: PhantomData }
    }
}

/// One counter for each kind of event that the settings know.
#[derive(Debug, Clone)]
pub struct EventKindCounters {
    series: Vec<Counter>,
    fallback: Counter,
}

impl EventKindCounters {
    /// The counter of this kind.
    pub fn with_label(&self, kind: KindId) -> &Counter {
        self.series.get(usize::from(kind)).unwrap_or(&self.fallback)
    }
}

impl MetricHandle for EventKindCounters {
    const TYPE: MetricType = MetricType::Counter;
    const LABEL: Option<&'static str> = Some("kind");
    fn register(recorder: &dyn Recorder, name: &'static str, kinds: &EventKinds) -> Self {
        let series = kinds.names().map(|kind| Counter::series(recorder, &key(name, &[("kind", kind)]))).collect();
        Self { series, fallback: Counter::noop() }
    }
}

/// Declares a label: an enum whose variants are its values.
macro_rules! declare_label {
    ($(#[$doc:meta])* $name:ident $key:literal { $($(#[$variant_doc:meta])* $variant:ident $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl MetricLabel for $name {
            const KEY: &'static str = $key;
            const VALUES: &'static [&'static str] = &[$($value),*];
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}
pub(super) use declare_label;

/// Declares all metrics: the handles, the table of what they are, and their registration, from one
/// list. The help is the doc comment.
macro_rules! declare_metrics {
    ($($(#[doc = $help:literal])+ $name:literal Unit::$unit:ident $field:ident: $handle:ty,)*) => {
        /// The handles that everything records with.
        pub struct Metrics {
            exporter: PrometheusHandle,
            snapshot_latency: CommitLatencyTracker,
            weights_latency: CommitLatencyTracker,
            $($(#[doc = $help])+ pub $field: $handle,)*
        }

        impl Metrics {
            /// What each metric is, in the order of the declaration.
            pub const DECLARATIONS: &'static [MetricDeclaration] = &[$(MetricDeclaration {
                name: $name,
                kind: <$handle as MetricHandle>::TYPE,
                unit: MetricUnit::$unit,
                help: concat!($($help),+).trim_ascii(),
                label: <$handle as MetricHandle>::LABEL,
                values: <$handle as MetricHandle>::VALUES,
            },)*];

            fn register(recorder: &metrics_exporter_prometheus::PrometheusRecorder, kinds: &EventKinds) -> Self {
                Self {
                    exporter: recorder.handle(),
                    snapshot_latency: CommitLatencyTracker::default(),
                    weights_latency: CommitLatencyTracker::default(),
                    $($field: <$handle as MetricHandle>::register(
                        recorder,
                        handle::describe::<$handle>(recorder, $name, concat!($($help),+).trim_ascii()),
                        kinds,
                    ),)*
                }
            }
        }
    };
}
pub(super) use declare_metrics;
