//! The learner actor: runs the learner on its own thread and publishes model snapshots.

mod checkpointing;
mod metrics_report;
mod state_digests;

pub use checkpointing::{CheckpointPolicy, WriteCheckpoint};

use actix::{Actor, AsyncContext, Context, Handler, Message, SpawnHandle};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

use super::background_worker::{BackgroundWorker, lower_thread_priority};
use super::error::LearnerActorError;
use super::jobs::maintenance::StoreMaintenance;
use super::panic_guard::{catch_panic, inject_fault};
use super::sender_activity::SenderActivity;
use crate::domain::{Entry, ModelChange, Offset};
use crate::learner::{JobLost, Learner, LearnerError, LearningReport, ModelHealth, ModelSnapshot};
use crate::metrics::{ActorKind, Metrics, ThreadRole};
use crate::registries::ItemDictionary;
use crate::reports::{AttributedEvent, AttributionUpdate, LiveAttribution, NewlyShownItems, PlacementQuality};
use crate::store::{QuarantineReader, QuarantinedEntry, Store, StoreError};
use crate::telemetry::span;
use checkpointing::{CheckpointOutcome, CheckpointProgress};
use state_digests::StateDigests;

/// A function that loads a learner from its newest checkpoint.
pub type LearnerLoader = Box<dyn FnMut() -> Result<Learner, LearnerActorError> + Send>;

/// Applies the journal to the learner in order and publishes snapshots.
///
/// If the learner or its training panics, the actor discards the learner and loads the newest
/// checkpoint. If the same entry fails twice, the actor quarantines the entry and skips it. Every
/// replay of the journal skips the same entries, so the learned state still depends on the journal
/// alone.
pub struct LearnerActor {
    learner: Learner,
    load: LearnerLoader,
    /// The offset of the entry that the learner is applying.
    current_offset: Offset,
    /// The offset of the last entry whose processing failed.
    last_failed_offset: Option<Offset>,
    /// The offsets of the quarantined entries, which the learner skips.
    quarantined: BTreeSet<Offset>,
    store: Store,
    dictionary: Arc<ItemDictionary>,
    metrics: Arc<Metrics>,
    published: Arc<ArcSwap<ModelSnapshot>>,
    /// The offset of the last published snapshot.
    learned: watch::Sender<Offset>,
    published_at: Instant,
    /// The largest offset for which a reader has asked for a snapshot.
    wanted_offset: Offset,
    /// Whether an entry that can change an answer was applied since the last snapshot.
    has_visible_change: bool,
    /// When the next turn is due without a further entry, and the timer that wakes the actor then.
    turn_timer: Option<(Instant, SpawnHandle)>,
    checkpoint_policy: CheckpointPolicy,
    maintenance: StoreMaintenance,
    /// Which entries are in a checkpoint.
    checkpoints: CheckpointProgress,
    /// Writes checkpoints in the background.
    writer: BackgroundWorker<Result<CheckpointOutcome, StoreError>>,
    /// The user after whom the search for stale session records continues; `None` if it starts at
    /// the first user.
    examined_through: Option<String>,
    /// Model operations from this offset on are not yet counted in the metrics.
    uncounted_from: Offset,
    failed: bool,
    /// Whether the learner may be inconsistent and must be loaded again.
    needs_reload: bool,
    /// Whether a turn is scheduled. Further [`AdvanceLearner`] messages then schedule no other
    /// turn.
    is_turn_scheduled: bool,
    /// Whether the system is stopping. The actor then applies no further entry.
    is_stopping: bool,
    /// The learner's status when the metrics were last updated.
    last_status: Arc<LearnerStatus>,
    status: Arc<ArcSwap<LearnerStatus>>,
    sender_activity: SenderActivity,
    /// The offset of the first entry that arrived since the start. Earlier entries are not recent.
    counts_senders_from: Offset,
    /// Attributes events to impressions, for metrics. It is not part of the learned state.
    attribution: LiveAttribution,
    /// `attribution` contains the entries before this offset.
    attributed_through: Offset,
    /// Digests for the other nodes of the cluster; `None` on a single node.
    state_digests: Option<StateDigests>,
    /// Whether the digest of the present state is due.
    needs_digest: bool,
}

