//! Trace spans of requests and background work, for an OpenTelemetry collector.
//!
//! The macro `span!` creates a span. If no collector is configured, creating a span only checks a
//! flag. Spans have their own `tracing` target. The log excludes this target, and the exporter
//! accepts only this target. Log events of libraries therefore never become part of a span. Like
//! the log, a span contains no user ids, API keys or request paths. Instead of the path, it
//! contains the path's pattern.
//!
//! The feature `otel` enables the exporter. A build without the feature needs no OpenTelemetry
//! dependencies.

#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
#[path = "no_export.rs"]
mod export;

pub use export::{TelemetryExporter, rename_span, set_remote_parent};

use tracing_subscriber::{Layer, Registry};

/// The target of every span. No module path begins with this target, so the log can exclude it
/// without losing log events.
pub const SPAN_TARGET: &str = "sequor_spans";

/// Creates a span like `tracing::span!`, without a level. Field names follow OpenTelemetry's
/// semantic conventions or begin with `sequor.`.
macro_rules! span {
    // Spans have the level `error`. If spans had a more detailed level, the exporter would have to
    // enable this level. `tracing` would then enable it for all subscribers, and libraries would
    // also log at this level.
    ($($rest:tt)*) => { tracing::error_span!(target: $crate::telemetry::SPAN_TARGET, $($rest)*) };
}
pub(crate) use span;

/// The layer that collects spans. This layer must be the innermost layer of the subscriber.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Errors of starting the span export.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The program was built without the feature `otel`.
    #[error(
        "this program was built without OpenTelemetry; build it with `--features otel`, or leave the setting empty"
    )]
    NotBuilt,
    /// The exporter cannot be created.
    #[error("the span exporter cannot be created")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
}
