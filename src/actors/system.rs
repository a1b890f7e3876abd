//! The running system: starts all actors for an open store. The commands `serve`, `replay` and
//! `import` run the system.

mod recovery;

use actix::{Actor, Addr, Arbiter, Context};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::admission::AdmissionControl;
use super::answering::Answerer;
use super::checkpoint_preload::CheckpointPreload;
use super::committer::CommitterActor;
use super::erasure_progress::ErasureProgress;
use super::error::{LearnerActorError, StartError};
use super::flush_progress::FlushProgress;
use super::handles::{
    IngestHandle, InspectionHandle, MaintenanceHandle, ModelHandle, RecommenderHandle, ShardRouter, Watermarks,
};
use super::jobs::maintenance::StoreMaintenance;
use super::jobs::scrub::SharedScrubReport;
use super::learner::{CheckpointPolicy, LearnerActor, LearnerStatus};
use super::live_catalog::LiveCatalog;
use super::pretrained::{assign_item_numbers, read_pretrained};
use super::sender_activity::SenderActivity;
use super::session_subscribers::SessionSubscribers;
use super::session_table::SessionTable;
use super::shard::{ShardActor, ShardContext};
use super::training_exchange::ClusterTrainingExchange;
use crate::cluster::{ClusterMember, MemberStatus, cluster_of_data_dir};
use crate::domain::NodeRole;
use crate::learner::{LearnerConfig, TrainingExchange};
use crate::metrics::{Metrics, QueueName, ThreadRole};
use crate::store::{Committer, CommitterSettings, Store};
use recovery::{deliver_journal_tail, learner_loader};

/// Settings of the running system.
#[derive(Debug, Clone)]
pub struct SystemSettings {
    /// Settings of the learner.
    pub learner: LearnerConfig,
    /// Settings of the committer and the journal.
    pub committer: CommitterSettings,
    /// The largest number of admitted entries that their sessions have not applied yet.
    pub max_in_flight: usize,
    /// The largest learner lag, in entries, at which events are accepted.
    pub max_lag: u64,
    /// The longest time that a request waits for its session; `None` means no limit.
    pub queue_wait: Option<Duration>,
    /// Number of shard actors; each has a thread.
    pub shards: usize,
    /// The idle time after which a live session is stored and dropped.
    pub idle_timeout: Duration,
    /// The largest number of live sessions. Beyond this number, the least recently used sessions
    /// are stored and dropped.
    pub max_live_sessions: usize,
    /// When checkpoints are written, and which data is removed afterwards.
    pub checkpoints: CheckpointPolicy,
    /// Settings of a node of a cluster.
    pub node: NodeSettings,
}

/// Settings of a node of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeSettings {
    /// Number of entries between two learned states that the nodes compare; 0: none.
    pub compare_every: u64,
    /// What the node does for the learned weights.
    pub role: NodeRole,
    /// The longest time that a replica waits for the result of a training.
    pub train_after: Duration,
}

/// The handles of the running system. Cheap to clone.
#[derive(Clone)]
pub struct System {
    /// The store.
    pub store: Store,
    /// The metrics in which the system records.
    pub metrics: Arc<Metrics>,
    /// The handle for consent, admission and the journal append.
    pub ingest: IngestHandle,
    /// Recommendations.
    pub recommender: RecommenderHandle,
    /// The learner.
    pub model: ModelHandle,
    /// The handle for backups, compaction, removal of user data, drain and stop.
    pub maintenance: MaintenanceHandle,
    /// The handle for reading sessions, rankings and metrics.
    pub inspection: InspectionHandle,
    /// The latest report of the journal's scrub.
    pub scrub: SharedScrubReport,
    /// The state of the node in its cluster; `None` if the daemon is a single node.
    pub cluster: Option<Arc<MemberStatus>>,
}

/// Starts an actor on its own thread.
fn start_on_thread<A>(role: ThreadRole, create: impl FnOnce() -> A + Send + 'static) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    A::start_in_arbiter(&Arbiter::new().handle(), move |_| {
        role.name_current_thread();
        create()
    })
}

