//! The embedded database with its files: opened, synced, and given up after a failed write.

use super::end_marker::EndMarker;
use super::key_value_iter::{failed, gave_up, guarded};
use super::write_tracker::WriteTracker;
use super::{Durability, StoreError, StoreOptions, journal_records, migrations, sync_directory};
use crate::domain::Offset;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long, and how often, to wait for the database's own lock: its worker threads may hold a just
/// closed file for a moment more.
const LOCK_PATIENCE: (Duration, u32) = (Duration::from_millis(10), 500);

/// One opening of the database.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) journal: sled::Tree,
    pub(crate) sessions: sled::Tree,
    pub(crate) items: sled::Tree,
    pub(crate) quarantine: sled::Tree,
    pub(crate) aliases: sled::Tree,
    pub(crate) erasures: sled::Tree,
    pub(crate) consents: sled::Tree,
    /// Which opening of its store it is, from 0.
    pub(crate) generation: u64,
    /// Every journal entry before this offset is as durable as its writer asked for; readers stop
    /// here.
    pub(crate) end_offset: AtomicU64,
    /// The journal has no entry before this offset any more.
    pub(crate) first_offset: AtomicU64,
    /// How far the journal is known to reach.
    pub(crate) end_marker: EndMarker,
    /// The format that the store was in when it was opened.
    pub(crate) format_found: u32,
    /// One append at a time.
    pub(crate) append_lock: Mutex<()>,
    pub(crate) db: sled::Db,
    /// Tracks written keys, for a running compaction, and the size of live data.
    pub(crate) write_tracker: WriteTracker,
    path: PathBuf,
    /// The database's log through a descriptor of our own, because the database has no call that
    /// ends in an `fdatasync`.
    file: File,
    /// The database's overflow files that are known to be on the disk: it writes them without any
    /// sync.
    synced_blobs: Mutex<BTreeSet<OsString>>,
    /// A write or a sync failed: the kernel may have dropped what it could not write, so nothing
    /// that follows could be trusted.
    failed: AtomicBool,
}

impl Engine {
    /// Opens the database in `path`, which belongs to the data directory `dir`, as the opening of
    /// that number, migrating it to the present format. If `lenient`, the last journal record may
    /// be damaged.
    ///
    /// # Errors
    /// As [`super::Store::open`].
    pub(crate) fn open(dir: &Path, path: &Path, options: &StoreOptions, number: u64, lenient: bool) -> Result<Self, StoreError> {
        let db = open_database(path, options)?;
        guarded(path, || Self::over(db, dir, path, number, lenient))
    }

