//! Learner status, checkpoints and model operations.

use actix::Addr;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;

use super::ingest::IngestHandle;
use super::recommender::RecommenderHandle;
use crate::actors::error::{MaintenanceError, RequestError};
use crate::actors::learner::{LearnerActor, LearnerStatus, WriteCheckpoint};
use crate::actors::sender_activity::SenderActivity;
use crate::domain::{Entry, ModelChange, ModelChangeCause, ModelOperation, Offset, Timestamp};
use crate::store::Store;

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
        if let ModelOperation::Rollback { to } = operation {
            let points: Vec<_> = self.store.list_restore_points()?.into_iter().map(|point| point.offset).collect();
            if !points.contains(&to) {
                return Err(MaintenanceError::NoRestorePoint { to, points });
            }
        }
        let offset = self.journal_operation(operation, cause, now).await?;
        let _ = self.recommender.wait_for_offset(offset + 1, APPLY_TIMEOUT).await;
        Ok(offset)
    }

    /// Journals a model operation. Returns its offset.
    pub(in crate::actors) async fn journal_operation(
        &self,
        operation: ModelOperation,
        cause: ModelChangeCause,
        now: Timestamp,
    ) -> Result<Offset, MaintenanceError> {
        let change = Entry::Model(ModelChange { timestamp: now, operation, cause });
        // Model operations are allowed while the daemon drains.
        let permit = self.ingest.admission().try_admit(1).map_err(RequestError::from)?;
        let receipt = self.ingest.append(vec![change], permit).await?;
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
