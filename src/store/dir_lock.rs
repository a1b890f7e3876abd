//! The lock of a data directory. A process holds the lock while it has the store open.

use super::{StoreError, own_file, switchover};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

/// Pause between attempts to lock a data directory.
const LOCK_RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Number of attempts to lock a data directory. An attempt may fail because a child process holds a
/// copy of its parent's lock between `fork` and `exec`.
const MAX_DIR_LOCK_ATTEMPTS: u32 = 50;
/// Number of attempts to lock the database. An attempt may fail because the worker threads of a
/// closed database hold its lock for a short time.
const MAX_DATABASE_LOCK_ATTEMPTS: u32 = 200;

/// The locked file `lock` of a data directory.
#[derive(Debug)]
pub(super) struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Locks an existing directory. If the lock file was deleted while another process held it,
    /// this call creates a new one. The database's own lock still detects the other process.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has the directory open, or any I/O error.
    pub(super) fn acquire(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("lock");
        let file = own_file::open(File::options().create(true).truncate(false).write(true), &path)?;
        retry_lock(dir, MAX_DIR_LOCK_ATTEMPTS, || file.try_lock())?;
        if let Ok(database) =
            File::options().read(true).write(true).open(switchover::active_database_path(dir)?.join("db"))
        {
            retry_lock(dir, MAX_DATABASE_LOCK_ATTEMPTS, || database.try_lock())?;
        }
        Ok(Self { _file: file })
    }

    /// Locks a directory for reading. Other processes cannot open the store until the returned file
    /// is dropped. Returns `None` if the directory has no lock file.
    ///
    /// # Errors
    /// As [`DataDirLock::acquire`].
    pub(super) fn acquire_shared(dir: &Path) -> Result<Option<File>, StoreError> {
        let database = File::open(switchover::active_database_path(dir)?.join("db")).ok();
        let file = File::open(dir.join("lock")).ok();
        for file in database.iter().chain(&file) {
            retry_lock(dir, 1, || file.try_lock_shared())?;
        }
        Ok(file)
    }
}

fn retry_lock(dir: &Path, attempts: u32, try_lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), StoreError> {
    for attempt in 1..=attempts {
        match try_lock() {
            Err(TryLockError::WouldBlock) if attempt < attempts => std::thread::sleep(LOCK_RETRY_PAUSE),
            Err(TryLockError::WouldBlock) => break,
            // The file system does not support locks.
            Err(TryLockError::Error(source)) => return Err(StoreError::io("locking", dir)(source)),
            Ok(()) => return Ok(()),
        }
    }
    Err(StoreError::Locked { dir: dir.to_owned() })
}