    fn over(db: sled::Db, dir: &Path, path: &Path, number: u64, lenient: bool) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let tree = |name: &str| db.open_tree(name).map_err(|source| StoreError::Database { action: "opening", path: path.clone(), source });
        let log = path.join("db");
        let file = File::options().read(true).write(true).open(&log).map_err(StoreError::io("opening", &log))?;
        let synced_blobs = Mutex::default();
        let format_found = migrations::migrate(&db, dir, migrations::FORMAT, migrations::MIGRATIONS, || {
            sync(&db, &path, &file, &synced_blobs, Durability::PowerLoss)
        })?;
        let (journal, sessions, items) = (tree("journal")?, tree("sessions")?, tree("items")?);
        let (quarantine, links, consents, erasures) = (tree("quarantine")?, tree("links")?, tree("consents")?, tree("erasures")?);
        let reach = EndMarker::open(dir)?;
        // The database writes what it was opened with once, and never syncs it.
        let conf = path.join("conf");
        File::open(&conf).and_then(|conf| conf.sync_all()).map_err(StoreError::io("syncing", &conf))?;
        // What is read from here on must not go again: an earlier process may have died before its
        // sync. The files' names must survive, too.
        sync(&db, &path, &file, &synced_blobs, Durability::PowerLoss)?;
        sync_directory(&path)?;
        sync_directory(dir)?;
        let begin = journal_records::read_first_offset(&db)?;
        let end = match journal_records::find_end(&journal, &path) {
            Err(StoreError::DamagedRecord { offset, .. }) if lenient => offset,
            end => end?,
        };
        let end = AtomicU64::new(end.max(begin));
        let begin = AtomicU64::new(begin);
        let failed = AtomicBool::new(false);
        Ok(Self {
            journal,
            sessions,
            items,
            quarantine,
            aliases: links,
            erasures,
            consents,
            generation: number,
            end_offset: end,
            first_offset: begin,
            end_marker: reach,
            format_found,
            append_lock: Mutex::default(),
            db,
            write_tracker: WriteTracker::default(),
            path,
            file,
            synced_blobs,
            failed,
        })
    }

    /// Makes durable what was written so far.
    ///
    /// # Errors
    /// Whatever the disk says; the engine then counts as failed.
    pub(crate) fn sync(&self, durability: Durability) -> Result<(), StoreError> {
        let synced = guarded(&self.path, || sync(&self.db, &self.path, &self.file, &self.synced_blobs, durability));
        synced.inspect_err(|_| self.mark_failed())
    }

    /// Writes one value.
    ///
    /// # Errors
    /// Whatever the database says; the engine then counts as failed.
    pub(crate) fn insert(&self, tree: &sled::Tree, key: &[u8], value: impl Into<sled::IVec>) -> Result<(), StoreError> {
        let value = value.into();
        let length = value.len();
        let insert = || tree.insert(key, value).map_err(|source| self.error("writing", source));
        let former = guarded(&self.path, insert).inspect_err(|_| self.mark_failed())?;
        self.write_tracker.record_write(tree, key, former.as_deref(), Some(length));
        Ok(())
    }

    /// Removes one value.
    ///
    /// # Errors
    /// Whatever the database says; the engine then counts as failed.
    pub(crate) fn remove(&self, tree: &sled::Tree, key: &[u8]) -> Result<(), StoreError> {
        let remove = || tree.remove(key).map_err(|source| self.error("writing", source));
        let former = guarded(&self.path, remove).inspect_err(|_| self.mark_failed())?;
        self.write_tracker.record_write(tree, key, former.as_deref(), None);
        Ok(())
    }

    /// Writes and removes values of one tree, all of them or, if the process dies meanwhile, none.
    ///
    /// # Errors
    /// Whatever the database says; the engine then counts as failed.
    pub(crate) fn replace(&self, tree: &sled::Tree, values: Vec<(Vec<u8>, Option<Vec<u8>>)>) -> Result<(), StoreError> {
        let (mut batch, mut written) = (sled::Batch::default(), Vec::with_capacity(values.len()));
        for (key, value) in values {
            let former = self.get(tree, &key)?;
            let length = value.as_ref().map(Vec::len);
            match value {
                Some(value) => batch.insert(key.as_slice(), value),
                None => batch.remove(key.as_slice()),
            }
            written.push((key, former, length));
        }
        let apply = || tree.apply_batch(batch).map_err(|source| self.error("writing", source));
        guarded(&self.path, apply).inspect_err(|_| self.mark_failed())?;
        written.into_iter().for_each(|(key, former, length)| self.write_tracker.record_write(tree, &key, former.as_deref(), length));
        Ok(())
    }

    /// Reads one value.
    ///
    /// # Errors
    /// Whatever the database says.
    pub(crate) fn get(&self, tree: &sled::Tree, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        guarded(&self.path, || tree.get(key).map_err(|source| self.error("reading", source)))
    }

    /// The database's error, with the file that it is about.
    pub(crate) fn error(&self, action: &'static str, source: sled::Error) -> StoreError {
        failed(action, &self.path, source)
    }

    /// Where the database's files are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes the database's files take.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.db.size_on_disk().map_err(|source| self.error("measuring", source))
    }

    /// A tree by its name.
    ///
    /// # Errors
    /// Whatever the database says.
    pub(crate) fn tree(&self, name: &[u8]) -> Result<sled::Tree, StoreError> {
        guarded(&self.path, || self.db.open_tree(name).map_err(|source| self.error("opening", source)))
    }

    /// Whether a write or a sync failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Takes no more writes.
    pub(crate) fn mark_failed(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// The journal's end as readers see it.
    pub(crate) fn journal_end(&self) -> Offset {
        self.end_offset.load(Ordering::Acquire)
    }
}

