//! Writes checkpoints of the learned state.

use actix::{Handler, Message};
use std::sync::Arc;
use std::time::Instant;

use super::LearnerActor;
use crate::actors::error::LearnerActorError;
use crate::actors::jobs::maintenance::StoreMaintenance;
use crate::actors::panic_guard::catch_panic;
use crate::actors::state_history::encode_checkpoint;
use crate::domain::{Entry, Offset};
use crate::learner::{BackgroundJobs, JobLost, LearnerState};
use crate::metrics::ActorKind;
use crate::store::{JournalRetention, Store, StoreError};
use crate::telemetry::span;

/// When checkpoints are written, and which data is removed after each checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckpointPolicy {
    /// Number of entries between two checkpoints; 0 writes a checkpoint only at shutdown. An
    /// impression counts as a tenth of an entry.
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

/// How much of the journal a restart would replay. An impression counts as a tenth of an entry,
/// because the learner applies it in about a tenth of the time. The work depends on the journal
/// alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ReplayWork {
    tenths: u64,
}

impl ReplayWork {
    const TENTHS_PER_ENTRY: u64 = 10;

    /// Adds the work of one entry.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.tenths += if matches!(entry, Entry::Impression(_)) { 1 } else { Self::TENTHS_PER_ENTRY };
    }

    /// The work since `earlier`, in entries.
    fn entries_since(self, earlier: Self) -> f64 {
        self.tenths.saturating_sub(earlier.tenths) as f64 / Self::TENTHS_PER_ENTRY as f64
    }
}

/// How much of the journal is applied, and how much of it the checkpoints include.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CheckpointProgress {
    /// The work of all entries that the learner has applied since it was loaded.
    applied: ReplayWork,
    /// The part of `applied` that the last started checkpoint includes.
    started: ReplayWork,
    /// The part of `applied` that the last written checkpoint includes.
    written: ReplayWork,
    /// The offset of the last checkpoint that was written to disk.
    written_offset: Offset,
}

impl CheckpointProgress {
    /// The progress of a learner that was just loaded from the checkpoint at `offset`.
    pub(super) fn at_load(offset: Offset) -> Self {
        Self { written_offset: offset, ..Self::default() }
    }

    /// Records that the learner was loaded again.
    pub(super) fn record_reload(&mut self) {
        *self = Self::at_load(self.written_offset);
    }

    /// Records that the learner has applied an entry.
    pub(super) fn record_applied(&mut self, entry: &Entry) {
        self.applied.add(entry);
    }

    /// Whether a checkpoint is due, because enough entries were applied since the last one began.
    pub(super) fn is_due(&self, policy: &CheckpointPolicy) -> bool {
        policy.interval > 0 && self.applied.entries_since(self.started) >= policy.interval as f64
    }

    /// The entries that a restart would replay.
    pub(super) fn pending_entries(&self) -> f64 {
        self.applied.entries_since(self.written)
    }
}

/// The outcome of a written checkpoint and of the removals after it.
pub(super) struct CheckpointOutcome {
    offset: Offset,
    /// The work that the checkpoint includes.
    included: ReplayWork,
    bytes: u64,
    /// The last user whom the search for stale session records examined; `None` if it reached the
    /// last user.
    examined_through: Option<String>,
}

/// The work of one checkpoint: writes it, and then removes the data that it makes superfluous.
struct CheckpointJob {
    offset: Offset,
    included: ReplayWork,
    store: Store,
    maintenance: StoreMaintenance,
    policy: CheckpointPolicy,
    examined_through: Option<String>,
}

impl CheckpointJob {
    fn run(self, state: &LearnerState) -> Result<CheckpointOutcome, StoreError> {
        let Self { offset, included, store, maintenance, policy, examined_through } = self;
        // The folder is opened here, so that an unusable folder fails only this checkpoint and does
        // not stop learning.
        let checkpoints = store.checkpoints(policy.keep)?;
        let bytes = checkpoints.write(offset, |file| encode_checkpoint(state, file).map_err(StoreError::from))?;
        let begin = policy
            .journal_retention
            .map(|retention| store.apply_retention(&checkpoints, retention, offset))
            .transpose()?;
        if let Some(begin) = begin {
            tracing::debug!(begin, "the first offset of the journal after retention");
        }
        let examined_through = store.sessions().remove_stale_records(
            offset.saturating_sub(policy.forget_after),
            examined_through.as_deref(),
            LearnerActor::RECORDS_EXAMINED_PER_CHECKPOINT,
        )?;
        maintenance.compact_if_due(policy.compact_ratio);
        Ok(CheckpointOutcome { offset, included, bytes, examined_through })
    }
}

impl LearnerActor {
    /// Starts to write a checkpoint in the background. The job writes a copy of the state, so
    /// learning continues in the meantime.
    pub(super) fn begin_background_checkpoint(&mut self) -> Result<(), LearnerActorError> {
        let state = self.settled_state()?.clone();
        let job = self.start_checkpoint();
        self.writer.start(Box::new(move || job.run(&state)));
        Ok(())
    }

