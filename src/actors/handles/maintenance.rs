//! Backups, compaction, removal of user data, drain and stop.

use actix::Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ingest::IngestHandle;
use super::model::ModelHandle;
use super::shards::ShardRouter;
use crate::actors::committer::{
    CommitPending, CommitterActor, HasWaitingRequests, LeaveCluster, PersistIndexes, RemoveEventIds,
};
use crate::actors::erasure_progress::ErasureProgress;
use crate::actors::error::{ClusterProblem, MaintenanceError, RequestError};
use crate::actors::jobs::maintenance::StoreMaintenance;
use crate::actors::shard::{ExpireSessions, ExpiryScan};
use crate::actors::shutdown::StopWriting;
use crate::domain::{Entry, EventKinds, Expiry, Offset, Purge, Timestamp, UserErasure};
use crate::store::{BackupSummary, CompactionSummary, Durability, ErasedEntryCounts, Store};

/// Operates on the store as a whole and removes user data.
#[derive(Clone)]
pub struct MaintenanceHandle {
    pub(in crate::actors) store: Store,
    pub(in crate::actors) router: ShardRouter,
    pub(in crate::actors) committer: Addr<CommitterActor>,
    pub(in crate::actors) kinds: EventKinds,
    pub(in crate::actors) ingest: IngestHandle,
    pub(in crate::actors) model: ModelHandle,
    pub(in crate::actors) store_maintenance: StoreMaintenance,
    pub(in crate::actors) erasure_progress: ErasureProgress,
}

impl MaintenanceHandle {
    /// If the learner lags by at most this many entries, a stop waits until the learner has caught
    /// up. That takes about a second at most.
    const MAX_STOP_BACKLOG_ENTRIES: u64 = 1024;
    /// The longest time that a stop waits for the learner.
    const MAX_WAIT_FOR_LEARNER_AT_STOP: Duration = Duration::from_secs(10);
    /// The longest time that a stop waits for the cluster to confirm the last entries.
    const MAX_WAIT_FOR_CLUSTER_AT_STOP: Duration = Duration::from_secs(5);
    /// The time between two questions whether the cluster has confirmed them.
    const CLUSTER_POLL_INTERVAL: Duration = Duration::from_millis(20);

    /// Writes a backup that contains every entry acknowledged before the call, see
    /// [`Store::backup`]. Blocks until the backup is complete.
    ///
    /// # Errors
    /// [`MaintenanceError::Running`] if a backup or a compaction is running,
    /// [`MaintenanceError::Store`] if the backup could not be written.
    pub fn backup(&self, target: &Path) -> Result<BackupSummary, MaintenanceError> {
        self.store_maintenance.backup(target)
    }

    /// Compacts the database, see [`Store::compact`]. Blocks until the compaction is complete.
    ///
    /// # Errors
    /// [`MaintenanceError::Running`] if a backup or a compaction is running,
    /// [`MaintenanceError::Stopping`] if the stop cancelled the compaction,
    /// [`MaintenanceError::Store`] if the compaction failed.
    pub fn compact(&self) -> Result<CompactionSummary, MaintenanceError> {
        self.store_maintenance.compact()
    }

    /// Prepares a stop: cancels a running compaction and ends subscriptions, so that the stop need
    /// not wait for them.
    pub fn prepare_stop(&self) {
        self.store_maintenance.cancel_compactions();
        self.router.close_subscriptions();
    }

    /// Stops learning, stores all derived state and stops every write, so that the store can be
    /// closed. If the learner lags by at most 1,024 entries, the stop waits until the learner has
    /// applied them. If it lags by more, the next start applies them. Returns the checkpoint's
    /// offset.
    ///
    /// # Errors
    /// The first failure. No acknowledged entry is lost.
    pub async fn stop(&self) -> Result<Offset, MaintenanceError> {
        self.prepare_stop();
        self.set_draining(true);
        self.committer.send(CommitPending).await.map_err(|_| RequestError::ActorStopped("committer"))?;
        self.leave_cluster().await?;
        let recommender = &self.model.recommender;
        if recommender.watermarks.learner_lag() <= Self::MAX_STOP_BACKLOG_ENTRIES {
            // A failed learner does not catch up, so the stop does not wait for it.
            let _ =
                recommender.wait_for_offset(recommender.delivered_offset(), Self::MAX_WAIT_FOR_LEARNER_AT_STOP).await;
        }
        self.model.learner.send(StopWriting).await.map_err(|_| RequestError::ActorStopped("learner"))?;
        for shard in self.router.shards.iter() {
            shard.send(StopWriting).await.map_err(|_| RequestError::ActorStopped("shard"))?;
        }
        let offset = self.persist_derived_state_with(true).await?;
        self.committer.send(StopWriting).await.map_err(|_| RequestError::ActorStopped("committer"))?;
        Ok(offset)
    }

    /// Waits until the cluster has confirmed the node's proposals, and then applies no further
    /// message. Does nothing on a single node.
    async fn leave_cluster(&self) -> Result<(), MaintenanceError> {
        let stopped = || RequestError::ActorStopped("committer");
        for _ in 0..Self::MAX_WAIT_FOR_CLUSTER_AT_STOP.as_millis() / Self::CLUSTER_POLL_INTERVAL.as_millis() {
            if !self.committer.send(HasWaitingRequests).await.map_err(|_| stopped())? {
                break;
            }
            actix::clock::sleep(Self::CLUSTER_POLL_INTERVAL).await;
        }
        Ok(self.committer.send(LeaveCluster).await.map_err(|_| stopped())?)
    }

