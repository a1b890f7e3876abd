//! How what was learned comes to the disk.

use actix::{Handler, Message};
use std::sync::Arc;

use super::LearnerActor;
use crate::actors::error::LearnerActorError;
use crate::actors::panic_guard::catch_panic;
use crate::domain::Offset;
use crate::learner::{BackgroundJobs, JobLost};
use crate::metrics::ActorKind;
use crate::store::{JournalRetention, StoreError, codec};

/// How often and how deep the learned state is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckpointPolicy {
    /// Entries between two checkpoints; 0: only at the end.
    pub interval: u64,
    /// How many are kept.
    pub keep: usize,
    /// After each, how much of the journal is kept at least; `None`: all.
    pub journal_retention: Option<JournalRetention>,
    /// After each, how many times what is in it the database may take on the disk; 0: any.
    pub compact_ratio: f64,
    /// Session records are forgotten after so many entries without one of their user.
    pub forget_after: u64,
}

/// A checkpoint that was written.
pub(super) struct CheckpointWritten {
    offset: Offset,
    bytes: u64,
    /// The user up to whom session records were looked through.
    swept_through: Option<String>,
}

impl LearnerActor {
    /// Begins to write where the fold stands, which goes on meanwhile: what is written is a copy.
    pub(super) fn begin_checkpoint(&mut self) -> Result<(), LearnerActorError> {
        let offset = self.learner.next_offset();
        let state = self.learner.state().map_err(|source| LearnerActorError::Learner { offset, source })?.clone();
        self.checkpoint_started_offset = offset;
        let (store, upkeep, swept) = (self.store.clone(), self.maintenance.clone(), self.swept_through.take());
        let CheckpointPolicy { keep: kept, journal_retention: retain, forget_after, compact_ratio, .. } = self.checkpoint_policy;
        self.writer.start(Box::new(move || {
            // A directory that cannot be used is a checkpoint that failed, and nothing that
            // learning stops for.
            let checkpoints = store.checkpoints(kept)?;
            let bytes = checkpoints.write(offset, |file| codec::encode_to(&state, file).map_err(StoreError::from))?;
            let begin = retain.map(|keep| store.apply_retention(&checkpoints, keep, offset)).transpose()?;
            if let Some(begin) = begin {
                tracing::debug!(begin, "where the journal begins");
            }
            let swept = store.sessions().remove_stale(offset.saturating_sub(forget_after), swept.as_deref(), Self::SWEEP_LIMIT)?;
            upkeep.compact_if_due(compact_ratio);
            Ok(CheckpointWritten { offset, bytes, swept_through: swept })
        }));
        Ok(())
    }

    /// Tells what became of a checkpoint.
    pub(super) fn record_written(
        &mut self,
        outcome: Option<Result<Result<CheckpointWritten, StoreError>, JobLost>>,
    ) -> Result<(), LearnerActorError> {
        match outcome {
            None => Ok(()),
            Some(Ok(Ok(CheckpointWritten { offset, bytes, swept_through: swept }))) => {
                self.swept_through = swept;
                self.metrics.checkpoint_bytes.set(bytes as f64);
                self.metrics.checkpoint_offset.set(offset as f64);
                self.checkpoint_written_offset = offset;
                Ok(())
            }
            Some(Ok(Err(error))) => {
                self.metrics.checkpoint_failures.increment(1);
                Err(error.into())
            }
            Some(Err(lost)) => {
                self.metrics.checkpoint_failures.increment(1);
                Err(LearnerActorError::Writer(lost))
            }
        }
    }

    /// Writes where the fold stands, and waits for it.
    pub(super) fn checkpoint(&mut self) -> Result<(), LearnerActorError> {
        if self.writer.is_busy() {
            let written = self.writer.finish();
            self.record_written(Some(written))?;
        }
        if !self.needs_reload && (self.checkpoint_written_offset != self.learner.next_offset() || self.checkpoint_written_offset == 0) {
            self.begin_checkpoint()?;
            let written = self.writer.finish();
            self.record_written(Some(written))?;
        }
        Ok(())
    }
}

/// Writes a checkpoint of where the fold stands.
#[derive(Debug, Message)]
#[rtype(result = "Result<Offset, Arc<LearnerActorError>>")]
pub struct WriteCheckpoint;

impl Handler<WriteCheckpoint> for LearnerActor {
    type Result = Result<Offset, Arc<LearnerActorError>>;

    fn handle(&mut self, _: WriteCheckpoint, _: &mut Self::Context) -> Self::Result {
        let metrics = Arc::clone(&self.metrics);
        match catch_panic(&metrics, ActorKind::Learner, || self.checkpoint()) {
            Ok(written) => written.map_err(Arc::new)?,
            Err(struck) => return Err(Arc::new(LearnerActorError::Panicked(struck))),
        }
        // That of a fold that is not to be trusted is not written.
        Ok(self.checkpoint_written_offset)
    }
}
