//! Opens, reads, writes and syncs the embedded database. After a failed write, the
//! engine rejects further writes.

use super::commit_log::{CommitLog, LoggedRecord};
use super::end_marker::EndMarker;
use super::key_value_iter::{catch_database_panic, convert_database_error, panic_error};
use super::write_tracker::WriteTracker;
use super::{Durability, StoreError, StoreOptions, journal_records, migrations, sync_directory};
use crate::domain::Offset;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The pause between two attempts to take the database's own lock, and the number of attempts.
/// After a database is closed, its worker threads may hold the lock for a short time.
const LOCK_RETRY_PAUSE_AND_ATTEMPTS: (Duration, u32) = (Duration::from_millis(10), 500);

/// An open database. Each reopening of the store creates a new engine.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) journal: sled::Tree,
    pub(crate) sessions: sled::Tree,
    pub(crate) items: sled::Tree,
    pub(crate) quarantine: sled::Tree,
    pub(crate) aliases: sled::Tree,
    pub(crate) erasures: sled::Tree,
    pub(crate) consents: sled::Tree,
    pub(crate) placements: sled::Tree,
    pub(crate) user_attributes: sled::Tree,
    /// Number of this opening of the store, starting from 0.
    pub(crate) generation: u64,
    /// The offset at which readers stop. Every entry before this offset has the durability that its
    /// writer requested.
    pub(crate) end_offset: AtomicU64,
    /// The journal's first offset; entries before it were removed.
    pub(crate) first_offset: AtomicU64,
    /// The file that records the journal's known end.
    pub(crate) end_marker: EndMarker,
    /// Format of the store when it was opened.
    pub(crate) format_at_open: u32,
    /// A writer holds this lock during an append, so that appends happen one after the other.
    pub(crate) append_lock: Mutex<()>,
    pub(crate) db: sled::Db,
    /// Tracks the keys that are written during a compaction, and the size of the live data.
    pub(crate) write_tracker: WriteTracker,
    path: PathBuf,
    /// A second handle of the database's log file. The engine calls `fdatasync` on this handle,
    /// because the database offers no such call.
    file: File,
    /// The records that the database may not have synced yet. A sync of the database holds this
    /// lock until it has cleared the log, so that no record is lost.
    commit_log: Mutex<CommitLog>,
    /// The database's log and the commit log, as the engine opened them.
    open_files: [(PathBuf, FileIdentity); 2],
    /// The overflow files that the engine has already synced. The database writes overflow files
    /// without a sync.
    synced_overflow_files: Mutex<BTreeSet<OsString>>,
    /// Whether a write or a sync has failed. The kernel may then have dropped data, so later writes
    /// cannot be relied on.
    failed: AtomicBool,
}

impl Engine {
    /// Opens the database in `path` and migrates it to the current format. `dir` is the data
    /// directory, and `generation` counts the openings of the store. If `lenient` is set, a damaged
    /// last journal record is no error. Also returns the records of the commit log.
    ///
    /// # Errors
    /// As [`super::Store::open`].
    pub(crate) fn open(
        dir: &Path,
        path: &Path,
        options: &StoreOptions,
        generation: u64,
        lenient: bool,
    ) -> Result<(Self, Vec<LoggedRecord>), StoreError> {
        let db = open_database(path, options)?;
        catch_database_panic(path, || Self::from_database(db, dir, path, generation, lenient))
    }

