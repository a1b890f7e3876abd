//! What is done to the store as a whole while everything goes on: backups and compactions, one at a
//! time.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use crate::actors::error::SystemError;
use crate::metrics::Metrics;
use crate::store::{BackupSummary, CompactionSummary, Store};

/// Copies the store; cheap to clone. Everything here blocks: it belongs on a thread that may wait.
#[derive(Clone)]
pub struct StoreMaintenance {
    store: Store,
    metrics: Arc<Metrics>,
    /// Held by the copy under way.
    copying: Arc<Mutex<()>>,
    /// No compaction is gone on with.
    stopping: Arc<AtomicBool>,
}

impl StoreMaintenance {
    /// For that store.
    #[must_use]
    pub fn new(store: Store, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, copying: Arc::default(), stopping: Arc::default() }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn one_at_a_time(&self) -> Result<MutexGuard<'_, ()>, SystemError> {
        match self.copying.try_lock() {
            Ok(held) => Ok(held),
            // There is nothing in it that a panic could have spoilt.
            Err(TryLockError::Poisoned(held)) => Ok(held.into_inner()),
            Err(TryLockError::WouldBlock) => Err(SystemError::MaintenanceRunning),
        }
    }

    /// Makes a backup, see [`Store::backup`].
    ///
    /// # Errors
    /// [`SystemError::MaintenanceRunning`] while something else is under way here, [`SystemError::Store`] for
    /// what kept it from being made.
    pub fn backup(&self, target: &Path) -> Result<BackupSummary, SystemError> {
        let _one_at_a_time = self.one_at_a_time()?;
        Ok(self.store.backup(target, &mut |_, _| {})?)
    }

    /// Gives disk back, see [`Store::compact`].
    ///
    /// # Errors
    /// [`SystemError::MaintenanceRunning`] while something else is under way here, [`SystemError::Stopping`]
    /// if it was broken off, [`SystemError::Store`] for what kept it from being done.
    pub fn compact(&self) -> Result<CompactionSummary, SystemError> {
        let _one_at_a_time = self.one_at_a_time()?;
        let goes_on = || if self.stopping.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let compacted = self.store.compact(&mut |_, _| goes_on())?.ok_or(SystemError::Stopping)?;
        self.metrics.compactions.increment(1);
        let CompactionSummary { bytes_before, bytes_after } = compacted;
        tracing::info!(bytes_before, bytes_after, "the database was written anew");
        Ok(compacted)
    }

    /// Gives disk back if the database's files take more than `ratio` times what is in them (0:
    /// never), see [`Store::needs_compaction`]. What keeps it from being done is told to the log:
    /// it is tried again after the next checkpoint.
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
            tracing::warn!(error = &error as &dyn std::error::Error, "the database could not be written anew; it goes on as it is");
        }
    }

    /// Breaks off a compaction under way, and begins no other.
    pub fn cancel(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}
