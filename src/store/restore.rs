//! Restoring a backup.
//!
//! A restore unpacks the backup into a staging folder in the data directory and verifies the data
//! there. It then moves the files into place, the folder `store` last. So if a data directory has a
//! staging folder but no store, a restore was interrupted. No daemon starts on this directory, and
//! the next restore replaces its content.

use super::archive::{BACKUP_PARTS, copy_data_dir, unpack_archive};
use super::dir_lock::DataDirLock;
use super::{Store, StoreError, StoreOptions, switchover, sync_directory};
use std::path::{Path, PathBuf};

/// Prefix of the staging folder's name.
const STAGE_PREFIX: &str = "restore.unfinished-";

/// Restores a backup (a file or a directory) into the data directory `dir`. The directory must be
/// absent or empty, or contain only leftovers of an interrupted restore. The call holds the lock of
/// the directory. The call passes the unpacked store to `check` before it moves files into place.
/// If `check` fails, nothing is restored.
///
/// # Errors
/// [`StoreError::AlreadyExists`] if `dir` is not empty. [`StoreError::InvalidBackup`] or
/// [`StoreError::Io`] if the backup is invalid or cannot be read. Any error of `check`, of opening
/// the store or of writing. After an error, `dir` contains no new files.
pub fn restore<T, E: From<StoreError>>(
    backup: &Path,
    dir: &Path,
    options: &StoreOptions,
    check: impl FnOnce(&Store) -> Result<T, E>,
) -> Result<T, E> {
    let created = !dir.exists();
    std::fs::create_dir_all(dir).map_err(StoreError::io("creating", dir))?;
    let restored = restore_into(backup, dir, options, check);
    if restored.is_err() && created {
        // Errors are ignored: at worst, a new directory remains that contains only the lock file.
        let _ = std::fs::remove_file(dir.join("lock"));
        let _ = std::fs::remove_dir(dir);
    }
    restored
}

fn restore_into<T, E: From<StoreError>>(
    backup: &Path,
    dir: &Path,
    options: &StoreOptions,
    check: impl FnOnce(&Store) -> Result<T, E>,
) -> Result<T, E> {
    ensure_restorable(dir)?;
    let _lock = DataDirLock::acquire(dir)?;
    remove_leftovers_of_killed_restore(dir)?;
    let stage =
        tempfile::Builder::new().prefix(STAGE_PREFIX).tempdir_in(dir).map_err(StoreError::io("writing to", dir))?;
    if backup.is_dir() {
        copy_data_dir(backup, stage.path())?
    } else {
        unpack_archive(backup, stage.path())?
    }
    let store = Store::open_backup(stage.path(), options).map_err(|error| match error {
        StoreError::NotFound { .. } => {
            StoreError::InvalidBackup { path: backup.to_owned(), reason: "it contains no store".to_owned() }
        }
        StoreError::InvalidBackup { reason, .. } => StoreError::InvalidBackup { path: backup.to_owned(), reason },
        error => error,
    })?;
    store.check_journal_end()?;
    let checked = check(&store)?;
    store.close()?;
    // The store is moved last. Until then, the directory counts as an unfinished restore.
    for part in BACKUP_PARTS.iter().rev() {
        let (from, to) = (stage.path().join(part), dir.join(part));
        if from.exists() {
            std::fs::rename(&from, &to).map_err(StoreError::io("renaming", &from))?;
        }
    }
    sync_directory(dir)?;
    Ok(checked)
}

/// The files and folders of a data directory.
fn list_directory(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed: Result<Vec<PathBuf>, _> =
        dir.read_dir().and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    listed.map_err(StoreError::io("listing", dir))
}

fn is_restore_stage(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(STAGE_PREFIX))
}

/// Whether a restore into the directory was interrupted: the directory contains a staging folder,
/// but no store.
fn is_unfinished_restore(dir: &Path, content: &[PathBuf]) -> Result<bool, StoreError> {
    Ok(content.iter().any(|path| is_restore_stage(path)) && !switchover::active_database_path(dir)?.exists())
}

/// Checks that a directory is empty, or contains only leftovers of an interrupted restore.
fn ensure_restorable(dir: &Path) -> Result<(), StoreError> {
    let content = list_directory(dir)?;
    let unfinished = is_unfinished_restore(dir, &content)?;
    // Two names are ignored: `lost+found`, a folder at the root of a file system, and the lock
    // file.
    let is_ignored = |path: &PathBuf| path.ends_with("lost+found") || path.ends_with("lock");
    let is_leftover =
        |path: &PathBuf| unfinished && (is_restore_stage(path) || BACKUP_PARTS.iter().any(|part| path.ends_with(part)));
    if content.iter().all(|path| is_ignored(path) || is_leftover(path)) {
        Ok(())
    } else {
        Err(StoreError::AlreadyExists { path: dir.to_owned() })
    }
}

/// If a restore into this directory was interrupted (a staging folder exists, but no store),
/// removes its leftovers. The caller holds the lock.
fn remove_leftovers_of_killed_restore(dir: &Path) -> Result<(), StoreError> {
    let content = list_directory(dir)?;
    if !is_unfinished_restore(dir, &content)? {
        return Ok(());
    }
    // The staging folders are removed last. Until then, they mark the directory as that of an
    // interrupted restore.
    let (stages, parts): (Vec<_>, Vec<_>) = content.iter().partition(|path| is_restore_stage(path));
    for path in parts.iter().filter(|path| BACKUP_PARTS.iter().any(|part| path.ends_with(part))).chain(&stages) {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.map_err(StoreError::io("removing", path))?;
    }
    Ok(())
}

/// Removes the empty staging folder of a restore that was interrupted after it had moved all files
/// into place. The caller holds the lock.
///
/// # Errors
/// [`StoreError::UnfinishedRestore`] if the restore was interrupted earlier, or any I/O error.
pub(super) fn remove_stage_of_finished_restore(dir: &Path) -> Result<(), StoreError> {
    let content = list_directory(dir)?;
    if is_unfinished_restore(dir, &content)? {
        return Err(StoreError::UnfinishedRestore { dir: dir.to_owned() });
    }
    let stages = content.iter().filter(|path| is_restore_stage(path));
    stages.into_iter().try_for_each(|path| std::fs::remove_dir_all(path).map_err(StoreError::io("removing", path)))
}
