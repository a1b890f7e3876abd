//! The committer actor: group commit of requests to the journal.

mod replication;
mod shared_log;

pub use shared_log::{HasWaitingRequests, LeaveCluster};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

use super::admission::AdmissionPermit;
use super::deferred_entries::DeferredEntries;
use super::error::AppendError;
use super::learner::{AdvanceLearner, LearnerActor};
use super::live_catalog::LiveCatalog;
use super::panic_guard::{catch_panic, inject_fault};
use super::session::{SessionOp, SessionUpdate};
use super::session_table::SessionTable;
use super::shard::{DeliverEntries, ShardActor, shard_of_user};
use crate::cluster::ClusterMember;
use crate::domain::{Entry, EventKinds, Offset, Origin};
use crate::metrics::{ActorKind, Metrics, QueueName};
use crate::registries::ItemDictionary;
use crate::store::{
    CommitCondition, CommitReceipt, CommitRequest, CommittedBatch, Committer, JournalWatcher, SharedLogPosition,
    StoreError,
};
use shared_log::{ActorLink, ClusterCommits};

/// Raises the faults that tests configure for the items of the requests.
fn inject_faults(requests: &[CommitRequest]) {
    for event in requests.iter().flat_map(|request| &request.entries).filter_map(Entry::as_event) {
        inject_fault("committer", || event.item_id.as_deref());
    }
}

/// Appends entries to the journal atomically: either all entries or no entry.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AppendEntries {
    /// The entries, in the sender's order.
    pub entries: Vec<Entry>,
    /// The sender of the entries, if known.
    pub origin: Option<Origin>,
    /// The condition under which the entries apply. Only a node of a cluster evaluates it.
    pub condition: Option<CommitCondition>,
    /// The admission permit of the entries.
    pub permit: AdmissionPermit,
    /// Receives the receipt after the entries are durable and delivered to the shards.
    pub reply: oneshot::Sender<Result<CommitReceipt, AppendError>>,
}

/// The only writer of the journal, on its own thread. Requests that arrive during a commit share
/// the next commit. In a cluster, requests are proposed to the shared log, and its messages are
/// committed.
pub struct CommitterActor {
    core: Committer,
    dictionary: Arc<ItemDictionary>,
    kinds: EventKinds,
    catalog: LiveCatalog,
    metrics: Arc<Metrics>,
    shards: Arc<[Addr<ShardActor>]>,
    session_table: Arc<SessionTable>,
    /// Whether a delivery has begun and not ended. If this is set at the start of a delivery, a panic
    /// interrupted the previous one.
    is_delivering: bool,
    learner: Addr<LearnerActor>,
    pending: Vec<AppendEntries>,
    /// Entries that no request waits for. Every commit includes all of them.
    deferred: Arc<DeferredEntries>,
    /// Whether the actor's mailbox contains a [`CommitPending`] message for the pending requests.
    is_commit_queued: bool,
    /// Every entry before this offset was delivered to its shard.
    delivered: watch::Sender<Offset>,
    /// Whether a commit has failed. The store must then be recovered before the next commit.
    failed: bool,
    /// Whether the system is stopping. The actor then no longer reopens the store.
    is_stopping: bool,
    /// The node of a cluster, until the actor starts.
    member: Option<ClusterMember>,
    /// The connection to the cluster; `None` if the daemon is a single node, or has left.
    cluster: Option<ClusterCommits>,
    /// Whether the daemon is a node of a cluster.
    is_member: bool,
}

impl CommitterActor {
    /// The longest time between two recovery attempts after a failed commit.
    const MAX_RECOVERY_INTERVAL: Duration = Duration::from_secs(1);
    /// The longest time for which deferred entries stay in memory before their commit begins. A
    /// crash within this time loses them.
    const MAX_COMMIT_DELAY: Duration = Duration::from_millis(50);

    /// Creates a committer that delivers entries to `shards` and wakes the learner. If `member` is
    /// set, it commits the messages of the cluster's log.
    #[must_use]
    pub fn new(
        mut core: Committer,
        kinds: EventKinds,
        catalog: LiveCatalog,
        metrics: Arc<Metrics>,
        (shards, session_table): (Arc<[Addr<ShardActor>]>, Arc<SessionTable>),
        learner: Addr<LearnerActor>,
        member: Option<ClusterMember>,
    ) -> Self {
        if member.is_some() {
            core.begin_shared_log(SharedLogPosition::default());
        }
        let (dictionary, delivered) = (core.dictionary(), watch::Sender::new(core.next_offset()));
        Self {
            core,
            dictionary,
            kinds,
            catalog,
            metrics,
            shards,
            session_table,
            is_delivering: false,
            learner,
            pending: Vec::new(),
            deferred: Arc::default(),
            is_commit_queued: false,
            delivered,
            failed: false,
            is_stopping: false,
            is_member: member.is_some(),
            member,
            cluster: None,
        }
    }

    /// Stops reopening the store after failures.
    pub(super) fn stop_writing(&mut self) {
        self.is_stopping = true;
    }