impl LearnerActor {
    /// The actor applies entries in turns of at most this length. Between two turns, it handles its
    /// other messages.
    const TURN_DURATION: Duration = Duration::from_millis(20);
    /// Number of session records examined for removal after each checkpoint.
    const RECORDS_EXAMINED_PER_CHECKPOINT: usize = 50_000;
    /// Time between two retries after a failure.
    const RETRY_INTERVAL: Duration = Duration::from_secs(1);
    /// The shortest time between two snapshots if the learner is catching up, or if no entry since
    /// the last snapshot can change an answer.
    const QUIET_PUBLISH_INTERVAL: Duration = Duration::from_millis(200);
    /// Time between two turns while a checkpoint is written and no entries arrive.
    const CHECKPOINT_POLL_INTERVAL: Duration = Duration::from_millis(100);
    /// The shortest time between two snapshots, unless a reader waits for the next one.
    const PUBLISH_INTERVAL: Duration = Duration::from_millis(50);

    /// Creates the actor for a learner that was loaded from its checkpoint. After a failure, the
    /// actor calls `load` to get a replacement.
    ///
    /// # Errors
    /// [`LearnerActorError::Store`] if the quarantine cannot be read.
    pub fn new(
        learner: Learner,
        load: LearnerLoader,
        maintenance: StoreMaintenance,
        dictionary: Arc<ItemDictionary>,
        metrics: Arc<Metrics>,
        published: Arc<ArcSwap<ModelSnapshot>>,
        checkpoint_policy: CheckpointPolicy,
    ) -> Result<Self, LearnerActorError> {
        let at = learner.next_offset();
        // Earlier operations were already counted when they were appended, possibly by another
        // process.
        let uncounted_from = maintenance.store().journal().next_offset()?;
        metrics.checkpoint_offset.set(at as f64);
        metrics.learner_offset.set(at as f64);
        let writer = BackgroundWorker::start_thread(
            ThreadRole::Checkpoints,
            || span!("checkpoint"),
            metrics.checkpoint_seconds.clone(),
            metrics.panics.with_label(ActorKind::Learner).clone(),
        );
        let status = Arc::new(ArcSwap::from_pointee(LearnerStatus::new(&learner, false)));
        let mut actor = Self {
            learner,
            load,
            current_offset: at,
            last_failed_offset: None,
            quarantined: BTreeSet::new(),
            store: maintenance.store().clone(),
            dictionary,
            metrics,
            learned: watch::Sender::new(published.load().offset()),
            published,
            published_at: Instant::now(),
            wanted_offset: 0,
            has_visible_change: false,
            turn_timer: None,
            checkpoint_policy,
            maintenance,
            checkpoints: CheckpointProgress::at_load(at),
            writer,
            examined_through: None,
            uncounted_from,
            failed: false,
            needs_reload: false,
            is_turn_scheduled: false,
            is_stopping: false,
            last_status: status.load_full(),
            status,
            sender_activity: SenderActivity::new(Instant::now()),
            counts_senders_from: uncounted_from,
            attribution: LiveAttribution::default(),
            attributed_through: at,
            state_digests: None,
            needs_digest: false,
        };
        actor.read_quarantine()?;
        Ok(actor)
    }

    /// A watch channel of the offset of the last published snapshot.
    #[must_use]
    pub fn learned_watermark(&self) -> watch::Receiver<Offset> {
        self.learned.subscribe()
    }

    fn read_quarantine(&mut self) -> Result<(), LearnerActorError> {
        let all = self.store.quarantine().all()?;
        self.quarantined = all
            .into_iter()
            .filter(|entry| entry.reader == QuarantineReader::Learner)
            .map(|entry| entry.offset)
            .collect();
        Ok(())
    }

