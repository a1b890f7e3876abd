//! Learner status, checkpoints and model operations.

use actix::Addr;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;

use super::ingest::IngestHandle;
use super::recommender::RecommenderHandle;
use crate::actors::admission::AdmissionPermit;
use crate::actors::error::{MaintenanceError, RequestError};
use crate::actors::learner::{LearnerActor, LearnerStatus, WriteCheckpoint};
use crate::actors::sender_activity::SenderActivity;
use crate::domain::{Entry, ModelChange, ModelChangeCause, ModelOperation, Offset, Timestamp};
use crate::store::{CommitCondition, Store};

/// The longest time that a caller waits until the learner has applied an operation.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads the learner's status and changes the model.
#[derive(Clone)]
pub struct ModelHandle {
    pub(in crate::actors) learner: Addr<LearnerActor>,
    pub(in crate::actors) status: Arc<ArcSwap<LearnerStatus>>,
    pub(in crate::actors) sender_activity: SenderActivity,
    pub(in crate::actors) store: Store,
    pub(in crate::actors) ingest: IngestHandle,
    pub(in crate::actors) recommender: RecommenderHandle,
}

impl ModelHandle {
    /// The learner's status as of the last published snapshot. The call does not wait for the
    /// learner.
    #[must_use]
    pub fn status(&self) -> Arc<LearnerStatus> {
        self.status.load_full()
    }

    /// The recent events of each API key, and how many of them the learner held back.
    #[must_use]
    pub fn sender_activity(&self) -> &SenderActivity {
        &self.sender_activity
    }

    /// Journals a model operation and waits up to 30 s until the learner has applied it. Returns
    /// the operation's offset. The learner applies it even if the wait times out.
    ///
    /// # Errors
    /// [`MaintenanceError::NoRestorePoint`] if a rollback names an offset without a restore point,
    /// or the error of the journal. The model is then unchanged.
    pub async fn apply_operation(
        &self,
        operation: ModelOperation,
        cause: ModelChangeCause,
        now: Timestamp,
    ) -> Result<Offset, MaintenanceError> {
        // Model operations are allowed while the daemon drains.
        let permit = self.ingest.admission().try_admit(1).map_err(RequestError::from)?;
        self.apply_change(ModelChange { timestamp: now, operation, cause }, None, permit).await
    }

    /// Like [`Self::apply_operation`], for a background job. If too many entries are in flight, the
    /// call waits for capacity, because an overload is when jobs are needed most. In a cluster, the
    /// operation has no effect if the journal has another one at or after `decided_at`, the offset
    /// that the decision depends on.
    ///
    /// # Errors
    /// As [`Self::apply_operation`].
    pub(in crate::actors) async fn apply_job_operation(
        &self,
        operation: ModelOperation,
        cause: ModelChangeCause,
        decided_at: Offset,
        now: Timestamp,
    ) -> Result<Offset, MaintenanceError> {
        let permit = self.ingest.admit(1).await?;
        self.apply_change(ModelChange { timestamp: now, operation, cause }, Some(decided_at), permit).await
    }

    /// Journals a model operation of a background job. Returns its offset. If too many entries are
    /// in flight, the call waits for capacity.
    pub(in crate::actors) async fn journal_job_operation(
        &self,
        operation: ModelOperation,
        cause: ModelChangeCause,
        decided_at: Offset,
        now: Timestamp,
    ) -> Result<Offset, MaintenanceError> {
        let permit = self.ingest.admit(1).await?;
        self.journal_change(ModelChange { timestamp: now, operation, cause }, Some(decided_at), permit).await
    }

    async fn apply_change(
        &self,
        change: ModelChange,
        decided_at: Option<Offset>,
        permit: AdmissionPermit,
    ) -> Result<Offset, MaintenanceError> {
        if let ModelOperation::Rollback { to } = change.operation {
            let points: Vec<_> = self.store.list_restore_points()?.into_iter().map(|point| point.offset).collect();
            if !points.contains(&to) {
                return Err(MaintenanceError::NoRestorePoint { to, points });
            }
        }
        let offset = self.journal_change(change, decided_at, permit).await?;
        let _ = self.recommender.wait_for_offset(offset + 1, APPLY_TIMEOUT).await;
        Ok(offset)
    }

    async fn journal_change(
        &self,
        change: ModelChange,
        decided_at: Option<Offset>,
        permit: AdmissionPermit,
    ) -> Result<Offset, MaintenanceError> {
        let entries = vec![Entry::Model(change)];
        let receipt = match decided_at {
            Some(offset) => self.ingest.append_if(CommitCondition::NoModelChangeFrom(offset), entries, permit).await?,
            None => self.ingest.append(entries, permit).await?,
        };
        Ok(receipt.offset.saturating_sub(1))
    }

    /// Writes a checkpoint of the learned state. Returns its offset.
    ///
    /// # Errors
    /// [`MaintenanceError::Checkpoint`] if it could not be written.
    pub async fn write_checkpoint(&self) -> Result<Offset, MaintenanceError> {
        let written = self.learner.send(WriteCheckpoint).await.map_err(|_| RequestError::ActorStopped("learner"))?;
        written.map_err(MaintenanceError::Checkpoint)
    }
}
