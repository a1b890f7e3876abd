//! Durable state: the journal, session records, item names and checkpoints.
//!
//! ```text
//! <data-dir>/lock           locked while a process has the store open
//! <data-dir>/store/         the embedded database (sled): one log with the trees below; after a
//!                           compaction, until the next start, `store.1` or another number
//!     journal               offset of a record's first entry ‖ piece → a piece of the record
//!     sessions              user id → steps, hidden state, the first offset that it lacks
//!     items                 number of the first name → names
//!     consents              user id → the user's consent and the offset of its entry
//!     quarantine            offset of an entry ‖ the reader that skips it → the reason
//!     links                 offset of a merge → the merged id and its target
//!     erasures              pending erasures, digests of erased users, expiries
//! <data-dir>/checkpoints/   one file per checkpoint, named after the journal offset that it holds
//! <data-dir>/end            the known end of the journal, which reveals a truncated journal
//! <data-dir>/ids            the window of event ids, from a clean stop to the next start
//! <data-dir>/origin         the pretrained network of this directory, as a checkpoint
//! ```
//!
//! The journal is the truth. All other state is derived from it and stores the offset that it
//! contains, so that a restart applies only the tail. All trees share one log, and a restart finds a
//! prefix of it. So derived state writes its values first and its offset last, and needs no
//! transaction.

mod alias_tree;
mod archive;
mod backup;
mod checkpoints;
pub mod codec;
mod committer;
mod compact;
mod consent_tree;
mod end_marker;
mod engine;
mod envelope;
mod erasure;
mod erasure_tree;
mod error;
mod expiry_tree;
mod item_tree;
mod journal;
mod journal_records;
mod key_value_iter;
pub mod keys;
mod migrations;
mod pseudonyms;
mod quarantine_tree;
mod retention;
mod session_tree;
mod switchover;
#[cfg(test)]
mod testing;
mod verify;
mod write_tracker;

pub use alias_tree::AliasTree;
pub use backup::{BackupSummary, restore};
pub use checkpoints::{CheckpointReader, CheckpointWriter, Checkpoints, RestorePoint, open_checkpoint, write_checkpoint};
pub use codec::CodecError;
pub use committer::{CommitReceipt, CommittedBatch, Committer, CommitterSettings, DeliveredEntry};
pub use compact::CompactionSummary;
pub use consent_tree::ConsentTree;
pub use erasure::{ErasedEntryCounts, ErasureSummary, OffsetShift};
pub use erasure_tree::{ErasedUserDigest, ErasureTree, PendingTask};
pub use error::StoreError;
pub use expiry_tree::ExpiryTree;
pub use item_tree::ItemTree;
pub use journal::{Journal, JournalEntries, JournalWatcher};
pub use migrations::FORMAT;
pub use quarantine_tree::{QuarantineReader, QuarantineTree, QuarantinedEntry};
pub use retention::JournalRetention;
pub use session_tree::{SessionRecord, SessionTree};
pub use verify::{DamageFinding, DamageRemedy, StoreCounts, VerificationReport};

use engine::Engine;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

/// How long, and how often, to wait for a directory's lock. A child process holds a copy of its
/// parent's lock between `fork` and `exec`.
const LOCK_PATIENCE: (Duration, u32) = (Duration::from_millis(10), 50);

/// Bytes of a database from which on its next opening is worth preparing.
const WORTH_RESTING: u64 = 64 << 20;

/// The folder of the states that a rollback went to or left.
const RESTORE_POINTS: &str = "restore-points";

/// What an acknowledged event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The loss of power: the bytes are on the disk (`fdatasync`) before an event is acknowledged.
    #[default]
    PowerLoss,
    /// The death of the process, `kill -9` included, but not that of the machine: the bytes are the
    /// kernel's before an event is acknowledged.
    ProcessCrash,
}

/// How to open a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// How many bytes of pages the database keeps in memory.
    pub cache_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// Room on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// What is left for this process.
    pub free: u64,
    /// The whole.
    pub size: u64,
}

/// The file's name in the data directory.
const ORIGIN: &str = "origin";

/// The open store of one data directory. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<StoreShared>,
}

