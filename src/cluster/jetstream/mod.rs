//! The shared log as a stream of NATS JetStream.
//!
//! - [`connection`]: connects to the servers.
//! - [`stream_setup`]: creates the stream, and checks it against the settings.
//! - [`sync_check`]: whether the servers sync before they acknowledge.
//! - [`subscription`]: reads the stream.
//! - [`snapshot_access`]: what the snapshots need of the stream.

mod connection;
mod snapshot_access;
mod stream_setup;
mod subscription;
mod sync_check;

pub(super) use connection::describe;
pub(super) use snapshot_access::SnapshotAccess;
pub use stream_setup::{LogStart, StreamIdentity};

use super::config::NodeConfig;
use super::error::JoinError;
use super::marker::stream_of_data_dir;
use super::shared_log::{LogError, Proposal, SharedLog};
use crate::store::SharedLogPosition;
use async_nats::HeaderMap;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{self, Context, ErrorCode};
use bytes::Bytes;
use std::time::Duration;
use subscription::JetStreamSubscription;

/// The longest wait for the acknowledgement of a message.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// The header with the version of a message's form.
const VERSION_HEADER: &str = "Sequor-Message-Version";
/// Number of checks of the stream at the start, and the pause between two of them.
const START_ATTEMPTS: u32 = 6;
const START_PAUSE: Duration = Duration::from_secs(1);
/// Space in a message for its headers, in bytes.
const HEADER_BYTES: usize = 1024;

/// A stream of NATS JetStream.
#[derive(Debug, Clone)]
pub struct JetStreamLog {
    context: Context,
    stream: String,
    subject: String,
    identity: StreamIdentity,
}

impl JetStreamLog {
    /// Connects to the servers, creates the stream if it does not exist, and checks servers and
    /// stream. `start` is the state of the journal.
    ///
    /// # Errors
    /// [`JoinError`] if the servers cannot be used, or if the stream does not fit the settings or
    /// the journal.
    pub async fn open(config: &NodeConfig, start: &LogStart) -> Result<Self, JoinError> {
        let client = connection::connect(config).await?;
        let mut context = jetstream::new(client);
        context.set_timeout(ACK_TIMEOUT);
        if config.requires_sync {
            sync_check::check_servers_sync(config.monitors.clone()).await?;
        }
        let identity = stream_setup::open_stream(&context, config, start).await?;
        let log = Self { context, stream: config.stream(), subject: config.subject(), identity };
        log.check_position_at_start(&start.position.unwrap_or_default()).await?;
        Ok(log)
    }

    /// Like [`SharedLog::check_position`], but tries again for some seconds. While the servers elect
    /// a leader, they may not answer, or answer with an earlier state of the stream.
    async fn check_position_at_start(&self, position: &SharedLogPosition) -> Result<(), LogError> {
        for _ in 1..START_ATTEMPTS {
            match self.check_position(position).await {
                Err(LogError::Unreachable(_) | LogError::Lost { .. }) => tokio::time::sleep(START_PAUSE).await,
                checked => return checked,
            }
        }
        self.check_position(position).await
    }

    /// Removes the stream that the journal follows, if it lacks messages that the journal contains.
    /// Does nothing if the stream is gone, or if a new one starts with this journal.
    ///
    /// # Errors
    /// [`JoinError::NothingLost`] if the stream lacks none, [`JoinError::OtherJournal`] if a new stream
    /// starts with another journal, or another [`JoinError`] if the servers cannot be used.
    pub async fn remove_lossy_stream(config: &NodeConfig, start: &LogStart) -> Result<(), JoinError> {
        let context = jetstream::new(connection::connect(config).await?);
        let info = match context.get_stream(config.stream()).await {
            Ok(stream) => stream.cached_info().clone(),
            Err(error) if is_stream_missing(&error) => return Ok(()),
            Err(error) => return Err(unreachable(&error).into()),
        };
        let (id, position) = (stream_setup::stream_id(&info), start.position.unwrap_or_default());
        let identity = StreamIdentity { id, origin_key: start.origin_key };
        if stream_of_data_dir(&start.dir)?.is_some_and(|followed| followed != identity.id) {
            return stream_setup::check_new_stream(&info, config, start);
        }
        let log = Self { context, stream: config.stream(), subject: config.subject(), identity };
        match log.check_position(&position).await {
            Err(LogError::Lost { .. }) => {
                log.context.delete_stream(&log.stream).await.map_err(|error| unreachable(&error))?;
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(()) => Err(JoinError::NothingLost { stream: log.stream, sequence: position.sequence }),
        }
    }

    /// Connects to any of the servers anew.
    pub(super) async fn reconnect(&self) {
        // A client that has stopped cannot reconnect.
        let _ = self.context.client().force_reconnect().await;
    }

    /// The client of the servers' JetStream.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// The identity of the stream.
    #[must_use]
    pub fn identity(&self) -> &StreamIdentity {
        &self.identity
    }

    /// Largest length of a message, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.context.client().max_payload().saturating_sub(HEADER_BYTES)
    }

