//! A shard: one arbiter's share of the users.

use actix::{Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture};
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

use super::gate::Permit;
use super::session::{Apply, Happened, Leave, Recommend, Save, SessionActor, Surroundings};
use crate::domain::{Catalog, Offset};
use crate::learning::{Answer, Follower, Pace, Request, Snapshot, Workspace, answer};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The shard of a user.
#[must_use]
pub fn shard_of(user: &str, shards: usize) -> usize {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(user.as_bytes());
    (hasher.finish() >> 32) as usize % shards.max(1)
}

/// How far each shard's records are stored; the least of them is how far all are.
#[derive(Debug)]
pub struct Stored(Vec<AtomicU64>);

impl Stored {
    /// So many shards, all stored up to `through`.
    #[must_use]
    pub fn new(shards: usize, through: Offset) -> Self {
        Self((0..shards).map(|_| AtomicU64::new(through)).collect())
    }

    /// How far all would be stored if this shard were up to `through`.
    fn with(&self, shard: usize, through: Offset) -> Offset {
        let places = self.0.iter().enumerate();
        places.map(|(number, place)| if number == shard { through } else { place.load(Ordering::SeqCst) }).min().unwrap_or(0)
    }

    fn raise(&self, shard: usize, through: Offset) {
        if let Some(place) = self.0.get(shard) {
            place.fetch_max(through, Ordering::SeqCst);
        }
    }
}

struct Active {
    actor: Addr<SessionActor>,
    dirty: bool,
    /// The tick of the last event or question.
    last_tick: u64,
}

/// Finds or starts the actor of each of its users, stores what has changed once in a while, and sends idle users to rest.
pub struct ShardActor {
    number: usize,
    store: Store,
    metrics: Arc<Metrics>,
    surroundings: Rc<Surroundings>,
    active: FxHashMap<String, Active>,
    delivered: Offset,
    stored: Arc<Stored>,
    tick: u64,
    idle_ticks: u64,
}

impl ShardActor {
    /// How often changed sessions are stored.
    pub const TICK: Duration = Duration::from_secs(1);

    /// An empty shard.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is one thing that a shard shares with the rest of the system")]
    pub fn new(
        number: usize,
        store: Store,
        metrics: Arc<Metrics>,
        published: Arc<ArcSwap<Snapshot>>,
        catalog: Arc<ArcSwap<Catalog>>,
        pace: Pace,
        stored: Arc<Stored>,
        idle: Duration,
    ) -> Self {
        let surroundings = Rc::new(Surroundings { published, catalog, pace, workspace: RefCell::new(Workspace::default()) });
        let idle_ticks = idle.as_secs().max(1) / Self::TICK.as_secs();
        Self { number, store, metrics, surroundings, active: FxHashMap::default(), delivered: 0, stored, tick: 0, idle_ticks }
    }

    /// The user's actor: the one at work, or one started from what is stored. `None` for a user never seen, unless `make`.
    fn actor(&mut self, user: &str, make: bool) -> Result<Option<&mut Active>, StoreError> {
        if !self.active.contains_key(user) {
            let record = self.store.sessions().get(user)?;
            if record.is_none() && !make {
                return Ok(None);
            }
            let history = if record.is_some() { &self.metrics.sessions_revived } else { &self.metrics.sessions_started };
            history.increment(1);
            self.metrics.live_sessions.increment(1.0);
            let actor = SessionActor::new(record, Rc::clone(&self.surroundings)).start();
            self.active.insert(user.to_owned(), Active { actor, dirty: false, last_tick: self.tick });
        }
        let mut active = self.active.get_mut(user);
        if let Some(active) = &mut active {
            active.last_tick = self.tick;
        }
        Ok(active)
    }

