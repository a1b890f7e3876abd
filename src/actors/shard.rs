//! A shard: one arbiter's share of the users.

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
pub use subscriptions::{CloseSubscribers, Subscribe};

use super::admission::AdmissionPermit;
use super::flush_progress::FlushProgress;
use super::panic_guard::{catch_panic, inject_fault};
use super::session::{ApplySessionUpdate, RecommendForSession, SessionActor, SessionContext, SessionUpdate, Stop};
use crate::domain::{Catalog, EventKinds, ExpiryCutoffs, ItemDictionary, Offset};
use crate::learner::{ModelSnapshot, RankedAnswer, RecommendationRequest, ScoringWorkspace, SequenceParams, SequenceState, recommend};
use crate::metrics::{ActorKind, Metrics, QueueName};
use crate::store::{SessionRecord, Store, StoreError};
use crate::telemetry::span;

/// The shard of a user.
#[must_use]
pub fn shard_of(user: &str, shards: usize) -> usize {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(user.as_bytes());
    (hasher.finish() >> 32) as usize % shards.max(1)
}

struct ActiveSession {
    actor: Addr<SessionActor>,
    is_dirty: bool,
    /// Its record is on the way to the store.
    is_saving: bool,
    /// The tick of the last event or question.
    last_tick: u64,
}

impl ActiveSession {
    /// Whether all that it holds is stored.
    fn may_rest(&self) -> bool {
        !self.is_dirty && !self.is_saving
    }
}

/// What a shard shares with the rest of the system.
#[derive(Clone)]
pub struct ShardContext {
    /// The shard's number, and how many there are.
    pub number: (usize, usize),
    /// Where the sessions are kept.
    pub store: Store,
    /// What is recorded.
    pub metrics: Arc<Metrics>,
    /// The snapshot published last.
    pub published: Arc<ArcSwap<ModelSnapshot>>,
    /// The catalog, with every change that was acknowledged.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// The items by name.
    pub dictionary: Arc<ItemDictionary>,
    /// The kinds of event.
    pub kinds: EventKinds,
    /// How followers move.
    pub sequence_params: SequenceParams,
    /// How far each shard's records are stored.
    pub flush_progress: Arc<FlushProgress>,
    /// How long an idle session actor lives.
    pub idle_timeout: Duration,
    /// How many session actors may live in this shard; beyond it those unused longest rest first.
    pub max_live_sessions: usize,
}

/// Finds or starts the actor of each of its users, stores what has changed once in a while, and
/// sends idle users to rest.
///
/// When a panic strikes it, or one of its session actors is gone, it lets all of them go and begins
/// again with what is stored and the journal's tail.
pub struct ShardActor {
    context: ShardContext,
    session_context: Rc<SessionContext>,
    active_sessions: FxHashMap<String, ActiveSession>,
    /// Told when the session of a user moves whom somebody listens to.
    subscribers: FxHashMap<String, watch::Sender<Offset>>,
    delivered: Offset,
    /// The opening of the store that holds what counts as stored.
    store_generation: u64,
    /// The journal could not be read when the sessions were to be begun again: they do not hold all
    /// that was delivered.
    needs_recovery: bool,
    /// Users who were merged into one of this shard's, with the offset, whose records are still to
    /// be removed.
    merged_users: Vec<(Offset, String)>,
    /// What was kept long enough, as it was said last: a record that is not yet looked at may hold
    /// some of it.
    cutoffs: Option<Arc<ExpiryCutoffs>>,
    /// What the journal has beyond the records, once a merge wanted it.
    journal_tail: merging::JournalTail,
    /// A flush begun by an earlier tick is under way.
    flushing: bool,
    tick: u64,
    idle_ticks: u64,
}

impl ShardActor {
    /// How often changed sessions are stored.
    pub const TICK: Duration = Duration::from_secs(1);
    /// The most questions that wait for a shard.
    pub const MAX_PENDING_REQUESTS: usize = 4096;

