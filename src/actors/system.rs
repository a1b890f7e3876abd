//! The whole, put together: what `serve` and `replay` both run.

mod consent;
mod erasure;
mod expiry;
mod inline_session;
mod inspection;
mod recovery;
mod steering;
mod subscriptions;
mod watermarks;

pub use consent::ConsentedEntries;

use actix::{Actor, Addr, Arbiter};
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::admission::{AdmissionControl, AdmissionFull, AdmissionPermit};
use super::checkpoint_preload::CheckpointPreload;
use super::committer::{AppendEntries, CommitterActor, PersistIndexes};
use super::erasure_progress::ErasureProgress;
use super::error::{LearnerActorError, SystemError};
use super::flush_progress::FlushProgress;
use super::jobs::maintenance::StoreMaintenance;
use super::learner::{CheckpointPolicy, GetStatus, LearnerActor, LearnerStatus};
use super::live_catalog::LiveCatalog;
use super::liveness::LivenessPing;
use super::pretrained::{number_items, read_pretrained};
use super::shard::{FlushSessions, RecommendForUser, ShardActor, ShardContext, shard_of};
use crate::domain::{Candidate, Catalog, Consent, Entry, EventKinds, ItemDictionary, ItemIx, Offset, Timestamp, UserAliases, UserConsents};
use crate::learner::{LearnerConfig, ModelSnapshot, RankedAnswer, RecommendationRequest, similar_items, trending_items};
use crate::metrics::{Metrics, QueueName};
use crate::store::{BackupSummary, Committer, CommitterSettings, CompactionSummary, Durability, Store};
pub use crate::store::{ErasedEntryCounts, QuarantinedEntry, RestorePoint};
use crate::telemetry::span;
use recovery::{deliver_journal_tail, learner_loader};
use watermarks::Watermarks;

pub use crate::store::CommitReceipt;

/// How many of each, and how much.
#[derive(Debug, Clone)]
pub struct SystemSettings {
    /// What governs the fold.
    pub learner: LearnerConfig,
    /// What governs the journal.
    pub committer: CommitterSettings,
    /// Entries that may be on their way between the door and the sessions.
    pub max_in_flight: usize,
    /// Arbiters that share the users.
    pub shards: usize,
    /// How long an idle session actor lives.
    pub idle_timeout: Duration,
    /// How many session actors may live; beyond it those unused longest rest first.
    pub max_live_sessions: usize,
    /// How often the learned state is written.
    pub checkpoints: CheckpointPolicy,
}

/// Addresses of all actors, and what they share. Cheap to clone.
#[derive(Clone)]
pub struct System {
    store: Store,
    admission: AdmissionControl,
    dictionary: Arc<ItemDictionary>,
    aliases: Arc<UserAliases>,
    consents: Arc<UserConsents>,
    /// How far the consent of users goes who said nothing of it.
    default_consent: Consent,
    published: Arc<ArcSwap<ModelSnapshot>>,
    catalog: Arc<ArcSwap<Catalog>>,
    committer: Addr<CommitterActor>,
    shards: Vec<Addr<ShardActor>>,
    learner: Addr<LearnerActor>,
    learner_config: Arc<LearnerConfig>,
    metrics: Arc<Metrics>,
    maintenance: StoreMaintenance,
    erasure_progress: ErasureProgress,
    watermarks: Watermarks,
    /// Nothing is taken any more.
    draining: Arc<AtomicBool>,
}

/// Starts one shard actor per arbiter; `context` holds what all shards share.
fn start_shards(context: &ShardContext) -> Vec<Addr<ShardActor>> {
    let (_, shards) = context.number;
    let start = |number| {
        let context = ShardContext { number: (number, shards), ..context.clone() };
        ShardActor::start_in_arbiter(&Arbiter::new().handle(), move |_| ShardActor::new(context))
    };
    (0..shards).map(start).collect()
}

/// Publishes the limits of queues, sessions and checkpoints as metrics.
fn publish_limits(metrics: &Metrics, settings: &SystemSettings) {
    for (queue, limit) in [
        (QueueName::Committer, settings.max_in_flight),
        (QueueName::Shards, settings.max_in_flight),
        (QueueName::SessionRequests, ShardActor::MAX_PENDING_REQUESTS * settings.shards),
    ] {
        metrics.queue_limit.with_label(queue).set(limit as f64);
    }
    metrics.live_sessions_limit.set(settings.max_live_sessions as f64);
    metrics.checkpoint_interval_entries.set(settings.checkpoints.interval as f64);
}

