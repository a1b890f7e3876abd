//! Writes checkpoints of the learned state.

use actix::{Handler, Message};
use std::sync::Arc;

use super::LearnerActor;
use crate::actors::error::LearnerActorError;
use crate::actors::panic_guard::catch_panic;
use crate::actors::state_history::encode_checkpoint;
use crate::domain::Offset;
use crate::learner::{BackgroundJobs, JobLost};
use crate::metrics::ActorKind;
use crate::store::{JournalRetention, StoreError};

/// When checkpoints are written, and which data is removed after each checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckpointPolicy {
    /// Number of entries between two checkpoints; 0 writes a checkpoint only at shutdown.
    pub interval: u64,
    /// Number of checkpoints to keep.
    pub keep: usize,
    /// Which part of the journal must be kept when its oldest entries are removed after a
    /// checkpoint; `None` keeps the whole journal.
    pub journal_retention: Option<JournalRetention>,
    /// If the database's files are larger than this multiple of their live data, the database is
    /// compacted after a checkpoint; 0 disables compaction.
    pub compact_ratio: f64,
    /// A user's session record is removed if at least this many journal entries follow the user's
    /// last entry.
    pub forget_after: u64,
}

/// The outcome of a written checkpoint and of the removals after it.
pub(super) struct CheckpointOutcome {
    offset: Offset,
    bytes: u64,
    /// The last user whom the search for stale session records examined; `None` if it reached the
    /// last user.
    examined_through: Option<String>,
}

impl LearnerActor {
    /// Starts to write a checkpoint in the background. The job writes a copy of the state, so
    /// learning continues in the meantime.
    pub(super) fn begin_background_checkpoint(&mut self) -> Result<(), LearnerActorError> {
        let offset = self.learner.next_offset();
        let state = self.learner.state().map_err(|source| LearnerActorError::Learner { offset, source })?.clone();
        self.checkpoint_started_offset = offset;
        let (store, maintenance, examined_through) =
            (self.store.clone(), self.maintenance.clone(), self.examined_through.take());
        let CheckpointPolicy { keep, journal_retention, forget_after, compact_ratio, .. } = self.checkpoint_policy;
        self.writer.start(Box::new(move || {
            // The folder is opened inside the job, so that an unusable folder fails only this
            // checkpoint and does not stop learning.
            let checkpoints = store.checkpoints(keep)?;
            let bytes = checkpoints.write(offset, |file| encode_checkpoint(&state, file).map_err(StoreError::from))?;
            let begin = journal_retention
                .map(|retention| store.apply_retention(&checkpoints, retention, offset))
                .transpose()?;
            if let Some(begin) = begin {
                tracing::debug!(begin, "the first offset of the journal after retention");
            }
            let oldest = offset.saturating_sub(forget_after);
            let examined_through = store.sessions().remove_stale_records(
                oldest,
                examined_through.as_deref(),
                Self::RECORDS_EXAMINED_PER_CHECKPOINT,
            )?;
            maintenance.compact_if_due(compact_ratio);
            Ok(CheckpointOutcome { offset, bytes, examined_through })
        }));
        Ok(())
    }

    /// Records the outcome of a background checkpoint; `None` means that no checkpoint has
    /// finished.
    pub(super) fn record_checkpoint_outcome(
        &mut self,
        outcome: Option<Result<Result<CheckpointOutcome, StoreError>, JobLost>>,
    ) -> Result<(), LearnerActorError> {
        match outcome {
            None => Ok(()),
            Some(Ok(Ok(CheckpointOutcome { offset, bytes, examined_through }))) => {
                self.examined_through = examined_through;
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

    /// Writes a checkpoint of the current state and waits for it. Does nothing if the current
    /// offset already has a checkpoint, or if the learner must be reloaded.
    pub(super) fn write_checkpoint(&mut self) -> Result<(), LearnerActorError> {
        if self.writer.is_busy() {
            let written = self.writer.take_result();
            self.record_checkpoint_outcome(Some(written))?;
        }
        if !self.needs_reload
            && (self.checkpoint_written_offset != self.learner.next_offset() || self.checkpoint_written_offset == 0)
        {
            self.begin_background_checkpoint()?;
            let written = self.writer.take_result();
            self.record_checkpoint_outcome(Some(written))?;
        }
        Ok(())
    }
}

/// Message: writes a checkpoint of the current state, and returns the offset of the newest written
/// checkpoint.
#[derive(Debug, Message)]
#[rtype(result = "Result<Offset, Arc<LearnerActorError>>")]
pub struct WriteCheckpoint;

impl Handler<WriteCheckpoint> for LearnerActor {
    type Result = Result<Offset, Arc<LearnerActorError>>;

    fn handle(&mut self, _: WriteCheckpoint, _: &mut Self::Context) -> Self::Result {
        let metrics = Arc::clone(&self.metrics);
        match catch_panic(&metrics, ActorKind::Learner, || self.write_checkpoint()) {
            Ok(written) => written.map_err(Arc::new)?,
            Err(panic) => return Err(Arc::new(LearnerActorError::Panicked(panic))),
        }
        // If the learner must be reloaded, no checkpoint was written, and this is the offset of an
        // earlier one.
        Ok(self.checkpoint_written_offset)
    }
}
