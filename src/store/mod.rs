//! Durable state: the journal, session records, item names and checkpoints.
//!
//! ```text
//! <data-dir>/lock           locked while a process has the store open
//! <data-dir>/store/         the embedded database (sled): one log with the trees below; after a
//!                           compaction, until the next start, `store.1` or another number
//!     journal               offset of a record's first entry ‖ piece → a piece of the record
//!     sessions              user id → steps, hidden state, the first offset that they lack
//!     items                 number of the first name → names
//!     consents              user id → the user's consent and the offset of its entry
//!     placements            placement or rule → its last change and the offset of the change
//!     attributes            user id → the user's attributes and the offset of their last entry
//!     quarantine            offset of an entry ‖ the reader that skips it → the reason
//!     links                 offset of a merge → the merged id and its target
//!     erasures              pending erasures, digests of erased users, expiries, purges
//! <data-dir>/store/commits  the commit log: journal records that the database may not have synced
//! <data-dir>/checkpoints/   one file per checkpoint, named after its journal offset
//! <data-dir>/end            the known end of the journal, which reveals a truncated journal
//! <data-dir>/ids            the window of event ids, from a clean stop to the next start
//! <data-dir>/reserve        disk space that is released if a start finds the disk full
//! <data-dir>/journal-id     the id of the journal, for clients; not part of a backup
//! <data-dir>/origin         the pretrained network of this directory, as a checkpoint
//! ```
//!
//! The journal is the source of truth. All other state is *derived state*: it can be computed from
//! the journal. Each kind of derived state is stored with its *watermark*, an offset: the state
//! contains every journal entry before it. So a restart applies only the later entries.
//!
//! All trees share one log. After a crash, the database contains the writes up to some point of
//! this log. A write of derived state stores the values first and the watermark last, so it needs
//! no transaction. A commit syncs only its journal record, through the commit log. The opening after
//! a crash appends the records that the database lost, and derived state catches up from its
//! watermark.
//!
//! Further terms:
//!
//! - **Entry**: one event, impression, item change or other message in the journal. Its **offset**
//!   is its position, counted from 0.
//! - **Record**: the entries that one commit writes to the journal. Long records are stored in
//!   several **pieces**.
//! - **Tombstone**: an entry without content. It replaces an erased, expired or purged entry.
//! - **Envelope**: the version byte and the checksum that precede every stored value.
//! - **Pretrained state**: the learned state from which learning started, if not from random
//!   weights.
//! - **Restore point**: a learned state before or after a rollback, stored like a checkpoint.
//! - **Generation**: the number of times that the database was reopened.

mod alias_tree;
mod archive;
mod backup;
mod checkpoints;
pub mod codec;
mod commit_log;
mod committer;
mod compact;
mod consent_tree;
mod dir_lock;
mod end_marker;
mod engine;
mod envelope;
mod erasure;
mod erasure_tree;
mod error;
mod expiry_tree;
mod item_tree;
mod journal;
mod journal_batch;
mod journal_id;
mod journal_pieces;
mod journal_records;
mod journal_recovery;
mod key_value_iter;
pub mod keys;
mod log_position;
mod migrations;
mod origins;
mod own_file;
mod placement_tree;
mod pretrained;
mod pseudonyms;
mod purge_tree;
mod quarantine_tree;
mod removal_records;
mod reserve;
mod restore;
mod retention;
mod salvage;
mod scrub;
mod session_rules;
mod session_tree;
mod switchover;
#[cfg(test)]
mod testing;
mod user_attribute_tree;
mod verify;
mod write_tracker;