    fn from_database(
        db: sled::Db,
        dir: &Path,
        path: &Path,
        generation: u64,
        lenient: bool,
    ) -> Result<(Self, Vec<LoggedRecord>), StoreError> {
        let path = path.to_owned();
        let tree = |name: &str| {
            db.open_tree(name).map_err(|source| StoreError::Database { action: "opening", path: path.clone(), source })
        };
        let log = path.join("db");
        let file = File::options().read(true).write(true).open(&log).map_err(StoreError::io("opening", &log))?;
        let synced_overflow_files = Mutex::default();
        let format_at_open = migrations::migrate(&db, dir, migrations::STORE_FORMAT, migrations::MIGRATIONS, || {
            sync_database(&db, &path, &file, &synced_overflow_files, Durability::PowerLoss)
        })?;
        let (journal, sessions, items) = (tree("journal")?, tree("sessions")?, tree("items")?);
        let (quarantine, aliases, consents, erasures) =
            (tree("quarantine")?, tree("links")?, tree("consents")?, tree("erasures")?);
        let placements = tree("placements")?;
        let user_attributes = tree("attributes")?;
        let end_marker = EndMarker::open(dir)?;
        // The database writes its configuration file once and never syncs it, so it is synced here.
        let conf = path.join("conf");
        File::open(&conf).and_then(|conf| conf.sync_all()).map_err(StoreError::io("syncing", &conf))?;
        // An earlier process may have died before it synced its writes. Readers must not see data
        // that a later crash can undo, so all files and their directory entries are synced first.
        sync_database(&db, &path, &file, &synced_overflow_files, Durability::PowerLoss)?;
        sync_directory(&path)?;
        sync_directory(dir)?;
        let first_offset = journal_records::read_first_offset(&db)?;
        let end = match journal_records::find_journal_end(&journal, &path) {
            Err(StoreError::DamagedRecord { offset, .. }) if lenient => offset,
            end => end?,
        };
        let (commit_log, logged) = CommitLog::open(&path)?;
        sync_directory(&path)?;
        let engine = Self {
            journal,
            sessions,
            items,
            quarantine,
            aliases,
            erasures,
            consents,
            placements,
            user_attributes,
            generation,
            end_offset: AtomicU64::new(end.max(first_offset)),
            first_offset: AtomicU64::new(first_offset),
            end_marker,
            format_at_open,
            append_lock: Mutex::default(),
            db,
            write_tracker: WriteTracker::default(),
            path,
            open_files: [file_identity(log, &file)?, file_identity(commit_log.path().to_owned(), commit_log.file())?],
            file,
            commit_log: Mutex::new(commit_log),
            synced_overflow_files,
            failed: AtomicBool::new(false),
        };
        Ok((engine, logged))
    }

    /// Makes a record durable that was just written to the journal: appends it to the commit log
    /// or, if the log is full, syncs the database.
    ///
    /// # Errors
    /// Any I/O error; the engine then counts as failed.
    pub(crate) fn sync_record(
        &self,
        first: Offset,
        entries: usize,
        record: &[u8],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let mut log = self.commit_log.lock().unwrap_or_else(PoisonError::into_inner);
        match u32::try_from(entries) {
            Ok(entries) if !log.is_full(record.len()) => {
                log.append(first, entries, record, durability).inspect_err(|_| self.mark_failed())
            }
            _ => self.sync_and_clear(&mut log, Durability::PowerLoss),
        }
    }

