//! The shard actor: the sessions of one share of the users, on one thread.

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tracing::Span;

mod expiry;
mod flushing;
mod inspection;
mod merging;
mod recovery;
mod subscriptions;

pub use expiry::{ExpireSessions, ExpiryScan};
pub use flushing::FlushSessions;
pub use inspection::{GetSessionView, ListLiveSessions};
pub use subscriptions::{CloseSubscriptions, Subscribe};

use super::admission::AdmissionPermit;
use super::flush_progress::FlushProgress;
use super::panic_guard::{catch_panic, inject_fault};
use super::session::{
    ApplySessionUpdate, RecommendForSession, SessionActor, SessionContext, SessionUpdate, StopSession,
};
use crate::domain::{Catalog, EventKinds, ExpiryCutoffs, Offset, UserSequence};
use crate::learner::{
    ModelSnapshot, RankedAnswer, RecommendationRequest, ScoringWorkspace, SequenceParams, recommend_for_sequence,
};
use crate::metrics::{ActorKind, Metrics, QueueName};
use crate::registries::ItemDictionary;
use crate::store::{SessionRecord, Store, StoreError};
use crate::telemetry::span;

/// Returns the number of the shard that holds a user's session.
#[must_use]
pub fn shard_of_user(user: &str, shards: usize) -> usize {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(user.as_bytes());
    (hasher.finish() >> 32) as usize % shards.max(1)
}

