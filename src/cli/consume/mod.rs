//! `sequor consume`: sends the messages of a stream to a daemon as events, each message once.

mod access_flags;
mod background;
mod consume_metrics;
mod jetstream_source;
mod kafka_client;
mod kafka_source;
mod message_sender;
mod queue_message;
mod queue_source;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use access_flags::AccessFlags;
use background::BackgroundLoop;
use consume_metrics::ConsumeMetrics;
use jetstream_source::JetStreamFlags;
use kafka_source::KafkaFlags;
use message_sender::{ConsumedFormat, MessageSender};
use queue_source::{QueueSource, SourceAddress, SourceSettings};

use super::client_auth::ClientAuth;
use super::error_text::describe_error;
use super::event_sender::{EventSender, RetryFlags};
use super::file_flags::FileFlags;
use super::flags::{self, SettingFlags};
use super::import::preset_parser;
use super::rejects::{RejectFlags, RejectReport};
use crate::ingest::{MessageFormat, Preset};

/// Time between two lines about the progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Pause after a failed request to the queue.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The longest time for an answer of the queue. A batch has up to 16 MiB.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Largest size of the file of rejected messages.
const MAX_FAULTS_BYTES: u64 = 64 * 1024 * 1024;

/// Arguments of `sequor consume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Each message counts once: the id of an event without one consists of the position of the message in its stream. A message is acknowledged after the daemon \
    has acknowledged its events. For Kafka, the progress file holds the positions. After a crash, the messages that were not acknowledged are delivered again, and the daemon recognises their ids.\n\n\
    A rejected message is reported, counted and acknowledged. If the daemon or the queue does not answer, the command waits and retries (--give-up-after).\n\n\
    Exit codes: 0, the command was interrupted, or all messages were consumed (--once); 2, some messages were rejected and all others sent (or the command line is invalid); 1, the command failed.\n\nExamples:\n  \
    sequor consume nats://127.0.0.1:4222/EVENTS\n  \
    sequor consume nats://127.0.0.1:4222/CLICKS --map user=uid,item=sku,time=at --type click --filter 'shop.clicks.>'\n  \
    sequor consume nats://127.0.0.1:4222/TRACKING --format segment --metrics-addr 127.0.0.1:9464\n  \
    sequor consume kafka://127.0.0.1:9092/shop-events --state /var/lib/sequor/shop-events.consume\n  \
    sequor consume kafka+tls://broker.example.com:9093/shop-events --credentials /etc/sequor/kafka --sasl scram-sha-512"
)]
pub(super) struct Consume {
    /// Stream to read: nats://HOST:PORT/STREAM or kafka://HOST:PORT/TOPIC; with TLS,
    /// tls://HOST:PORT/STREAM or kafka+tls://HOST:PORT/TOPIC. Several brokers are separated by commas.
    #[arg(value_name = "SOURCE")]
    source: String,
    /// URL of the API of the running daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    jetstream: JetStreamFlags,
    #[command(flatten)]
    kafka: KafkaFlags,
    /// Format of a message.
    #[arg(long, value_name = "FORMAT", default_value = "event", conflicts_with = "preset")]
    format: MessageKind,
    /// Format of an analytics tool, such as ga4; see `sequor import --help`. A message is one record.
    #[arg(long, value_name = "NAME", value_parser = preset_parser())]
    preset: Option<Preset>,
    #[command(flatten)]
    fields: FileFlags,
    /// Maximum messages per request, at most the server.max_batch of the daemon.
    #[arg(long, value_name = "MESSAGES", default_value_t = 500, value_parser = clap::builder::RangedU64ValueParser::<u64>::new().range(1..=10_000))]
    batch: u64,
    /// Exit when no message is left.
    #[arg(long)]
    once: bool,
    /// Serve metrics for Prometheus at this address, such as 127.0.0.1:9464.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_addr: Option<SocketAddr>,
    #[command(flatten)]
    reject_flags: RejectFlags,
    /// Custom kinds ([events.kinds]) come from these settings and from the daemon.
    #[command(flatten)]
    flags: SettingFlags,
}

/// Format of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MessageKind {
    /// A JSON object: an event of Sequor, or an object whose fields --map names.
    Event,
    /// A JSON object: a call of Segment's API with its `type`.
    Segment,
}

