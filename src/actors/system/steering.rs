//! What is done to the system while it runs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::System;
use crate::actors::error::SystemError;
use crate::actors::learner::WriteCheckpoint;
use crate::domain::{Entry, ModelChange, ModelChangeCause, ModelOperation, Offset, Timestamp};

/// How long it is waited for the fold to come to an act.
const PATIENCE: Duration = Duration::from_secs(30);

impl System {
    /// Does something to the model: writes it to the journal and waits, for a while, until the fold
    /// has come there. Returns where it stands in the journal.
    ///
    /// # Errors
    /// [`SystemError::NoRestorePoint`] for a rollback to where it cannot go, or what the journal says:
    /// then nothing was done.
    pub async fn steer(&self, act: ModelOperation, cause: ModelChangeCause, now: Timestamp) -> Result<Offset, SystemError> {
        if let ModelOperation::Rollback { to } = act {
            let points: Vec<_> = self.store.list_restore_points()?.into_iter().map(|point| point.offset).collect();
            if !points.contains(&to) {
                return Err(SystemError::NoRestorePoint { to, points });
            }
        }
        let change = Entry::Model(ModelChange { timestamp: now, operation: act, cause });
        let receipt = self.append(vec![change], self.admission.try_admit(1)?).await?;
        // One that takes longer is done all the same.
        let _ = self.wait_for_offset(receipt.offset, PATIENCE).await;
        Ok(receipt.offset.saturating_sub(1))
    }

    /// Writes the learned state to the disk. Returns the offset up to which it reaches.
    ///
    /// # Errors
    /// What kept it from being written.
    pub async fn checkpoint(&self) -> Result<Offset, SystemError> {
        self.learner.send(WriteCheckpoint).await.map_err(|_| SystemError::ActorStopped("model actor"))?.map_err(SystemError::LearnerActor)
    }

    /// From now on nothing is taken, or, `on` being false, again everything is. Questions are
    /// answered all the while; who listens is let go.
    pub fn set_draining(&self, on: bool) {
        self.draining.store(on, Ordering::SeqCst);
        if on {
            self.close_subscribers();
        }
    }

    /// Whether nothing is taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}
