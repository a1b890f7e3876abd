//! Backups and compactions of the running store, one at a time.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use crate::actors::error::MaintenanceError;
use crate::metrics::Metrics;
use crate::store::{BackupSummary, CompactionSummary, Store};

/// Backs up and compacts the store. Cheap to clone. Every method blocks, so it must run on a thread
/// that may block.
#[derive(Clone)]
pub struct StoreMaintenance {
    store: Store,
    metrics: Arc<Metrics>,
    /// Locked while a backup or a compaction runs.
    running: Arc<Mutex<()>>,
    /// Cancels a running compaction and prevents further compactions.
    stopping: Arc<AtomicBool>,
}

impl StoreMaintenance {
    /// Creates the maintenance of `store`. No job runs yet.
    #[must_use]
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, running: Arc::default(), stopping: Arc::default() }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn lock_exclusively(&self) -> Result<MutexGuard<'_, ()>, MaintenanceError> {
        match self.running.try_lock() {
            Ok(held) => Ok(held),
            // The mutex protects no data, so a panic cannot leave inconsistent data.
            Err(TryLockError::Poisoned(held)) => Ok(held.into_inner()),
            Err(TryLockError::WouldBlock) => Err(MaintenanceError::Running),
        }
    }

    /// Writes a backup, see [`Store::backup`].
    ///
    /// # Errors
    /// [`MaintenanceError::Running`] if a backup or a compaction is running,
    /// [`MaintenanceError::Store`] if the backup could not be written.
    pub fn backup(&self, target: &Path) -> Result<BackupSummary, MaintenanceError> {
        let _lock = self.lock_exclusively()?;
        Ok(self.store.backup(target, &mut |_, _| {})?)
    }

    /// Compacts the database, see [`Store::compact`].
    ///
    /// # Errors
    /// [`MaintenanceError::Running`] if a backup or a compaction is running,
    /// [`MaintenanceError::Stopping`] if the compaction was cancelled, [`MaintenanceError::Store`]
    /// if it failed.
    pub fn compact(&self) -> Result<CompactionSummary, MaintenanceError> {
        let _lock = self.lock_exclusively()?;
        let control =
            || if self.stopping.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let compacted = self.store.compact(&mut |_, _| control())?.ok_or(MaintenanceError::Stopping)?;
        self.metrics.compactions.increment(1);
        let CompactionSummary { bytes_before, bytes_after } = compacted;
        tracing::info!(bytes_before, bytes_after, "the database was compacted");
        Ok(compacted)
    }

    /// Compacts the database if its files take more than `ratio` times their live data (0: never),
    /// see [`Store::needs_compaction`]. A failure is logged, and the learner tries again after the
    /// next checkpoint.
    pub fn compact_if_due(&self, ratio: f64) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let outcome = match self.store.needs_compaction(ratio) {
            Ok(true) => self.compact().map(drop),
            Ok(false) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = outcome {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the database could not be compacted; it stays in use unchanged"
            );
        }
    }

    /// Cancels a running compaction and prevents further compactions.
    pub fn cancel_compactions(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}
