//! Exports spans by OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/>) from a background
//! thread.

use async_trait::async_trait;
use metrics::Counter;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter,
    SpanProcessor,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use ureq::Agent;

use super::{SPAN_TARGET, SpanLayer, TelemetryError};
use crate::metrics::{LabeledMetric, SpanOutcome};

/// Largest number of spans that wait for export, including the spans that are being sent. If this
/// number is reached, new spans are dropped.
const MAX_QUEUED_SPANS: usize = 2048;
/// Largest number of spans per export request.
const MAX_SPANS_PER_BATCH: usize = 512;
/// Time after which a batch is sent even if it is not full.
const MAX_BATCH_DELAY: Duration = Duration::from_secs(5);
/// Time limit of one export request, including retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for exporting the remaining spans at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest response of the collector that is read, in bytes. A successful response is nearly empty.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;

/// Exports spans to a collector until it is stopped.
#[derive(Debug)]
pub struct TelemetryExporter {
    provider: SdkTracerProvider,
}

impl TelemetryExporter {
    /// Starts exporting the spans that [`Self::layer`] collects, to `{endpoint}/v1/traces`.
    /// `sample` is the share of traces to export, among those that start in this process. If the
    /// trace started in the caller of a request, the caller decides whether it is exported.
    /// `outcomes` counts sent, failed and dropped spans.
    ///
    /// The environment variable `OTEL_EXPORTER_OTLP_HEADERS` adds request headers, such as an API
    /// key. `OTEL_RESOURCE_ATTRIBUTES` adds resource attributes to the service's name and version.
    ///
    /// # Errors
    /// [`TelemetryError::Exporter`] if the endpoint is invalid.
    pub fn start(
        endpoint: &str,
        sample: f64,
        outcomes: LabeledMetric<SpanOutcome, Counter>,
    ) -> Result<Self, TelemetryError> {
        let config =
            Agent::config_builder().http_status_as_error(false).max_redirects(0).timeout_global(Some(EXPORT_TIMEOUT));
        let client = OtlpHttpClient { agent: config.build().into(), failing: AtomicBool::new(false) };
        let exporter = OtlpExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| TelemetryError::Exporter(error.into()))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let counting = CountingSpanExporter { exporter, waiting: Arc::clone(&waiting), outcomes: outcomes.clone() };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_QUEUED_SPANS)
            .with_max_export_batch_size(MAX_SPANS_PER_BATCH)
            .with_scheduled_delay(MAX_BATCH_DELAY);
        let queue = BatchSpanProcessor::builder(counting).with_batch_config(config.build()).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BoundedSpanProcessor { queue, waiting, outcomes })
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample))))
            .with_resource(Resource::builder().with_service_name("sequor").with_attribute(version).build())
            .build();
        Ok(Self { provider })
    }

    /// The tracing layer that collects the spans.
    #[must_use]
    pub fn layer(&self) -> SpanLayer {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("sequor"))
            // OpenTelemetry's current context is not needed, because `tracing` determines the
            // parent of each span.
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(
                filter_fn(|metadata| metadata.is_span() && metadata.target() == SPAN_TARGET)
                    .with_max_level_hint(LevelFilter::ERROR),
            )
            .boxed()
    }

    /// Exports the remaining spans, for at most a few seconds, and stops.
    pub fn stop(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last spans were not exported");
        }
    }
}

/// Sets the parent of a span from a `traceparent` header [W3C Trace Context]. A malformed header is
/// ignored. The header `tracestate` is ignored, because it holds arbitrary data of other systems.
/// Call this function before the span has children.
pub fn set_remote_parent(span: &Span, traceparent: &str) {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &TraceParentHeader(traceparent));
    if parent.span().span_context().is_valid() {
        // Setting the parent fails only if no layer collects the span.
        let _ = span.set_parent(parent);
    }
}

/// The value of a `traceparent` header. Code that reads a trace context from this type finds no
/// other header.
struct TraceParentHeader<'a>(&'a str);

impl Extractor for TraceParentHeader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// Renames an active span.
pub fn rename_span(span: &Span, name: impl FnOnce() -> String) {
    let context = span.context();
    let span = context.span();
    if span.is_recording() {
        span.update_name(name());
    }
}

/// Passes at most [`MAX_QUEUED_SPANS`] spans to the export queue, and counts the others as dropped.
/// The export queue has the same capacity, so it never drops a span itself, which would not be
/// counted.
#[derive(Debug)]
struct BoundedSpanProcessor {
    queue: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    outcomes: LabeledMetric<SpanOutcome, Counter>,
}

impl SpanProcessor for BoundedSpanProcessor {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_QUEUED_SPANS {
            self.queue.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.outcomes.with_label(SpanOutcome::Dropped).increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Counts exported spans by outcome.
#[derive(Debug)]
struct CountingSpanExporter {
    exporter: OtlpExporter,
    waiting: Arc<AtomicUsize>,
    outcomes: LabeledMetric<SpanOutcome, Counter>,
}

impl SpanExporter for CountingSpanExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let sent = self.exporter.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.outcomes
            .with_label(if sent.is_ok() { SpanOutcome::Sent } else { SpanOutcome::Failed })
            .increment(count as u64);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// A blocking HTTP client, which runs on the exporter's own thread.
#[derive(Debug)]
struct OtlpHttpClient {
    agent: Agent,
    /// Whether the last request failed. Of several failures in a row, only the first is logged.
    failing: AtomicBool,
}

impl OtlpHttpClient {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.agent.run(request.map(|body| body.to_vec()))?;
        let (head, mut body) = response.into_parts();
        let body = body.with_config().limit(MAX_RESPONSE_BYTES).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }

    /// Logs the first failure after a success, and the first success after a failure.
    fn log_transition(&self, response: &Result<Response<Bytes>, HttpError>) {
        let problem = match response {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector responded with {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        match (problem, self.failing.load(Ordering::Relaxed)) {
            (Some(problem), false) => {
                tracing::warn!(problem, "the collector does not accept spans; this is not logged again until it does")
            }
            (None, true) => tracing::info!("the collector accepts spans again"),
            (Some(_), true) | (None, false) => return,
        }
        self.failing.fetch_xor(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl HttpClient for OtlpHttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.send(request);
        self.log_transition(&response);
        response
    }
}