/// Starts one shard actor per arbiter, and delivers the journal's tail to the sessions.
fn start_shards(
    store: &Store,
    metrics: &Arc<Metrics>,
    core: &Committer,
    settings: &SystemSettings,
) -> Result<ShardRouter, StartError> {
    let (shards, dictionary, aliases) = (settings.shards, core.dictionary(), core.aliases());
    let flushed_through = store.sessions().watermark()?.min(core.next_offset());
    let (subscribers, session_table) =
        (Arc::new(SessionSubscribers::new(Arc::clone(&aliases))), Arc::new(SessionTable::new(shards)));
    let flush_progress = Arc::new(FlushProgress::new(shards, flushed_through));
    let start = |number| {
        let context = ShardContext {
            number: (number, shards),
            store: store.clone(),
            metrics: Arc::clone(metrics),
            session_table: Arc::clone(&session_table),
            dictionary: Arc::clone(&dictionary),
            kinds: settings.learner.kinds.clone(),
            sequence_params: settings.learner.sequence,
            flush_progress: Arc::clone(&flush_progress),
            subscribers: Arc::clone(&subscribers),
            idle_timeout: settings.idle_timeout,
            max_live_sessions: share_of(settings.max_live_sessions, number, shards),
        };
        start_on_thread(ThreadRole::Shard, move || ShardActor::new(context))
    };
    let router = ShardRouter { shards: (0..shards).map(start).collect(), aliases, subscribers, session_table };
    deliver_journal_tail(store, &dictionary, &settings.learner.kinds, &router, metrics, flushed_through)?;
    Ok(router)
}

/// Divides a limit among `shards` shards: returns the part of shard `number`. The parts add up to
/// the limit.
fn share_of(limit: usize, number: usize, shards: usize) -> usize {
    limit / shards.max(1) + usize::from(number < limit % shards.max(1))
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
    metrics.learner_lag_limit_entries.set(settings.max_lag as f64);
    metrics.live_sessions_limit.set(settings.max_live_sessions as f64);
    metrics.checkpoint_interval_entries.set(settings.checkpoints.interval as f64);
}

/// The state of a node of a cluster; `None` for a single node, whose data directory must not belong
/// to a cluster.
fn member_status(store: &Store, member: Option<&ClusterMember>) -> Result<Option<Arc<MemberStatus>>, StartError> {
    match (member, cluster_of_data_dir(store.dir())?) {
        (None, Some(cluster)) => Err(StartError::ClusterDataDir { dir: store.dir().to_owned(), cluster }),
        (member, _) => Ok(member.map(ClusterMember::status)),
    }
}

/// Shares the results of trainings with the other nodes.
fn training_exchange(member: &ClusterMember, settings: NodeSettings, metrics: &Metrics) -> Arc<dyn TrainingExchange> {
    let (results, status) = (member.training_results(), member.status());
    let NodeSettings { role, train_after, .. } = settings;
    Arc::new(ClusterTrainingExchange::new(results, status, metrics, role, train_after))
}

impl System {
    /// Starts all actors for a store. Loads the newest valid checkpoint, and applies the journal's
    /// tail to the sessions and the learner. Must be called within an actix system.
    ///
    /// # Errors
    /// [`StartError`] if the journal cannot be read or the settings are invalid.
    pub fn start(store: Store, settings: SystemSettings, metrics: Arc<Metrics>) -> Result<Self, StartError> {
        Self::start_with_preload(store, settings, metrics, None, None)
    }

