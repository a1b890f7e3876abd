//! What a shard shows of its sessions to who only looks.

use actix::{Handler, Message};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

use super::ShardActor;
use crate::actors::session::{GetRecord, SessionView};

impl ShardActor {
    /// Hands out what a session holds, whether it is at work or stored. Nothing is begun for it,
    /// and nobody counts as used by it.
    fn show(&self, GetSessionView { user, reply }: GetSessionView) {
        match self.active_sessions.get(&user) {
            Some(active) => {
                let _ = active.actor.try_send(GetRecord { reply });
            }
            // The asker may have gone meanwhile.
            None => drop(reply.send(self.context.store.sessions().get(&user).map_err(Arc::new))),
        }
    }

    /// Of the sessions at work whose user's id begins so, those used last, and how many ticks ago
    /// that was.
    fn live(&self, prefix: &str, limit: usize) -> Vec<(String, Duration)> {
        let matching = self.active_sessions.iter().filter(|(user, _)| user.starts_with(prefix));
        let mut list: Vec<_> = matching.map(|(user, active)| (self.tick.saturating_sub(active.last_tick), user)).collect();
        if limit < list.len() {
            list.select_nth_unstable(limit);
            list.truncate(limit);
        }
        list.sort_unstable();
        list.into_iter().map(|(ticks, user)| (user.clone(), Self::TICK * u32::try_from(ticks).unwrap_or(u32::MAX))).collect()
    }
}

/// Asks for what is known of a user's session, to be looked at.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GetSessionView {
    /// Whose.
    pub user: String,
    /// Told the record, `None` if there is none; dropped if there is no room for the question.
    pub reply: oneshot::Sender<SessionView>,
}

impl Handler<GetSessionView> for ShardActor {
    type Result = ();

    fn handle(&mut self, show: GetSessionView, _: &mut Self::Context) {
        self.guarded(|shard| shard.show(show));
    }
}

/// Asks who is at work.
#[derive(Debug, Message)]
#[rtype(result = "Vec<(String, Duration)>")]
pub struct ListLiveSessions {
    /// With what their ids begin.
    pub prefix: String,
    /// The most that are wanted: those used last.
    pub limit: usize,
}

impl Handler<ListLiveSessions> for ShardActor {
    type Result = Vec<(String, Duration)>;

    fn handle(&mut self, ListLiveSessions { prefix, limit }: ListLiveSessions, _: &mut Self::Context) -> Self::Result {
        self.live(&prefix, limit)
    }
}
