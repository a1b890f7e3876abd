//! Results of trainings, which one node publishes for the others.
//!
//! They are in a stream in the memory of one server, for a minute. If a result is lost, the other
//! nodes train themselves.
//! Each message has the subject `sequor.NAME.training.LOG.BOUNDARY.PART`, with a hash
//! of the identity of the cluster's log.
//!
//! ```text
//! message = parts: u32 ‖ digest of the result: [u8; 16] ‖ part of the result
//! ```

use super::config::NodeConfig;
use super::shared_log::LogError;
use crate::clock::Clock;
use crate::store::log_digest;
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config, DirectGetErrorKind, DiscardPolicy, StorageType, Stream};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc;

/// The time for which a result is kept.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Largest total length of the kept results, in bytes. The server reserves this memory.
const MAX_BYTES: i64 = 48 << 20;
/// The pause between two looks for a result.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Length of the head of a message, in bytes.
const HEAD_BYTES: usize = 20;
/// Space in a message for its head and its subject, in bytes.
const RESERVED_BYTES: usize = 1024;
/// Largest number of parts of a result.
const MAX_PARTS: u32 = 1024;
/// Number of requests that wait for this module.
const MAX_WAITING_REQUESTS: usize = 4;

/// A request of the trainer of this node.
#[derive(Debug)]
enum TrainingRequest {
    /// Publishes the result of the training that began at a boundary.
    Publish { boundary: u64, result: Vec<u8> },
    /// Waits for a result.
    Fetch { boundary: u64, longest: Duration, reply: std::sync::mpsc::SyncSender<Option<Vec<u8>>> },
}

/// Publishes and fetches results of trainings. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TrainingResults {
    requests: mpsc::Sender<TrainingRequest>,
}

/// The receiver of the requests.
pub(super) struct TrainingRequests(mpsc::Receiver<TrainingRequest>);

impl TrainingResults {
    pub(super) fn new() -> (Self, TrainingRequests) {
        let (requests, receiver) = mpsc::channel(MAX_WAITING_REQUESTS);
        (Self { requests }, TrainingRequests(receiver))
    }

    /// Publishes the result of the training that began at a boundary. If that is not possible, the
    /// other nodes train themselves.
    pub fn publish(&self, boundary: u64, result: Vec<u8>) {
        let _ = self.requests.try_send(TrainingRequest::Publish { boundary, result });
    }

    /// The result of the training that began at a boundary; `None` if no node publishes it within
    /// `longest`. Blocks the thread.
    #[must_use]
    pub fn fetch(&self, boundary: u64, longest: Duration) -> Option<Vec<u8>> {
        /// The longest time of one question to the servers.
        const ANSWER_TIME: Duration = Duration::from_secs(3);
        let (reply, result) = std::sync::mpsc::sync_channel(1);
        self.requests.try_send(TrainingRequest::Fetch { boundary, longest, reply }).ok()?;
        result.recv_timeout(longest.saturating_add(ANSWER_TIME)).ok()?
    }
}

/// The stream of the results.
struct ResultStream<'c> {
    context: &'c Context,
    stream: Stream<()>,
    prefix: String,
}

fn unreachable(error: &dyn std::error::Error) -> LogError {
    LogError::Unreachable(error.to_string())
}

