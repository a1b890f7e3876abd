//! The model actor: the fold's shell, on a thread of its own.

mod checkpointing;
mod metrics_report;

pub use checkpointing::{CheckpointPolicy, WriteCheckpoint};

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

use super::background_worker::BackgroundWorker;
use super::error::LearnerActorError;
use super::jobs::maintenance::StoreMaintenance;
use super::panic_guard::{catch_panic, inject_fault};
use crate::domain::{Entry, ItemDictionary, ModelChange, Offset};
use crate::learner::{Learner, LearnerError, LearningReport, ModelHealth, ModelSnapshot};
use crate::metrics::{ActorKind, Metrics};
use crate::store::{QuarantineReader, QuarantinedEntry, Store, StoreError};
use crate::telemetry::span;
use checkpointing::CheckpointWritten;

/// Makes a fold that stands where its newest checkpoint left it.
pub type LoadLearner = Box<dyn FnMut() -> Result<Learner, LearnerActorError> + Send>;

/// Reads the journal in its order, folds it, and publishes snapshots.
///
/// A fold that panics, or whose training does, is not to be trusted any more: another takes its
/// place, from the newest checkpoint on. An entry at which that happens twice is put into
/// quarantine and passed over. As every fold of the same journal meets the same end there, what is
/// learned depends on the journal alone even then.
pub struct LearnerActor {
    learner: Learner,
    load: LoadLearner,
    /// The entry being folded.
    at: Offset,
    /// The entry at which a fold failed last.
    stumbled: Option<Offset>,
    /// Entries to pass over.
    quarantined: BTreeSet<Offset>,
    store: Store,
    dictionary: Arc<ItemDictionary>,
    metrics: Arc<Metrics>,
    published: Arc<ArcSwap<ModelSnapshot>>,
    /// The offset of the snapshot published last.
    learned: watch::Sender<Offset>,
    published_at: Instant,
    checkpoint_policy: CheckpointPolicy,
    maintenance: StoreMaintenance,
    /// The offset of the last checkpoint that was begun.
    checkpoint_started_offset: Offset,
    /// The offset of the last one that is on the disk.
    checkpoint_written_offset: Offset,
    /// Writes checkpoints while learning goes on.
    writer: BackgroundWorker<Result<CheckpointWritten, StoreError>>,
    /// The user up to whom session records were looked through.
    swept_through: Option<String>,
    /// Acts upon the model from this entry on are still to be counted.
    uncounted_from: Offset,
    failed: bool,
    /// The fold is not to be trusted, and another could not be made.
    needs_reload: bool,
    last_report: LearningReport,
}

impl LearnerActor {
    /// Entries folded between two looks into the mailbox.
    const STRETCH: usize = 2048;
    /// Session records that are looked through after a checkpoint, for those to be forgotten.
    const SWEEP_LIMIT: usize = 50_000;
    /// How often a fold that could not be made is tried again.
    const PATIENCE: Duration = Duration::from_secs(1);
    /// The shortest time between two publications while the journal runs ahead.
    const PUBLISH: Duration = Duration::from_millis(200);