impl Consume {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let address = SourceAddress::parse(&self.source)?;
        let format = self.consumed_format()?;
        let mut rules = flags::client_validation_rules(self.flags.settings_layers(&[], &[])?.validated_settings()?);
        let sender = EventSender::new(&self.url, &self.auth, self.retry)?;
        sender.ingest_info()?.iter().for_each(|info| info.add_kinds(&mut rules.kinds));
        let progress = self.kafka.progress_file(address.name());
        self.reject_flags.ensure_not_read(self.access.files().chain([progress.path()]))?;
        let rejects = RejectReport::with_bounded_file(&self.reject_flags, MAX_FAULTS_BYTES)?;
        let metrics = Arc::new(ConsumeMetrics::default());
        let answer_limit = self.retry.limited(ANSWER_LIMIT);
        let background = BackgroundLoop::start(self.metrics_addr, Arc::clone(&metrics), answer_limit)?;
        let batch = usize::try_from(self.batch)?;
        let messages =
            MessageSender::new(sender, format, rules, rejects, Arc::clone(&metrics), address.name().to_owned(), batch);
        let settings =
            SourceSettings { address, access: self.access, jetstream: self.jetstream, kafka: self.kafka, answer_limit };
        let source = Some(background.ask(settings.open())?);
        let (once, give_up_after) = (self.once, self.retry);
        ConsumeLoop { background, settings, source, messages, metrics, batch, once, give_up_after }.run()
    }

    /// The format of the messages.
    fn consumed_format(&self) -> anyhow::Result<ConsumedFormat> {
        if let Some(preset) = self.preset {
            let name = preset.name();
            ensure!(!preset.is_catalog(), "--preset {name} is a catalog; a message is an event");
            return Ok(ConsumedFormat::Events(MessageFormat::Preset(self.fields.event_preset(preset)?)));
        }
        if self.format == MessageKind::Segment {
            self.fields.ensure_unused("--format segment, which determines the fields")?;
            return Ok(ConsumedFormat::Segment);
        }
        self.fields.ensure_no_table_flags("messages, which are JSON")?;
        Ok(ConsumedFormat::Events(MessageFormat::Events(Box::new(self.fields.event_mapping()?))))
    }
}

/// A running consumption.
struct ConsumeLoop {
    background: BackgroundLoop,
    settings: SourceSettings,
    /// `None` after a failure: the next attempt connects again.
    source: Option<QueueSource>,
    messages: MessageSender,
    metrics: Arc<ConsumeMetrics>,
    batch: usize,
    once: bool,
    give_up_after: RetryFlags,
}

impl ConsumeLoop {
    fn run(mut self) -> anyhow::Result<()> {
        let (mut failing_since, mut reported_at) = (None::<Instant>, Instant::now());
        while !self.background.is_stopping() {
            match self.consume_batch() {
                Ok(0) if self.once && self.metrics.lag.load(Ordering::Relaxed) == 0 => break,
                Ok(_) => failing_since = None,
                Err(BatchError::Queue(error)) => {
                    let since = *failing_since.get_or_insert_with(|| {
                        eprintln!("reading failed: {}; retrying", describe_error(&error));
                        Instant::now()
                    });
                    if self.give_up_after.is_exceeded_by(since.elapsed()) {
                        return Err(error.context("gave up (--give-up-after)"));
                    }
                    self.source = None;
                    std::thread::sleep(RETRY_PAUSE);
                }
                Err(BatchError::Daemon(error)) => return Err(error),
            }
            if reported_at.elapsed() >= REPORT_INTERVAL {
                reported_at = Instant::now();
                self.report_progress()?;
            }
        }
        self.finish()
    }

    /// Reads a batch, sends its events, and acknowledges it. Returns the number of messages.
    fn consume_batch(&mut self) -> Result<usize, BatchError> {
        let Self { background, settings, source, messages, metrics, .. } = self;
        let source = match source {
            Some(source) => source,
            None => source.insert(background.ask(settings.open()).map_err(BatchError::Queue)?),
        };
        let batch = background.ask(source.next_batch(self.batch)).map_err(BatchError::Queue)?;
        if !batch.is_empty() {
            messages.send(&batch).map_err(BatchError::Daemon)?;
        }
        // Records of Kafka without a value are left out of the batch, and acknowledged, too.
        background.ask(source.acknowledge()).map_err(BatchError::Queue)?;
        metrics.messages.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let lag = background.ask(source.lag()).map_err(BatchError::Queue)?;
        metrics.lag.store(lag, Ordering::Relaxed);
        Ok(batch.len())
    }

    fn report_progress(&mut self) -> anyhow::Result<()> {
        let (messages, lag) = (self.metrics.messages.load(Ordering::Relaxed), self.metrics.lag.load(Ordering::Relaxed));
        eprintln!("{messages} messages consumed; lag: {lag} messages");
        self.messages.flush_rejects()
    }

    fn finish(self) -> anyhow::Result<()> {
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        for (label, count) in [("messages", read(&self.metrics.messages)), ("lag", read(&self.metrics.lag))] {
            writeln!(stdout(), "  {label:<30}{count:>12}")?;
        }
        for (outcome, count) in self.metrics.event_counts() {
            let label = format!("events: {outcome}");
            writeln!(stdout(), "  {label:<30}{count:>12}")?;
        }
        self.messages.finish().context("some messages were rejected")
    }
}

/// Why a batch was not consumed.
enum BatchError {
    /// The queue does not answer.
    Queue(anyhow::Error),
    /// The daemon refuses the events, or does not answer.
    Daemon(anyhow::Error),
}
