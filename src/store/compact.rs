//! Online compaction: copies all live data into a new database, which replaces the old database,
//! while the store is in use.
//!
//! The embedded database never returns space to the disk, so overwritten and removed data soon
//! fills most of its files. Writers continue while the trees are copied, and a write tracker
//! records the keys that they change. The compaction copies the changed keys again, in rounds,
//! until only a few keys remain. Then writers pause briefly: the compaction copies the last keys,
//! syncs the new database and makes it the store. Open readers keep the old database until they
//! finish.

use super::engine::Engine;
use super::key_value_iter::KeyValueIter;
use super::write_tracker::WritePosition;
use super::{Durability, Store, StoreError, journal_recovery, switchover};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Sizes of the database before and after a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionSummary {
    /// Size of the database's files before, in bytes.
    pub bytes_before: u64,
    /// Size of the database's files after, in bytes.
    pub bytes_after: u64,
}

/// If at most this many changed keys remain, writers pause until the compaction has copied them.
/// The pause takes some milliseconds.
const MAX_KEYS_COPIED_WHILE_PAUSED: usize = 256;
/// Maximum number of catch-up rounds before writers pause. Each round copies fewer keys, unless the
/// disk is slower than the writers.
const MAX_CATCH_UP_ROUNDS: usize = 16;
/// Number of bytes that are copied between two syncs. One large sync would delay the syncs of the
/// writers.
const BYTES_PER_SYNC: u64 = 8 << 20;
/// Number of key-value pairs that are copied between two checks for cancellation.
const PAIRS_PER_CANCELLATION_CHECK: u64 = 256;
/// Minimum size of a database for an automatic compaction, in bytes.
const MIN_DATABASE_BYTES_TO_COMPACT: u64 = 64 << 20;
/// A compaction requires this many bytes of free disk space per byte of keys and values. The new
/// database takes 1.8 to 2.1 bytes per byte of keys and values.
const FREE_BYTES_PER_LIVE_BYTE: u64 = 3;

impl Store {
    /// Size of all keys and values in bytes, which is a lower bound on the size of the database's
    /// files. The first call after opening the database reads all pairs to count them. Writers
    /// continue during the count, so it may include some of their writes twice.
    ///
    /// # Errors
    /// Any read error.
    pub fn live_bytes(&self) -> Result<u64, StoreError> {
        count_live_bytes(self.engine()?.as_ref())
    }

    /// The size of all keys and values in bytes, if [`Store::live_bytes`] has counted it before.
    #[must_use]
    pub fn cached_live_bytes(&self) -> Option<u64> {
        self.engine().ok()?.write_tracker.live_bytes()
    }

    /// Whether the database's files are larger than `ratio` times the live data, and also larger
    /// than a minimum size. If the database was compacted before, its files must also have grown by
    /// half since then.
    ///
    /// # Errors
    /// Any read error.
    pub fn needs_compaction(&self, ratio: f64) -> Result<bool, StoreError> {
        let (disk, live) = (self.size_on_disk()?, self.live_bytes()?);
        let last_compacted = self.shared.compacted_to.load(Ordering::Relaxed);
        Ok(is_compaction_due(disk, live, last_compacted, ratio))
    }