    /// An empty shard.
    #[must_use]
    pub fn new(share: ShardContext) -> Self {
        let surroundings = Rc::new(SessionContext {
            published: Arc::clone(&share.published),
            catalog: Arc::clone(&share.catalog),
            sequence_params: share.sequence_params,
            workspace: RefCell::new(ScoringWorkspace::default()),
            quarantine: share.store.quarantine(),
            dictionary: Arc::clone(&share.dictionary),
            metrics: Arc::clone(&share.metrics),
        });
        let delivered = share.flush_progress.get(share.number.0);
        let opening = share.store.generation().unwrap_or_default();
        let idle_ticks = share.idle_timeout.as_secs().max(1) / Self::TICK.as_secs();
        Self {
            context: share,
            session_context: surroundings,
            active_sessions: FxHashMap::default(),
            subscribers: FxHashMap::default(),
            delivered,
            store_generation: opening,
            needs_recovery: false,
            merged_users: Vec::new(),
            cutoffs: None,
            journal_tail: merging::JournalTail::default(),
            flushing: false,
            tick: 0,
            idle_ticks,
        }
    }

    /// The user's actor: the one at work, or one started from what is stored. `None` for a user
    /// never seen, unless `make`.
    fn actor(&mut self, user: &str, make: bool) -> Result<Option<&mut ActiveSession>, StoreError> {
        if !self.active_sessions.contains_key(user) {
            let record = match self.context.store.sessions().get(user) {
                Err(StoreError::DamagedValue { reason, .. }) => {
                    tracing::error!(
                        shard = self.context.number.0,
                        reason,
                        "a session record is damaged; the session is folded anew from the journal"
                    );
                    return self.rebuild_session(user).map(Some);
                }
                read => read?,
            };
            if record.is_none() && !make {
                return Ok(None);
            }
            self.start(user, record);
        }
        let mut active = self.active_sessions.get_mut(user);
        if let Some(active) = &mut active {
            active.last_tick = self.tick;
        }
        Ok(active)
    }

    fn start(&mut self, user: &str, mut record: Option<SessionRecord>) -> &mut ActiveSession {
        let metrics = &self.context.metrics;
        let history = if record.is_some() { &metrics.sessions_revived } else { &metrics.sessions_started };
        history.increment(1);
        metrics.live_sessions.increment(1.0);
        // A scan of stored records skips live sessions, so what is removed here has yet to be
        // stored.
        let dirty = match (&mut record, &self.cutoffs) {
            (Some(record), Some(expired)) => expiry::expire_steps(record, expired),
            _ => false,
        };
        let actor = SessionActor::new(record, Rc::clone(&self.session_context)).start();
        let active = ActiveSession { actor, is_dirty: dirty, is_saving: false, last_tick: self.tick };
        self.active_sessions.entry(user.to_owned()).insert_entry(active).into_mut()
    }

    /// Stops session actors that are idle for too long and, above the limit of live actors, the
    /// least recently used ones. Only clean sessions stop: their record is stored.
    fn rest(&mut self) {
        let oldest = self.tick.saturating_sub(self.idle_ticks);
        let mut surplus = self.active_sessions.len().saturating_sub(self.context.max_live_sessions);
        let mut ticks: Vec<_> = self
            .active_sessions
            .values()
            .filter(|_| surplus > 0)
            .filter(|active| active.may_rest())
            .map(|active| active.last_tick)
            .collect();
        // Beyond the bar all go; of those at the bar as many as are left to go.
        let bar = surplus.min(ticks.len()).checked_sub(1).map(|place| *ticks.select_nth_unstable(place).1);
        surplus = surplus.saturating_sub(ticks.iter().filter(|tick| Some(**tick) < bar).count());
        let before = self.active_sessions.len();
        self.active_sessions.retain(|_, active| {
            let at_bar = Some(active.last_tick) == bar && surplus > 0;
            let rests = active.may_rest() && (active.last_tick < oldest || Some(active.last_tick) < bar || at_bar);
            if rests {
                surplus -= usize::from(at_bar);
                active.actor.do_send(Stop);
            }
            !rests
        });
        let resting = before - self.active_sessions.len();
        self.context.metrics.sessions_passivated.increment(resting as u64);
        self.context.metrics.live_sessions.decrement(resting as f64);
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        self.tick += 1;
        self.rest();
        self.remove_merged_records();
        self.drop_closed_subscribers();
        // Where the store is slower than the events come, one flush takes what several would have.
        if self.flushing {
            return;
        }
        let flush = self.flush().into_actor(self).map(|(users, outcome), shard, _| {
            shard.flushing = false;
            shard.finish_flush(&users, &outcome);
            match outcome {
                Ok(0) => {}
                Ok(gone) => {
                    tracing::error!(shard = shard.context.number.0, gone, "session actors are gone");
                    shard.context.metrics.panics.with_label(ActorKind::Session).increment(gone as u64);
                    shard.recover();
                }
                Err(error) => {
                    tracing::error!(
                        shard = shard.context.number.0,
                        error = &error as &dyn std::error::Error,
                        "sessions could not be stored"
                    );
                }
            }
        });
        self.flushing = true;
        context.spawn(flush);
    }