impl System {
    /// Starts every actor over a store: loads the newest checkpoint that verifies, and lets
    /// sessions and fold catch up with the journal's tail. Must be called within an actix system.
    ///
    /// # Errors
    /// [`SystemError`] if the journal cannot be read or the settings cannot run.
    pub fn start(store: Store, settings: SystemSettings, metrics: Arc<Metrics>) -> Result<Self, SystemError> {
        Self::start_with(store, settings, metrics, None)
    }

    /// As [`System::start`]; the newest checkpoint may have been read ahead.
    ///
    /// # Errors
    /// As [`System::start`].
    pub fn start_with(
        store: Store,
        settings: SystemSettings,
        metrics: Arc<Metrics>,
        ahead: Option<CheckpointPreload>,
    ) -> Result<Self, SystemError> {
        let pretrained = read_pretrained(&store)?;
        if let Some(pretrained) = &pretrained {
            number_items(&store, pretrained)?;
        }
        let core = Committer::open(store.clone(), settings.committer.clone())?;
        let (dictionary, links, consents, end) = (core.dictionary(), core.aliases(), core.consents(), core.next_offset());
        let fold = Arc::new(settings.learner.clone());
        let mut load = learner_loader(&store, &dictionary, settings.learner.clone(), settings.checkpoints.keep, &metrics, ahead);
        let learner = load()?;
        let published = Arc::new(ArcSwap::from_pointee(learner.snapshot()));
        let live = LiveCatalog::recover(&store, &dictionary, Arc::clone(&published))?;
        let catalog = live.published();

        let through = store.sessions().watermark()?.min(end);
        let stored = Arc::new(FlushProgress::new(settings.shards, through));
        let context = ShardContext {
            number: (0, settings.shards),
            store: store.clone(),
            metrics: Arc::clone(&metrics),
            published: Arc::clone(&published),
            catalog: Arc::clone(&catalog),
            dictionary: Arc::clone(&dictionary),
            kinds: fold.kinds.clone(),
            sequence_params: fold.sequence,
            flush_progress: Arc::clone(&stored),
            idle_timeout: settings.idle_timeout,
            max_live_sessions: settings.max_live_sessions.div_ceil(settings.shards.max(1)),
        };
        let shards = start_shards(&context);
        deliver_journal_tail(&store, &dictionary, &fold, &shards, &metrics, through)?;
        publish_limits(&metrics, &settings);

        let upkeep = StoreMaintenance::new(store.clone(), Arc::clone(&metrics));
        let load = Box::new(move || load().map_err(|error| LearnerActorError::Load(Box::new(error))));
        let model = LearnerActor::new(
            learner,
            load,
            upkeep.clone(),
            Arc::clone(&dictionary),
            Arc::clone(&metrics),
            Arc::clone(&published),
            settings.checkpoints,
        )
        .map_err(|error| SystemError::LearnerActor(Arc::new(error)))?;
        let learned = model.learned_watermark();
        let model = LearnerActor::start_in_arbiter(&Arbiter::new().handle(), move |_| model);
        let committer = CommitterActor::new(core, fold.kinds.clone(), live, Arc::clone(&metrics), shards.clone(), model.clone());
        let reach = Watermarks { delivered: committer.delivered_watermark(), learned };
        let committer = CommitterActor::start_in_arbiter(&Arbiter::new().handle(), move |_| committer);
        let (gate, draining) = (AdmissionControl::new(settings.max_in_flight), Arc::default());
        let usual_consent = settings.committer.default_consent;
        let erasing = ErasureProgress::default();
        Ok(Self {
            store,
            admission: gate,
            dictionary,
            aliases: links,
            consents,
            default_consent: usual_consent,
            published,
            catalog,
            committer,
            shards,
            learner: model,
            learner_config: fold,
            metrics,
            maintenance: upkeep,
            erasure_progress: erasing,
            watermarks: reach,
            draining,
        })
    }