    /// Copies all live data into a new database, replaces the current database by it and removes
    /// the old database. All clones of the store use the new database; writers pause briefly at the
    /// end. If the process dies, one of the two databases remains and contains every acknowledged
    /// write. `observe` receives the number of copied or compared bytes and an estimate of the
    /// total. If `observe` returns `Break`, the store stays unchanged and the result is `None`.
    ///
    /// # Errors
    /// [`StoreError::InsufficientDiskSpace`] if the disk has too little free space,
    /// [`StoreError::Reopened`] if the store was reopened during the call, or any read or write
    /// error. After an error the store is unchanged, with one exception: if the final switch to the
    /// new database fails, it is unknown which database is active. The store then rejects writes
    /// until [`Store::reopen`].
    pub fn compact(
        &self,
        observe: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<Option<CompactionSummary>, StoreError> {
        let shared = &self.shared;
        let _one_at_a_time = shared.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let old = Arc::clone(&self.lock_for_writing()?.engine);
        let (bytes_before, live, free) = (old.size_on_disk()?, self.live_bytes()?, free_disk_bytes(&shared.dir)?);
        if free < live * FREE_BYTES_PER_LIVE_BYTE {
            return Err(StoreError::InsufficientDiskSpace {
                dir: shared.dir.clone(),
                needed: live * FREE_BYTES_PER_LIVE_BYTE,
                free,
            });
        }
        let path = switchover::prepare_next_database_path(&shared.dir, old.path())?;
        old.write_tracker.start_tracking();
        let outcome = self.copy_and_switch(&old, &path, 2 * live, observe);
        old.write_tracker.stop_tracking();
        let old_path = old.path().to_owned();
        drop(old);
        let bytes_after = match outcome {
            Ok(CompactionOutcome::Switched(new)) => new.size_on_disk()?,
            Ok(CompactionOutcome::Cancelled) => return switchover::remove_database(&path).map(|()| None),
            Err(CompactionAborted::InDoubt(error)) => return Err(error),
            Err(CompactionAborted::Unchanged(error)) => {
                // An error is ignored: if the directory remains, the next compaction removes it.
                let _ = switchover::remove_database(&path);
                return Err(error);
            }
        };
        shared.compacted_to.store(bytes_after, Ordering::Relaxed);
        // If readers still use the old database, it is not removed now. The next compaction or
        // start removes it.
        if let Err(error) = switchover::remove_database(&old_path) {
            tracing::warn!(path = %old_path.display(), error = &error as &dyn std::error::Error, "the old database could not be removed after a compaction; the next compaction or start removes it");
        }
        Ok(Some(CompactionSummary { bytes_before, bytes_after }))
    }

    fn copy_and_switch(
        &self,
        old: &Arc<Engine>,
        path: &Path,
        total: u64,
        observe: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<CompactionOutcome, CompactionAborted> {
        let shared = &self.shared;
        let new = Arc::new(journal_recovery::open_engine(&shared.dir, path, &shared.options, old.generation, false)?);
        count_live_bytes(&new)?;
        let mut copy = DatabaseCopier { old, new: &new, copied: 0, synced: 0, total, observe };
        // If the database splits or merges pages during the first pass, its iterator may miss
        // pairs. The second pass copies these pairs.
        for _ in 0..2 {
            if copy.copy_all()?.is_break() {
                return Ok(CompactionOutcome::Cancelled);
            }
        }
        for _ in 0..MAX_CATCH_UP_ROUNDS {
            let positions = old.write_tracker.drain_positions();
            copy.copy_positions(&positions)?;
            if positions.len() <= MAX_KEYS_COPIED_WHILE_PAUSED {
                break;
            }
        }
        new.sync(Durability::PowerLoss)?;

        let _no_writer = shared.writers.write().unwrap_or_else(PoisonError::into_inner);
        copy.copy_positions(&old.write_tracker.drain_positions())?;
        new.sync(Durability::PowerLoss)?;
        new.first_offset.store(old.first_offset.load(Ordering::Acquire), Ordering::Release);
        new.end_offset.store(old.journal_end(), Ordering::Release);
        let mut engine = shared.engine.write().unwrap_or_else(PoisonError::into_inner);
        if old.has_failed() || !engine.as_ref().is_some_and(|present| Arc::ptr_eq(present, old)) {
            return Err(CompactionAborted::Unchanged(StoreError::Reopened { dir: shared.dir.clone() }));
        }
        if let Err(error) = switchover::activate_database(&shared.dir, path) {
            // The next start may use either database. Writes to the current database could then be
            // lost, so it must reject them.
            old.mark_failed();
            return Err(CompactionAborted::InDoubt(error));
        }
        *engine = Some(Arc::clone(&new));
        Ok(CompactionOutcome::Switched(new))
    }
}

/// Outcome of copying a database.
enum CompactionOutcome {
    /// The new database is the store.
    Switched(Arc<Engine>),
    /// The observer cancelled the copy.
    Cancelled,
}

/// Reason why the copy failed.
enum CompactionAborted {
    /// The old database is still the store.
    Unchanged(StoreError),
    /// It is unknown which of the two databases the next start uses.
    InDoubt(StoreError),
}

impl From<StoreError> for CompactionAborted {
    fn from(error: StoreError) -> Self {
        Self::Unchanged(error)
    }
}

/// Copies one database into another.
struct DatabaseCopier<'c> {
    old: &'c Engine,
    new: &'c Engine,
    copied: u64,
    synced: u64,
    total: u64,
    observe: &'c mut dyn FnMut(u64, u64) -> ControlFlow<()>,
}

impl DatabaseCopier<'_> {
    /// Copies all pairs that differ or are missing in the new database.
    fn copy_all(&mut self) -> Result<ControlFlow<()>, StoreError> {
        let mut pairs = 0_u64;
        for name in self.old.db.tree_names() {
            let (from, to) = (self.old.open_tree(&name)?, self.new.open_tree(&name)?);
            for pair in KeyValueIter::new(from.iter(), self.old.path()) {
                let (key, value) = pair?;
                self.copied += (key.len() + value.len()) as u64;
                if self.new.get(&to, &key)?.as_ref() != Some(&value) {
                    self.new.insert(&to, &key, value)?;
                }
                pairs += 1;
                if self.copied - self.synced >= BYTES_PER_SYNC {
                    self.new.sync(Durability::PowerLoss)?;
                    self.synced = self.copied;
                }
                if pairs.is_multiple_of(PAIRS_PER_CANCELLATION_CHECK) {
                    if self.old.has_failed() {
                        return Err(StoreError::NeedsReopen { dir: self.old.path().to_owned() });
                    }
                    if (self.observe)(self.copied, self.total).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Copies the current values of the keys in `positions`.
    fn copy_positions(&self, positions: &BTreeSet<WritePosition>) -> Result<(), StoreError> {
        for (name, key) in positions {
            let (from, to) = (self.old.open_tree(name)?, self.new.open_tree(name)?);
            match self.old.get(&from, key)? {
                Some(value) => self.new.insert(&to, key, value)?,
                None => self.new.remove(&to, key)?,
            }
        }
        Ok(())
    }
}

/// Returns the number of bytes of all keys and values. Counts them if they were not counted before.
fn count_live_bytes(engine: &Engine) -> Result<u64, StoreError> {
    if engine.write_tracker.live_bytes().is_none() {
        let (grown, mut bytes) = (engine.write_tracker.grown_bytes(), 0);
        for name in engine.db.tree_names() {
            for pair in KeyValueIter::new(engine.open_tree(&name)?.iter(), engine.path()) {
                let (key, value) = pair?;
                bytes += (key.len() + value.len()) as u64;
            }
        }
        engine.write_tracker.set_counted_bytes(bytes, grown);
    }
    Ok(engine.write_tracker.live_bytes().unwrap_or_default())
}

fn is_compaction_due(disk: u64, live: u64, last_compacted: u64, ratio: f64) -> bool {
    ratio > 0.0
        && disk > MIN_DATABASE_BYTES_TO_COMPACT
        && disk as f64 > ratio * live as f64
        && disk > last_compacted + last_compacted / 2
}

/// Number of bytes that this process can still write to the file system that contains `dir`.
fn free_disk_bytes(dir: &Path) -> Result<u64, StoreError> {
    let stats = rustix::fs::statvfs(dir).map_err(|error| StoreError::io("measuring", dir)(error.into()))?;
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

#[cfg(test)]
mod tests;