/// Removes the snapshot of the log that an opening was writing when its process died. The database
/// writes the next one of that name over it without cutting it off, so that a shorter one would end
/// in the rest of a longer one, and not be believed by the opening after that.
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

/// Opens the database, waiting out the last moments of an earlier opening by this process.
fn open_database(path: &Path, options: &StoreOptions) -> Result<sled::Db, StoreError> {
    remove_unfinished_snapshots(path)?;
    let config = sled::Config::new().path(path).cache_capacity(options.cache_bytes);
    let (pause, mut patience) = LOCK_PATIENCE;
    loop {
        // The database panics on some kinds of damage to its files.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(source))) if is_lock(&source) && patience > 0 => {
                patience -= 1;
                std::thread::sleep(pause);
            }
            Ok(Err(source)) => return Err(failed("opening", path, source)),
            Err(panic) => return Err(gave_up(path, panic.as_ref())),
        }
    }
}

/// Whether the database was refused its own lock; other errors of that kind are damage, for which
/// there is no waiting.
fn is_lock(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Other && error.to_string().contains("lock")
}

/// Waits until the database in that directory is closed: its worker threads hold a closed one for a
/// moment more, and may still write to it.
///
/// # Errors
/// What the file system says, also if it stays open.
pub(crate) fn wait_closed(path: &Path) -> Result<(), StoreError> {
    let log = path.join("db");
    let file = match File::options().read(true).write(true).open(&log) {
        // What was never opened is closed.
        Err(absent) if absent.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(StoreError::io("opening", &log))?,
    };
    let (pause, patience) = LOCK_PATIENCE;
    for _ in 0..patience {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            Err(TryLockError::Error(source)) => return Err(StoreError::io("locking", &log)(source)),
        }
    }
    Err(StoreError::io("closing", &log)(std::io::ErrorKind::TimedOut.into()))
}

/// Hands what was written to the kernel, which is what survives the death of the process; then, for
/// [`Durability::PowerLoss`], to the disk.
fn sync(
    db: &sled::Db,
    path: &Path,
    file: &File,
    synced_blobs: &Mutex<BTreeSet<OsString>>,
    durability: Durability,
) -> Result<(), StoreError> {
    db.flush().map_err(|source| StoreError::Database { action: "flushing", path: path.to_owned(), source })?;
    if durability == Durability::ProcessCrash {
        return Ok(());
    }
    sync_blobs(&path.join("blobs"), synced_blobs)?;
    file.sync_data().map_err(StoreError::io("syncing", &path.join("db")))
}

/// Syncs the overflow files that appeared since the last time. There are none unless a page of the
/// database outgrows 128 KiB, for which it takes sixteen neighbouring values of 8 KiB.
fn sync_blobs(directory: &Path, synced: &Mutex<BTreeSet<OsString>>) -> Result<(), StoreError> {
    let mut synced = synced.lock().unwrap_or_else(PoisonError::into_inner);
    let mut present = BTreeSet::new();
    for blob in directory.read_dir().map_err(StoreError::io("listing", directory))? {
        present.insert(blob.map_err(StoreError::io("listing", directory))?.file_name());
    }
    let mut added = false;
    for name in present.difference(&synced) {
        let path = directory.join(name);
        match File::open(&path) {
            Ok(blob) => blob.sync_all().map_err(StoreError::io("syncing", &path))?,
            // Already superseded and removed.
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::io("opening", &path)(source)),
        }
        added = true;
    }
    if added {
        sync_directory(directory)?;
    }
    *synced = present;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_database_is_an_error_with_its_words() {
        let error = guarded::<()>(Path::new("d/store"), || panic!("tried to read {}", 7)).unwrap_err();
        assert!(matches!(&error, StoreError::DatabaseDamaged { reason, .. } if reason == "tried to read 7"), "{error}");
        assert!(error.to_string().contains("d/store"), "{error}");
    }
}
