//! The model actor: the fold's shell, on a thread of its own.

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::{Offset, SourceName};
use crate::learning::{Learner, LearnerError, LearningReport, PLACES, Snapshot};
use crate::metrics::{Metrics, Place};
use crate::store::{Store, StoreError, codec};

/// Counts by source and place.
type Grid = [[u64; PLACES.len()]; SourceName::ALL.len()];

/// Why the model actor stopped learning.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The fold failed.
    #[error("learning failed at offset {offset}")]
    Learner {
        /// The entry at which it failed.
        offset: Offset,
        /// Why.
        #[source]
        source: LearnerError,
    },
    /// The journal could not be read, or a checkpoint not written.
    #[error("the store failed the model")]
    Store(#[from] StoreError),
}

/// How often and how deep the learned state is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpointing {
    /// Entries between two checkpoints; 0: only at the end.
    pub every: u64,
    /// How many are kept.
    pub kept: usize,
}

/// Reads the journal in its order, folds it, and publishes snapshots.
pub struct ModelActor {
    learner: Learner,
    store: Store,
    metrics: Arc<Metrics>,
    published: Arc<ArcSwap<Snapshot>>,
    published_at: Instant,
    checkpointing: Checkpointing,
    checkpointed: Offset,
    failed: bool,
    reported: LearningReport,
}

impl ModelActor {
    /// Entries folded between two looks into the mailbox.
    const STRETCH: usize = 2048;
    /// The shortest time between two publications while the journal runs ahead.
    const PUBLISH: Duration = Duration::from_millis(200);

    /// A shell around a fold that stands where its checkpoint left it.
    #[must_use]
    pub fn new(
        learner: Learner,
        store: Store,
        metrics: Arc<Metrics>,
        published: Arc<ArcSwap<Snapshot>>,
        checkpointing: Checkpointing,
    ) -> Self {
        let (checkpointed, reported) = (learner.next_offset(), learner.report());
        Self { learner, store, metrics, published, published_at: Instant::now(), checkpointing, checkpointed, failed: false, reported }
    }

    /// Folds the next stretch of the journal. Says whether there is more.
    fn fold(&mut self) -> Result<bool, ModelError> {
        let mut entries = self.store.journal().entries(self.learner.next_offset())?;
        let mut more = false;
        for entry in entries.by_ref().take(Self::STRETCH) {
            let (offset, entry) = entry?;
            self.learner.fold(offset, &entry).map_err(|source| ModelError::Learner { offset, source })?;
            if self.published_at.elapsed() >= Self::PUBLISH {
                self.publish();
            }
            more = offset + 1 < self.store.journal().next_offset()?;
        }
        if !more {
            self.publish();
        }
        if self.checkpointing.every > 0 && self.learner.next_offset() >= self.checkpointed + self.checkpointing.every {
            self.checkpoint()?;
        }
        Ok(more)
    }

    fn publish(&mut self) {
        let began = Instant::now();
        self.published.store(Arc::new(self.learner.snapshot()));
        self.published_at = Instant::now();
        self.metrics.snapshot_publish_seconds.record(began.elapsed());
        self.tell();
    }

