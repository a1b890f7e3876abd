//! The whole, put together: what `serve` and `replay` both run.

mod listening;
mod looking;
mod reaching;

use actix::{Actor, Addr, Arbiter};
use arc_swap::ArcSwap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

use super::catalog::LiveCatalog;
use super::committer::{Append, CommitterActor, Persist};
use super::gate::{Full, Gate, Permit};
use super::model::{Checkpoint, Checkpointing, HowFar, ModelActor, ModelError, Standing};
use super::origin::{number_items, origin};
use super::past::{KeptPast, decode};
use super::pulse::Pulse;
use super::session::Happened;
use super::shard::{Ask, Deliver, Flush, ShardActor, Share, shard_of};
use super::stored::Stored;
use super::upkeep::Upkeep;
use super::worker::Beside;
use crate::domain::{
    Candidate, Catalog, Cause, Dictionary, Entry, Fallback, ItemIx, Kind, Kinds, Links, ModelAct, ModelChange, Offset, Step, Timestamp,
};
use crate::learning::{
    Aides, Answer, FoldSettings, Follower, Learner, LearnerError, Request, Snapshot, State, Workspace, answer, similar, trending,
};
use crate::metrics::{Metrics, Queue, Worker};
use crate::store::{Committer, CommitterSettings, Compacted, Copied, Durability, Store, StoreError};
pub use crate::store::{Point, Quarantined};
use reaching::Reach;

pub use crate::store::Receipt;

/// How often, and how many times, it is asked whether the fold has come to an act.
const STEERING: (Duration, usize) = (Duration::from_millis(20), 1_500);

/// How many of each, and how much.
#[derive(Debug, Clone)]
pub struct SystemSettings {
    /// What governs the fold.
    pub fold: FoldSettings,
    /// What governs the journal.
    pub committer: CommitterSettings,
    /// Entries that may be on their way between the door and the sessions.
    pub max_in_flight: usize,
    /// Arbiters that share the users.
    pub shards: usize,
    /// How long an idle session actor lives.
    pub idle: Duration,
    /// How many session actors may live; beyond it those unused longest rest first.
    pub live: usize,
    /// How often the learned state is written.
    pub checkpointing: Checkpointing,
}