    /// Applies the next batch of journal entries. Returns whether more entries are waiting.
    fn learn_batch(&mut self) -> Result<bool, LearnerActorError> {
        self.report_digest();
        if self.needs_digest {
            if !self.learner.wait_for_all_jobs(Self::TURN_DURATION) {
                return Ok(true);
            }
            self.begin_digest()?;
        }
        let mut entries = self.store.journal().entries(self.learner.next_offset())?.with_origins();
        let mut more = false;
        let mut began = Instant::now();
        let mut is_first = true;
        loop {
            // An entry is readable in the journal before the committer has assigned a number to
            // its item. The dictionary's watermark advances only afterwards.
            if self.learner.next_offset() >= self.dictionary.watermark() {
                break;
            }
            // While a background job delays the next entry, the actor still handles its other messages.
            if !self.learner.wait_for_due_jobs(Self::TURN_DURATION.saturating_sub(began.elapsed())) {
                more = true;
                break;
            }
            let Some(entry) = entries.next() else { break };
            let (offset, entry, origin) = entry?;
            // The journal decodes whole records. The time for the first one does not count, or a turn on
            // a long record would apply a single entry, and the next turn would decode the record again.
            if std::mem::take(&mut is_first) {
                began = Instant::now();
            }
            let held_back_before = self.learner.held_back_count();
            self.current_offset = offset;
            let outcome = if self.quarantined.contains(&offset) {
                self.learner.skip_entry(offset)
            } else {
                if let Entry::Event(event) = &entry {
                    inject_fault("model", || event.item_id.as_deref());
                }
                self.learner.apply(offset, &entry)
            };
            outcome.map_err(|source| LearnerActorError::Learner { offset, source })?;
            self.metrics.learned_entries.increment(1);
            self.checkpoints.record_applied(&entry);
            self.attribute(offset, &entry);
            if let Some(key) = origin.and_then(|origin| origin.key).filter(|_| offset >= self.counts_senders_from) {
                let is_held_back = self.learner.held_back_count() > held_back_before;
                self.sender_activity.record_event(key, is_held_back, began);
            }
            self.has_visible_change |= !matches!(entry, Entry::Impression(_));
            more = offset + 1 < self.dictionary.watermark();
            if self.is_wanted() || self.published_at.elapsed() >= Self::QUIET_PUBLISH_INTERVAL {
                self.publish_snapshot();
            }
            if self.note_due_digest() {
                more = true;
                break;
            }
            if began.elapsed() >= Self::TURN_DURATION {
                break;
            }
        }
        if !more && self.publication_due().is_some_and(|due| due <= Instant::now()) {
            self.publish_snapshot();
        }
        let written = self.writer.poll_result();
        if let Err(error) = self.record_checkpoint_outcome(written) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                error,
                "the checkpoint could not be written; learning continues, and the next checkpoint is due as usual"
            );
        }
        if self.checkpoints.is_due(&self.checkpoint_policy) && !self.writer.is_busy() {
            if !self.learner.wait_for_all_jobs(Self::TURN_DURATION.saturating_sub(began.elapsed())) {
                return Ok(true);
            }
            self.begin_background_checkpoint()?;
        }
        Ok(more)
    }

    /// Counts shown items and the events that respond to them. Entries that were already counted, by
    /// this process before a failure or by another one, only extend the table of impressions and the
    /// quality of placements.
    fn attribute(&mut self, offset: Offset, entry: &Entry) {
        if offset < self.attributed_through {
            return;
        }
        self.attributed_through = offset + 1;
        let AttributionUpdate { shown, attributed, quality } = self.attribution.add_entry(entry);
        for PlacementQuality { placement, recall, mrr } in quality {
            self.metrics.set_placement_quality(placement.as_deref(), recall, mrr);
        }
        if offset < self.counts_senders_from {
            return;
        }
        if let Some(NewlyShownItems { placement, count }) = shown {
            self.metrics.count_shown_items(placement.as_deref(), count);
        }
        if let Some(AttributedEvent { placement, is_conversion }) = attributed {
            self.metrics.count_attributed_event(placement.as_deref(), is_conversion);
        }
    }

    /// The learner's status, published with each snapshot and on each failure.
    #[must_use]
    pub fn status(&self) -> Arc<ArcSwap<LearnerStatus>> {
        Arc::clone(&self.status)
    }

    /// The counts of events by API key.
    #[must_use]
    pub fn sender_activity(&self) -> SenderActivity {
        self.sender_activity.clone()
    }

    /// Stops learning. A checkpoint can still be written.
    pub(super) fn stop_writing(&mut self) {
        self.is_stopping = true;
    }

    fn publish_status(&self) {
        self.status.store(Arc::new(LearnerStatus::new(&self.learner, self.failed)));
    }

    /// Whether a reader waits for a snapshot that the learner could publish now.
    fn is_wanted(&self) -> bool {
        (self.published.load().offset() + 1..=self.learner.next_offset()).contains(&self.wanted_offset)
    }

    /// When the next snapshot is due; `None` if the last snapshot already contains every entry that
    /// the learner has applied.
    fn publication_due(&self) -> Option<Instant> {
        let published = self.published.load();
        if self.learner.next_offset() == published.offset() && self.status.load().next_offset == published.offset() {
            return None;
        }
        let is_changed = self.has_visible_change || self.learner.weights_version() != published.weights_version();
        let interval = match (self.is_wanted(), is_changed) {
            (true, _) => Duration::ZERO,
            (false, true) => Self::PUBLISH_INTERVAL,
            (false, false) => Self::QUIET_PUBLISH_INTERVAL,
        };
        Some(self.published_at + interval)
    }

    fn publish_snapshot(&mut self) {
        (self.published_at, self.has_visible_change) = (Instant::now(), false);
        // After a reload from a checkpoint, the published snapshot may be newer than the learner.
        // The newer snapshot stays published until the learner has caught up.
        if self.learner.next_offset() < self.published.load().offset() {
            self.publish_status();
            return;
        }
        let began = Instant::now();
        let snapshot = Arc::new(self.learner.snapshot());
        let (offset, trained_through) = (snapshot.offset(), snapshot.trained_through());
        self.published.store(snapshot);
        // The status is published after the snapshot, so a reader that sees the new status also
        // gets the new snapshot.
        self.publish_status();
        self.learned.send_replace(offset);
        self.metrics.snapshot_publish_seconds.record(began.elapsed());
        self.metrics.record_publish(offset, trained_through);
        self.report_metrics();
    }

    /// Applies the next batch and recovers from a failure. Returns whether more entries may be
    /// waiting.
    fn learn_batch_or_recover(&mut self) -> bool {
        let metrics = Arc::clone(&self.metrics);
        let (at, reason) = match catch_panic(&metrics, ActorKind::Learner, || self.learn_batch()) {
            Ok(Ok(more)) => {
                self.record_learning_outcome(Ok(()));
                return more;
            }
            Ok(Err(LearnerActorError::Learner {
                source: LearnerError::BackgroundJobLost { begun, source }, ..
            })) => {
                if source == JobLost::WorkerStopped {
                    self.stop_with_program();
                    return false;
                }
                (begun, format!("the training returned no result: {source}"))
            }
            Ok(Err(LearnerActorError::Learner { offset, source })) => (offset, source.to_string()),
            // Neither the learner nor the entry caused this error, so the learner remains usable.
            Ok(Err(error)) => {
                self.record_learning_outcome(Err(error));
                return false;
            }
            Err(panic) => (self.current_offset, panic.to_string()),
        };
        let outcome = self.recover_from_failure(at, reason);
        let recovered = outcome.is_ok();
        self.record_learning_outcome(outcome);
        recovered
    }

    /// Ends learning without an error, because the background threads have stopped. They stop only
    /// when the program ends.
    fn stop_with_program(&mut self) {
        tracing::debug!("the program ends during a training; the next start repeats the training");
        // The learner lacks the result of the training, so it must not be written to a checkpoint.
        (self.is_stopping, self.needs_reload) = (true, true);
    }

    /// Loads the learner again from the newest checkpoint. If the same entry has failed twice,
    /// quarantines the entry first.
    fn recover_from_failure(&mut self, at: Offset, reason: String) -> Result<(), LearnerActorError> {
        // The flag is set first, because the learner must not be used even if a step below fails.
        self.needs_reload = true;
        if self.last_failed_offset.replace(at) == Some(at) {
            tracing::error!(
                offset = at,
                reason,
                "the learner failed twice at the same entry; the entry is quarantined"
            );
            self.store.quarantine().put(&QuarantinedEntry { offset: at, reader: QuarantineReader::Learner, reason })?;
        } else {
            tracing::error!(offset = at, reason, "the learner failed; it restarts from the newest checkpoint");
        }
        self.reload_learner()
    }

    fn reload_learner(&mut self) -> Result<(), LearnerActorError> {
        self.read_quarantine()?;
        self.learner = (self.load)()?;
        self.needs_reload = false;
        self.current_offset = self.learner.next_offset();
        self.checkpoints.record_reload();
        self.last_status = Arc::new(LearnerStatus::new(&self.learner, self.failed));
        Ok(())
    }

    /// Retries after a failure. The `learning_failed` gauge stays at 1 until a retry succeeds, so
    /// it does not flap. Returns whether more entries may be waiting.
    fn retry_after_failure(&mut self) -> bool {
        if self.needs_reload
            && let Err(error) = self.reload_learner()
        {
            self.record_learning_outcome(Err(error));
            return false;
        }
        self.learn_batch_or_recover()
    }

    /// Records in the `learning_failed` gauge and in the log whether learning works.
    fn record_learning_outcome(&mut self, outcome: Result<(), LearnerActorError>) {
        let failed = outcome.is_err();
        if failed != self.failed {
            self.metrics.learning_failed.set(f64::from(u8::from(failed)));
        }
        if let Err(error) = outcome {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "learning has stopped and is being retried; recommendations use the last snapshot");
        }
        self.failed = failed;
        if failed || self.status.load().has_failed {
            self.publish_status();
        }
    }

    /// Applies entries for one turn, and schedules the next turn if more entries wait.
    fn take_turn(&mut self, context: &mut Context<Self>) {
        self.is_turn_scheduled = false;
        if self.failed || self.is_stopping {
            return;
        }
        let began = Instant::now();
        let has_more = self.learn_batch_or_recover();
        self.metrics.learner_turn_seconds.record(began.elapsed());
        if has_more {
            self.schedule_turn(context);
        } else {
            self.schedule_due_turn(context);
        }
    }

    /// The time of the next turn if no entry arrives earlier: the time at which the next snapshot is
    /// due. While a checkpoint is written, there is a turn soon, so that its end is noticed, and a
    /// checkpoint that became due in the meantime begins.
    fn next_turn_due(&self) -> Option<Instant> {
        let poll = self.writer.is_busy().then(|| Instant::now() + Self::CHECKPOINT_POLL_INTERVAL);
        self.publication_due().into_iter().chain(poll).min()
    }

    /// Schedules a turn for the time at which it is due without a further entry.
    fn schedule_due_turn(&mut self, context: &mut Context<Self>) {
        let Some(due) = self.next_turn_due() else { return };
        match self.turn_timer.take() {
            Some(timer) if timer.0 <= due => self.turn_timer = Some(timer),
            earlier => {
                if let Some((_, timer)) = earlier {
                    context.cancel_future(timer);
                }
                let timer = context.run_later(due.saturating_duration_since(Instant::now()), |actor, context| {
                    actor.turn_timer = None;
                    actor.schedule_turn(context);
                });
                self.turn_timer = Some((due, timer));
            }
        }
    }

    fn schedule_turn(&mut self, context: &mut Context<Self>) {
        if !std::mem::replace(&mut self.is_turn_scheduled, true) {
            context.notify(TakeTurn);
        }
    }
}

