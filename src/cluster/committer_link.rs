//! The connection between the thread of the cluster and the committer of the node.

use super::shared_log::LogError;
use crate::domain::Offset;
use crate::store::{LogDigest, LogMessage, SharedLogPosition};
use tokio::sync::oneshot;

/// A message of the shared log, decoded.
#[derive(Debug)]
pub struct DecodedMessage {
    /// The id with which the message was proposed.
    pub id: String,
    /// The message.
    pub message: LogMessage,
}

/// What became of messages that the committer should apply.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// The running hash after each applied message.
    pub chain: Vec<(u64, LogDigest)>,
    /// The position of the journal.
    pub position: SharedLogPosition,
    /// The offset after the last entry of the journal.
    pub offset: Offset,
    /// Whether a message could not be applied. The messages after it were not applied either.
    pub has_failed: bool,
}

/// The committer of this node, as the thread of the cluster sees it.
pub trait CommitterLink: Send {
    /// Applies messages, which follow the last applied one, and makes them durable.
    fn apply(&self, messages: Vec<DecodedMessage>) -> oneshot::Receiver<ApplyReport>;

    /// Tells what became of a proposed message.
    fn settle_proposal(&self, id: String, outcome: Result<u64, LogError>);
}