    /// Tells the metrics what was learned since the last time.
    fn tell(&mut self) {
        let (metrics, report) = (&self.metrics, self.learner.report());
        let (new, old) = (&report.training, &self.reported.training);
        metrics.training_batches.increment(new.batches - old.batches);
        metrics.training_skipped_batches.increment(new.skipped - old.skipped);
        metrics.training_examples.increment(new.examples - old.examples);
        if new.batches > old.batches {
            let batches = (new.batches - old.batches) as f64;
            metrics.training_loss.set((new.loss - old.loss) / batches);
            metrics.training_gradient_norm.set((new.gradient_norm - old.gradient_norm) / batches);
        }
        metrics.evaluated_steps.increment(report.total.steps - self.reported.total.steps);
        metrics.evaluated_hits.increment(report.total.hits() - self.reported.total.hits());
        if report.live.steps > 0 {
            metrics.live_recall_at_20.set(report.live.recall());
            metrics.live_mrr_at_20.set(report.live.mrr());
            metrics.live_ndcg_at_20.set(report.live.ndcg());
        }
        if let Some(error) = report.interest.recent() {
            metrics.live_interest_mse.set(error);
        }
        let (new, old) = (&report.clickthrough, &self.reported.clickthrough);
        for (number, source) in SourceName::ALL.into_iter().enumerate() {
            for (column, place) in Place::ALL.into_iter().enumerate() {
                let grown = |new: &Grid, old: &Grid| new[number][column] - old[number][column];
                let (shown, chosen) = (grown(&new.shown, &old.shown), grown(&new.chosen, &old.chosen));
                metrics.shown_items.of(source).increment(shown);
                metrics.shown_items_by_place.of(place).increment(shown);
                metrics.credited_choices.of(source).increment(chosen);
                metrics.credited_choices_by_place.of(place).increment(chosen);
            }
        }
        metrics.items.set(report.items as f64);
        metrics.recall_clusters.set(report.clusters as f64);
        metrics.weights_version.set(self.published.load().weights_version() as f64);
        metrics.learner_offset.set(self.learner.next_offset() as f64);
        self.reported = report;
    }

    fn checkpoint(&mut self) -> Result<(), ModelError> {
        if self.checkpointed == self.learner.next_offset() && self.checkpointed > 0 {
            return Ok(());
        }
        let began = Instant::now();
        let offset = self.learner.next_offset();
        let state = self.learner.state().map_err(|source| ModelError::Learner { offset, source })?;
        let checkpoints = self.store.checkpoints(self.checkpointing.kept)?;
        let bytes = checkpoints.write(offset, |file| codec::encode_to(&state, file).map_err(StoreError::from))?;
        self.checkpointed = offset;
        self.metrics.checkpoint_seconds.record(began.elapsed());
        self.metrics.checkpoint_bytes.set(bytes as f64);
        self.metrics.checkpoint_offset.set(offset as f64);
        Ok(())
    }

    fn fail(&mut self, error: &ModelError) {
        self.failed = true;
        self.metrics.learning_failed.set(1.0);
        tracing::error!(error = error as &dyn std::error::Error, "learning has stopped; answers go on from the last snapshot");
    }
}

impl Actor for ModelActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.notify(Advance);
    }
}

/// The journal has grown.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Advance;

impl Handler<Advance> for ModelActor {
    type Result = ();

    fn handle(&mut self, _: Advance, context: &mut Self::Context) {
        if self.failed {
            return;
        }
        match self.fold() {
            Ok(true) => context.notify(Advance),
            Ok(false) => {}
            Err(error) => self.fail(&error),
        }
    }
}

/// Asks how learning stands.
#[derive(Debug, Message)]
#[rtype(result = "Standing")]
pub struct HowFar;

/// How learning stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The next entry to be folded.
    pub next: Offset,
    /// Whether learning has stopped for an error.
    pub failed: bool,
    /// What was measured and trained.
    pub report: LearningReport,
}

impl Handler<HowFar> for ModelActor {
    type Result = MessageResult<HowFar>;

    fn handle(&mut self, _: HowFar, _: &mut Self::Context) -> Self::Result {
        MessageResult(Standing { next: self.learner.next_offset(), failed: self.failed, report: self.learner.report() })
    }
}

/// Writes a checkpoint of where the fold stands.
#[derive(Debug, Message)]
#[rtype(result = "Result<Offset, Arc<ModelError>>")]
pub struct Checkpoint;

impl Handler<Checkpoint> for ModelActor {
    type Result = Result<Offset, Arc<ModelError>>;

    fn handle(&mut self, _: Checkpoint, _: &mut Self::Context) -> Self::Result {
        self.checkpoint().map_err(Arc::new)?;
        Ok(self.checkpointed)
    }
}
