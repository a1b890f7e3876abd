//! The shard actor: the sessions of a part of the users, on one thread. The hash of the user id
//! determines the shard.

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use rustc_hash::FxHashMap;
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

mod expiry;
mod flushing;
mod inspection;
mod live_sessions;
mod merging;
mod recovery;

pub use expiry::{ExpireSessions, ExpiryScan};
pub use flushing::FlushSessions;
pub use inspection::{GetSessionView, ListLiveSessions};

use super::admission::AdmissionPermit;
use super::flush_progress::FlushProgress;
use super::panic_guard::{catch_panic, inject_fault};
use super::session::{SessionActor, SessionContext, SessionUpdate};
use super::session_subscribers::SessionSubscribers;
use super::session_table::{SessionTable, SharedSession, TableEntry};
use crate::domain::{EventKinds, ExpiryCutoffs, Offset, UserSequence};
use crate::learner::SequenceParams;
use crate::metrics::{ActorKind, Metrics, QueueName};
use crate::registries::ItemDictionary;
use crate::store::Store;

/// Returns the number of the shard that holds a user's session.
#[must_use]
pub fn shard_of_user(user: &str, shards: usize) -> usize {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(user.as_bytes());
    (hasher.finish() >> 32) as usize % shards.max(1)
}

struct ActiveSession {
    actor: Addr<SessionActor>,
    session: Arc<SharedSession>,
    /// Makes the session readable for requests until it stops.
    _entry: Option<TableEntry>,
    is_dirty: bool,
    /// Whether a running flush is writing the session's record.
    is_saving: bool,
    /// Whether the last update erased the user. The session then stops after its next flush.
    is_erased: bool,
}

impl ActiveSession {
    /// Whether the stored record contains everything that the session holds.
    fn is_stored(&self) -> bool {
        !self.is_dirty && !self.is_saving
    }
}

/// The number, the shared state and the settings of a shard.
#[derive(Clone)]
pub struct ShardContext {
    /// The shard's number, and the number of shards.
    pub number: (usize, usize),
    /// The store, for session records and the journal.
    pub store: Store,
    /// The metrics in which the shard records.
    pub metrics: Arc<Metrics>,
    /// The live sessions, for requests.
    pub session_table: Arc<SessionTable>,
    /// The item dictionary.
    pub dictionary: Arc<ItemDictionary>,
    /// The event kinds.
    pub kinds: EventKinds,
    /// The idle gap that separates sessions.
    pub sequence_params: SequenceParams,
    /// The offset up to which each shard's sessions are stored.
    pub flush_progress: Arc<FlushProgress>,
    /// The subscriptions to sessions of all shards.
    pub subscribers: Arc<SessionSubscribers>,
    /// The idle time after which a session actor stops.
    pub idle_timeout: Duration,
    /// The largest number of live session actors in this shard. To make room for a new session
    /// actor, the shard stops the least recently used ones. An actor can stop only after its record
    /// is stored. If no actor can stop, the shard serves further users from their stored records.
    pub max_live_sessions: usize,
}

/// Starts the session actors of its users on demand, stores changed sessions on every tick and
/// stops idle session actors.
///
/// If the shard panics or a session actor has died, the shard stops all its session actors. It then
/// recovers from the stored records and the journal's tail.
pub struct ShardActor {
    context: ShardContext,
    session_context: Rc<SessionContext>,
    /// The sessions by user. They are boxed, because the map doubles its room when it is full.
    active_sessions: FxHashMap<Arc<str>, Box<ActiveSession>>,
    /// Every entry before this offset was delivered to this shard.
    delivered: Offset,
    /// The generation of the store that the flush progress refers to.
    store_generation: u64,
    /// Whether the sessions lack delivered entries, because the journal could not be read.
    needs_recovery: bool,
    /// Users who were merged into a user of this shard, with the offset of the merge. The records
    /// of these users must still be removed.
    merged_users: Vec<(Offset, String)>,
    /// Whether the shard has as many live sessions as allowed, and none of them can stop before the
    /// next flush has stored its record.
    is_full: bool,
    /// The cutoffs of the last expiry. Stored records that the expiry has not examined yet may
    /// contain expired steps.
    cutoffs: Option<Arc<ExpiryCutoffs>>,
    /// Cache of the journal's tail, for merges.
    journal_tail: merging::JournalTail,
    /// Whether a flush that an earlier tick started is still running.
    flushing: bool,
    /// Whether the system is stopping. The shard then stores sessions only on request.
    is_stopping: bool,
    tick: u64,
    idle_ticks: u64,
}

impl ShardActor {
    /// Time between two ticks; each tick stores the changed sessions.
    pub const TICK_INTERVAL: Duration = Duration::from_secs(1);
    /// The mailbox capacity: the largest number of waiting requests.
    pub const MAX_PENDING_REQUESTS: usize = 4096;