    /// A watch channel of the delivered watermark. Every entry before this offset was delivered to
    /// its shard.
    #[must_use]
    pub fn delivered_watermark(&self) -> watch::Receiver<Offset> {
        self.delivered.subscribe()
    }

    /// The queue of entries that no request waits for. After the queue was empty, the caller must
    /// send [`CommitDeferred`].
    #[must_use]
    pub fn deferred_entries(&self) -> Arc<DeferredEntries> {
        Arc::clone(&self.deferred)
    }

    /// Reopens the store if a write has failed, and delivers the entries that the failed commit
    /// left in the journal.
    fn recover(&mut self) -> Result<(), StoreError> {
        if self.failed || self.core.has_failed() {
            let recovered = self.core.recover()?;
            self.failed = false;
            tracing::info!("the journal accepts writes again");
            self.deliver_to_shards(recovered, Vec::new());
        }
        Ok(())
    }

    fn commit(&mut self, requests: Vec<CommitRequest>) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        self.recover()?;
        self.guard_commit(|core, watch| {
            inject_faults(&requests);
            core.commit_with_watcher(requests, watch)
        })
    }

    /// Runs a commit and measures its syncs. A commit that panics may leave entries in the journal.
    /// Recovery finds these entries, as it does after a commit that fails with an error.
    fn guard_commit<T>(
        &mut self,
        commit: impl FnOnce(&mut Committer, &mut JournalWatcher<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let metrics = Arc::clone(&self.metrics);
        let outcome = catch_panic(&metrics, ActorKind::Committer, || {
            commit(&mut self.core, &mut |sync| {
                let began = Instant::now();
                let synced = sync();
                metrics.sync_seconds.record(began.elapsed());
                synced
            })
        });
        let outcome = outcome.unwrap_or_else(|_| Err(self.core.error_after_panic()));
        self.failed = outcome.is_err();
        outcome
    }

    /// Delivers a batch to the shards of its users, and wakes the learner.
    fn deliver_to_shards(&mut self, committed: CommittedBatch, permits: Vec<AdmissionPermit>) {
        let permits = Arc::new(permits);
        let is_previous_lost = std::mem::replace(&mut self.is_delivering, true);
        let (from, through) = (committed.first, committed.first + committed.entries.len() as u64);
        let changed = self.catalog.apply_batch(&committed);
        self.metrics.catalog_changes.increment(changed);
        let mut by_shard: Vec<Vec<(String, SessionUpdate)>> = self.shards.iter().map(|_| Vec::new()).collect();
        for committed in committed.entries {
            if let Some((user, update)) =
                SessionUpdate::from_entry(committed.offset, committed.entry, &self.dictionary, &self.kinds)
                && let Some(events) = by_shard.get_mut(shard_of_user(&user, self.shards.len()))
            {
                if let SessionOp::Step { step, .. } = &update.op {
                    self.metrics.accepted_events.with_label(step.kind).increment(1);
                }
                events.push((user, update));
            }
        }
        for (number, (shard, events)) in self.shards.iter().zip(by_shard).enumerate() {
            // If the previous delivery was lost, every shard gets a message. It shows a gap, so the
            // shard reads the lost entries from the journal.
            let from = if is_previous_lost { from } else { self.session_table.sent(number) };
            if events.is_empty() && !is_previous_lost {
                continue;
            }
            self.session_table.set_sent(number, through);
            self.metrics.queue_depth.with_label(QueueName::Shards).increment(events.len() as f64);
            // `do_send` ignores the capacity of the mailbox. Admission control bounds this queue
            // instead: entries hold their permits until their sessions have applied them.
            shard.do_send(DeliverEntries { events, from, through, permits: Some(Arc::clone(&permits)) });
        }
        self.is_delivering = false;
        self.session_table.set_all_sent(through);
        self.delivered.send_replace(through);
        // If the learner's mailbox is full, a message that wakes the learner is already in it.
        let _ = self.learner.try_send(AdvanceLearner);
    }
}

impl Actor for CommitterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        // Admission control bounds the number of queued entries. A mailbox with a smaller capacity
        // would reject admitted entries.
        context.set_mailbox_capacity(usize::MAX >> 4);
        if let Some(member) = self.member.take() {
            let status = member.status();
            let proposer = member.follow(Box::new(ActorLink(context.address())));
            self.cluster = Some(ClusterCommits::new(proposer, status));
        }
        // The timer checks and recovers the store even if no write arrives. A load balancer sends
        // no writes to a node that is not ready. If recovery waited for a write, such a node would
        // never recover.
        context.run_interval(Self::MAX_RECOVERY_INTERVAL, |actor, _| {
            if actor.is_stopping {
                return;
            }
            if let Some(cluster) = &mut actor.cluster {
                cluster.fail_overdue_requests();
                actor.propose_pending();
            }
            if !actor.core.has_failed()
                && let Err(error) = actor.core.check_files()
            {
                tracing::error!(error = &error as &dyn std::error::Error, "the journal accepts no more writes");
                return;
            }
            if let Err(error) = actor.recover() {
                tracing::warn!(error = &error as &dyn std::error::Error, "the journal does not accept writes yet");
            }
        });
    }
}