#[derive(Debug)]
struct StoreShared {
    dir: PathBuf,
    options: StoreOptions,
    /// `None` only while it is being opened again, and after that failed.
    engine: RwLock<Option<Arc<Engine>>>,
    /// Read-locked by writers, so that the engine is not replaced during a write. Locked before
    /// `engine`.
    writers: RwLock<()>,
    /// One compaction at a time.
    compacting: Mutex<()>,
    /// What the last one left, in bytes of disk; 0 if there was none.
    compacted_to: AtomicU64,
    /// How often it was opened again.
    reopenings: AtomicU64,
    /// Locked for as long as the store is open. Last, so that it is released when the database's
    /// files are closed.
    _lock: File,
}

impl Store {
    /// Opens the store of a data directory, which is created if it is not there, and migrates it to
    /// the present [`FORMAT`].
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open, [`StoreError::NewerFormat`] and its
    /// like for a format that this binary cannot read, [`StoreError::DatabaseDamaged`] or
    /// [`StoreError::DamagedRecord`] if what is there is not what was written, or what the disk
    /// says.
    pub fn open(dir: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::open_by(dir.as_ref(), options, false)
    }

    /// Opens the store of a data directory that must have one.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it has none, otherwise as [`Store::open`].
    pub fn open_existing(dir: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, StoreError> {
        present(dir.as_ref())?;
        Self::open(dir, options)
    }

    /// Opens a store to look at it, also where its journal's last record is damaged, which
    /// [`Store::open`] refuses.
    ///
    /// # Errors
    /// As [`Store::open_existing`].
    pub fn open_for_inspection(dir: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, StoreError> {
        present(dir.as_ref())?;
        Self::open_by(dir.as_ref(), options, true)
    }

    fn open_by(dir: &Path, options: &StoreOptions, lenient: bool) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::io("creating", dir))?;
        let lock_path = dir.join("lock");
        let lock =
            File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(StoreError::io("opening", &lock_path))?;
        let (pause, mut patience) = LOCK_PATIENCE;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if patience > 0 => patience -= 1,
                Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { dir: dir.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(StoreError::io("locking", &lock_path)(source)),
            }
            std::thread::sleep(pause);
        }
        switchover::finish_switchover(dir)?;
        let engine = Engine::open(dir, &switchover::current_database(dir)?, options, 0, lenient)?;
        let shared = StoreShared {
            dir: dir.to_owned(),
            options: options.clone(),
            engine: RwLock::new(Some(Arc::new(engine))),
            writers: RwLock::default(),
            compacting: Mutex::default(),
            compacted_to: AtomicU64::new(0),
            reopenings: AtomicU64::new(0),
            _lock: lock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Closes the database and opens it again, which is how writes come back after one failed: what
    /// the disk really holds is found by reading it. Every clone of the store goes on with the new
    /// opening; calls under way elsewhere are waited for.
    ///
    /// # Errors
    /// [`StoreError::Io`] while the disk still takes no writes: nothing was closed, and what can be
    /// read still can. Otherwise as [`Store::open`]: the store then stays closed, and every call on
    /// it is [`StoreError::NeedsReopen`]. Either way this may be tried again.
    pub fn reopen(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        probe(&shared.dir.join("probe"))?;
        let _no_writer = shared.writers.write().unwrap_or_else(PoisonError::into_inner);
        let mut engine = shared.engine.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = engine.take() {
            // A compaction that is copying it breaks off and lets it go.
            former.mark_failed();
        }
        let number = shared.reopenings.fetch_add(1, Ordering::SeqCst) + 1;
        *engine = Some(Arc::new(Engine::open(&shared.dir, &switchover::current_database(&shared.dir)?, &shared.options, number, false)?));
        Ok(())
    }

    /// Closes the database and opens it once more: the next opening then need not read again what
    /// was written since this one, which takes about a second a gigabyte. To be called when nothing
    /// more is written. Of a small database nothing is to be gained, and it stays as it is.
    ///
    /// # Errors
    /// As [`Store::reopen`].
    pub fn prepare_for_shutdown(&self) -> Result<(), StoreError> {
        if self.size_on_disk()? < WORTH_RESTING { Ok(()) } else { self.reopen() }
    }

    /// The number of the present opening: what was written in an earlier one and not made durable
    /// may be gone.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn generation(&self) -> Result<u64, StoreError> {
        Ok(self.engine()?.generation)
    }