    /// A shell around a fold that stands where its checkpoint left it; `load` makes another.
    ///
    /// # Errors
    /// [`LearnerActorError::Store`] if the quarantine cannot be read.
    pub fn new(
        learner: Learner,
        load: LoadLearner,
        upkeep: StoreMaintenance,
        dictionary: Arc<ItemDictionary>,
        metrics: Arc<Metrics>,
        published: Arc<ArcSwap<ModelSnapshot>>,
        checkpointing: CheckpointPolicy,
    ) -> Result<Self, LearnerActorError> {
        let (at, reported) = (learner.next_offset(), learner.report());
        // Those before were counted when they were made, if by another process.
        let uncounted = upkeep.store().journal().next_offset()?;
        metrics.checkpoint_offset.set(at as f64);
        metrics.learner_offset.set(at as f64);
        let writer = BackgroundWorker::start(
            || span!("checkpoint"),
            metrics.checkpoint_seconds.clone(),
            metrics.panics.with_label(ActorKind::Learner).clone(),
        );
        let mut actor = Self {
            learner,
            load,
            at,
            stumbled: None,
            quarantined: BTreeSet::new(),
            store: upkeep.store().clone(),
            dictionary,
            metrics,
            learned: watch::Sender::new(published.load().offset()),
            published,
            published_at: Instant::now(),
            checkpoint_policy: checkpointing,
            maintenance: upkeep,
            checkpoint_started_offset: at,
            checkpoint_written_offset: at,
            writer,
            swept_through: None,
            uncounted_from: uncounted,
            failed: false,
            needs_reload: false,
            last_report: reported,
        };
        actor.read_quarantine()?;
        Ok(actor)
    }

    /// Follows the offset of the snapshot published last.
    #[must_use]
    pub fn learned_watermark(&self) -> watch::Receiver<Offset> {
        self.learned.subscribe()
    }

    fn read_quarantine(&mut self) -> Result<(), LearnerActorError> {
        let all = self.store.quarantine().all()?;
        self.quarantined = all.into_iter().filter(|noted| noted.reader == QuarantineReader::Learner).map(|noted| noted.offset).collect();
        Ok(())
    }

    /// Folds the next stretch of the journal. Says whether there is more.
    fn fold(&mut self) -> Result<bool, LearnerActorError> {
        let mut entries = self.store.journal().entries(self.learner.next_offset())?;
        let mut more = false;
        for _ in 0..Self::STRETCH {
            // The journal shows an entry a moment before the committer has numbered its item.
            if self.learner.next_offset() >= self.dictionary.watermark() {
                break;
            }
            let Some(entry) = entries.next() else { break };
            let (offset, entry) = entry?;
            self.at = offset;
            let folded = if self.quarantined.contains(&offset) {
                self.learner.skip(offset)
            } else {
                if let Entry::Event(event) = &entry {
                    inject_fault("model", || event.item_id.as_deref());
                }
                self.learner.apply(offset, &entry)
            };
            folded.map_err(|source| LearnerActorError::Learner { offset, source })?;
            self.metrics.learned_entries.increment(1);
            if self.published_at.elapsed() >= Self::PUBLISH {
                self.publish();
            }
            more = offset + 1 < self.dictionary.watermark();
        }
        if !more {
            self.publish();
        }
        let written = self.writer.poll_result();
        if let Err(error) = self.record_written(written) {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a checkpoint could not be written; learning goes on, and the next one is tried in its turn");
        }
        if self.checkpoint_policy.interval > 0
            && self.learner.next_offset() >= self.checkpoint_started_offset + self.checkpoint_policy.interval
            && !self.writer.is_busy()
        {
            self.begin_checkpoint()?;
        }
        Ok(more)
    }

    fn publish(&mut self) {
        // A fold that began again at a checkpoint is not shown before it knows what its predecessor
        // knew.
        if self.learner.next_offset() < self.published.load().offset() {
            return;
        }
        let began = Instant::now();
        let snapshot = Arc::new(self.learner.snapshot());
        let (offset, trained) = (snapshot.offset(), snapshot.trained_through());
        self.published.store(snapshot);
        self.learned.send_replace(offset);
        self.published_at = Instant::now();
        self.metrics.snapshot_publish_seconds.record(began.elapsed());
        self.metrics.record_publish(offset, trained);
        self.report_metrics();
    }