pub use alias_tree::AliasTree;
pub use backup::BackupSummary;
pub use checkpoints::{
    CheckpointReader, CheckpointWriter, Checkpoints, RestorePoint, open_checkpoint, write_checkpoint,
};
pub use codec::CodecError;
pub use committer::{
    CommitCondition, CommitReceipt, CommitRequest, CommittedBatch, Committer, CommitterSettings, DeliveredEntry,
    LogMessage,
};
pub use compact::CompactionSummary;
pub use consent_tree::ConsentTree;
pub use erasure::{ErasedEntryCounts, ErasureSummary, OffsetShift};
pub use erasure_tree::{ErasedUserDigest, ErasureTree, PendingTask};
pub use error::StoreError;
pub use expiry_tree::ExpiryTree;
pub use item_tree::ItemTree;
pub use journal::{EntryWithOrigin, Journal, JournalEntries, JournalWatcher};
pub use journal_batch::JournalBatch;
pub use log_position::{ChangeMarks, DigestWriter, LogDigest, SharedLogPosition, log_digest};
pub use migrations::STORE_FORMAT;
pub use placement_tree::PlacementTree;
pub use purge_tree::{PurgeSummary, PurgeTree, PurgedEntryCounts};
pub use quarantine_tree::{QuarantineReader, QuarantineTree, QuarantinedEntry};
pub use restore::restore;
pub use retention::JournalRetention;
pub use scrub::{JournalScrubber, ScrubReport};
pub use session_rules::SessionRules;
pub use session_tree::{SessionRecord, SessionTree};
pub use user_attribute_tree::UserAttributeTree;
pub use verify::{DamageFinding, DamageRemedy, StoreCounts, VerificationReport};

use dir_lock::DataDirLock;
use engine::Engine;
use reserve::DiskReserve;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

/// Minimum size of a database, in bytes, that [`Store::prepare_for_shutdown`] reopens.
const MIN_BYTES_TO_REOPEN_AT_SHUTDOWN: u64 = 64 << 20;

/// Name of the folder of the restore points: the learned states before and after each rollback.
const RESTORE_POINTS_FOLDER: &str = "restore-points";

/// The kind of failure after which acknowledged events are still in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Loss of power: the store writes the bytes to the disk (`fdatasync`) before it acknowledges
    /// an event.
    #[default]
    PowerLoss,
    /// A crash of the process (including `kill -9`), but not of the machine: the store passes the
    /// bytes to the kernel before it acknowledges an event.
    ProcessCrash,
}

/// Options for opening a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Size of the database's page cache, in bytes.
    pub cache_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20 }
    }
}

/// Free space and size of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Space that this process can still use.
    pub free: u64,
    /// Size of the disk.
    pub size: u64,
}

/// An open store of one data directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<StoreShared>,
}

#[derive(Debug)]
struct StoreShared {
    dir: PathBuf,
    options: StoreOptions,
    /// The open database; `None` during a reopening, and after a reopening that failed.
    engine: RwLock<Option<Arc<Engine>>>,
    /// Each writer holds a read lock, so that the engine is not replaced during a write. A thread
    /// that takes both locks takes this one before `engine`.
    writers: RwLock<()>,
    /// Locked during a compaction, so that only one runs at a time.
    compacting: Mutex<()>,
    /// Size of the database after the last compaction, in bytes; 0 before the first compaction.
    compacted_to: AtomicU64,
    /// Number of times the database was reopened.
    reopenings: AtomicU64,
    /// Disk space that is set aside for the next opening.
    reserve: DiskReserve,
    /// The id of the journal; empty until the store has read it.
    journal_id: OnceLock<String>,
    /// Lock of the data directory, held while the store is open. This must be the last field, so
    /// that the lock is released after the database's files are closed.
    _lock: DataDirLock,
}

impl Store {
    /// Opens the store of a data directory and migrates it to the current [`STORE_FORMAT`]. Creates
    /// the directory if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has the directory open.
    /// [`StoreError::NewerFormat`], [`StoreError::MissingFormat`] or [`StoreError::NoMigration`] if
    /// this binary cannot read the format. [`StoreError::DatabaseDamaged`] or
    /// [`StoreError::DamagedRecord`] if stored data is damaged. Any I/O error.
    pub fn open(dir: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::open_data_dir(dir.as_ref(), options, false)
    }

