//! Stores a shard's changed sessions.

use actix::{ActorFutureExt, Handler, Message, ResponseActFuture, WrapFuture};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::sync::Arc;

use super::ShardActor;
use crate::actors::session::{GetRecordToStore, StopSession};
use crate::store::StoreError;

impl ShardActor {
    /// Stores every changed session in one batch. Returns the users of these sessions, for
    /// [`ShardActor::finish_flush`], and the number of session actors that have died. If an actor
    /// has died, the flush does not advance the flush progress.
    pub(super) fn flush_changed_sessions(
        &mut self,
    ) -> impl Future<Output = (Vec<Arc<str>>, Result<usize, StoreError>)> + use<> {
        self.delivered = self.context.session_table.delivered_through(self.context.number.0, self.delivered);
        let ready = self.recover_after_reopening();
        let (mut saves, mut users) = (Vec::new(), Vec::new());
        for (user, active) in self.active_sessions.iter_mut().filter(|_| ready.is_ok()) {
            if std::mem::take(&mut active.is_dirty) {
                active.is_saving = true;
                saves.push((Arc::clone(user), active.actor.send(GetRecordToStore)));
                users.push(Arc::clone(user));
            }
        }
        let generation = self.store_generation;
        let (store, flush_progress, shard, delivered) = (
            self.context.store.clone(),
            Arc::clone(&self.context.flush_progress),
            self.context.number.0,
            self.delivered,
        );
        let write = async move {
            ready?;
            let requested = saves.len();
            let records = join_all(
                saves.into_iter().map(|(user, save)| async move { save.await.ok().map(|record| (user, record)) }),
            );
            let records: Vec<_> = records.await.into_iter().flatten().collect();
            let gone = requested - records.len();
            let through = if gone == 0 {
                flush_progress.min_if_shard_at(shard, delivered)
            } else {
                store.sessions().watermark()?
            };
            store.sessions().put_if_generation(
                generation,
                records.iter().map(|(user, record)| (&**user, record)),
                through,
            )?;
            if gone == 0 {
                flush_progress.raise_to(shard, delivered);
            }
            Ok(gone)
        };
        write.map(|outcome| (users, outcome))
    }

    /// Records the outcome of a flush. If the flush failed, its sessions count as changed again, so
    /// the next flush stores them.
    /// Otherwise the sessions of erased users stop, so that the shard no longer holds their ids.
    pub(super) fn finish_flush(&mut self, users: &[Arc<str>], outcome: &Result<usize, StoreError>) {
        self.is_full = false;
        for user in users {
            let Some(active) = self.active_sessions.get_mut(user) else { continue };
            active.is_saving = false;
            active.is_dirty |= outcome.is_err();
            if active.is_erased && active.is_stored() {
                active.actor.do_send(StopSession);
                self.active_sessions.remove(user);
                self.context.metrics.live_sessions.decrement(1.0);
            }
        }
    }
}

/// Stores every changed session now.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Arc<StoreError>>")]
pub struct FlushSessions;

impl Handler<FlushSessions> for ShardActor {
    type Result = ResponseActFuture<Self, Result<(), Arc<StoreError>>>;

    fn handle(&mut self, _: FlushSessions, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.flush_changed_sessions().into_actor(self).map(|(users, outcome), shard, _| {
            shard.finish_flush(&users, &outcome);
            outcome.map(drop).map_err(Arc::new)
        }))
    }
}