struct ActiveSession {
    actor: Addr<SessionActor>,
    is_dirty: bool,
    /// Whether a flush is writing the session's record.
    is_saving: bool,
    /// The number of the tick of the last event or request.
    last_tick: u64,
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
    /// The last published snapshot.
    pub published: Arc<ArcSwap<ModelSnapshot>>,
    /// The catalog, including every acknowledged change.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// The item dictionary.
    pub dictionary: Arc<ItemDictionary>,
    /// The event kinds.
    pub kinds: EventKinds,
    /// Parameters of the users' sequence states.
    pub sequence_params: SequenceParams,
    /// The offset up to which each shard's sessions are stored.
    pub flush_progress: Arc<FlushProgress>,
    /// The idle time after which a session actor stops.
    pub idle_timeout: Duration,
    /// The largest number of live session actors in this shard. Above this number, the least
    /// recently used session actors stop.
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
    active_sessions: FxHashMap<String, ActiveSession>,
    /// Subscriptions to the sessions of individual users.
    subscribers: FxHashMap<String, watch::Sender<Offset>>,
    /// Every entry before this offset was delivered to this shard.
    delivered: Offset,
    /// The generation of the store that the flush progress refers to.
    store_generation: u64,
    /// Whether the sessions lack delivered entries, because the journal could not be read.
    needs_recovery: bool,
    /// Users who were merged into a user of this shard, with the offset of the merge. The records
    /// of these users must still be removed.
    merged_users: Vec<(Offset, String)>,
    /// The cutoffs of the last expiry. Stored records that the expiry has not examined yet may
    /// contain expired steps.
    cutoffs: Option<Arc<ExpiryCutoffs>>,
    /// Cache of the journal's tail, for merges.
    journal_tail: merging::JournalTail,
    /// Whether a flush is running that an earlier tick started.
    flushing: bool,
    /// Whether the system is stopping. Sessions are then stored only on request.
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
            published: Arc::clone(&context.published),
            catalog: Arc::clone(&context.catalog),
            sequence_params: context.sequence_params,
            workspace: RefCell::new(ScoringWorkspace::default()),
            quarantine: context.store.quarantine(),
            dictionary: Arc::clone(&context.dictionary),
            metrics: Arc::clone(&context.metrics),
        });
        let delivered = context.flush_progress.shard_watermark(context.number.0);
        let store_generation = context.store.generation().unwrap_or_default();
        let idle_ticks = context.idle_timeout.as_secs().max(1) / Self::TICK_INTERVAL.as_secs();
        Self {
            context,
            session_context,
            active_sessions: FxHashMap::default(),
            subscribers: FxHashMap::default(),
            delivered,
            store_generation,
            needs_recovery: false,
            merged_users: Vec::new(),
            cutoffs: None,
            journal_tail: merging::JournalTail::default(),
            flushing: false,
            is_stopping: false,
            tick: 0,
            idle_ticks,
        }
    }

    /// Returns the user's live session, or starts a session from the stored record. Returns `None`
    /// for an unknown user, unless `create` is set.
    fn find_or_start_session(&mut self, user: &str, create: bool) -> Result<Option<&mut ActiveSession>, StoreError> {
        if !self.active_sessions.contains_key(user) {
            let record = match self.context.store.sessions().get(user) {
                Err(StoreError::DamagedValue { reason, .. }) => {
                    tracing::error!(
                        shard = self.context.number.0,
                        reason,
                        "a session record is damaged; the session is rebuilt from the journal"
                    );
                    return self.rebuild_session_from_journal(user).map(Some);
                }
                read => read?,
            };
            if record.is_none() && !create {
                return Ok(None);
            }
            self.start_session(user, record);
        }
        let mut active = self.active_sessions.get_mut(user);
        if let Some(active) = &mut active {
            active.last_tick = self.tick;
        }
        Ok(active)
    }

    fn start_session(&mut self, user: &str, mut record: Option<SessionRecord>) -> &mut ActiveSession {
        let metrics = &self.context.metrics;
        let started = if record.is_some() { &metrics.sessions_revived } else { &metrics.sessions_started };
        started.increment(1);
        metrics.live_sessions.increment(1.0);
        // The expiry scan of stored records skips live sessions. A session that loses steps here is
        // therefore marked as changed, and the next flush stores its record.
        let is_dirty = match (&mut record, &self.cutoffs) {
            (Some(record), Some(cutoffs)) => expiry::remove_expired_steps(record, cutoffs),
            _ => false,
        };
        let actor = SessionActor::new(record, Rc::clone(&self.session_context)).start();
        let active = ActiveSession { actor, is_dirty, is_saving: false, last_tick: self.tick };
        self.active_sessions.entry(user.to_owned()).insert_entry(active).into_mut()
    }

    /// Stops session actors that are idle for too long. Above the limit of live actors, also stops
    /// the least recently used actors. Sessions whose record is not stored continue.
    fn stop_idle_sessions(&mut self) {
        let oldest = self.tick.saturating_sub(self.idle_ticks);
        let mut surplus = self.active_sessions.len().saturating_sub(self.context.max_live_sessions);
        let mut ticks: Vec<_> = self
            .active_sessions
            .values()
            .filter(|_| surplus > 0)
            .filter(|active| active.is_stored())
            .map(|active| active.last_tick)
            .collect();
        // All sessions that were last used before the cutoff stop. Of the sessions that were last
        // used at the cutoff, only the remaining surplus stops.
        let cutoff = surplus.min(ticks.len()).checked_sub(1).map(|index| *ticks.select_nth_unstable(index).1);
        surplus = surplus.saturating_sub(ticks.iter().filter(|tick| Some(**tick) < cutoff).count());
        let before = self.active_sessions.len();
        self.active_sessions.retain(|_, active| {
            let at_cutoff = Some(active.last_tick) == cutoff && surplus > 0;
            let stops =
                active.is_stored() && (active.last_tick < oldest || Some(active.last_tick) < cutoff || at_cutoff);
            if stops {
                surplus -= usize::from(at_cutoff);
                active.actor.do_send(StopSession);
            }
            !stops
        });
        let stopped = before - self.active_sessions.len();
        self.context.metrics.sessions_passivated.increment(stopped as u64);
        self.context.metrics.live_sessions.decrement(stopped as f64);
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
        self.stop_idle_sessions();
        self.remove_merged_records();
        self.drop_closed_subscribers();
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

    /// Delivers updates to the sessions of their users.
    fn deliver_updates(&mut self, events: Vec<(String, SessionUpdate)>, permits: Option<&Arc<Vec<AdmissionPermit>>>) {
        let mut by_user: FxHashMap<String, Vec<SessionUpdate>> = FxHashMap::default();
        for (user, mut update) in events {
            if let Err(error) = self.attach_merged_sequence(&mut update, None) {
                // Recovery delivers all these updates again as soon as the store is readable.
                self.needs_recovery = true;
                return tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the sequence of a merged user could not be read"
                );
            }
            by_user.entry(user).or_default().push(update);
        }
        for (user, events) in by_user {
            let through = events.last().map_or(0, |last| last.offset + 1);
            match self.find_or_start_session(&user, true) {
                Ok(Some(active)) => {
                    active.is_dirty = true;
                    // Admission control bounds this queue; see the committer.
                    active.actor.do_send(ApplySessionUpdate { updates: events, permits: permits.map(Arc::clone) });
                    self.notify_subscribers(&user, through);
                }
                Ok(None) => {}
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the session of an update could not be loaded"
                ),
            }
        }
    }

    /// Forwards a request to the user's session, unless its caller has stopped waiting. If the user
    /// is unknown or the session cannot be loaded, answers the request as for an unknown user.
    fn recommend(&mut self, message: RecommendForUser) {
        if message.reply.is_closed() {
            return;
        }
        let session = match self.find_or_start_session(&message.user, false) {
            Ok(active) => active.map(|active| active.actor.clone()),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the session of a request could not be loaded; the user is treated as unknown"
                );
                None
            }
        };
        match session {
            Some(actor) => {
                let _ = actor.try_send(RecommendForSession {
                    request: message.request,
                    reply: message.reply,
                    span: message.span,
                });
            }
            None => {
                let _span = span!(parent: &message.span, "answer").entered();
                let context = &self.session_context;
                let (snapshot, catalog, mut workspace) =
                    (context.published.load(), context.catalog.load(), context.workspace.borrow_mut());
                let _ = message.reply.send(recommend_for_sequence(
                    &snapshot,
                    &catalog,
                    &UserSequence::default(),
                    &context.sequence_params,
                    &message.request,
                    &mut workspace,
                ));
            }
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
    /// With this message, every entry before this offset is delivered.
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
    }
}

/// Requests recommendations for a user.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecommendForUser {
    /// The user.
    pub user: String,
    /// The request.
    pub request: RecommendationRequest,
    /// Receives the answer. If the session's mailbox is full, the sender is dropped without an
    /// answer.
    pub reply: oneshot::Sender<RankedAnswer>,
    /// The caller's span.
    pub span: Span,
}

impl Handler<RecommendForUser> for ShardActor {
    type Result = ();

    fn handle(&mut self, message: RecommendForUser, _: &mut Self::Context) {
        self.run_and_recover(|shard| shard.recommend(message));
    }
}