    /// Stores every changed session, in one batch.
    fn flush(&mut self) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let mut saves = Vec::new();
        for (user, active) in &mut self.active {
            if std::mem::take(&mut active.dirty) {
                saves.push((user.clone(), active.actor.send(Save)));
            }
        }
        let (store, stored, number, delivered) = (self.store.clone(), Arc::clone(&self.stored), self.number, self.delivered);
        async move {
            let records = join_all(saves.into_iter().map(|(user, save)| async move { save.await.ok().map(|record| (user, record)) }));
            let records: Vec<_> = records.await.into_iter().flatten().collect();
            let through = stored.with(number, delivered);
            store.sessions().put(records.iter().map(|(user, record)| (user.as_str(), record)), through)?;
            stored.raise(number, delivered);
            Ok(())
        }
    }
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(4096);
        context.run_interval(Self::TICK, |shard, context| {
            shard.tick += 1;
            let (now, limit) = (shard.tick, shard.idle_ticks);
            // Only clean sessions may rest: what they hold is stored.
            shard.active.retain(|_, active| {
                let rests = !active.dirty && now.saturating_sub(active.last_tick) > limit;
                if rests {
                    active.actor.do_send(Leave);
                    shard.metrics.sessions_passivated.increment(1);
                    shard.metrics.live_sessions.decrement(1.0);
                }
                !rests
            });
            let flush = shard.flush().into_actor(shard).map(|outcome, shard, _| {
                if let Err(error) = outcome {
                    tracing::error!(shard = shard.number, error = &error as &dyn std::error::Error, "sessions could not be stored");
                }
            });
            // The next tick's flush waits for this one only if it is still under way.
            context.spawn(flush);
        });
    }
}

/// Committed events of this shard's users, in journal order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Deliver {
    /// User and event.
    pub events: Vec<(String, Happened)>,
    /// Everything before this offset has now been delivered.
    pub through: Offset,
    /// Their room on the way, given back when all shards have taken them.
    pub permits: Option<Arc<Vec<Permit>>>,
}

impl Handler<Deliver> for ShardActor {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, _: &mut Self::Context) {
        let mut by_user: FxHashMap<String, Vec<Happened>> = FxHashMap::default();
        for (user, happened) in deliver.events {
            by_user.entry(user).or_default().push(happened);
        }
        for (user, events) in by_user {
            match self.actor(&user, true) {
                Ok(Some(active)) => {
                    active.dirty = true;
                    // Bounded by the gate, see the committer.
                    active.actor.do_send(Apply(events));
                }
                Ok(None) => {}
                Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "a session could not be loaded"),
            }
        }
        self.delivered = self.delivered.max(deliver.through);
    }
}

/// Asks what a user may want next.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ask {
    /// Whose.
    pub user: String,
    /// What is asked.
    pub request: Request,
    /// Told the answer; dropped if there is no room for the question.
    pub reply: oneshot::Sender<Answer>,
}

impl Handler<Ask> for ShardActor {
    type Result = ();

    fn handle(&mut self, ask: Ask, _: &mut Self::Context) {
        let known = match self.actor(&ask.user, false) {
            Ok(active) => active.map(|active| active.actor.clone()),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a session could not be loaded");
                None
            }
        };
        match known {
            Some(actor) => {
                let _ = actor.try_send(Recommend { request: ask.request, reply: ask.reply });
            }
            None => {
                let around = &self.surroundings;
                let (snapshot, catalog, mut workspace) = (around.published.load(), around.catalog.load(), around.workspace.borrow_mut());
                let _ = ask.reply.send(answer(&snapshot, &catalog, &mut Follower::default(), &around.pace, &ask.request, &mut workspace));
            }
        }
    }
}

/// Stores every changed session now.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Arc<StoreError>>")]
pub struct Flush;

impl Handler<Flush> for ShardActor {
    type Result = ResponseActFuture<Self, Result<(), Arc<StoreError>>>;

    fn handle(&mut self, _: Flush, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.flush().into_actor(self).map(|outcome, _, _| outcome.map_err(Arc::new)))
    }
}
