//! Routes users to shards.

use actix::Addr;
use std::sync::Arc;

use crate::actors::error::RequestError;
use crate::actors::session_subscribers::SessionSubscribers;
use crate::actors::session_table::SessionTable;
use crate::actors::shard::{FlushSessions, ShardActor, shard_of_user};
use crate::registries::UserAliases;

/// The shard actors, addressed by user id.
#[derive(Clone)]
pub struct ShardRouter {
    pub(in crate::actors) shards: Arc<[Addr<ShardActor>]>,
    pub(in crate::actors) aliases: Arc<UserAliases>,
    pub(in crate::actors) subscribers: Arc<SessionSubscribers>,
    pub(in crate::actors) session_table: Arc<SessionTable>,
}

impl ShardRouter {
    /// The canonical id of a user, and the number and the address of its shard.
    pub(super) fn route(&self, user: String) -> Result<(String, usize, &Addr<ShardActor>), RequestError> {
        let user = self.canonical(&user).map_or(user, |canonical| (*canonical).to_owned());
        let number = shard_of_user(&user, self.shards.len());
        let shard = self.shards.get(number).ok_or(RequestError::ActorStopped("shard"))?;
        Ok((user, number, shard))
    }

    /// The id into which a user id was merged; `None` if it was not merged.
    pub(super) fn canonical(&self, user: &str) -> Option<Arc<str>> {
        self.aliases.resolve(user)
    }

    /// Stores every session that changed since its last write.
    pub(super) async fn flush(&self) -> Result<(), RequestError> {
        for shard in self.shards.iter() {
            shard
                .send(FlushSessions)
                .await
                .map_err(|_| RequestError::ActorStopped("shard"))?
                .map_err(RequestError::Store)?;
        }
        Ok(())
    }

    /// Ends all session subscriptions.
    pub(super) fn close_subscriptions(&self) {
        self.subscribers.close();
    }
}