    /// Makes all earlier writes durable.
    ///
    /// # Errors
    /// Any I/O error; the engine then counts as failed.
    pub(crate) fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        let mut log = self.commit_log.lock().unwrap_or_else(PoisonError::into_inner);
        self.sync_and_clear(&mut log, durability)
    }

    /// Syncs the database. After a sync to the disk, clears the commit log, because the database
    /// has all its records.
    fn sync_and_clear(&self, log: &mut CommitLog, durability: Durability) -> Result<(), StoreError> {
        let synced = catch_database_panic(&self.path, || {
            sync_database(&self.db, &self.path, &self.file, &self.synced_overflow_files, durability)
        });
        let cleared = match durability {
            Durability::PowerLoss => synced.and_then(|()| log.clear()),
            Durability::ProcessCrash => synced,
        };
        cleared.inspect_err(|_| self.mark_failed())
    }

    /// Writes one value.
    ///
    /// # Errors
    /// Any database error; the engine then counts as failed.
    pub(crate) fn insert(&self, tree: &sled::Tree, key: &[u8], value: impl Into<sled::IVec>) -> Result<(), StoreError> {
        let value = value.into();
        let length = value.len();
        let insert = || tree.insert(key, value).map_err(|source| self.database_error("writing", source));
        let old = catch_database_panic(&self.path, insert).inspect_err(|_| self.mark_failed())?;
        self.write_tracker.record_write(tree, key, old.as_deref(), Some(length));
        Ok(())
    }

    /// Removes one value.
    ///
    /// # Errors
    /// Any database error; the engine then counts as failed.
    pub(crate) fn remove(&self, tree: &sled::Tree, key: &[u8]) -> Result<(), StoreError> {
        let remove = || tree.remove(key).map_err(|source| self.database_error("writing", source));
        let old = catch_database_panic(&self.path, remove).inspect_err(|_| self.mark_failed())?;
        self.write_tracker.record_write(tree, key, old.as_deref(), None);
        Ok(())
    }

    /// Writes and removes values of one tree atomically: after a crash, the tree contains either
    /// all changes or no change.
    ///
    /// # Errors
    /// Any database error; the engine then counts as failed.
    pub(crate) fn replace_values(
        &self,
        tree: &sled::Tree,
        values: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let (mut batch, mut written) = (sled::Batch::default(), Vec::with_capacity(values.len()));
        for (key, value) in values {
            let old = self.get(tree, &key)?;
            let length = value.as_ref().map(Vec::len);
            match value {
                Some(value) => batch.insert(key.as_slice(), value),
                None => batch.remove(key.as_slice()),
            }
            written.push((key, old, length));
        }
        let apply = || tree.apply_batch(batch).map_err(|source| self.database_error("writing", source));
        catch_database_panic(&self.path, apply).inspect_err(|_| self.mark_failed())?;
        written
            .into_iter()
            .for_each(|(key, old, length)| self.write_tracker.record_write(tree, &key, old.as_deref(), length));
        Ok(())
    }

    /// Reads one value.
    ///
    /// # Errors
    /// Any database error.
    pub(crate) fn get(&self, tree: &sled::Tree, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        catch_database_panic(&self.path, || tree.get(key).map_err(|source| self.database_error("reading", source)))
    }

    /// Converts a database error and adds the path.
    pub(crate) fn database_error(&self, action: &'static str, source: sled::Error) -> StoreError {
        convert_database_error(action, &self.path, source)
    }

    /// Directory of the database's files.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Size of the database's files, in bytes.
    ///
    /// # Errors
    /// Any I/O error.
    pub(crate) fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.db.size_on_disk().map_err(|source| self.database_error("measuring", source))
    }

    /// Opens a tree by its name.
    ///
    /// # Errors
    /// Any database error.
    pub(crate) fn open_tree(&self, name: &[u8]) -> Result<sled::Tree, StoreError> {
        catch_database_panic(&self.path, || {
            self.db.open_tree(name).map_err(|source| self.database_error("opening", source))
        })
    }

    /// Checks that the database's log and the commit log in the directory are still the files that
    /// the engine has open. If one of them is another file, the engine counts as failed, because
    /// its writes would go to a removed file.
    ///
    /// # Errors
    /// [`StoreError::FilesRemoved`].
    pub(crate) fn check_files(&self) -> Result<(), StoreError> {
        let is_replaced = |(path, open): &(PathBuf, FileIdentity)| match std::fs::metadata(path) {
            Ok(found) => FileIdentity::of(&found) != *open,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        };
        if self.open_files.iter().any(is_replaced) {
            self.mark_failed();
            return Err(StoreError::FilesRemoved { path: self.path.clone() });
        }
        Ok(())
    }

    /// Whether a write or a sync failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Rejects all further writes.
    pub(crate) fn mark_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// The offset at which readers stop.
    pub(crate) fn journal_end(&self) -> Offset {
        self.end_offset.load(Ordering::Acquire)
    }
}

/// Device and inode of a file. A file that replaces it under the same path has others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

fn file_identity(path: PathBuf, file: &File) -> Result<(PathBuf, FileIdentity), StoreError> {
    let metadata = file.metadata().map_err(StoreError::io("reading", &path))?;
    Ok((path, FileIdentity::of(&metadata)))
}

/// Removes the unfinished snapshots of its log that a killed process leaves. Otherwise the database
/// would write the next snapshot over such a file without truncating it. A shorter snapshot would
/// then end in bytes of the unfinished one, and the next opening would reject it.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StoreError> {
    let entries = match path.read_dir() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(StoreError::io("listing", path))?,
    };
    for entry in entries {
        let file = entry.map_err(StoreError::io("listing", path))?.path();
        let is_unfinished = |name: &str| name.starts_with("snap.") && name.ends_with(".generating");
        if file.file_name().and_then(|name| name.to_str()).is_some_and(is_unfinished) {
            std::fs::remove_file(&file).map_err(StoreError::io("removing", &file))?;
        }
    }
    Ok(())
}

