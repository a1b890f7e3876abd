//! Who hears when a session moves.

use tokio::sync::watch;

use super::System;
use crate::actors::error::SystemError;
use crate::actors::shard::{CloseSubscribers, Subscribe};
use crate::domain::Offset;

impl System {
    /// Follows a user's session: the offset before which it holds every entry, told anew each time
    /// that an event of the user has come to it. It is over when nothing is taken any more.
    ///
    /// # Errors
    /// [`SystemError::Draining`] if nothing is taken any more, [`SystemError::ActorStopped`] if the
    /// user's shard is.
    pub async fn subscribe(&self, user: String) -> Result<watch::Receiver<Offset>, SystemError> {
        if self.is_draining() {
            return Err(SystemError::Draining);
        }
        let (user, shard) = self.shard(user)?;
        shard.send(Subscribe { user }).await.map_err(|_| SystemError::ActorStopped("shard"))
    }

    /// Closes all subscriptions.
    pub(super) fn close_subscribers(&self) {
        self.shards.iter().for_each(|shard| shard.do_send(CloseSubscribers));
    }
}
