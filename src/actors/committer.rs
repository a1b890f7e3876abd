//! The committer actor: many requests, one flush.

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

use super::admission::AdmissionPermit;
use super::learner::{AdvanceLearner, LearnerActor};
use super::live_catalog::LiveCatalog;
use super::panic_guard::{catch_panic, inject_fault};
use super::session::{SessionOp, SessionUpdate};
use super::shard::{DeliverEntries, ShardActor, shard_of};
use crate::domain::{Entry, EventKinds, ItemDictionary, Offset};
use crate::metrics::{ActorKind, Metrics, QueueName};
use crate::store::{CommitReceipt, CommittedBatch, Committer, StoreError};

/// Entries to be made durable together, or not at all.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AppendEntries {
    /// The entries, in the sender's order.
    pub entries: Vec<Entry>,
    /// Their room on the way.
    pub permit: AdmissionPermit,
    /// Told once they are durable and put before their sessions.
    pub reply: oneshot::Sender<Result<CommitReceipt, Arc<StoreError>>>,
}

/// The only writer of the journal, on a thread of its own. While one flush runs, requests gather
/// for the next.
pub struct CommitterActor {
    core: Committer,
    dictionary: Arc<ItemDictionary>,
    kinds: EventKinds,
    catalog: LiveCatalog,
    metrics: Arc<Metrics>,
    shards: Vec<Addr<ShardActor>>,
    model: Addr<LearnerActor>,
    gathered: Vec<AppendEntries>,
    /// Every entry before this offset was put before its session.
    delivered: watch::Sender<Offset>,
    /// A commit failed: what the disk holds must be found out before the next.
    failed: bool,
}

impl CommitterActor {
    /// How often a store that takes no writes is tried again, at least.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// A committer that delivers to those shards and wakes that model actor.
    #[must_use]
    pub fn new(
        core: Committer,
        kinds: EventKinds,
        catalog: LiveCatalog,
        metrics: Arc<Metrics>,
        shards: Vec<Addr<ShardActor>>,
        model: Addr<LearnerActor>,
    ) -> Self {
        let (dictionary, delivered) = (core.dictionary(), watch::Sender::new(core.next_offset()));
        Self { core, dictionary, kinds, catalog, metrics, shards, model, gathered: Vec::new(), delivered, failed: false }
    }

    /// Follows up to which offset entries were put before their sessions.
    #[must_use]
    pub fn delivered_watermark(&self) -> watch::Receiver<Offset> {
        self.delivered.subscribe()
    }

    /// Finds out what the disk holds, if a write failed since the last time.
    fn recover(&mut self) -> Result<(), StoreError> {
        if self.failed || self.core.has_failed() {
            let left = self.core.recover()?;
            self.failed = false;
            tracing::info!("the journal takes writes again");
            self.deliver(left, Vec::new());
        }
        Ok(())
    }

    fn commit(&mut self, requests: Vec<Vec<Entry>>) -> Result<(Vec<CommitReceipt>, CommittedBatch), StoreError> {
        self.recover()?;
        // Whether a panic left anything in the journal is found out like after any failure.
        let metrics = Arc::clone(&self.metrics);
        let outcome = catch_panic(&metrics, ActorKind::Committer, || {
            for event in requests.iter().flatten().filter_map(Entry::as_event) {
                inject_fault("committer", || event.item_id.as_deref());
            }
            self.core.commit_with_watcher(requests, &mut |sync| {
                let began = Instant::now();
                let synced = sync();
                metrics.sync_seconds.record(began.elapsed());
                synced
            })
        });
        let outcome = outcome.unwrap_or_else(|_| Err(self.core.struck()));
        self.failed = outcome.is_err();
        outcome
    }