impl Actor for LearnerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        lower_thread_priority();
        self.schedule_turn(context);
        context.run_interval(Self::RETRY_INTERVAL, |actor, context| {
            if !actor.failed || actor.is_stopping {
                return;
            }
            if actor.retry_after_failure() {
                actor.schedule_turn(context);
            } else {
                actor.schedule_due_turn(context);
            }
        });
    }
}

/// Wakes the learner actor, because the journal has new entries.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AdvanceLearner;

impl Handler<AdvanceLearner> for LearnerActor {
    type Result = ();

    fn handle(&mut self, _: AdvanceLearner, context: &mut Self::Context) {
        self.schedule_turn(context);
    }
}

/// Publishes a snapshot as soon as the learner has applied every entry before this offset.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct PublishThrough(pub Offset);

impl Handler<PublishThrough> for LearnerActor {
    type Result = ();

    fn handle(&mut self, PublishThrough(offset): PublishThrough, context: &mut Self::Context) {
        self.wanted_offset = self.wanted_offset.max(offset);
        self.schedule_turn(context);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct TakeTurn;

impl Handler<TakeTurn> for LearnerActor {
    type Result = ();

    fn handle(&mut self, _: TakeTurn, context: &mut Self::Context) {
        self.take_turn(context);
    }
}

/// The state of the learner.
#[derive(Debug, Clone)]
pub struct LearnerStatus {
    /// The offset of the next entry to apply.
    pub next_offset: Offset,
    /// Whether learning has stopped because of an error.
    pub has_failed: bool,
    /// The current training share: the model is evaluated and trained on one of 2^halvings events.
    pub halvings: u8,
    /// Measurements and training statistics.
    pub report: LearningReport,
    /// The last operations on the model with their offsets, oldest first.
    pub operations: Vec<(Offset, ModelChange)>,
    /// Moving averages of loss and quality.
    pub health: ModelHealth,
}

impl LearnerStatus {
    fn new(learner: &Learner, has_failed: bool) -> Self {
        Self {
            next_offset: learner.next_offset(),
            has_failed,
            halvings: learner.training_share_halvings(),
            report: learner.report(),
            operations: learner.model_operations().copied().collect(),
            health: learner.health().clone(),
        }
    }
}