    /// Folds on; says whether there is more.
    fn advance(&mut self) -> bool {
        let metrics = Arc::clone(&self.metrics);
        let (at, reason) = match catch_panic(&metrics, ActorKind::Learner, || self.fold()) {
            Ok(Ok(more)) => {
                self.stand(Ok(()));
                return more;
            }
            Ok(Err(LearnerActorError::Learner { source: LearnerError::BackgroundJobLost { begun }, .. })) => {
                (begun, "the training panicked".to_owned())
            }
            Ok(Err(LearnerActorError::Learner { offset, source })) => (offset, source.to_string()),
            // Neither the fold's fault nor the entry's.
            Ok(Err(error)) => {
                self.stand(Err(error));
                return false;
            }
            Err(struck) => (self.at, struck.to_string()),
        };
        let outcome = self.heal(at, reason);
        let goes_on = outcome.is_ok();
        self.stand(outcome);
        goes_on
    }

    /// Begins again at the newest checkpoint; the second time for the same entry, without it.
    fn heal(&mut self, at: Offset, reason: String) -> Result<(), LearnerActorError> {
        // Whatever fails below: this fold is not gone on with.
        self.needs_reload = true;
        if self.stumbled.replace(at) == Some(at) {
            tracing::error!(offset = at, reason, "an entry cannot be learned from and is put into quarantine");
            self.store.quarantine().put(&QuarantinedEntry { offset: at, reader: QuarantineReader::Learner, reason })?;
        } else {
            tracing::error!(offset = at, reason, "learning begins again at the newest checkpoint");
        }
        self.reload()
    }

    fn reload(&mut self) -> Result<(), LearnerActorError> {
        self.read_quarantine()?;
        self.learner = (self.load)()?;
        self.needs_reload = false;
        (self.at, self.checkpoint_started_offset, self.last_report) =
            (self.learner.next_offset(), self.learner.next_offset(), self.learner.report());
        Ok(())
    }

    /// Retries after a failure. The `learning_failed` gauge stays at 1 until a retry succeeds, so
    /// it does not flap. Returns whether more entries wait.
    fn try_again(&mut self) -> bool {
        if self.needs_reload
            && let Err(error) = self.reload()
        {
            self.stand(Err(error));
            return false;
        }
        self.advance()
    }

    /// Notes whether learning goes on.
    fn stand(&mut self, outcome: Result<(), LearnerActorError>) {
        let failed = outcome.is_err();
        if failed != self.failed {
            self.metrics.learning_failed.set(f64::from(u8::from(failed)));
        }
        if let Err(error) = outcome {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "learning has stopped and is tried again; answers go on from the last snapshot");
        }
        self.failed = failed;
    }
}

impl Actor for LearnerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.notify(AdvanceLearner);
        context.run_interval(Self::PATIENCE, |actor, context| {
            if actor.failed && actor.try_again() {
                context.notify(AdvanceLearner);
            }
        });
    }
}

/// The journal has grown.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AdvanceLearner;

impl Handler<AdvanceLearner> for LearnerActor {
    type Result = ();

    fn handle(&mut self, _: AdvanceLearner, context: &mut Self::Context) {
        if !self.failed && self.advance() {
            context.notify(AdvanceLearner);
        }
    }
}

/// Asks how learning stands.
#[derive(Debug, Message)]
#[rtype(result = "LearnerStatus")]
pub struct GetStatus;

/// How learning stands.
#[derive(Debug, Clone)]
pub struct LearnerStatus {
    /// The next entry to be folded.
    pub next_offset: Offset,
    /// Whether learning has stopped for an error.
    pub has_failed: bool,
    /// What was measured and trained.
    pub report: LearningReport,
    /// What was done to the model last, oldest first, with where it stands in the journal.
    pub operations: Vec<(Offset, ModelChange)>,
    /// How the model is doing.
    pub health: ModelHealth,
}

impl Handler<GetStatus> for LearnerActor {
    type Result = MessageResult<GetStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        let learner = &self.learner;
        MessageResult(LearnerStatus {
            next_offset: learner.next_offset(),
            has_failed: self.failed,
            report: learner.report(),
            operations: learner.operations().copied().collect(),
            health: learner.health().clone(),
        })
    }
}
