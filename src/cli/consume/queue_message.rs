//! A message of a queue.

use bytes::Bytes;

use crate::cli::rejects::RowLocation;
use crate::domain::Timestamp;

/// A message that was read and is not acknowledged yet.
#[derive(Debug, Clone)]
pub(super) struct QueueMessage {
    /// The position in the stream, for reports.
    pub(super) location: RowLocation,
    /// Identifies the message. The ids of events without one are derived from it.
    pub(super) id: String,
    /// When the message was published, in milliseconds since 1970.
    pub(super) published_at: Timestamp,
    pub(super) payload: Bytes,
}