    /// Like [`System::start`], with a checkpoint that was read in advance, and as the node of a
    /// cluster.
    ///
    /// # Errors
    /// As [`System::start`].
    pub fn start_with_preload(
        store: Store,
        settings: SystemSettings,
        metrics: Arc<Metrics>,
        preload: Option<CheckpointPreload>,
        member: Option<ClusterMember>,
    ) -> Result<Self, StartError> {
        let cluster = member_status(&store, member.as_ref())?;
        read_pretrained(&store)?.map_or(Ok(()), |pretrained| assign_item_numbers(&store, &pretrained))?;
        let core = Committer::open(store.clone(), settings.committer.clone())?;
        let (dictionary, aliases, consents) = (core.dictionary(), core.aliases(), core.consents());
        let (placements, attributes) = (core.placements(), core.user_attributes());
        let learner_config = Arc::new(settings.learner.clone());
        let exchange = member.as_ref().map(|member| training_exchange(member, settings.node, &metrics));
        let (learner, keep) = (settings.learner.clone(), settings.checkpoints.keep);
        let mut load = learner_loader(&store, &dictionary, (learner, keep), &metrics, preload, exchange);
        let learner = load()?;
        let published = Arc::new(ArcSwap::from_pointee(learner.snapshot()));
        let live_catalog = LiveCatalog::from_store(&store, &dictionary, Arc::clone(&published))?;
        let catalog = live_catalog.published_catalog();

        let router = start_shards(&store, &metrics, &core, &settings)?;
        publish_limits(&metrics, &settings);

        let store_maintenance = StoreMaintenance::new(store.clone(), Arc::clone(&metrics));
        let load = Box::new(move || load().map_err(|error| LearnerActorError::Load(Box::new(error))));
        let learner = LearnerActor::new(
            learner,
            load,
            store_maintenance.clone(),
            Arc::clone(&dictionary),
            Arc::clone(&metrics),
            Arc::clone(&published),
            settings.checkpoints,
        )
        .map_err(Box::new)?;
        let learner = learner.with_state_digests(settings.node.compare_every, cluster.clone());
        let (learned, status, activity) = (learner.learned_watermark(), learner.status(), learner.sender_activity());
        let learner = start_on_thread(ThreadRole::Learner, move || learner);
        let kinds = learner_config.kinds.clone();
        let receivers = (Arc::clone(&router.shards), Arc::clone(&router.session_table));
        let committer =
            CommitterActor::new(core, kinds, live_catalog, Arc::clone(&metrics), receivers, learner.clone(), member);
        let deferred = committer.deferred_entries();
        let watermarks = Watermarks { delivered: committer.delivered_watermark(), learned };
        let committer = start_on_thread(ThreadRole::Committer, move || committer);

        let (admission, max_lag) = (AdmissionControl::new(settings.max_in_flight), settings.max_lag);
        let sequence_params = learner_config.sequence;
        let answerer = Answerer { published, catalog, sequence_params, metrics: Arc::clone(&metrics) };
        let draining = Arc::<AtomicBool>::default();
        let recommender = RecommenderHandle {
            router,
            answerer,
            dictionary,
            learner_config,
            placements,
            watermarks: watermarks.clone(),
            learner: learner.clone(),
            admission_limit: admission.limit(),
            queue_wait: settings.queue_wait,
            metrics: Arc::clone(&metrics),
            draining: Arc::clone(&draining),
        };
        let ingest = IngestHandle {
            admission,
            committer,
            deferred,
            aliases,
            consents,
            attributes,
            default_consent: settings.committer.default_consent,
            watermarks,
            max_lag,
            metrics: Arc::clone(&metrics),
            draining,
            cluster: cluster.clone(),
        };
        let learner = (learner, status, activity);
        Ok(Self { cluster, ..Self::with_handles(store, metrics, ingest, recommender, learner, store_maintenance) })
    }

    /// Builds the system: creates the remaining handles from the ingest and the recommender handle.
    fn with_handles(
        store: Store,
        metrics: Arc<Metrics>,
        ingest: IngestHandle,
        recommender: RecommenderHandle,
        (learner, status, sender_activity): (Addr<LearnerActor>, Arc<ArcSwap<LearnerStatus>>, SenderActivity),
        store_maintenance: StoreMaintenance,
    ) -> Self {
        let model = ModelHandle {
            learner: learner.clone(),
            status,
            sender_activity,
            store: store.clone(),
            ingest: ingest.clone(),
            recommender: recommender.clone(),
        };
        let maintenance = MaintenanceHandle {
            store: store.clone(),
            router: recommender.router.clone(),
            committer: ingest.committer.clone(),
            kinds: recommender.learner_config.kinds.clone(),
            ingest: ingest.clone(),
            model: model.clone(),
            store_maintenance,
            erasure_progress: ErasureProgress::default(),
        };
        let inspection = InspectionHandle {
            store: store.clone(),
            metrics: Arc::clone(&metrics),
            learner,
            ingest: ingest.clone(),
            recommender: recommender.clone(),
        };
        Self {
            store,
            metrics,
            ingest,
            recommender,
            model,
            maintenance,
            inspection,
            scrub: SharedScrubReport::default(),
            cluster: None,
        }
    }
}