    /// Room for entries, at once or not at all.
    ///
    /// # Errors
    /// [`SystemError::Busy`] if there is none, [`SystemError::Draining`] if nothing is taken any
    /// more.
    pub fn try_admit(&self, entries: usize) -> Result<AdmissionPermit, SystemError> {
        if self.is_draining() { Err(SystemError::Draining) } else { Ok(self.admission.try_admit(entries)?) }
    }

    /// Room for entries, waited for.
    ///
    /// # Errors
    /// [`SystemError::Busy`] only while the system is being torn down.
    pub async fn admit(&self, entries: usize) -> Result<AdmissionPermit, SystemError> {
        Ok(self.admission.admit(entries).await?)
    }

    /// Makes entries durable and puts them before their sessions.
    ///
    /// # Errors
    /// [`SystemError::Store`] if they could not be written: then none was taken.
    pub async fn append(&self, entries: Vec<Entry>, permit: AdmissionPermit) -> Result<CommitReceipt, SystemError> {
        let (reply, told) = oneshot::channel();
        let span = span!("commit", sequor.entries = entries.len() as i64);
        self.metrics.queue_depth.with_label(QueueName::Committer).increment(entries.len() as f64);
        self.committer.do_send(AppendEntries { entries, permit, reply });
        told.instrument(span).await.map_err(|_| SystemError::ActorStopped("committer"))?.map_err(SystemError::Store)
    }

    /// The user whom an id leads to, and the shard that the user is on.
    fn shard(&self, user: String) -> Result<(String, &Addr<ShardActor>), SystemError> {
        let user = self.aliases.resolve(&user).map_or(user, |known| (*known).to_owned());
        let shard = self.shards.get(shard_of(&user, self.shards.len())).ok_or(SystemError::ActorStopped("shard"))?;
        Ok((user, shard))
    }

    /// What a user may want next.
    ///
    /// # Errors
    /// [`SystemError::Busy`] if the user's shard has too many questions waiting.
    pub async fn recommend(&self, user: String, request: RecommendationRequest) -> Result<RankedAnswer, SystemError> {
        let (user, shard) = self.shard(user)?;
        let (reply, told) = oneshot::channel();
        let busy = || SystemError::Busy(AdmissionFull { limit: self.admission.limit() });
        let _asked = PendingRequestGuard::over(self.metrics.queue_depth.with_label(QueueName::SessionRequests));
        let span = span!("recommend");
        shard.try_send(RecommendForUser { user, request, reply, span: span.clone() }).map_err(|_| busy())?;
        told.instrument(span).await.map_err(|_| busy())
    }

    /// Items like one.
    #[must_use]
    pub fn similar_items(&self, item: ItemIx, limit: usize, now: Timestamp) -> Vec<Candidate> {
        similar_items(&self.published.load(), &self.catalog.load(), item, limit, &self.learner_config.sequence, now)
    }

    /// What is trending, of one category or of all.
    #[must_use]
    pub fn trending_items(&self, category: Option<&str>, limit: usize, now: Timestamp) -> Vec<Candidate> {
        trending_items(&self.published.load(), &self.catalog.load(), category, limit, now)
    }

    /// The name of an item.
    #[must_use]
    pub fn dictionary(&self) -> &ItemDictionary {
        &self.dictionary
    }

    /// The catalog, with every change that was acknowledged.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// The snapshot published last.
    #[must_use]
    pub fn snapshot(&self) -> Arc<ModelSnapshot> {
        self.published.load_full()
    }

    /// The kinds of event in force.
    #[must_use]
    pub fn kinds(&self) -> &EventKinds {
        &self.learner_config.kinds
    }

    /// The gate.
    #[must_use]
    pub fn admission(&self) -> &AdmissionControl {
        &self.admission
    }

