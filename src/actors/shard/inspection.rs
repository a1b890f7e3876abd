//! Read-only views of a shard's sessions.

use actix::{Handler, Message};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use super::ShardActor;
use crate::actors::session::{GetRecordForInspection, SessionRecordReply};

impl ShardActor {
    /// Sends the record of a live or stored session. The call starts no session actor, and does not
    /// prolong the session's stay in memory.
    fn send_session_view(&self, GetSessionView { user, reply }: GetSessionView) {
        match self.active_sessions.get(user.as_str()) {
            Some(active) => {
                let _ = active.actor.try_send(GetRecordForInspection { reply });
            }
            // The caller may have stopped waiting.
            None => drop(reply.send(self.context.store.sessions().get(&user).map_err(Arc::new))),
        }
    }

    /// Returns the most recently used live sessions whose user id starts with `prefix`, each with
    /// the time since its last use.
    fn live_sessions(&self, prefix: &str, limit: usize) -> Vec<(String, Duration)> {
        let matching = self.active_sessions.iter().filter(|(user, _)| user.starts_with(prefix));
        let mut list: Vec<_> =
            matching.map(|(user, active)| (self.tick.saturating_sub(active.session.last_tick()), user)).collect();
        if limit < list.len() {
            list.select_nth_unstable(limit);
            list.truncate(limit);
        }
        list.sort_unstable();
        list.into_iter()
            .map(|(ticks, user)| {
                (String::from(&**user), Self::TICK_INTERVAL * u32::try_from(ticks).unwrap_or(u32::MAX))
            })
            .collect()
    }
}

/// Requests the record of a user's session, for inspection.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GetSessionView {
    /// The user.
    pub user: String,
    /// Receives the record, or `None` if the user is unknown. If the session's mailbox is full, the
    /// sender is dropped without an answer.
    pub reply: oneshot::Sender<SessionRecordReply>,
}

impl Handler<GetSessionView> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: GetSessionView, _: &mut Self::Context) {
        self.run_and_recover(|shard| shard.send_session_view(message));
    }
}

/// Lists the most recently used live sessions, each with the time since its last use.
#[derive(Debug, Message)]
#[rtype(result = "Vec<(String, Duration)>")]
pub struct ListLiveSessions {
    /// The prefix that the user ids start with.
    pub prefix: String,
    /// The largest number of sessions to list.
    pub limit: usize,
}

impl Handler<ListLiveSessions> for ShardActor {
    type Result = Vec<(String, Duration)>;

    fn handle(&mut self, ListLiveSessions { prefix, limit }: ListLiveSessions, _: &mut Self::Context) -> Self::Result {
        self.live_sessions(&prefix, limit)
    }
}
