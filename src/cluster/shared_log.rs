//! The shared log: the ordered, replicated messages that all nodes of a cluster apply.

use crate::store::SharedLogPosition;
use bytes::Bytes;

/// A message that a node wants to append to the shared log.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The id of the message. The log stores one message per id, however often it is proposed
    /// within some minutes.
    pub id: String,
    /// The bytes.
    pub payload: Bytes,
}

/// A message of the shared log.
#[derive(Debug, Clone)]
pub struct LogRecord {
    /// The sequence number. The first message has number 1, and numbers are consecutive.
    pub sequence: u64,
    /// The id with which the message was proposed.
    pub id: String,
    /// The bytes.
    pub payload: Bytes,
}

/// Why the shared log did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The log cannot be reached, or has no majority. A retry may succeed.
    #[error("the cluster's log cannot be reached: {0}")]
    Unreachable(String),
    /// A message is larger than the log accepts.
    #[error("a message of {bytes} bytes is larger than the cluster's servers accept")]
    TooLarge {
        /// The length of the message.
        bytes: usize,
    },
    /// The log no longer contains a message that this node needs.
    #[error(
        "the cluster's log starts at message {first}, but this node needs message {wanted}: stop it, empty its data directory, run `sequor cluster join`, and start it again"
    )]
    Trimmed {
        /// The next message that the node needs.
        wanted: u64,
        /// The first message of the log.
        first: u64,
    },
    /// The log lacks a message between others.
    #[error(
        "the cluster's log lacks message {sequence}, but contains later ones: restore a backup of another node into the data directory of this node"
    )]
    Missing {
        /// The missing message.
        sequence: u64,
    },
    /// The log ends before a message that this node has applied, or contains another message there.
    #[error(
        "the cluster's log lacks message {applied}, which this node has applied: {found}. The servers have lost acknowledged messages; see \"A stream that lost messages\" in docs/cluster.md"
    )]
    Lost {
        /// The last message that the node has applied.
        applied: u64,
        /// What the log contains instead.
        found: String,
    },
}

/// An ordered, replicated log.
///
/// The embedded mode needs none: its committer writes requests directly to the journal.
pub trait SharedLog {
    /// The messages from one sequence number on.
    type Subscription: LogSubscription;

    /// Appends a message. Returns its sequence number once a majority of the servers has stored it.
    ///
    /// # Errors
    /// [`LogError`] if the log did not confirm the message. It may contain the message nevertheless.
    fn propose(&self, proposal: &Proposal) -> impl Future<Output = Result<u64, LogError>>;

    /// Checks that the log contains the message of `position`, and did not remove the next one.
    ///
    /// # Errors
    /// [`LogError::Lost`] if the log contains another message or none, [`LogError::Trimmed`] if the
    /// next one was removed.
    fn check_position(&self, position: &SharedLogPosition) -> impl Future<Output = Result<(), LogError>>;

    /// Reads the messages from `sequence` on, and then waits for new ones.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read.
    fn subscribe_from(&self, sequence: u64) -> impl Future<Output = Result<Self::Subscription, LogError>>;
}

/// Reads a [`SharedLog`] in the order of its messages.
pub trait LogSubscription {
    /// Waits for the next messages. Returns at least one and at most `limit` of them.
    ///
    /// # Errors
    /// [`LogError`] if the subscription has ended. Subscribe again after the last message.
    fn next_records(&mut self, limit: usize) -> impl Future<Output = Result<Vec<LogRecord>, LogError>>;
}
