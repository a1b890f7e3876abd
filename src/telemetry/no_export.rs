//! Stubs that replace the span exporter in a build without the feature `otel`.

use metrics::Counter;
use tracing::Span;

use super::{SpanLayer, TelemetryError};
use crate::metrics::{LabeledMetric, SpanOutcome};

/// Placeholder for the exporter in a build without the feature `otel`. No value of this type can
/// exist.
#[derive(Debug)]
pub enum DisabledExporter {}

pub use DisabledExporter as TelemetryExporter;

impl DisabledExporter {
    /// Fails, because the build has no exporter.
    ///
    /// # Errors
    /// [`TelemetryError::NotBuilt`].
    pub fn start(
        _endpoint: &str,
        _sample: f64,
        _outcomes: LabeledMetric<SpanOutcome, Counter>,
    ) -> Result<Self, TelemetryError> {
        Err(TelemetryError::NotBuilt)
    }

    /// The tracing layer that collects the spans.
    #[must_use]
    pub fn layer(&self) -> SpanLayer {
        match *self {}
    }

    /// Stops the exporter.
    pub fn stop(self) {
        match self {}
    }
}

/// Does nothing, because this build exports no spans.
pub const fn set_remote_parent(_span: &Span, _traceparent: &str) {}

/// Does nothing, because this build exports no spans.
pub fn rename_span(_span: &Span, _name: impl FnOnce() -> String) {}
