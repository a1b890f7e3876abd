//! Spans: what a request, or a piece of work in the background, went through and how long each part
//! of it took, for a collector that speaks OpenTelemetry's protocol.
//!
//! They are made by `span!` wherever something is worth to be told apart, and cost a look at a flag
//! where nobody collects them. They have a target of their own, which the log leaves out, and the
//! exporter takes nothing else: so no line of a library ever becomes a part of a span. What holds
//! for the log holds for them, too: a span says of no user who it is, of no key what it is, and has
//! patterns of paths, never paths.
//!
//! What sends them is behind the feature `otel`, so that a program that is not to send any is built
//! without all that it takes.

#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
#[path = "no_export.rs"]
mod export;

pub use export::{TelemetryExporter, rename_span, set_remote_parent};

use tracing_subscriber::{Layer, Registry};

/// The target of every span, and of nothing else: no module's path begins with it, so that the log
/// can leave it out and keep all lines.
pub const SPAN_TARGET: &str = "sequor_spans";

/// A span, as `tracing::span!` makes it, without a level. Names of fields are those of
/// OpenTelemetry's semantic conventions, or begin with `sequor.`.
macro_rules! span {
    // Spans have the level `error`, because the lowest level that any subscriber enables applies to
    // all, and the export of spans must not enable the log lines of libraries.
    ($($rest:tt)*) => { tracing::error_span!(target: $crate::telemetry::SPAN_TARGET, $($rest)*) };
}
pub(crate) use span;

/// What takes the spans, to be put under everything else that listens to `tracing`.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The program cannot send any.
    #[error("this program was built without OpenTelemetry; build it with `--features otel`, or leave the setting empty")]
    NotBuilt,
    /// There is nothing to send them with.
    #[error("spans cannot be sent")]
    Exporter(#[source] Box<dyn std::error::Error + Send + Sync>),
}