    /// Whether a write failed, so that no more are taken until [`Store::reopen`].
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.engine().map_or(true, |engine| engine.has_failed())
    }

    /// The format that the store was in before this process opened it.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn format_found(&self) -> Result<u32, StoreError> {
        Ok(self.engine()?.format_found)
    }

    /// Passes a journal that has every entry that it is known to have had. The database takes
    /// damage to its log for the log's end: then the journal ends early, and only this says so.
    ///
    /// # Errors
    /// [`StoreError::JournalTruncated`] if it ends before, or what reading says.
    pub fn check_journal_end(&self) -> Result<(), StoreError> {
        let engine = self.engine()?;
        let written = engine.end_marker.value_at_open().unwrap_or_else(|reason| {
            tracing::warn!(path = %engine.end_marker.path().display(), reason, "how far the journal should reach cannot be told");
            None
        });
        let (end, known) = (engine.journal_end(), written.unwrap_or(0).max(self.items().watermark()?).max(self.sessions().watermark()?));
        if known > end { Err(StoreError::JournalTruncated { dir: self.shared.dir.clone(), end, known }) } else { Ok(()) }
    }

    /// Closes the store and waits until nothing writes to its files any more.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it stays open, as it does while it has other clones.
    pub fn close(self) -> Result<(), StoreError> {
        let path = self.database_path()?;
        drop(self);
        engine::wait_closed(&path)
    }

    /// The data directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> Journal {
        Journal::new(self.clone())
    }

    /// The session records.
    #[must_use]
    pub fn sessions(&self) -> SessionTree {
        SessionTree::new(self.clone())
    }

    /// Who was merged into whom.
    #[must_use]
    pub fn aliases(&self) -> AliasTree {
        AliasTree::new(self.clone())
    }

    /// Who is to be erased, and who was.
    #[must_use]
    pub fn erasures(&self) -> ErasureTree {
        ErasureTree::new(self.clone())
    }

    /// What was kept long enough and is still to be taken out.
    #[must_use]
    pub fn expiries(&self) -> ExpiryTree {
        ExpiryTree::new(self.clone())
    }

    /// How far users' consent goes.
    #[must_use]
    pub fn consents(&self) -> ConsentTree {
        ConsentTree::new(self.clone())
    }

    /// The item names.
    #[must_use]
    pub fn items(&self) -> ItemTree {
        ItemTree::new(self.clone())
    }

    /// The notes on entries that are passed over.
    #[must_use]
    pub fn quarantine(&self) -> QuarantineTree {
        QuarantineTree::new(self.clone())
    }

    /// The checkpoints, of which the newest `keep` are kept (at least one).
    ///
    /// # Errors
    /// [`StoreError::Io`] if their directory cannot be created or read.
    pub fn checkpoints(&self, keep: usize) -> Result<Checkpoints, StoreError> {
        Checkpoints::open(&self.shared.dir.join(checkpoints::FOLDER), keep)
    }

    /// The checkpoints as they are, to read from while another writes there.
    #[must_use]
    pub fn checkpoints_read_only(&self) -> Checkpoints {
        Checkpoints::in_data_dir(&self.shared.dir)
    }

    /// Every state on the disk that the model can go back to, ascending by offset.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a directory cannot be read.
    pub fn list_restore_points(&self) -> Result<Vec<RestorePoint>, StoreError> {
        let mut points = self.checkpoints_read_only().list()?;
        points.extend(self.restore_points_read_only().list()?);
        points.sort_unstable_by_key(|point| point.offset);
        points.dedup_by_key(|point| point.offset);
        Ok(points)
    }

    /// The states that a rollback went to or left, as they are.
    #[must_use]
    pub fn restore_points_read_only(&self) -> Checkpoints {
        Checkpoints::read_only(&self.shared.dir.join(RESTORE_POINTS))
    }

    /// The states that a rollback went to or left, to be written to; how many are kept is the
    /// writer's affair.
    ///
    /// # Errors
    /// As [`Store::checkpoints`].
    pub fn restore_points(&self) -> Result<Checkpoints, StoreError> {
        Checkpoints::open(&self.shared.dir.join(RESTORE_POINTS), usize::MAX)
    }

    /// What learning began with before the journal's first entry, to be read from; `None` if that
    /// was nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it cannot be read or is not what was written.
    pub fn pretrained_state(&self) -> Result<Option<CheckpointReader>, StoreError> {
        let path = self.shared.dir.join(ORIGIN);
        match open_checkpoint(&path) {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    /// Writes, durably, what learning begins with: only before the journal's first entry, since
    /// everything after it is a fold that began so.
    ///
    /// # Errors
    /// [`StoreError::JournalNotEmpty`] if the journal has an entry, or what `fill` or the disk
    /// says.
    pub fn set_pretrained_state<E: From<StoreError>>(&self, fill: impl FnOnce(&mut CheckpointWriter) -> Result<(), E>) -> Result<(), E> {
        let entries = self.journal().next_offset()?;
        if entries > 0 {
            return Err(StoreError::JournalNotEmpty { dir: self.shared.dir.clone(), entries }.into());
        }
        write_checkpoint(&self.shared.dir.join(ORIGIN), 0, fill)?;
        Ok(())
    }

    /// Makes durable whatever was written so far, session records and item names too.
    ///
    /// # Errors
    /// What the disk says; the store then counts as failed.
    pub fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        let engine = self.writable()?;
        let end = engine.journal_end();
        engine.sync(durability)?;
        if durability == Durability::PowerLoss {
            engine.end_marker.advance(end);
        }
        Ok(())
    }

    /// How many bytes the database's files take on the disk.
    ///
    /// # Errors
    /// What the file system says.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.engine()?.size_on_disk()
    }

    /// The disk that the data directory is on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn disk_space(&self) -> Result<DiskSpace, StoreError> {
        let dir = &self.shared.dir;
        let disk = rustix::fs::statvfs(dir).map_err(|error| StoreError::io("measuring", dir)(error.into()))?;
        Ok(DiskSpace { free: disk.f_bavail.saturating_mul(disk.f_frsize), size: disk.f_blocks.saturating_mul(disk.f_frsize) })
    }

    /// The present opening, to read from.
    fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        let engine = self.shared.engine.read().unwrap_or_else(PoisonError::into_inner);
        engine.clone().ok_or_else(|| StoreError::NeedsReopen { dir: self.shared.dir.clone() })
    }

    /// The present opening, to write to. No other one takes its place before what is returned is
    /// dropped; nobody may hold two at once.
    fn writable(&self) -> Result<StoreWriteGuard<'_>, StoreError> {
        let unmoved = self.shared.writers.read().unwrap_or_else(PoisonError::into_inner);
        let engine = self.engine()?;
        if engine.has_failed() {
            Err(StoreError::NeedsReopen { dir: self.shared.dir.clone() })
        } else {
            Ok(StoreWriteGuard { engine, _unmoved: unmoved })
        }
    }
}

/// An opening that is written to.
struct StoreWriteGuard<'s> {
    engine: Arc<Engine>,
    _unmoved: RwLockReadGuard<'s, ()>,
}

impl Deref for StoreWriteGuard<'_> {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// Passes a data directory that has a store.
fn present(dir: &Path) -> Result<(), StoreError> {
    let found = dir.is_dir() && switchover::current_database(dir)?.is_dir();
    if found { Ok(()) } else { Err(StoreError::NotFound { dir: dir.to_owned() }) }
}

/// Whether the disk takes writes (again): as many bytes as an opening may have to write, and a
/// sync.
fn probe(path: &Path) -> Result<(), StoreError> {
    const BYTES: usize = 4 << 20;
    let written = File::create(path).and_then(|mut file| {
        file.write_all(&vec![0; BYTES])?;
        file.sync_data()
    });
    let removed = std::fs::remove_file(path);
    written.and(removed).map_err(StoreError::io("writing", path))
}

/// Makes a directory's entries durable.
fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(StoreError::io("syncing", path))
}

#[cfg(test)]
mod byte_compatibility;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