    /// The metrics, to record with.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The metrics, brought up to date where nobody else does: to be read.
    #[must_use]
    pub fn refresh_metrics(&self) -> &Metrics {
        let end = self.store.journal().next_offset().unwrap_or_default() as f64;
        let metrics = &self.metrics;
        metrics.in_flight_events.set(self.admission.in_flight() as f64);
        metrics.in_flight_events_limit.set(self.admission.limit() as f64);
        let published = self.published.load();
        metrics.learner_lag_entries.set(end - published.offset() as f64);
        metrics.weights_lag_entries.set(end - published.trained_through() as f64);
        published.source_sizes().for_each(|(source, _, bytes)| metrics.candidate_source_bytes.with_label(source).set(bytes as f64));
        metrics.journal_offset.set(end);
        metrics.journal_begin.set(self.store.journal().first_offset().unwrap_or_default() as f64);
        if let Ok(noted) = self.store.quarantine().count() {
            metrics.quarantined_entries.set(noted as f64);
        }
        metrics.journal_failed.set(f64::from(u8::from(self.store.has_failed())));
        metrics.store_bytes.set(self.store.size_on_disk().unwrap_or_default() as f64);
        metrics.store_live_bytes.set(self.store.cached_live_bytes().unwrap_or_default() as f64);
        if let Ok(disk) = self.store.disk_space() {
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

    /// Makes a backup while everything goes on, see [`Store::backup`]: whatever was acknowledged
    /// when this was called is in it. Blocks until it is whole.
    ///
    /// # Errors
    /// [`SystemError::MaintenanceRunning`] while another one or a compaction is under way,
    /// [`SystemError::Store`] for what kept it from being made.
    pub fn backup(&self, target: &Path) -> Result<BackupSummary, SystemError> {
        self.maintenance.backup(target)
    }

    /// Gives disk back while everything goes on, see [`Store::compact`]. Blocks until it is done.
    ///
    /// # Errors
    /// [`SystemError::MaintenanceRunning`] while another one or a backup is under way,
    /// [`SystemError::Stopping`] if it was broken off for that, [`SystemError::Store`] for what
    /// kept it from being done.
    pub fn compact(&self) -> Result<CompactionSummary, SystemError> {
        self.maintenance.compact()
    }

    /// Breaks off what would keep a stop waiting and loses nothing by it.
    pub fn cancel_long_tasks(&self) {
        self.maintenance.cancel();
        self.close_subscribers();
    }

    /// How learning stands.
    ///
    /// # Errors
    /// [`SystemError::ActorStopped`] if the model actor is.
    pub async fn learner_status(&self) -> Result<LearnerStatus, SystemError> {
        self.learner.send(GetStatus).await.map_err(|_| SystemError::ActorStopped("model actor"))
    }

    /// Waits until every actor has had its turn.
    ///
    /// # Errors
    /// [`SystemError::ActorStopped`] if one is.
    pub async fn check_liveness(&self) -> Result<(), SystemError> {
        self.committer.send(LivenessPing).await.map_err(|_| SystemError::ActorStopped("committer"))?;
        self.learner.send(LivenessPing).await.map_err(|_| SystemError::ActorStopped("model actor"))?;
        for shard in &self.shards {
            shard.send(LivenessPing).await.map_err(|_| SystemError::ActorStopped("shard"))?;
        }
        Ok(())
    }

    /// Stores everything that a start would otherwise have to fold again: sessions, items, the
    /// learned state.
    ///
    /// # Errors
    /// The first thing that could not be stored; nothing acknowledged is lost by it.
    pub async fn persist(&self) -> Result<Offset, SystemError> {
        self.persist_with(true).await
    }

    /// Stores it, `for_good` if nothing more comes.
    pub(super) async fn persist_with(&self, for_good: bool) -> Result<Offset, SystemError> {
        self.flush().await?;
        self.committer
            .send(PersistIndexes { is_final: for_good })
            .await
            .map_err(|_| SystemError::ActorStopped("committer"))?
            .map_err(SystemError::Store)?;
        // The database keeps what was written last to itself for a while, and the process ends
        // without its farewell.
        self.store.sync(Durability::PowerLoss)?;
        self.checkpoint().await
    }

    /// Stores every session that changed.
    async fn flush(&self) -> Result<(), SystemError> {
        for shard in &self.shards {
            shard.send(FlushSessions).await.map_err(|_| SystemError::ActorStopped("shard"))?.map_err(SystemError::Store)?;
        }
        Ok(())
    }
}

/// A question under way, counted until it is dropped: also one whose asker has gone.
struct PendingRequestGuard<'m>(&'m metrics::Gauge);

impl<'m> PendingRequestGuard<'m> {
    fn over(depth: &'m metrics::Gauge) -> Self {
        depth.increment(1.0);
        Self(depth)
    }
}

impl Drop for PendingRequestGuard<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