    /// Does a piece of work; if it panics, begins again with what is stored.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        let metrics = Arc::clone(&self.context.metrics);
        if catch_panic(&metrics, ActorKind::Shard, || work(self)).is_err()
            && catch_panic(&metrics, ActorKind::Shard, || self.recover()).is_err()
        {
            tracing::error!(shard = self.context.number.0, "a shard could not be healed; its sessions begin as they are stored");
        }
    }

    /// Puts events before their sessions.
    fn deliver(&mut self, events: Vec<(String, SessionUpdate)>, permits: Option<&Arc<Vec<AdmissionPermit>>>) {
        let mut by_user: FxHashMap<String, Vec<SessionUpdate>> = FxHashMap::default();
        for (user, mut happened) in events {
            if let Err(error) = self.attach_merged_record(&mut happened, None) {
                // All that was delivered is delivered again once the store can be read.
                self.needs_recovery = true;
                return tracing::error!(error = &error as &dyn std::error::Error, "a user who was merged could not be looked up");
            }
            by_user.entry(user).or_default().push(happened);
        }
        for (user, events) in by_user {
            let through = events.last().map_or(0, |last| last.offset + 1);
            match self.actor(&user, true) {
                Ok(Some(active)) => {
                    active.is_dirty = true;
                    // Bounded by the gate, see the committer.
                    active.actor.do_send(ApplySessionUpdate { updates: events, permits: permits.map(Arc::clone) });
                    self.notify_subscribers(&user, through);
                }
                Ok(None) => {}
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "a session could not be loaded"),
            }
        }
    }

    /// Hands a question to its session, or answers it as one who is not known.
    fn ask(&mut self, ask: RecommendForUser) {
        let known = match self.actor(&ask.user, false) {
            Ok(active) => active.map(|active| active.actor.clone()),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a session could not be loaded");
                None
            }
        };
        match known {
            Some(actor) => {
                let _ = actor.try_send(RecommendForSession { request: ask.request, reply: ask.reply, span: ask.span });
            }
            None => {
                let _span = span!(parent: &ask.span, "answer").entered();
                let around = &self.session_context;
                let (snapshot, catalog, mut workspace) = (around.published.load(), around.catalog.load(), around.workspace.borrow_mut());
                let _ = ask.reply.send(recommend(
                    &snapshot,
                    &catalog,
                    &mut SequenceState::default(),
                    &around.sequence_params,
                    &ask.request,
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
        context.run_interval(Self::TICK, |shard, context| shard.guarded(|shard| shard.tick(context)));
    }
}

/// Committed events of this shard's users, in journal order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DeliverEntries {
    /// User and event.
    pub events: Vec<(String, SessionUpdate)>,
    /// Everything before this offset was delivered earlier.
    pub from: Offset,
    /// Everything before this offset has now been delivered.
    pub through: Offset,
    /// Their room on the way, given back when all their sessions have taken them.
    pub permits: Option<Arc<Vec<AdmissionPermit>>>,
}

impl Handler<DeliverEntries> for ShardActor {
    type Result = ();

    fn handle(&mut self, deliver: DeliverEntries, _: &mut Self::Context) {
        let DeliverEntries { events, from, through, permits } = deliver;
        self.context.metrics.queue_depth.with_label(QueueName::Shards).decrement(events.len() as f64);
        let gap = from > self.delivered;
        // Raised first: what a panic leaves undelivered is read from the journal again.
        self.delivered = self.delivered.max(through);
        self.guarded(|shard| {
            if gap {
                return shard.recover();
            }
            events.iter().for_each(|(_, happened)| inject_fault("shard", || shard.session_context.item_name(happened)));
            shard.deliver(events, permits.as_ref());
        });
    }
}

/// Asks what a user may want next.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RecommendForUser {
    /// Whose.
    pub user: String,
    /// What is asked.
    pub request: RecommendationRequest,
    /// Told the answer; dropped if there is no room for the question.
    pub reply: oneshot::Sender<RankedAnswer>,
    /// What the asker waits in.
    pub span: Span,
}

impl Handler<RecommendForUser> for ShardActor {
    type Result = ();

    fn handle(&mut self, ask: RecommendForUser, _: &mut Self::Context) {
        self.guarded(|shard| shard.ask(ask));
    }
}