    /// The learner's state, which includes the results of all background jobs.
    pub(super) fn settled_state(&mut self) -> Result<&LearnerState, LearnerActorError> {
        let offset = self.learner.next_offset();
        self.learner.state().map_err(|source| LearnerActorError::Learner { offset, source })
    }

    /// Records that a checkpoint of the current offset was started, and returns its work.
    fn start_checkpoint(&mut self) -> CheckpointJob {
        self.checkpoints.started = self.checkpoints.applied;
        CheckpointJob {
            offset: self.learner.next_offset(),
            included: self.checkpoints.started,
            store: self.store.clone(),
            maintenance: self.maintenance.clone(),
            policy: self.checkpoint_policy,
            examined_through: self.examined_through.take(),
        }
    }

    /// Records the outcome of a background checkpoint; `None` means that no checkpoint has
    /// finished.
    pub(super) fn record_checkpoint_outcome(
        &mut self,
        outcome: Option<Result<Result<CheckpointOutcome, StoreError>, JobLost>>,
    ) -> Result<(), LearnerActorError> {
        match outcome {
            None => Ok(()),
            Some(Ok(Ok(CheckpointOutcome { offset, included, bytes, examined_through }))) => {
                self.examined_through = examined_through;
                self.metrics.checkpoint_bytes.set(bytes as f64);
                self.metrics.checkpoint_offset.set(offset as f64);
                (self.checkpoints.written_offset, self.checkpoints.written) = (offset, included);
                self.metrics.checkpoint_pending_entries.set(self.checkpoints.pending_entries());
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

    /// Writes a checkpoint of the current state. Does nothing if the current offset already has a
    /// checkpoint, or if the learner must be reloaded.
    ///
    /// The learner waits for this checkpoint anyway, so this thread writes it. So the state is not
    /// copied, which would take memory and time in proportion to its size.
    pub(super) fn write_checkpoint(&mut self) -> Result<(), LearnerActorError> {
        if self.writer.is_busy() {
            let written = self.writer.take_result();
            self.record_checkpoint_outcome(Some(written))?;
        }
        let written_offset = self.checkpoints.written_offset;
        if !self.needs_reload && (written_offset != self.learner.next_offset() || written_offset == 0) {
            // The first call fails before the checkpoint counts as started.
            self.settled_state()?;
            let (job, began) = (self.start_checkpoint(), Instant::now());
            let state = self.settled_state()?;
            let written = span!("checkpoint").in_scope(|| job.run(state));
            self.metrics.checkpoint_seconds.record(began.elapsed());
            self.record_checkpoint_outcome(Some(Ok(written)))?;
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
        Ok(self.checkpoints.written_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Impression;

    fn impression() -> Entry {
        Entry::Impression(Impression {
            recommendation_id: String::new(),
            user_id: String::new(),
            timestamp: 0,
            weights_version: 0,
            items: Vec::new(),
            ..Impression::default()
        })
    }

    /// The number of entries after which a checkpoint is due, if every entry is like `entry`.
    fn entries_until_due(progress: &mut CheckpointProgress, entry: &Entry) -> usize {
        let policy =
            CheckpointPolicy { interval: 5, keep: 1, journal_retention: None, compact_ratio: 0.0, forget_after: 0 };
        assert!(!progress.is_due(&CheckpointPolicy { interval: 0, ..policy }));
        (0..100)
            .find(|_| {
                let is_due = progress.is_due(&policy);
                progress.record_applied(entry);
                is_due
            })
            .unwrap()
    }

    #[test]
    fn an_impression_counts_as_a_tenth_of_an_entry() {
        let mut progress = CheckpointProgress::at_load(7);
        assert_eq!(entries_until_due(&mut progress.clone(), &Entry::Tombstone), 5);
        assert_eq!(entries_until_due(&mut progress.clone(), &impression()), 50);
        progress.record_applied(&Entry::Tombstone);
        assert_eq!(entries_until_due(&mut progress.clone(), &impression()), 40);
        (0..3).for_each(|_| progress.record_applied(&impression()));
        assert_eq!(progress.pending_entries(), 1.3);
    }

    #[test]
    fn entries_are_pending_until_their_checkpoint_is_written() {
        let mut progress = CheckpointProgress::at_load(0);
        (0..5).for_each(|_| progress.record_applied(&Entry::Tombstone));
        progress.started = progress.applied;
        progress.record_applied(&Entry::Tombstone);
        assert_eq!(progress.pending_entries(), 6.0);
        assert_eq!(
            entries_until_due(&mut progress.clone(), &Entry::Tombstone),
            4,
            "the next one is due after the start"
        );
        progress.written = progress.started;
        assert_eq!(progress.pending_entries(), 1.0);
        progress.written_offset = 5;
        progress.record_reload();
        assert_eq!((progress.pending_entries(), progress.written_offset), (0.0, 5));
    }
}