    /// Opens the existing store of a data directory.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the directory has no store, otherwise as [`Store::open`].
    pub fn open_existing(dir: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, StoreError> {
        require_store(dir.as_ref())?;
        Self::open(dir, options)
    }

    /// Opens a store for inspection. Unlike [`Store::open`], it accepts a damaged last journal
    /// record.
    ///
    /// # Errors
    /// As [`Store::open_existing`].
    pub fn open_for_inspection(dir: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, StoreError> {
        require_store(dir.as_ref())?;
        Self::open_data_dir(dir.as_ref(), options, true)
    }

    /// Opens the store of an unpacked backup, which must be a complete database.
    ///
    /// # Errors
    /// [`StoreError::InvalidBackup`] if the files are not a database that this program wrote,
    /// otherwise as [`Store::open_existing`].
    fn open_backup(dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let store = Self::open_existing(dir, options)?;
        // The database creates missing files and treats a damaged log as an empty one. In both
        // cases, it was not recovered from the backup's files.
        if store.engine()?.db.was_recovered() {
            Ok(store)
        } else {
            let reason = "the files in its store are not those of a database".to_owned();
            Err(StoreError::InvalidBackup { path: dir.to_owned(), reason })
        }
    }

    /// Checks that the database's files are still in the data directory. If they were removed, the
    /// store rejects all further writes, because these would be lost.
    ///
    /// # Errors
    /// [`StoreError::FilesRemoved`], or [`StoreError::NeedsReopen`] if the store is closed.
    pub fn check_files(&self) -> Result<(), StoreError> {
        let engine = self.engine()?;
        // The files may be gone because a compaction has replaced the database in the meantime.
        engine.check_files().or_else(|error| {
            if self.engine().is_ok_and(|new| !Arc::ptr_eq(&new, &engine)) { Ok(()) } else { Err(error) }
        })
    }

    fn open_data_dir(dir: &Path, options: &StoreOptions, lenient: bool) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::io("creating", dir))?;
        let lock = DataDirLock::acquire(dir)?;
        restore::remove_stage_of_finished_restore(dir)?;
        switchover::finish_switchover(dir)?;
        let engine = journal_recovery::open_engine(dir, &switchover::active_database_path(dir)?, options, 0, lenient)?;
        let shared = StoreShared {
            dir: dir.to_owned(),
            options: options.clone(),
            engine: RwLock::new(Some(Arc::new(engine))),
            writers: RwLock::default(),
            compacting: Mutex::default(),
            compacted_to: AtomicU64::new(0),
            reopenings: AtomicU64::new(0),
            reserve: DiskReserve::new(dir),
            journal_id: OnceLock::new(),
            _lock: lock,
        };
        let store = Self { shared: Arc::new(shared) };
        if !lenient {
            store.record_existing_pretrained()?;
        }
        Ok(store)
    }

    /// Closes the database and opens it again, so that the store accepts writes after a failed
    /// write. Opening reads the files, which reveals what data is on the disk. All clones of the
    /// store use the reopened database. Waits for calls in other threads to finish.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the disk still rejects writes, and [`StoreError::FilesRemoved`] if the
    /// database's files are gone: in both cases, the database stays open and readable. Any error of
    /// [`Store::open`]: in this case, the store stays closed, and every call returns
    /// [`StoreError::NeedsReopen`]. The caller can retry after any error.
    pub fn reopen(&self) -> Result<(), StoreError> {
        let shared = &self.shared;
        if let Ok(engine) = self.engine() {
            // Without this check, opening would create an empty database.
            engine.check_files()?;
        }
        self.fill_reserve()?;
        check_disk_writable(&shared.dir.join("probe"))?;
        let _no_writer = shared.writers.write().unwrap_or_else(PoisonError::into_inner);
        let mut engine = shared.engine.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = engine.take() {
            // A running compaction notices that this engine has failed, stops, and releases the
            // database.
            old.mark_failed();
        }
        let generation = shared.reopenings.fetch_add(1, Ordering::SeqCst) + 1;
        *engine = Some(Arc::new(journal_recovery::open_engine(
            &shared.dir,
            &switchover::active_database_path(&shared.dir)?,
            &shared.options,
            generation,
            false,
        )?));
        Ok(())
    }

