//! Reads a stream in the order of its messages.

use super::unreachable;
use crate::cluster::shared_log::{LogError, LogRecord, LogSubscription};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{Context, Message};
use futures_util::{FutureExt, StreamExt};
use std::time::Duration;

/// Number of messages that the server sends ahead.
const MESSAGES_AHEAD: usize = 64;
/// The time between two signs of life of an idle server.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// The time after which an idle request for messages is repeated.
const REQUEST_EXPIRY: Duration = Duration::from_secs(30);
/// The time after which the servers remove the consumer of a node that is gone.
const CONSUMER_EXPIRY: Duration = Duration::from_secs(30);

/// The messages of a stream from one sequence number on.
pub struct JetStreamSubscription {
    messages: pull::Stream,
    /// The sequence number of the next message.
    next: u64,
}

impl JetStreamSubscription {
    /// Reads the stream from `sequence` on, with a consumer of its own.
    pub(super) async fn open(context: &Context, stream: &str, sequence: u64) -> Result<Self, LogError> {
        let config = pull::Config {
            description: Some("a node of a Sequor cluster".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: sequence },
            ack_policy: AckPolicy::None,
            inactive_threshold: CONSUMER_EXPIRY,
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = context.create_consumer_on_stream(config, stream).await.map_err(|error| unreachable(&error))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(MESSAGES_AHEAD)
            .heartbeat(HEARTBEAT)
            .expires(REQUEST_EXPIRY)
            .messages()
            .await
            .map_err(|error| unreachable(&error))?;
        Ok(Self { messages, next: sequence })
    }

    fn take(&mut self, message: Message) -> Result<LogRecord, LogError> {
        let sequence = message.info().map_err(|error| LogError::Unreachable(error.to_string()))?.stream_sequence;
        if sequence != self.next {
            // The next subscription finds out whether the stream lacks messages.
            let reason = format!("message {} was expected, and message {sequence} came", self.next);
            return Err(LogError::Unreachable(reason));
        }
        self.next += 1;
        let headers = message.headers.as_ref();
        let id = headers.and_then(|headers| headers.get(async_nats::header::NATS_MESSAGE_ID));
        let id = id.map(|id| id.as_str().to_owned()).unwrap_or_default();
        Ok(LogRecord { sequence, id, payload: message.message.payload })
    }
}

impl LogSubscription for JetStreamSubscription {
    async fn next_records(&mut self, limit: usize) -> Result<Vec<LogRecord>, LogError> {
        let mut records = Vec::new();
        while records.len() < limit {
            // Waits for the first message only.
            let next = if records.is_empty() {
                self.messages.next().await
            } else {
                match self.messages.next().now_or_never() {
                    Some(next) => next,
                    None => break,
                }
            };
            match next {
                Some(Ok(message)) => records.push(self.take(message)?),
                Some(Err(error)) if records.is_empty() => return Err(unreachable(&error)),
                None if records.is_empty() => return Err(LogError::Unreachable("the subscription ended".to_owned())),
                // The next call returns the error again, or the next subscription does.
                Some(Err(_)) | None => break,
            }
        }
        Ok(records)
    }
}