/// Serves the requests of the trainer until it is gone.
pub(super) async fn serve_training_results(
    context: &Context,
    config: &NodeConfig,
    log_id: &str,
    requests: TrainingRequests,
) {
    let TrainingRequests(mut requests) = requests;
    let mut opened = ResultStream::open(context, config, log_id).await;
    if let Err(error) = &opened {
        tracing::warn!(%error, "the stream of the results of trainings cannot be opened; every node trains itself until it can");
    }
    while let Some(request) = requests.recv().await {
        if opened.is_err() {
            opened = ResultStream::open(context, config, log_id).await;
        }
        let stream = opened.as_ref().ok();
        match (request, stream) {
            (TrainingRequest::Publish { boundary, result }, Some(stream)) => {
                if let Err(error) = stream.publish(boundary, &result).await {
                    tracing::debug!(boundary, %error, "the result of a training was not published");
                }
            }
            (TrainingRequest::Publish { .. }, None) => {}
            (TrainingRequest::Fetch { boundary, longest, reply }, Some(stream)) => {
                let _ = reply.send(stream.wait_for(boundary, longest).await);
            }
            (TrainingRequest::Fetch { reply, .. }, None) => drop(reply.send(None)),
        }
    }
    // The trainer may stop before the node.
    std::future::pending::<()>().await;
}

impl<'c> ResultStream<'c> {
    /// Opens the stream. Creates it if it does not exist.
    async fn open(context: &'c Context, config: &NodeConfig, log_id: &str) -> Result<Self, LogError> {
        let all = config.training_prefix();
        let prefix = format!("{all}.{:08x}", crc32fast::hash(log_id.as_bytes()));
        let settings = Config {
            name: config.training_stream(),
            description: Some("results of trainings of a Sequor cluster".to_owned()),
            subjects: vec![format!("{all}.>")],
            discard: DiscardPolicy::Old,
            storage: StorageType::Memory,
            num_replicas: 1,
            max_age: KEPT_FOR,
            max_bytes: MAX_BYTES,
            allow_direct: true,
            ..Config::default()
        };
        context.get_or_create_stream(settings).await.map_err(|error| unreachable(&error))?;
        let stream = context.get_stream_no_info(config.training_stream()).await;
        Ok(Self { context, stream: stream.map_err(|error| unreachable(&error))?, prefix })
    }

    /// Publishes a result in parts, without waiting for a confirmation.
    async fn publish(&self, boundary: u64, result: &[u8]) -> Result<(), LogError> {
        let client = self.context.client();
        let largest = client.max_payload().saturating_sub(RESERVED_BYTES).max(1);
        let parts: Vec<_> = result.chunks(largest).collect();
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let digest = log_digest(result);
        for (number, part) in parts.into_iter().enumerate() {
            let message = [&count.to_le_bytes()[..], &digest, part].concat();
            let subject = format!("{}.{boundary}.{number}", self.prefix);
            client.publish(subject, message.into()).await.map_err(|error| unreachable(&error))?;
        }
        client.flush().await.map_err(|error| unreachable(&error))
    }

    /// The result, once it is complete; `None` if that takes longer than `longest`.
    async fn wait_for(&self, boundary: u64, longest: Duration) -> Option<Vec<u8>> {
        let (clock, mut result, mut digest) = (Clock::system(), Vec::new(), None);
        let (began, mut number, mut parts) = (clock.elapsed(), 0, 1);
        while number < parts {
            match self.part(boundary, number).await {
                Some(message) => {
                    let (head, part) = message.split_first_chunk::<HEAD_BYTES>()?;
                    let (count, of_result) = head.split_first_chunk::<4>()?;
                    (parts, digest) = (u32::from_le_bytes(*count).min(MAX_PARTS), Some(of_result.to_vec()));
                    result.extend_from_slice(part);
                    number += 1;
                }
                None if clock.elapsed().saturating_sub(began) < longest => tokio::time::sleep(POLL_INTERVAL).await,
                None => return None,
            }
        }
        (digest? == log_digest(&result)).then_some(result)
    }

    async fn part(&self, boundary: u64, number: u32) -> Option<Bytes> {
        let subject = format!("{}.{boundary}.{number}", self.prefix);
        match self.stream.direct_get_last_for_subject(subject).await {
            Ok(message) => Some(message.payload),
            Err(error) => {
                if error.kind() != DirectGetErrorKind::NotFound {
                    tracing::debug!(%error, "the result of a training cannot be read");
                }
                None
            }
        }
    }
}