/// Opens the database. If this process has closed the same database before, waits until its lock is
/// released.
fn open_database(path: &Path, options: &StoreOptions) -> Result<sled::Db, StoreError> {
    remove_unfinished_snapshots(path)?;
    let config = sled::Config::new().path(path).cache_capacity(options.cache_bytes);
    let (pause, mut retries) = LOCK_RETRY_PAUSE_AND_ATTEMPTS;
    loop {
        // The database panics on some kinds of damage to its files.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(source))) if is_lock_conflict(&source) && retries > 0 => {
                retries -= 1;
                std::thread::sleep(pause);
            }
            Ok(Err(source)) => return Err(convert_database_error("opening", path, source)),
            Err(panic) => return Err(panic_error(path, panic.as_ref())),
        }
    }
}

/// Whether the error means that another handle holds the database's lock. For other errors, it is
/// useless to wait and retry.
fn is_lock_conflict(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Other && error.to_string().contains("lock")
}

/// Waits until the database in `path` is closed. After a database is closed, its worker threads
/// hold its files for a short time and may still write to them.
///
/// # Errors
/// Any I/O error; a timeout if the database stays open.
pub(crate) fn wait_until_closed(path: &Path) -> Result<(), StoreError> {
    let log = path.join("db");
    let file = match File::options().read(true).write(true).open(&log) {
        // A database without a log file was never opened.
        Err(absent) if absent.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(StoreError::io("opening", &log))?,
    };
    let (pause, retries) = LOCK_RETRY_PAUSE_AND_ATTEMPTS;
    for _ in 0..retries {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            Err(TryLockError::Error(source)) => return Err(StoreError::io("locking", &log)(source)),
        }
    }
    Err(StoreError::io("closing", &log)(std::io::ErrorKind::TimedOut.into()))
}

/// Passes all buffered writes to the kernel, so that they survive a crash of the process. For
/// [`Durability::PowerLoss`], also syncs them to the disk.
fn sync_database(
    db: &sled::Db,
    path: &Path,
    file: &File,
    synced_overflow_files: &Mutex<BTreeSet<OsString>>,
    durability: Durability,
) -> Result<(), StoreError> {
    db.flush().map_err(|source| StoreError::Database { action: "flushing", path: path.to_owned(), source })?;
    if durability == Durability::ProcessCrash {
        return Ok(());
    }
    sync_overflow_files(&path.join("blobs"), synced_overflow_files)?;
    file.sync_data().map_err(StoreError::io("syncing", &path.join("db")))
}

/// Syncs the overflow files that are new since the last call. Overflow files exist only if a page
/// of the database exceeds 128 KiB, for example because of sixteen neighbouring values of 8 KiB.
fn sync_overflow_files(directory: &Path, synced: &Mutex<BTreeSet<OsString>>) -> Result<(), StoreError> {
    let mut synced = synced.lock().unwrap_or_else(PoisonError::into_inner);
    let mut current = BTreeSet::new();
    for blob in directory.read_dir().map_err(StoreError::io("listing", directory))? {
        current.insert(blob.map_err(StoreError::io("listing", directory))?.file_name());
    }
    let mut added = false;
    for name in current.difference(&synced) {
        let path = directory.join(name);
        match File::open(&path) {
            Ok(blob) => blob.sync_all().map_err(StoreError::io("syncing", &path))?,
            // The database has already removed the file.
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::io("opening", &path)(source)),
        }
        added = true;
    }
    if added {
        sync_directory(directory)?;
    }
    *synced = current;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_panic_becomes_an_error_with_its_message() {
        let error = catch_database_panic::<()>(Path::new("d/store"), || panic!("tried to read {}", 7)).unwrap_err();
        assert!(matches!(&error, StoreError::DatabaseDamaged { reason, .. } if reason == "tried to read 7"), "{error}");
        assert!(error.to_string().contains("d/store"), "{error}");
    }
}