    /// The sequence numbers of the first and the last message of the stream.
    ///
    /// # Errors
    /// [`LogError::Unreachable`] if the servers have no leader for the stream.
    pub async fn bounds(&self) -> Result<(u64, u64), LogError> {
        let stream = self.context.get_stream(&self.stream).await.map_err(|error| unreachable(&error))?;
        let state = &stream.cached_info().state;
        Ok((state.first_sequence, state.last_sequence))
    }

    /// The bytes of the message with this number; `None` if the stream lacks it.
    async fn stored_message(&self, sequence: u64) -> Result<Option<Bytes>, LogError> {
        let stream = self.context.get_stream_no_info(&self.stream).await.map_err(|error| unreachable(&error))?;
        match stream.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unreachable(&error)),
        }
    }
}

/// Whether the error says that the stream does not exist.
fn is_stream_missing(error: &GetStreamError) -> bool {
    let GetStreamErrorKind::JetStream(reply) = error.kind() else { return false };
    reply.error_code() == ErrorCode::STREAM_NOT_FOUND
}

fn unreachable(error: &dyn std::error::Error) -> LogError {
    LogError::Unreachable(describe(error))
}

impl SharedLog for JetStreamLog {
    type Subscription = JetStreamSubscription;

    async fn propose(&self, proposal: &Proposal) -> Result<u64, LogError> {
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, proposal.id.as_str());
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, self.stream.as_str());
        // The first byte of a message is its version.
        let version = proposal.payload.first().copied().unwrap_or_default();
        headers.insert(VERSION_HEADER, version.to_string().as_str());
        let publish = async {
            self.context.publish_with_headers(self.subject.clone(), headers, proposal.payload.clone()).await?.await
        };
        match publish.await {
            Ok(acknowledged) => Ok(acknowledged.sequence),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(LogError::TooLarge { bytes: proposal.payload.len() })
            }
            Err(error) => Err(unreachable(&error)),
        }
    }

    async fn check_position(&self, position: &SharedLogPosition) -> Result<(), LogError> {
        let (first, last) = self.bounds().await?;
        let applied = position.sequence;
        if last < applied {
            return Err(LogError::Lost { applied, found: format!("its last message is {last}") });
        }
        if applied + 1 < first {
            return Err(LogError::Trimmed { wanted: applied + 1, first });
        }
        if applied == 0 || applied < first {
            return Ok(());
        }
        let stored = self.stored_message(applied).await?;
        if stored.is_some_and(|payload| crate::store::log_digest(&payload) == position.digest) {
            Ok(())
        } else {
            Err(LogError::Lost { applied, found: "it contains another message with this number, or none".to_owned() })
        }
    }

    async fn subscribe_from(&self, sequence: u64) -> Result<JetStreamSubscription, LogError> {
        let (first, last) = self.bounds().await?;
        if sequence < first {
            return Err(LogError::Trimmed { wanted: sequence, first });
        }
        if last + 1 < sequence {
            return Err(LogError::Lost { applied: sequence - 1, found: format!("its last message is {last}") });
        }
        if sequence <= last && self.stored_message(sequence).await?.is_none() {
            return Err(LogError::Missing { sequence });
        }
        JetStreamSubscription::open(&self.context, &self.stream, sequence).await
    }
}