    /// Closes and reopens the database. Otherwise the next start would have to replay the log that
    /// was written since the database was opened, which takes about one second per gigabyte. Call
    /// this method after the last write. A small database is not reopened, because that would save
    /// no time.
    ///
    /// # Errors
    /// As [`Store::reopen`].
    pub fn prepare_for_shutdown(&self) -> Result<(), StoreError> {
        if self.size_on_disk()? < MIN_BYTES_TO_REOPEN_AT_SHUTDOWN { Ok(()) } else { self.reopen() }
    }

    /// Number of times that the database was reopened. Unsynced data from before the last reopening
    /// may be lost.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn generation(&self) -> Result<u64, StoreError> {
        Ok(self.engine()?.generation)
    }

    /// Whether a write failed. The store then rejects writes until [`Store::reopen`] succeeds.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.engine().map_or(true, |engine| engine.has_failed())
    }

    /// Rejects all writes until the store is reopened.
    fn reject_writes(&self) {
        if let Ok(engine) = self.engine() {
            engine.mark_failed();
        }
    }

    /// Format of the store before this process opened it.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn format_at_open(&self) -> Result<u32, StoreError> {
        Ok(self.engine()?.format_at_open)
    }

    /// Checks that the journal reaches its recorded end. The database treats damage to its log as
    /// the end of the log, so damage can shorten the journal. Only this check detects the loss.
    ///
    /// # Errors
    /// [`StoreError::JournalTruncated`] if the journal ends early, or any read error.
    pub fn check_journal_end(&self) -> Result<(), StoreError> {
        let engine = self.engine()?;
        let recorded = engine.end_marker.end_at_open().unwrap_or_else(|reason| {
            tracing::warn!(path = %engine.end_marker.path().display(), reason, "the file that records the journal's end is damaged; a truncated journal may stay undetected");
            None
        });
        let (end, known) = (
            engine.journal_end(),
            recorded.unwrap_or(0).max(self.items().watermark()?).max(self.sessions().watermark()?),
        );
        if known > end {
            Err(StoreError::JournalTruncated { dir: self.shared.dir.clone(), end, known })
        } else {
            Ok(())
        }
    }

    /// Closes the store, and waits until the database has stopped writing to its files.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the store stays open, for example because other clones exist.
    pub fn close(self) -> Result<(), StoreError> {
        let path = self.database_path()?;
        drop(self);
        engine::wait_until_closed(&path)
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

    /// The aliases of merged users.
    #[must_use]
    pub fn aliases(&self) -> AliasTree {
        AliasTree::new(self.clone())
    }

    /// The pending erasures and the digests of erased users.
    #[must_use]
    pub fn erasures(&self) -> ErasureTree {
        ErasureTree::new(self.clone())
    }

    /// The purges that are in progress.
    #[must_use]
    pub fn purges(&self) -> PurgeTree {
        PurgeTree::new(self.clone())
    }

    /// The expiries that are in progress.
    #[must_use]
    pub fn expiries(&self) -> ExpiryTree {
        ExpiryTree::new(self.clone())
    }

    /// The attributes of the users.
    #[must_use]
    pub fn user_attributes(&self) -> UserAttributeTree {
        UserAttributeTree::new(self.clone())
    }

    /// The consents of the users.
    #[must_use]
    pub fn consents(&self) -> ConsentTree {
        ConsentTree::new(self.clone())
    }

    /// The placements and rules.
    #[must_use]
    pub fn placements(&self) -> PlacementTree {
        PlacementTree::new(self.clone())
    }

    /// The item names.
    #[must_use]
    pub fn items(&self) -> ItemTree {
        ItemTree::new(self.clone())
    }

    /// The quarantined entries.
    #[must_use]
    pub fn quarantine(&self) -> QuarantineTree {
        QuarantineTree::new(self.clone())
    }

    /// Opens the checkpoints for writing. Each write removes all but the newest `keep` checkpoints,
    /// and never the last one.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the directory cannot be created or read.
    pub fn checkpoints(&self, keep: usize) -> Result<Checkpoints, StoreError> {
        Checkpoints::open(&self.shared.dir.join(checkpoints::CHECKPOINTS_FOLDER), keep)
    }

    /// Opens the checkpoints for reading. Another process or thread may write checkpoints at the
    /// same time.
    #[must_use]
    pub fn checkpoints_read_only(&self) -> Checkpoints {
        Checkpoints::in_data_dir(&self.shared.dir)
    }

    /// All stored states that a rollback can restore (checkpoints and restore points), ascending by
    /// offset.
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

    /// Opens the restore points for reading.
    #[must_use]
    pub fn restore_points_read_only(&self) -> Checkpoints {
        Checkpoints::read_only(&self.shared.dir.join(RESTORE_POINTS_FOLDER))
    }

    /// Opens the restore points for writing. The caller must remove old ones.
    ///
    /// # Errors
    /// As [`Store::checkpoints`].
    pub fn restore_points(&self) -> Result<Checkpoints, StoreError> {
        Checkpoints::open(&self.shared.dir.join(RESTORE_POINTS_FOLDER), usize::MAX)
    }

    /// Makes all earlier writes durable, including session records and item names.
    ///
    /// # Errors
    /// Any I/O error; the store then counts as failed.
    pub fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        let engine = self.lock_for_writing()?;
        let end = engine.journal_end();
        engine.sync(durability)?;
        if durability == Durability::PowerLoss {
            engine.end_marker.advance_to(end);
        }
        Ok(())
    }

    /// Size of the database's files on the disk, in bytes.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.engine()?.size_on_disk()
    }

    /// Free space and size of the disk that holds the data directory.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn disk_space(&self) -> Result<DiskSpace, StoreError> {
        let dir = &self.shared.dir;
        let disk = rustix::fs::statvfs(dir).map_err(|error| StoreError::io("measuring", dir)(error.into()))?;
        Ok(DiskSpace {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            size: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }

    /// Returns the open database for reading.
    fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        let engine = self.shared.engine.read().unwrap_or_else(PoisonError::into_inner);
        engine.clone().ok_or_else(|| StoreError::NeedsReopen { dir: self.shared.dir.clone() })
    }

    /// Returns the open database for writing. While the guard exists, no other thread can replace
    /// the database. A thread that holds a guard must not request another one.
    fn lock_for_writing(&self) -> Result<StoreWriteGuard<'_>, StoreError> {
        let writers = self.shared.writers.read().unwrap_or_else(PoisonError::into_inner);
        let engine = self.engine()?;
        if engine.has_failed() {
            Err(StoreError::NeedsReopen { dir: self.shared.dir.clone() })
        } else {
            Ok(StoreWriteGuard { engine, _writers: writers })
        }
    }
}

/// Write access to the database. While the guard exists, no other thread can replace the database.
struct StoreWriteGuard<'s> {
    engine: Arc<Engine>,
    _writers: RwLockReadGuard<'s, ()>,
}

impl Deref for StoreWriteGuard<'_> {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// Checks that a data directory contains a store.
fn require_store(dir: &Path) -> Result<(), StoreError> {
    let found = dir.is_dir() && switchover::active_database_path(dir)?.is_dir();
    if found { Ok(()) } else { Err(StoreError::NotFound { dir: dir.to_owned() }) }
}

/// Checks that the disk accepts writes: writes and syncs a file as large as the files that opening
/// a database may write.
fn check_disk_writable(path: &Path) -> Result<(), StoreError> {
    const PROBE_BYTES: usize = 4 << 20;
    let mut file = own_file::create(path)?;
    let written = file.write_all(&vec![0; PROBE_BYTES]).and_then(|()| file.sync_data());
    let removed = std::fs::remove_file(path);
    written.and(removed).map_err(StoreError::io("writing", path))
}

/// Syncs a directory, so that its entries are durable.
fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(StoreError::io("syncing", path))
}

#[cfg(test)]
mod byte_compatibility;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
