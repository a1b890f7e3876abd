//! Reads a stream of NATS JetStream with a durable pull consumer.

use anyhow::{Context, bail};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::{self, Message};
use async_nats::{Client, ConnectOptions};
use clap::Args;
use futures_util::StreamExt;
use std::time::Duration;

use super::access_flags::{AccessFlags, Credentials, without_password};
use super::queue_message::QueueMessage;
use crate::cli::rejects::RowLocation;
use crate::settings::Period;

/// How long the server waits for a first message before it answers that there is none.
const FIRST_MESSAGE_WAIT: Duration = Duration::from_secs(1);
/// The longest time of one attempt to connect, and of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Flags of a stream of NATS JetStream.
#[derive(Debug, Clone, Args)]
pub(super) struct JetStreamFlags {
    /// Name of the durable consumer, which holds the position in the stream. Processes with the same
    /// name share the messages.
    #[arg(long, value_name = "NAME", default_value = "sequor")]
    durable: String,
    /// Read only messages of this subject, which can contain the wildcards `*` and `>`.
    #[arg(long, value_name = "SUBJECT")]
    filter: Option<String>,
    /// How long the server waits for an acknowledgement before it delivers a message again. After a
    /// kill, the messages of the last batch arrive again after this time.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    ack_wait: Period,
}

/// A stream, and the messages that are not acknowledged yet.
pub(super) struct JetStreamSource {
    client: Client,
    consumer: PullConsumer,
    /// Identifies the stream: a stream that was created again has other messages.
    stream_id: String,
    unacknowledged: Vec<Message>,
}

impl JetStreamSource {
    /// Connects to the server, and finds or creates the durable consumer.
    pub(super) async fn open(
        server: &str,
        stream: &str,
        flags: &JetStreamFlags,
        access: &AccessFlags,
    ) -> anyhow::Result<Self> {
        let client = connect_options(access)?.connect(server).await;
        let client = client.with_context(|| format!("cannot connect to {}", without_password(server)))?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(REQUEST_TIMEOUT);
        let found = context.get_stream(stream).await.with_context(|| format!("cannot open the stream {stream}"))?;
        let created_ms = found.cached_info().created.unix_timestamp_nanos() / 1_000_000;
        let filter = flags.filter.clone().unwrap_or_default();
        let config = pull::Config {
            durable_name: Some(flags.durable.clone()),
            description: Some("sequor consume".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: flags.ack_wait.get().context("invalid --ack-wait off: name a duration, such as 30s")?,
            filter_subject: filter.clone(),
            ..pull::Config::default()
        };
        let consumer: PullConsumer = found
            .get_or_create_consumer(&flags.durable, config)
            .await
            .with_context(|| format!("cannot create the consumer {} of the stream {stream}", flags.durable))?;
        let existing = &consumer.cached_info().config;
        if existing.filter_subject != filter {
            bail!(
                "the consumer {} exists with the filter `{}`, not `{filter}`; name another one with --durable",
                flags.durable,
                existing.filter_subject
            );
        }
        let stream_id = format!("nats/{stream}-{created_ms}");
        Ok(Self { client, consumer, stream_id, unacknowledged: Vec::new() })
    }

    /// Reads up to `limit` messages. If there are none, waits about a second for one.
    pub(super) async fn next_batch(&mut self, limit: usize) -> anyhow::Result<Vec<QueueMessage>> {
        let mut batch = self.consumer.fetch().max_messages(limit).messages().await?;
        let mut messages = Vec::new();
        while let Some(message) = batch.next().await {
            messages.push(self.accept(message.map_err(|error| anyhow::anyhow!(error))?)?);
        }
        if messages.is_empty() {
            let waiting = self.consumer.batch().max_messages(1).expires(FIRST_MESSAGE_WAIT).messages();
            let mut waiting = waiting.await?;
            while let Some(message) = waiting.next().await {
                messages.push(self.accept(message.map_err(|error| anyhow::anyhow!(error))?)?);
            }
        }
        Ok(messages)
    }

    fn accept(&mut self, message: Message) -> anyhow::Result<QueueMessage> {
        let info = message.info().map_err(|error| anyhow::anyhow!(error))?;
        let sequence = info.stream_sequence;
        let published_at = i64::try_from(info.published.unix_timestamp_nanos() / 1_000_000)?;
        let id = format!("{}/{sequence}", self.stream_id);
        let payload = message.payload.clone();
        self.unacknowledged.push(message);
        Ok(QueueMessage { location: RowLocation::Message(sequence), id, published_at, payload })
    }

    /// Acknowledges all messages that were read.
    pub(super) async fn acknowledge(&mut self) -> anyhow::Result<()> {
        if self.unacknowledged.is_empty() {
            return Ok(());
        }
        for message in &self.unacknowledged {
            message.ack().await.map_err(|error| anyhow::anyhow!(error))?;
        }
        self.client.flush().await?;
        self.unacknowledged.clear();
        Ok(())
    }

    /// The number of messages in the stream that are not acknowledged.
    pub(super) async fn lag(&self) -> anyhow::Result<u64> {
        let info = self.consumer.get_info().await?;
        Ok(info.num_pending + info.num_ack_pending as u64)
    }
}

fn connect_options(access: &AccessFlags) -> anyhow::Result<ConnectOptions> {
    let mut options = ConnectOptions::new()
        .name("sequor consume")
        .connection_timeout(REQUEST_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT));
    // The configuration reports what is wrong with the files.
    access.tls_config()?;
    if let Some(file) = &access.tls_ca {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((cert, key)) = access.identity() {
        options = options.add_client_certificate(cert.to_owned(), key.to_owned());
    }
    Ok(match access.read_credentials()? {
        Some(Credentials::Nats(text)) => options.credentials(&text).context("the NATS credentials are invalid")?,
        Some(Credentials::Password(user, password)) => options.user_and_password(user, password),
        None => options,
    })
}
