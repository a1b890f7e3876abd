//! Online compaction: copies all live data into a fresh database, which replaces the old one.
//!
//! The database never returns space to the disk, and most of its space is soon dead. Writers
//! continue while the trees are copied, and a write tracker records the keys that they change.
//! Those keys are copied again until few are left. Then writers pause briefly: the last keys are
//! copied, the new database is synced and becomes the store. Open readers keep the old database
//! until they finish.

use super::engine::Engine;
use super::key_value_iter::KeyValueIter;
use super::write_tracker::WritePosition;
use super::{Durability, Store, StoreError, switchover};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// What a compaction brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactionSummary {
    /// The database's files before, in bytes.
    pub bytes_before: u64,
    /// The database's files after it, in bytes.
    pub bytes_after: u64,
}

/// So few places are copied while writers wait: some milliseconds' work.
const FEW: usize = 256;
/// How often the places written to meanwhile are copied before writers have to wait; each time
/// there are fewer, unless the disk is slower than the writers.
const ROUNDS: usize = 16;
/// Bytes that are copied between two syncs: a sync of all at once would keep those of the writers
/// waiting.
const PORTION: u64 = 8 << 20;
/// Pairs that are copied between two looks at whether to go on.
const STRETCH: u64 = 256;
/// A database smaller than this is not worth the work, in bytes.
const WORTHWHILE: u64 = 64 << 20;
/// How many bytes of disk there must be for one byte of keys and values; a fresh database takes 1.8
/// to 2.1.
const FRESH: u64 = 3;

impl Store {
    /// The bytes of all keys and values, the least that the database's files could take. The first
    /// time since the database was opened a pass over all of it counts them, while writers go on;
    /// of what is written during that pass a part may be counted twice.
    ///
    /// # Errors
    /// What reading says.
    pub fn live_bytes(&self) -> Result<u64, StoreError> {
        live_bytes(self.engine()?.as_ref())
    }

    /// As [`Store::live_bytes`], if it was ever counted.
    #[must_use]
    pub fn cached_live_bytes(&self) -> Option<u64> {
        self.engine().ok()?.write_tracker.live_bytes()
    }

    /// Whether the database's files take more than `ratio` times what is in them, and so much that
    /// giving it back is worth the work; not again, however, before they have grown by half since
    /// the last time.
    ///
    /// # Errors
    /// What reading says.
    pub fn needs_compaction(&self, ratio: f64) -> Result<bool, StoreError> {
        let (disk, live) = (self.size_on_disk()?, self.live_bytes()?);
        let fresh = self.shared.compacted_to.load(Ordering::Relaxed);
        Ok(is_due(disk, live, fresh, ratio))
    }

    /// Copies everything into a fresh database, which takes the place of the present one, and
    /// removes that. Every clone of the store goes on; writers wait for a moment at the end. A
    /// process that dies on the way leaves either of the two, with everything that was
    /// acknowledged. `observe` is told how many bytes are copied or held against their copies, and
    /// of about how many; if it breaks off, nothing is changed and `None` returned.
    ///
    /// # Errors
    /// [`StoreError::InsufficientDiskSpace`] if the disk has too little of it,
    /// [`StoreError::Reopened`] if the store was opened again meanwhile, or what reading or writing
    /// says: then nothing is changed, unless at the very end the disk did not say whether the new
    /// database is in its place; then the store takes no writes until [`Store::reopen`] finds out.
    pub fn compact(&self, observe: &mut dyn FnMut(u64, u64) -> ControlFlow<()>) -> Result<Option<CompactionSummary>, StoreError> {
        let shared = &self.shared;
        let _one_at_a_time = shared.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let old = Arc::clone(&self.writable()?.engine);
        let (bytes_before, live, free) = (old.size_on_disk()?, self.live_bytes()?, free_bytes(&shared.dir)?);
        if free < live * FRESH {
            return Err(StoreError::InsufficientDiskSpace { dir: shared.dir.clone(), needed: live * FRESH, free });
        }
        let path = switchover::next_database(&shared.dir, old.path())?;
        old.write_tracker.start_tracking();
        let made = self.make(&old, &path, 2 * live, observe);
        old.write_tracker.stop_tracking();
        let former = old.path().to_owned();
        drop(old);
        let bytes_after = match made {
            Ok(CompactionOutcome::InPlace(new)) => new.size_on_disk()?,
            Ok(CompactionOutcome::BrokenOff) => return switchover::remove_database(&path).map(|()| None),
            Err(CompactionAborted::InDoubt(error)) => return Err(error),
            Err(CompactionAborted::Nothing(error)) => {
                // Best effort: what stays is removed the next time.
                let _ = switchover::remove_database(&path);
                return Err(error);
            }
        };
        shared.compacted_to.store(bytes_after, Ordering::Relaxed);
        // Open readers keep the old database; the next compaction or start removes it.
        if let Err(error) = switchover::remove_database(&former) {
            tracing::warn!(path = %former.display(), error = &error as &dyn std::error::Error, "a database that was compacted cannot be removed yet");
        }
        Ok(Some(CompactionSummary { bytes_before, bytes_after }))
    }

