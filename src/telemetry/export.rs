//! Sending spans by OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/>), from a thread of
//! its own.

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
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter, SpanProcessor,
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

/// Spans that wait to be sent, those under way included; what comes beyond is dropped.
const QUEUE: usize = 2048;
/// Spans in one request.
const BATCH: usize = 512;
/// How long a span waits at most for others to be sent with it.
const DELAY: Duration = Duration::from_secs(5);
/// How long a request to the collector may take, its repetitions included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for what is left to be sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is read; a good one is nearly empty.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// What sends spans to a collector until it is stopped.
#[derive(Debug)]
pub struct TelemetryExporter {
    provider: SdkTracerProvider,
}

impl TelemetryExporter {
    /// Begins to send what [`Exporter::layer`] takes to the collector at `endpoint`, to which
    /// `/v1/traces` is added: a share `sample` of the traces that begin here, and of those that go
    /// on here the ones that are sampled. What becomes of the spans is counted in `outcomes`.
    ///
    /// What a collector wants to be sent along, a key for example, it takes from the variable
    /// `OTEL_EXPORTER_OTLP_HEADERS`, and what is to be said of this service beyond its name and
    /// version from `OTEL_RESOURCE_ATTRIBUTES`.
    ///
    /// # Errors
    /// [`TelemetryError::Exporter`] if the endpoint is none.
    pub fn start(endpoint: &str, sample: f64, outcomes: LabeledMetric<SpanOutcome, Counter>) -> Result<Self, TelemetryError> {
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).timeout_global(Some(EXPORT_TIMEOUT));
        let client = OtlpHttpClient { agent: config.build().into(), failing: AtomicBool::new(false) };
        let sender = OtlpExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| TelemetryError::Exporter(error.into()))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = CountingSpanExporter { sender, waiting: Arc::clone(&waiting), outcomes: outcomes.clone() };
        let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_max_export_batch_size(BATCH).with_scheduled_delay(DELAY);
        let queue = BatchSpanProcessor::builder(counted).with_batch_config(config.build()).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BoundedSpanProcessor { queue, waiting, outcomes })
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample))))
            .with_resource(Resource::builder().with_service_name("sequor").with_attribute(version).build())
            .build();
        Ok(Self { provider })
    }

    /// What takes the spans.
    #[must_use]
    pub fn layer(&self) -> SpanLayer {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("sequor"))
            // Parents are those of `tracing`; nobody asks OpenTelemetry itself what is current.
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(filter_fn(|what| what.is_span() && what.target() == SPAN_TARGET).with_max_level_hint(LevelFilter::ERROR))
            .boxed()
    }

    /// Sends what is left, as far as the collector takes it soon.
    pub fn stop(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the last spans were not sent");
        }
    }
}

/// Makes a span go on from that of a sender, as `traceparent` names it [W3C Trace Context]; one
/// that is not well-formed says nothing. What `tracestate` says is another system's, and no affair
/// of ours: it might be anything. Must be called before the span has children.
pub fn set_remote_parent(span: &Span, traceparent: &str) {
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &TraceParentHeader(traceparent));
    if parent.span().span_context().is_valid() {
        // A span that nobody collects has no parent to be told of.
        let _ = span.set_parent(parent);
    }
}

/// The one header that is read.
struct TraceParentHeader<'a>(&'a str);

impl Extractor for TraceParentHeader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// Names a span that is under way.
pub fn rename_span(span: &Span, name: impl FnOnce() -> String) {
    let context = span.context();
    let span = context.span();
    if span.is_recording() {
        span.update_name(name());
    }
}

/// Lets in as many spans as may wait, and counts the others. The queue behind it has room for as
/// many, so that none is lost there unseen.
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
        if self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE {
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

/// Counts what becomes of the spans that are sent.
#[derive(Debug)]
struct CountingSpanExporter {
    sender: OtlpExporter,
    waiting: Arc<AtomicUsize>,
    outcomes: LabeledMetric<SpanOutcome, Counter>,
}

impl SpanExporter for CountingSpanExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let sent = self.sender.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.outcomes.with_label(if sent.is_ok() { SpanOutcome::Sent } else { SpanOutcome::Failed }).increment(count as u64);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.sender.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.sender.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.sender.set_resource(resource);
    }
}

/// The HTTP client that the commands have, too. It blocks, on the thread that does nothing but
/// send.
#[derive(Debug)]
struct OtlpHttpClient {
    agent: Agent,
    /// The collector did not take the last request: that is said once.
    failing: AtomicBool,
}

impl OtlpHttpClient {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.agent.run(request.map(|body| body.to_vec()))?;
        let (head, mut body) = answer.into_parts();
        let body = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }

    /// Tells when the collector begins to fail, and when it is well again.
    fn tell(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let fault = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("the collector answers {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        match (fault, self.failing.load(Ordering::Relaxed)) {
            (Some(fault), false) => tracing::warn!(fault, "the collector does not take spans; this is not said again until it does"),
            (None, true) => tracing::info!("the collector takes spans again"),
            (Some(_), true) | (None, false) => return,
        }
        self.failing.fetch_xor(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl HttpClient for OtlpHttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        self.tell(&answer);
        answer
    }
}