/// Why the system did not start or a request failed.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The store refused.
    #[error("the store failed")]
    Store(#[source] Arc<StoreError>),
    /// The fold refused its settings or its checkpoint.
    #[error("the learner could not start")]
    Learner(#[from] LearnerError),
    /// The model actor could not write its state.
    #[error("the learned state could not be written")]
    Model(#[source] Arc<ModelError>),
    /// Learning began with another network.
    #[error("learning in {} began with another network; another one needs an empty data directory", dir.display())]
    OtherOrigin {
        /// The data directory.
        dir: PathBuf,
    },
    /// The network that learning began with does not agree with the items.
    #[error("the items in {} are not numbered as by the network that learning began with", dir.display())]
    OtherItems {
        /// The data directory.
        dir: PathBuf,
    },
    /// A bounded queue is full.
    #[error("too much is under way: {0}")]
    Busy(#[from] Full),
    /// The model cannot go back there.
    #[error("no state of offset {to} is kept; there are those of {}", points.iter().map(Offset::to_string).collect::<Vec<_>>().join(", "))]
    NoPoint {
        /// Where it was to go.
        to: Offset,
        /// Where it can go.
        points: Vec<Offset>,
    },
    /// What answers follow from does not reach as far yet as was wanted.
    #[error("answers follow from the entries before offset {reached} so far, not from all before {wanted}")]
    NotYet {
        /// Before which offset all entries were to be known.
        wanted: Offset,
        /// Before which offset they are.
        reached: Offset,
    },
    /// Nothing is taken any more.
    #[error("the daemon is being drained and takes nothing any more")]
    Draining,
    /// The store is being copied.
    #[error("a backup or a compaction is under way")]
    Copying,
    /// It was broken off.
    #[error("the daemon is stopping")]
    Stopping,
    /// An actor is gone.
    #[error("the {0} is not running")]
    Gone(&'static str),
}

impl From<StoreError> for SystemError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// Addresses of all actors, and what they share. Cheap to clone.
#[derive(Clone)]
pub struct System {
    store: Store,
    gate: Gate,
    dictionary: Arc<Dictionary>,
    links: Arc<Links>,
    published: Arc<ArcSwap<Snapshot>>,
    catalog: Arc<ArcSwap<Catalog>>,
    committer: Addr<CommitterActor>,
    shards: Vec<Addr<ShardActor>>,
    model: Addr<ModelActor>,
    fold: Arc<FoldSettings>,
    metrics: Arc<Metrics>,
    upkeep: Upkeep,
    reach: Reach,
    /// Nothing is taken any more.
    draining: Arc<AtomicBool>,
}

impl System {
    /// Starts every actor over a store: loads the newest checkpoint that verifies, and lets sessions and fold catch up with the journal's tail.
    /// Must be called within an actix system.
    ///
    /// # Errors
    /// [`SystemError`] if the journal cannot be read or the settings cannot run.
    pub fn start(store: Store, settings: SystemSettings, metrics: Arc<Metrics>) -> Result<Self, SystemError> {
        let pretrained = origin(&store)?;
        if let Some(pretrained) = &pretrained {
            number_items(&store, pretrained)?;
        }
        let core = Committer::open(store.clone(), settings.committer.clone())?;
        let (dictionary, links, end) = (core.dictionary(), core.links(), core.next_offset());
        let fold = Arc::new(settings.fold.clone());
        let mut load = loader(&store, &dictionary, settings.fold, settings.checkpointing.kept, &metrics);
        let learner = load()?;
        let published = Arc::new(ArcSwap::from_pointee(learner.snapshot()));
        let live = LiveCatalog::recover(&store, &dictionary, Arc::clone(&published))?;
        let catalog = live.shown();

        let through = store.sessions().through()?.min(end);
        let stored = Arc::new(Stored::new(settings.shards, through));
        let shards: Vec<_> = (0..settings.shards)
            .map(|number| {
                let share = Share {
                    number: (number, settings.shards),
                    store: store.clone(),
                    metrics: Arc::clone(&metrics),
                    published: Arc::clone(&published),
                    catalog: Arc::clone(&catalog),
                    dictionary: Arc::clone(&dictionary),
                    kinds: fold.kinds.clone(),
                    pace: fold.pace,
                    stored: Arc::clone(&stored),
                    idle: settings.idle,
                    live: settings.live.div_ceil(settings.shards.max(1)),
                };
                ShardActor::start_in_arbiter(&Arbiter::new().handle(), move |_| ShardActor::new(share))
            })
            .collect();
        recover(&store, &dictionary, &fold, &shards, &metrics, through)?;
        for (queue, limit) in [
            (Queue::Committer, settings.max_in_flight),
            (Queue::Shards, settings.max_in_flight),
            (Queue::Questions, ShardActor::QUESTIONS * settings.shards),
        ] {
            metrics.queue_limit.of(queue).set(limit as f64);
        }
        metrics.live_sessions_limit.set(settings.live as f64);
        metrics.checkpoint_interval_entries.set(settings.checkpointing.every as f64);

        let upkeep = Upkeep::new(store.clone(), Arc::clone(&metrics));
        let load = Box::new(move || load().map_err(|error| ModelError::Load(Box::new(error))));
        let model = ModelActor::new(
            learner,
            load,
            upkeep.clone(),
            Arc::clone(&dictionary),
            Arc::clone(&metrics),
            Arc::clone(&published),
            settings.checkpointing,
        )
        .map_err(|error| SystemError::Model(Arc::new(error)))?;
        let learned = model.learned();
        let model = ModelActor::start_in_arbiter(&Arbiter::new().handle(), move |_| model);
        let committer = CommitterActor::new(core, fold.kinds.clone(), live, Arc::clone(&metrics), shards.clone(), model.clone());
        let reach = Reach { delivered: committer.delivered(), learned };
        let committer = CommitterActor::start_in_arbiter(&Arbiter::new().handle(), move |_| committer);
        let (gate, draining) = (Gate::new(settings.max_in_flight), Arc::default());
        Ok(Self { store, gate, dictionary, links, published, catalog, committer, shards, model, fold, metrics, upkeep, reach, draining })
    }

    /// Room for entries, at once or not at all.
    ///
    /// # Errors
    /// [`SystemError::Busy`] if there is none, [`SystemError::Draining`] if nothing is taken any more.
    pub fn enter(&self, entries: usize) -> Result<Permit, SystemError> {
        if self.is_draining() { Err(SystemError::Draining) } else { Ok(self.gate.enter(entries)?) }
    }

    /// Room for entries, waited for.
    ///
    /// # Errors
    /// [`SystemError::Busy`] only while the system is being torn down.
    pub async fn wait(&self, entries: usize) -> Result<Permit, SystemError> {
        Ok(self.gate.wait(entries).await?)
    }

    /// Makes entries durable and puts them before their sessions.
    ///
    /// # Errors
    /// [`SystemError::Store`] if they could not be written: then none was taken.
    pub async fn append(&self, entries: Vec<Entry>, permit: Permit) -> Result<Receipt, SystemError> {
        let (reply, told) = oneshot::channel();
        self.metrics.queue_depth.of(Queue::Committer).increment(entries.len() as f64);
        self.committer.do_send(Append { entries, permit, reply });
        told.await.map_err(|_| SystemError::Gone("committer"))?.map_err(SystemError::Store)
    }

    /// What a user may want next.
    ///
    /// # Errors
    /// [`SystemError::Busy`] if the user's shard has too many questions waiting.
    pub async fn recommend(&self, user: String, request: Request) -> Result<Answer, SystemError> {
        let user = self.links.resolve(&user).map_or(user, |known| (*known).to_owned());
        let (reply, told) = oneshot::channel();
        let busy = || SystemError::Busy(Full { bound: self.gate.bound() });
        let _asked = Asked::over(self.metrics.queue_depth.of(Queue::Questions));
        let shard = self.shards.get(shard_of(&user, self.shards.len())).ok_or(SystemError::Gone("shard"))?;
        shard.try_send(Ask { user, request, reply }).map_err(|_| busy())?;
        told.await.map_err(|_| busy())
    }

    /// What somebody may want next of whom only these items are known; nothing is kept.
    #[must_use]
    pub fn recommend_inline(&self, items: &[String], request: &Request) -> Answer {
        let (snapshot, catalog, mut workspace) = (self.published.load(), self.catalog.load(), Workspace::default());
        let mut follower = Follower::default();
        let kind = self.fold.kinds.id(&Kind::View).unwrap_or_default();
        for item in items.iter().filter_map(|name| self.dictionary.get(name)) {
            let step = Step { item: Some(item), kind, boundary: false, at: request.now, value: self.fold.kinds.rule(kind).value };
            follower.advance(0, step, None, &self.fold.pace, snapshot.weights(), &mut workspace.network);
        }
        let mut answer = answer(&snapshot, &catalog, &mut follower, &self.fold.pace, request, &mut workspace);
        if answer.fallback == Fallback::UnknownUser {
            answer.fallback = Fallback::UnknownItems;
        }
        answer
    }

    /// Items like one.
    #[must_use]
    pub fn similar(&self, item: ItemIx, limit: usize, now: Timestamp) -> Vec<Candidate> {
        similar(&self.published.load(), &self.catalog.load(), item, limit, &self.fold.pace, now)
    }

    /// What is trending, of one category or of all.
    #[must_use]
    pub fn trending(&self, category: Option<&str>, limit: usize, now: Timestamp) -> Vec<Candidate> {
        trending(&self.published.load(), &self.catalog.load(), category, limit, now)
    }

    /// The name of an item.
    #[must_use]
    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// The catalog, with every change that was acknowledged.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// The snapshot published last.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.load_full()
    }

    /// The kinds of event in force.
    #[must_use]
    pub fn kinds(&self) -> &Kinds {
        &self.fold.kinds
    }

    /// The gate.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The metrics, to record with.
    #[must_use]
    pub fn metrics_handles(&self) -> &Metrics {
        &self.metrics
    }

    /// The metrics, brought up to date where nobody else does: to be read.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        let end = self.store.journal().next_offset().unwrap_or_default() as f64;
        let metrics = &self.metrics;
        metrics.in_flight_events.set(self.gate.inside() as f64);
        metrics.in_flight_events_limit.set(self.gate.bound() as f64);
        let published = self.published.load();
        metrics.learner_lag_entries.set(end - published.offset() as f64);
        metrics.weights_lag_entries.set(end - published.trained_through() as f64);
        published.source_sizes().for_each(|(source, _, bytes)| metrics.recall_bytes.of(source).set(bytes as f64));
        metrics.journal_offset.set(end);
        metrics.journal_begin.set(self.store.journal().begin().unwrap_or_default() as f64);
        if let Ok(noted) = self.store.quarantine().count() {
            metrics.quarantined_entries.set(noted as f64);
        }
        metrics.journal_failed.set(f64::from(u8::from(self.store.has_failed())));
        metrics.store_bytes.set(self.store.size_on_disk().unwrap_or_default() as f64);
        metrics.store_live_bytes.set(self.store.live_bytes_counted().unwrap_or_default() as f64);
        if let Ok(disk) = self.store.disk() {
            metrics.disk_free_bytes.set(disk.free as f64);
            metrics.disk_size_bytes.set(disk.size as f64);
        }
        metrics
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Makes a backup while everything goes on, see [`Store::backup`]: whatever was acknowledged when this was called is in it. Blocks until it is whole.
    ///
    /// # Errors
    /// [`SystemError::Copying`] while another one or a compaction is under way, [`SystemError::Store`] for what kept it from being made.
    pub fn backup(&self, target: &Path) -> Result<Copied, SystemError> {
        self.upkeep.backup(target)
    }

    /// Gives disk back while everything goes on, see [`Store::compact`]. Blocks until it is done.
    ///
    /// # Errors
    /// [`SystemError::Copying`] while another one or a backup is under way, [`SystemError::Stopping`] if it was broken off for that, [`SystemError::Store`] for what kept it from being
    /// done.
    pub fn compact(&self) -> Result<Compacted, SystemError> {
        self.upkeep.compact()
    }

    /// Breaks off what would keep a stop waiting and loses nothing by it.
    pub fn hurry(&self) {
        self.upkeep.stop();
        self.hush();
    }

    /// How learning stands.
    ///
    /// # Errors
    /// [`SystemError::Gone`] if the model actor is.
    pub async fn standing(&self) -> Result<Standing, SystemError> {
        self.model.send(HowFar).await.map_err(|_| SystemError::Gone("model actor"))
    }

    /// Does something to the model: writes it to the journal and waits, for a while, until the fold has come there. Returns where it stands in the journal.
    ///
    /// # Errors
    /// [`SystemError::NoPoint`] for a rollback to where it cannot go, or what the journal says: then nothing was done.
    pub async fn steer(&self, act: ModelAct, cause: Cause, now: Timestamp) -> Result<Offset, SystemError> {
        if let ModelAct::Rollback { to } = act {
            let points: Vec<_> = self.store.points()?.into_iter().map(|point| point.offset).collect();
            if !points.contains(&to) {
                return Err(SystemError::NoPoint { to, points });
            }
        }
        let change = Entry::Model(ModelChange { timestamp: now, act, cause });
        let receipt = self.append(vec![change], self.gate.enter(1)?).await?;
        for _ in 0..STEERING.1 {
            if self.standing().await?.next >= receipt.offset {
                break;
            }
            actix::clock::sleep(STEERING.0).await;
        }
        Ok(receipt.offset.saturating_sub(1))
    }

    /// Writes the learned state to the disk. Returns the offset up to which it reaches.
    ///
    /// # Errors
    /// What kept it from being written.
    pub async fn checkpoint(&self) -> Result<Offset, SystemError> {
        self.model.send(Checkpoint).await.map_err(|_| SystemError::Gone("model actor"))?.map_err(SystemError::Model)
    }

    /// From now on nothing is taken, or, `on` being false, again everything is. Questions are answered all the while; who listens is let go.
    pub fn drain(&self, on: bool) {
        self.draining.store(on, Ordering::SeqCst);
        if on {
            self.hush();
        }
    }

    /// Whether nothing is taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Waits until every actor has had its turn.
    ///
    /// # Errors
    /// [`SystemError::Gone`] if one is.
    pub async fn pulse(&self) -> Result<(), SystemError> {
        self.committer.send(Pulse).await.map_err(|_| SystemError::Gone("committer"))?;
        self.model.send(Pulse).await.map_err(|_| SystemError::Gone("model actor"))?;
        for shard in &self.shards {
            shard.send(Pulse).await.map_err(|_| SystemError::Gone("shard"))?;
        }
        Ok(())
    }

    /// Stores everything that a start would otherwise have to fold again: sessions, items, the learned state.
    ///
    /// # Errors
    /// The first thing that could not be stored; nothing acknowledged is lost by it.
    pub async fn rest(&self) -> Result<Offset, SystemError> {
        for shard in &self.shards {
            shard.send(Flush).await.map_err(|_| SystemError::Gone("shard"))?.map_err(SystemError::Store)?;
        }
        self.committer.send(Persist).await.map_err(|_| SystemError::Gone("committer"))?.map_err(SystemError::Store)?;
        // The database keeps what was written last to itself for a while, and the process ends without its farewell.
        self.store.sync(Durability::PowerLoss)?;
        self.checkpoint().await
    }
}

/// A question under way, counted until it is dropped: also one whose asker has gone.
struct Asked<'m>(&'m metrics::Gauge);

impl<'m> Asked<'m> {
    fn over(depth: &'m metrics::Gauge) -> Self {
        depth.increment(1.0);
        Self(depth)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Makes the fold as its newest checkpoint left it, or at its begin if there is none, or only one made under other settings. Its threads last from one to the next.
fn loader(
    store: &Store,
    dictionary: &Arc<Dictionary>,
    settings: FoldSettings,
    kept: usize,
    metrics: &Metrics,
) -> impl FnMut() -> Result<Learner, SystemError> + use<> {
    let (store, dictionary) = (store.clone(), Arc::clone(dictionary));
    let training = Beside::start(metrics.training_seconds.clone(), metrics.panics.of(Worker::Training).clone());
    let clustering = Beside::start(metrics.recall_clustering_seconds.clone(), metrics.panics.of(Worker::Recall).clone());
    move || {
        let past = KeptPast::new(store.clone(), Arc::clone(&dictionary), settings.clone());
        let aides = Aides { training: Box::new(training.another()), clustering: Box::new(clustering.another()), past: Box::new(past) };
        let (state, first) = (newest(&store, kept, &settings)?, store.journal().begin()?);
        Ok(Learner::new(settings.clone(), Arc::clone(&dictionary), state, first, origin(&store)?, aides)?)
    }
}

/// What the newest checkpoint under these settings holds; if there is none, what the newest one under others does. One that this build cannot read is passed over.
fn newest(store: &Store, kept: usize, settings: &FoldSettings) -> Result<Option<State>, SystemError> {
    let mut other = None;
    for state in store.checkpoints(kept)?.descending(store.journal().next_offset()?)?.filter_map(decode) {
        if state.suits(settings) {
            return Ok(Some(state));
        }
        other = other.or(Some(state));
    }
    Ok(other)
}

/// Puts the journal's tail before the sessions: what their stored records do not hold yet.
fn recover(
    store: &Store,
    dictionary: &Dictionary,
    fold: &FoldSettings,
    shards: &[Addr<ShardActor>],
    metrics: &Metrics,
    through: Offset,
) -> Result<(), SystemError> {
    let mut next = through;
    loop {
        let entries = store.journal().read(next, 4096)?;
        let Some((last, _)) = entries.last() else { return Ok(()) };
        let from = std::mem::replace(&mut next, last + 1);
        let mut by_shard: Vec<Vec<(String, Happened)>> = shards.iter().map(|_| Vec::new()).collect();
        for (offset, entry) in entries {
            if let Some((user, happened)) = Happened::of(offset, entry, dictionary, &fold.kinds)
                && let Some(events) = by_shard.get_mut(shard_of(&user, shards.len()))
            {
                events.push((user, happened));
            }
        }
        for (shard, events) in shards.iter().zip(by_shard) {
            metrics.queue_depth.of(Queue::Shards).increment(events.len() as f64);
            shard.do_send(Deliver { events, from, through: next, permits: None });
        }
    }
}