    fn make(
        &self,
        old: &Arc<Engine>,
        path: &Path,
        of: u64,
        observe: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<CompactionOutcome, CompactionAborted> {
        let shared = &self.shared;
        let new = Arc::new(Engine::open(&shared.dir, path, &shared.options, old.generation, false)?);
        live_bytes(&new)?;
        let mut copy = DatabaseCopier { old, new: &new, copied: 0, synced: 0, of, observe };
        // The second time finds whatever an iterator may have missed while pages were split and
        // merged under it.
        for _ in 0..2 {
            if copy.everything()?.is_break() {
                return Ok(CompactionOutcome::BrokenOff);
            }
        }
        for _ in 0..ROUNDS {
            let places = old.write_tracker.drain_positions();
            copy.places(&places)?;
            if places.len() <= FEW {
                break;
            }
        }
        new.sync(Durability::PowerLoss)?;

        let _no_writer = shared.writers.write().unwrap_or_else(PoisonError::into_inner);
        copy.places(&old.write_tracker.drain_positions())?;
        new.sync(Durability::PowerLoss)?;
        new.first_offset.store(old.first_offset.load(Ordering::Acquire), Ordering::Release);
        new.end_offset.store(old.journal_end(), Ordering::Release);
        let mut engine = shared.engine.write().unwrap_or_else(PoisonError::into_inner);
        if old.has_failed() || !engine.as_ref().is_some_and(|present| Arc::ptr_eq(present, old)) {
            return Err(CompactionAborted::Nothing(StoreError::Reopened { dir: shared.dir.clone() }));
        }
        if let Err(error) = switchover::activate(&shared.dir, path) {
            // Either may be what a start finds: nothing more may be written to this one.
            old.mark_failed();
            return Err(CompactionAborted::InDoubt(error));
        }
        *engine = Some(Arc::clone(&new));
        Ok(CompactionOutcome::InPlace(new))
    }
}

/// How making a fresh database ended.
enum CompactionOutcome {
    /// It is the store.
    InPlace(Arc<Engine>),
    /// The observer cancelled the copy.
    BrokenOff,
}

/// Why no fresh database was made.
enum CompactionAborted {
    /// The old one is the store.
    Nothing(StoreError),
    /// Which of the two is the store is not known.
    InDoubt(StoreError),
}

impl From<StoreError> for CompactionAborted {
    fn from(error: StoreError) -> Self {
        Self::Nothing(error)
    }
}

/// One database on the way into another.
struct DatabaseCopier<'c> {
    old: &'c Engine,
    new: &'c Engine,
    copied: u64,
    synced: u64,
    of: u64,
    observe: &'c mut dyn FnMut(u64, u64) -> ControlFlow<()>,
}

impl DatabaseCopier<'_> {
    /// Copies every pair of every tree that the new one does not have alike.
    fn everything(&mut self) -> Result<ControlFlow<()>, StoreError> {
        let mut pairs = 0_u64;
        for name in self.old.db.tree_names() {
            let (from, to) = (self.old.tree(&name)?, self.new.tree(&name)?);
            for pair in KeyValueIter::new(from.iter(), self.old.path()) {
                let (key, value) = pair?;
                self.copied += (key.len() + value.len()) as u64;
                if self.new.get(&to, &key)?.as_ref() != Some(&value) {
                    self.new.insert(&to, &key, value)?;
                }
                pairs += 1;
                if self.copied - self.synced >= PORTION {
                    self.new.sync(Durability::PowerLoss)?;
                    self.synced = self.copied;
                }
                if pairs.is_multiple_of(STRETCH) {
                    if self.old.has_failed() {
                        return Err(StoreError::NeedsReopen { dir: self.old.path().to_owned() });
                    }
                    if (self.observe)(self.copied, self.of).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Copies what stands now at those places.
    fn places(&self, places: &BTreeSet<WritePosition>) -> Result<(), StoreError> {
        for (name, key) in places {
            let (from, to) = (self.old.tree(name)?, self.new.tree(name)?);
            match self.old.get(&from, key)? {
                Some(value) => self.new.insert(&to, key, value)?,
                None => self.new.remove(&to, key)?,
            }
        }
        Ok(())
    }
}

/// Counts the bytes of all keys and values, if that was not done yet.
fn live_bytes(engine: &Engine) -> Result<u64, StoreError> {
    if engine.write_tracker.live_bytes().is_none() {
        let (grown, mut bytes) = (engine.write_tracker.growth(), 0);
        for name in engine.db.tree_names() {
            for pair in KeyValueIter::new(engine.tree(&name)?.iter(), engine.path()) {
                let (key, value) = pair?;
                bytes += (key.len() + value.len()) as u64;
            }
        }
        engine.write_tracker.set_counted_bytes(bytes, grown);
    }
    Ok(engine.write_tracker.live_bytes().unwrap_or_default())
}

fn is_due(disk: u64, live: u64, fresh: u64, ratio: f64) -> bool {
    ratio > 0.0 && disk > WORTHWHILE && disk as f64 > ratio * live as f64 && disk > fresh + fresh / 2
}

/// How many bytes the file system of that directory still takes from this process.
fn free_bytes(dir: &Path) -> Result<u64, StoreError> {
    let found = rustix::fs::statvfs(dir).map_err(|error| StoreError::io("measuring", dir)(error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests;