    /// Starts or ends draining. A draining daemon accepts no new entries and no subscriptions, but
    /// still answers requests.
    pub fn set_draining(&self, is_draining: bool) {
        self.ingest.draining.store(is_draining, Ordering::SeqCst);
        if is_draining {
            self.router.close_subscriptions();
        }
    }

    /// Stores all derived state: sessions, indexes and a checkpoint. The next start then replays no
    /// entries. Returns the checkpoint's offset.
    ///
    /// # Errors
    /// The first failure. No acknowledged entry is lost.
    pub async fn persist_derived_state(&self) -> Result<Offset, MaintenanceError> {
        self.persist_derived_state_with(true).await
    }

    /// Like [`Self::persist_derived_state`]. `is_final` states that the daemon is stopping and no
    /// further entry is written.
    async fn persist_derived_state_with(&self, is_final: bool) -> Result<Offset, MaintenanceError> {
        self.router.flush().await?;
        self.committer
            .send(PersistIndexes { is_final })
            .await
            .map_err(|_| RequestError::ActorStopped("committer"))?
            .map_err(MaintenanceError::Store)?;
        // The database still buffers its last writes. The process exits without closing the
        // database, so the writes are synced here.
        self.store.sync(Durability::PowerLoss)?;
        self.model.write_checkpoint().await
    }

    /// Waits until all derived state contains the entry at `offset`, and stores that state.
    ///
    /// # Errors
    /// [`RequestError::NotReached`] if the learner does not reach the offset within `timeout`.
    pub(in crate::actors) async fn persist_derived_state_through(
        &self,
        offset: Offset,
        timeout: Duration,
    ) -> Result<(), MaintenanceError> {
        let wanted = offset + 1;
        self.model.recommender.wait_for_offset(wanted, timeout).await?;
        let reached = self.persist_derived_state_with(false).await?;
        if reached < wanted { Err(RequestError::NotReached { wanted, reached }.into()) } else { Ok(()) }
    }

    /// Requests the erasure of a user under all ids. When the call returns, the request is in the
    /// journal and survives a crash. Returns the offset after the request.
    ///
    /// # Errors
    /// The error of the journal, if the request could not be written. In this case, no data is
    /// erased. [`ClusterProblem::Unsupported`] for unlearning on a node of a cluster.
    pub async fn request_erasure(
        &self,
        user_id: String,
        unlearn: bool,
        timestamp: Timestamp,
    ) -> Result<Offset, RequestError> {
        if unlearn {
            self.check_may_unlearn()?;
        }
        let permit = self.ingest.try_admit(1)?;
        let receipt =
            self.ingest.append(vec![Entry::Erase(UserErasure { user_id, unlearn, timestamp })], permit).await?;
        self.erasure_progress.wake_job();
        Ok(receipt.offset)
    }

    /// Requests the removal of the entries of an origin. When the call returns, the request is in
    /// the journal and survives a crash. Returns the offset of the request.
    ///
    /// # Errors
    /// The error of the journal, if the request could not be written. In this case, nothing is
    /// removed. [`ClusterProblem::Unsupported`] on a node of a cluster.
    pub async fn request_purge(&self, purge: Purge) -> Result<Offset, RequestError> {
        self.check_may_unlearn()?;
        let permit = self.ingest.try_admit(1)?;
        let receipt = self.ingest.append(vec![Entry::Purge(purge)], permit).await?;
        self.erasure_progress.wake_job();
        Ok(receipt.offset.saturating_sub(1))
    }

    /// Unlearning gives the entries of the journal other offsets, so a node of a cluster cannot do
    /// it alone.
    fn check_may_unlearn(&self) -> Result<(), RequestError> {
        match &self.ingest.cluster {
            None => Ok(()),
            Some(_) => Err(RequestError::Cluster(ClusterProblem::Unsupported(
                "a node of a cluster cannot unlearn, because the offsets of its journal would change; see \"Erasure and unlearning\" in docs/cluster.md",
            ))),
        }
    }

    /// Waits until users are erased under all their ids. Returns the numbers of removed entries, or
    /// `None` if that takes longer than `timeout`.
    pub async fn wait_for_erasure(&self, ids: &[String], timeout: Duration) -> Option<ErasedEntryCounts> {
        self.erasure_progress.wait_for_outcomes(ids, timeout).await
    }

    /// Removes the ids of erased or purged events from the deduplication window.
    pub(in crate::actors) async fn remove_event_ids(&self, ids: Vec<String>) -> Result<(), RequestError> {
        self.committer.send(RemoveEventIds { ids }).await.map_err(|_| RequestError::ActorStopped("committer"))
    }

    /// Removes expired steps from all sessions, live and stored. Returns the number of stored
    /// sessions that changed.
    ///
    /// # Errors
    /// The error of the store. Some sessions may then still contain expired steps.
    pub(in crate::actors) async fn expire_sessions(&self, expiry: &Expiry) -> Result<usize, RequestError> {
        let (cutoffs, mut sessions) = (Arc::new(expiry.cutoffs(&self.kinds)), 0);
        for shard in self.router.shards.iter() {
            let mut after = None;
            loop {
                let request = ExpireSessions { cutoffs: Arc::clone(&cutoffs), after };
                let ExpiryScan { changed, last } = shard
                    .send(request)
                    .await
                    .map_err(|_| RequestError::ActorStopped("shard"))?
                    .map_err(RequestError::Store)?;
                sessions += changed;
                after = last;
                if after.is_none() {
                    break;
                }
            }
        }
        self.router.flush().await?;
        Ok(sessions)
    }
}