    fn deliver(&mut self, committed: CommittedBatch, permits: Vec<AdmissionPermit>) {
        let permits = Arc::new(permits);
        let (from, through) = (committed.first, committed.first + committed.entries.len() as u64);
        let changed = self.catalog.apply(&committed);
        self.metrics.catalog_changes.increment(changed);
        let mut by_shard: Vec<Vec<(String, SessionUpdate)>> = self.shards.iter().map(|_| Vec::new()).collect();
        for delivered in committed.entries {
            if let Some((user, happened)) = SessionUpdate::from_entry(delivered.offset, delivered.entry, &self.dictionary, &self.kinds)
                && let Some(events) = by_shard.get_mut(shard_of(&user, self.shards.len()))
            {
                if let SessionOp::Step { step, .. } = &happened.op {
                    self.metrics.accepted_events.with_label(step.kind).increment(1);
                }
                events.push((user, happened));
            }
        }
        for (shard, events) in self.shards.iter().zip(by_shard) {
            self.metrics.queue_depth.with_label(QueueName::Shards).increment(events.len() as f64);
            // Not bounded by the mailbox but by the gate, whose room these entries hold until the
            // shard has taken them.
            shard.do_send(DeliverEntries { events, from, through, permits: Some(Arc::clone(&permits)) });
        }
        self.delivered.send_replace(through);
        // A full mailbox holds a wake-up already.
        let _ = self.model.try_send(AdvanceLearner);
    }
}

impl Actor for CommitterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        // The gate bounds what can queue here; a mailbox bound below it would only refuse what was
        // admitted.
        context.set_mailbox_capacity(usize::MAX >> 4);
        // Retries even without a write: a load balancer that sends only to ready nodes would
        // otherwise never find out that this one has recovered.
        context.run_interval(Self::PATIENCE, |actor, _| {
            if let Err(error) = actor.recover() {
                tracing::warn!(error = &error as &dyn std::error::Error, "the journal takes no writes yet");
            }
        });
    }
}

impl Handler<AppendEntries> for CommitterActor {
    type Result = ();

    fn handle(&mut self, append: AppendEntries, context: &mut Self::Context) {
        self.gathered.push(append);
        if self.gathered.len() == 1 {
            // Runs once the mailbox has been drained: everything that came during the last flush
            // shares the next one.
            context.notify(CommitBatch);
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct CommitBatch;

impl Handler<CommitBatch> for CommitterActor {
    type Result = ();

    fn handle(&mut self, _: CommitBatch, _: &mut Self::Context) {
        let gathered = std::mem::take(&mut self.gathered);
        let (mut requests, mut permits, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        for append in gathered {
            self.metrics.queue_depth.with_label(QueueName::Committer).decrement(append.entries.len() as f64);
            requests.push(append.entries);
            permits.push(append.permit);
            replies.push(append.reply);
        }
        let began = Instant::now();
        match self.commit(requests) {
            Ok((receipts, committed)) => {
                self.metrics.commit_seconds.record(began.elapsed());
                self.metrics.commit_batch_events.record(committed.entries.len() as f64);
                self.metrics.journal_offset.set(self.core.next_offset() as f64);
                self.metrics.record_commit(self.core.next_offset());
                // What a panic keeps from the shards they read from the journal, once the next
                // delivery shows the gap.
                let metrics = Arc::clone(&self.metrics);
                let _ = catch_panic(&metrics, ActorKind::Committer, || self.deliver(committed, permits));
                for (reply, receipt) in replies.into_iter().zip(receipts) {
                    let _ = reply.send(Ok(receipt));
                }
                if self.core.needs_index_persist()
                    && let Err(error) = self.core.persist_indexes()
                {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the item names could not be stored; the next start folds them"
                    );
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "commit failed; nothing of it was acknowledged");
                self.metrics.commit_failures.increment(1);
                let error = Arc::new(error);
                for reply in replies {
                    let _ = reply.send(Err(Arc::clone(&error)));
                }
            }
        }
    }
}

/// Forgets the ids of events that were erased.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct ForgetEventIds {
    /// The ids.
    pub ids: Vec<String>,
}

impl Handler<ForgetEventIds> for CommitterActor {
    type Result = ();

    fn handle(&mut self, ForgetEventIds { ids }: ForgetEventIds, _: &mut Self::Context) {
        self.core.forget_event_ids(ids.iter().map(String::as_str));
    }
}

/// Writes what the committer keeps beside the journal, so that the next start need not scan it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Arc<StoreError>>")]
pub struct PersistIndexes {
    /// Nothing more is to be committed.
    pub is_final: bool,
}

impl Handler<PersistIndexes> for CommitterActor {
    type Result = Result<(), Arc<StoreError>>;

    fn handle(&mut self, PersistIndexes { is_final: for_good }: PersistIndexes, _: &mut Self::Context) -> Self::Result {
        if for_good { self.core.prepare_for_shutdown() } else { self.core.persist_indexes() }.map_err(Arc::new)
    }
}
