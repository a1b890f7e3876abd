//! What the snapshots need of the stream.

use super::{connection, is_stream_missing, stream_setup, unreachable};
use crate::cluster::config::NodeConfig;
use crate::cluster::error::JoinError;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Context};

/// A connection to the servers, and the stream.
#[derive(Debug)]
pub(in crate::cluster) struct SnapshotAccess {
    context: Context,
    stream: Stream,
    id: String,
}

impl SnapshotAccess {
    /// Connects to the servers and finds the stream.
    ///
    /// # Errors
    /// [`JoinError::NoStream`] if it does not exist, or another [`JoinError`] if the servers cannot
    /// be used.
    pub(in crate::cluster) async fn open(config: &NodeConfig) -> Result<Self, JoinError> {
        let context = jetstream::new(connection::connect(config).await?);
        let stream = match context.get_stream(config.stream()).await {
            Ok(stream) => stream,
            Err(error) if is_stream_missing(&error) => {
                return Err(JoinError::NoStream { stream: config.stream() });
            }
            Err(error) => return Err(unreachable(&error).into()),
        };
        let id = stream_setup::stream_id(stream.cached_info());
        Ok(Self { context, stream, id })
    }

    pub(in crate::cluster) fn context(&self) -> &Context {
        &self.context
    }

    /// The identity of the stream.
    pub(in crate::cluster) fn stream_id(&self) -> &str {
        &self.id
    }

    /// Removes the messages up to message `sequence`. Returns their number, and the number of the
    /// first remaining message, or of the next one if none remains.
    pub(in crate::cluster) async fn remove_messages_through(&self, sequence: u64) -> Result<(u64, u64), JoinError> {
        let removed = match sequence {
            0 => 0,
            // The purge keeps the message with the given number.
            _ => self.stream.purge().sequence(sequence + 1).await.map_err(|error| unreachable(&error))?.purged,
        };
        let info = self.stream.get_info().await.map_err(|error| unreachable(&error))?;
        Ok((removed, info.state.first_sequence))
    }
}