impl Handler<AppendEntries> for CommitterActor {
    type Result = ();

    fn handle(&mut self, append: AppendEntries, context: &mut Self::Context) {
        self.pending.push(append);
        if !self.is_commit_queued {
            // The mailbox delivers this message after the requests that are already queued, so all
            // requests that arrived during the last commit share the next commit.
            self.is_commit_queued = true;
            context.notify(CommitPending);
        }
    }
}

/// Commits the deferred entries at the latest after `CommitterActor::MAX_COMMIT_DELAY`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CommitDeferred;

impl Handler<CommitDeferred> for CommitterActor {
    type Result = ();

    fn handle(&mut self, _: CommitDeferred, context: &mut Self::Context) {
        context.run_later(Self::MAX_COMMIT_DELAY, |actor, _| actor.commit_pending());
    }
}

/// Commits the pending requests and the deferred entries now.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CommitPending;

impl Handler<CommitPending> for CommitterActor {
    type Result = ();

    fn handle(&mut self, _: CommitPending, _: &mut Self::Context) {
        self.is_commit_queued = false;
        self.commit_pending();
    }
}

impl CommitterActor {
    fn commit_pending(&mut self) {
        if self.is_member {
            return self.propose_pending();
        }
        let pending = std::mem::take(&mut self.pending);
        let (deferred, mut permits) = self.deferred.take_all();
        if pending.is_empty() && deferred.is_empty() {
            return;
        }
        self.metrics.queue_depth.with_label(QueueName::Committer).decrement(deferred.len() as f64);
        let deferred_count = deferred.len();
        // The deferred entries are impressions. They are committed first, because pending events may
        // be responses to them.
        let mut requests = if deferred.is_empty() { Vec::new() } else { vec![CommitRequest::from(deferred)] };
        let (deferred_requests, mut replies) = (requests.len(), Vec::new());
        let mut vectors = self.catalog.begin_vector_checks();
        for AppendEntries { entries, origin, permit, reply, .. } in pending {
            self.metrics.queue_depth.with_label(QueueName::Committer).decrement(entries.len() as f64);
            let (entries, rejected) = vectors.split_rejected(entries);
            requests.push(CommitRequest { entries, origin, condition: None });
            permits.push(permit);
            replies.push((reply, rejected));
        }
        let began = Instant::now();
        match self.commit(requests) {
            Ok((receipts, committed)) => {
                self.metrics.commit_seconds.record(began.elapsed());
                self.finish_commit(committed, permits);
                for ((reply, rejected), receipt) in
                    replies.into_iter().zip(receipts.into_iter().skip(deferred_requests))
                {
                    let _ = reply.send(Ok(rejected.add_to(receipt)));
                }
                self.persist_indexes_if_due();
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the commit failed; none of its entries was acknowledged"
                );
                self.metrics.commit_failures.increment(1);
                self.metrics.impressions_lost.increment(deferred_count as u64);
                let error = Arc::new(error);
                for (reply, _) in replies {
                    let _ = reply.send(Err(AppendError::Store(Arc::clone(&error))));
                }
            }
        }
    }

    /// Delivers committed entries.
    fn finish_commit(&mut self, committed: CommittedBatch, permits: Vec<AdmissionPermit>) {
        self.metrics.commit_batch_events.record(committed.entries.len() as f64);
        self.metrics.journal_offset.set(self.core.next_offset() as f64);
        self.metrics.record_commit(self.core.next_offset());
        // If the delivery panics, shards miss entries. At the next delivery, they notice the gap and
        // read these entries from the journal.
        let metrics = Arc::clone(&self.metrics);
        let _ = catch_panic(&metrics, ActorKind::Committer, || self.deliver_to_shards(committed, permits));
    }

    fn persist_indexes_if_due(&mut self) {
        if self.core.needs_index_persist()
            && let Err(error) = self.core.persist_indexes()
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the committer's indexes could not be stored; the next start reads them from the journal"
            );
        }
    }
}

/// Removes the ids of erased events from the deduplication window.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RemoveEventIds {
    /// The event ids.
    pub ids: Vec<String>,
}

impl Handler<RemoveEventIds> for CommitterActor {
    type Result = ();

    fn handle(&mut self, RemoveEventIds { ids }: RemoveEventIds, _: &mut Self::Context) {
        // In a cluster, the commit of a removal's entry has removed the ids.
        if !self.is_member {
            self.core.remove_event_ids(ids.iter().map(String::as_str));
        }
    }
}

/// Stores the committer's indexes (item names, aliases, consents), so that the next start need not
/// derive them from the journal.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Arc<StoreError>>")]
pub struct PersistIndexes {
    /// Whether the system is stopping. The committer then also stores the deduplication window.
    pub is_final: bool,
}

impl Handler<PersistIndexes> for CommitterActor {
    type Result = Result<(), Arc<StoreError>>;

    fn handle(&mut self, PersistIndexes { is_final }: PersistIndexes, _: &mut Self::Context) -> Self::Result {
        if is_final { self.core.prepare_for_shutdown() } else { self.core.persist_indexes() }.map_err(Arc::new)
    }
}