    /// Creates a shard without live sessions.
    #[must_use]
    pub fn new(context: ShardContext) -> Self {
        let session_context = Rc::new(SessionContext {
            sequence_params: context.sequence_params,
            quarantine: context.store.quarantine(),
            dictionary: Arc::clone(&context.dictionary),
            metrics: Arc::clone(&context.metrics),
        });
        let delivered = context.flush_progress.shard_watermark(context.number.0);
        // Without this, requests would ask the shard until its first delivery after a start.
        context.session_table.set_delivered(context.number.0, delivered);
        let store_generation = context.store.generation().unwrap_or_default();
        let idle_ticks = context.idle_timeout.as_secs().max(1) / Self::TICK_INTERVAL.as_secs();
        Self {
            context,
            session_context,
            active_sessions: FxHashMap::default(),
            delivered,
            store_generation,
            needs_recovery: false,
            merged_users: Vec::new(),
            is_full: false,
            cutoffs: None,
            journal_tail: merging::JournalTail::default(),
            flushing: false,
            is_stopping: false,
            tick: 0,
            idle_ticks,
        }
    }

    /// From now on, stores sessions only on request.
    pub(super) fn stop_writing(&mut self) {
        self.is_stopping = true;
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        if self.is_stopping {
            return;
        }
        self.tick += 1;
        self.context.session_table.set_tick(self.context.number.0, self.tick);
        self.stop_idle_sessions();
        self.remove_merged_records();
        self.context.subscribers.drop_closed();
        // If a flush takes longer than a tick, the next flush stores the changes of several ticks.
        if self.flushing {
            return;
        }
        let flush = self.flush_changed_sessions().into_actor(self).map(|(users, outcome), shard, _| {
            shard.flushing = false;
            shard.finish_flush(&users, &outcome);
            match outcome {
                Ok(0) => {}
                Ok(gone) => {
                    tracing::error!(
                        shard = shard.context.number.0,
                        gone,
                        "session actors have stopped unexpectedly; the shard recovers"
                    );
                    shard.context.metrics.panics.with_label(ActorKind::Session).increment(gone as u64);
                    shard.recover();
                }
                Err(error) => {
                    tracing::error!(
                        shard = shard.context.number.0,
                        error = &error as &dyn std::error::Error,
                        "the changed sessions could not be stored; the next flush retries"
                    );
                }
            }
        });
        self.flushing = true;
        context.spawn(flush);
    }

    /// Runs `work`. If the work panics, recovers from the stored records and the journal.
    fn run_and_recover(&mut self, work: impl FnOnce(&mut Self)) {
        let metrics = Arc::clone(&self.context.metrics);
        if catch_panic(&metrics, ActorKind::Shard, || work(self)).is_err()
            && catch_panic(&metrics, ActorKind::Shard, || self.recover()).is_err()
        {
            tracing::error!(
                shard = self.context.number.0,
                "the shard could not recover after a panic; its sessions start from their stored records"
            );
        }
    }
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(Self::MAX_PENDING_REQUESTS);
        context.run_interval(Self::TICK_INTERVAL, |shard, context| shard.run_and_recover(|shard| shard.tick(context)));
    }
}

/// Committed events of this shard's users, in journal order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DeliverEntries {
    /// The updates with their users.
    pub events: Vec<(String, SessionUpdate)>,
    /// Every entry before this offset was delivered earlier.
    pub from: Offset,
    /// After this message, every entry before this offset is delivered.
    pub through: Offset,
    /// The admission permits of the entries. They are released after all sessions have applied
    /// their entries.
    pub permits: Option<Arc<Vec<AdmissionPermit>>>,
}

impl Handler<DeliverEntries> for ShardActor {
    type Result = ();

    fn handle(&mut self, deliver: DeliverEntries, _: &mut Self::Context) {
        let DeliverEntries { events, from, through, permits } = deliver;
        self.context.metrics.queue_depth.with_label(QueueName::Shards).decrement(events.len() as f64);
        let gap = from > self.delivered;
        // The delivered offset is raised first, so that recovery after a panic reads these entries
        // from the journal.
        self.delivered = self.delivered.max(through);
        self.run_and_recover(|shard| {
            if gap {
                return shard.recover();
            }
            events
                .iter()
                .for_each(|(_, update)| inject_fault("shard", || shard.session_context.item_id_of_update(update)));
            shard.deliver_updates(events, permits.as_ref());
        });
        self.context.session_table.set_delivered(self.context.number.0, through);
    }
}

/// Requests the sequence of a user, after the entries that were sent to the shard before. Starts
/// the session of a known user.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct GetUserSequence {
    /// The user.
    pub user: String,
    /// Receives the sequence; an unknown user has an empty sequence. If the session's mailbox is
    /// full, the sender is dropped without an answer.
    pub reply: oneshot::Sender<UserSequence>,
}

impl Handler<GetUserSequence> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: GetUserSequence, _: &mut Self::Context) {
        self.run_and_recover(|shard| shard.send_sequence(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_holds_64_bytes_for_each_live_session() {
        assert_eq!(size_of::<ActiveSession>(), 64);
    }
}
