//! Replaces the database of a data directory by another database.
//!
//! The database is in the directory `store`. A replacement database is in `store.N`, where N is a
//! number. An open database refers to its files by path, so its directory cannot be renamed. A
//! database in `store.N` is active if it contains the file `whole`. If several databases contain
//! this file, only the one with the highest number is active. The next start renames the active
//! database to `store` and removes all other databases.

use super::committer::event_id_file;
use super::end_marker::EndMarker;
use super::engine::wait_until_closed;
use super::{Store, StoreError, journal_recovery, sync_directory};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Name of the database's directory after every start.
const DATABASE_DIR: &str = "store";
/// Name of the file that activates a replacement database.
const ACTIVATION_FILE: &str = "whole";

/// Reads the number from a database's directory name.
fn database_number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(DATABASE_DIR)?.strip_prefix('.')?.parse().ok()
}

/// Lists all databases `store.N` of a data directory, active or not.
fn list_numbered_databases(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed: Result<Vec<_>, _> = dir.read_dir().and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    Ok(listed
        .map_err(StoreError::io("listing", dir))?
        .into_iter()
        .filter(|path| database_number(path).is_some())
        .collect())
}

/// Returns the path of the active database of a data directory. If there is no database yet, the
/// path does not exist.
///
/// # Errors
/// Any I/O error.
pub(super) fn active_database_path(dir: &Path) -> Result<PathBuf, StoreError> {
    let active = list_numbered_databases(dir)?
        .into_iter()
        .filter(|path| path.join(ACTIVATION_FILE).exists())
        .max_by_key(|path| database_number(path));
    Ok(active.unwrap_or_else(|| dir.join(DATABASE_DIR)))
}

/// Returns the path for a new database that will replace the database in `path`. If a directory is
/// left over at the returned path, removes it.
///
/// # Errors
/// Any I/O error.
pub(super) fn prepare_next_database_path(dir: &Path, path: &Path) -> Result<PathBuf, StoreError> {
    let next = dir.join(format!("{DATABASE_DIR}.{}", database_number(path).unwrap_or(0) + 1));
    remove_database(&next)?;
    Ok(next)
}

/// Makes the database in `path` the active database of the data directory `dir`. The database must
/// be complete and synced.
///
/// # Errors
/// Any I/O error. After an error, it is unknown which of the two databases the next start uses.
pub(super) fn activate_database(dir: &Path, path: &Path) -> Result<(), StoreError> {
    sync_directory(dir)?;
    let marker = path.join(ACTIVATION_FILE);
    File::create(&marker).and_then(|file| file.sync_all()).map_err(StoreError::io("writing", &marker))?;
    sync_directory(path)
}

/// Renames the active database to `store` and removes all others. No process may have the data
/// directory open. If the call is interrupted, it must be repeated before the store is opened.
///
/// # Errors
/// Any I/O error.
pub(super) fn finish_switchover(dir: &Path) -> Result<(), StoreError> {
    let (numbered, active, store) = (list_numbered_databases(dir)?, active_database_path(dir)?, dir.join(DATABASE_DIR));
    if numbered.is_empty() {
        return Ok(());
    }
    let candidates = numbered.iter().chain((active != store).then_some(&store));
    candidates.filter(|path| **path != active).try_for_each(|path| remove_database(path))?;
    if active != store {
        wait_until_closed(&active)?;
        std::fs::rename(&active, &store).map_err(StoreError::io("renaming", &active))?;
    }
    sync_directory(dir)
}

/// Waits until a database that is no longer used has released its files, and removes it.
///
/// # Errors
/// Any I/O error; a timeout if the database stays open.
pub(super) fn remove_database(path: &Path) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    wait_until_closed(path)?;
    std::fs::remove_dir_all(path).map_err(StoreError::io("removing", path))
}

impl Store {
    /// Replaces this store's database by the database of `stage`, and removes the old database. No
    /// reader may be open. All clones of the store use the new database. If the process dies during
    /// the call, one of the two databases remains and is complete. The call also sets the recorded
    /// end to the end of the new journal, and removes the file of event ids. Other files of the
    /// data directory stay.
    ///
    /// # Errors
    /// Any I/O error. After an error, the store may be closed. The next opening then uses one of
    /// the two databases.
    pub fn replace_with(&self, stage: Self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let (staged, end) = (stage.engine()?.path().to_owned(), stage.journal().next_offset()?);
        stage.close()?;
        let _no_writer = shared.writers.write().unwrap_or_else(PoisonError::into_inner);
        let mut engine = shared.engine.write().unwrap_or_else(PoisonError::into_inner);
        let path = self.database_path()?;
        *engine = None;
        wait_until_closed(&path)?;
        event_id_file::remove_event_id_file(&shared.dir)?;
        // If the process dies after this step, the recorded end may be lower than the end of the
        // old journal, which remains in use. This is harmless, because only a recorded end that is
        // too high is an error.
        EndMarker::open(&shared.dir)?.advance_to(end);
        let new = prepare_next_database_path(&shared.dir, &path)?;
        std::fs::rename(&staged, &new).map_err(StoreError::io("renaming", &staged))?;
        activate_database(&shared.dir, &new)?;
        finish_switchover(&shared.dir)?;
        let generation = shared.reopenings.fetch_add(1, Ordering::SeqCst) + 1;
        *engine = Some(Arc::new(journal_recovery::open_engine(
            &shared.dir,
            &active_database_path(&shared.dir)?,
            &shared.options,
            generation,
            false,
        )?));
        Ok(())
    }

    /// Path of the active database.
    pub(super) fn database_path(&self) -> Result<PathBuf, StoreError> {
        active_database_path(&self.shared.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Durability, StoreOptions};
    use super::*;
    use crate::domain::Entry;

    fn journal_entries(store: &Store) -> Vec<Entry> {
        store.journal().entries(0).unwrap().map(|entry| entry.unwrap().1).collect()
    }

    #[test]
    fn replace_with_switches_to_the_other_database() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("data"), &StoreOptions::default()).unwrap();
        store.journal().append(&[event(1), event(2), event(3)], Durability::PowerLoss).unwrap();
        let stage = store.create_copy(&dir.path().join("stage")).unwrap();
        stage.journal().append(&[event(4)], Durability::PowerLoss).unwrap();
        let clone = store.clone();
        store.replace_with(stage).unwrap();
        assert_eq!(journal_entries(&clone), [event(4)]);
        clone.check_journal_end().unwrap();
        drop(clone);
        store.close().unwrap();
        assert_eq!(list_numbered_databases(&dir.path().join("data")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn an_interrupted_replacement_leaves_one_complete_database() {
        let create = |dir: &Path, entry: u64| {
            let store = Store::open(dir, &StoreOptions::default()).unwrap();
            store.journal().append(&[event(entry)], Durability::PowerLoss).unwrap();
            store.close().unwrap();
            dir.join(DATABASE_DIR)
        };
        // Each case lists the databases `store.N`, whether the old database exists, and whether a
        // replacement is active.
        for (others, old_exists, is_replaced) in [
            (vec![("store.1", false)], true, false),
            (vec![("store.1", true)], true, true),
            (vec![("store.1", true)], false, true),
            (vec![("store.9", false), ("store.10", true), ("store.2", false)], true, true),
            (vec![("store.9", true), ("store.10", true)], true, true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            create(&data, 0);
            for (name, is_active) in &others {
                std::fs::rename(
                    create(&dir.path().join(name), database_number(&data.join(name)).unwrap()),
                    data.join(name),
                )
                .unwrap();
                if *is_active {
                    activate_database(&data, &data.join(name)).unwrap();
                }
            }
            if !old_exists {
                std::fs::remove_dir_all(data.join(DATABASE_DIR)).unwrap();
            }
            let newest = others
                .iter()
                .filter(|(_, active)| *active)
                .filter_map(|(name, _)| database_number(&data.join(name)))
                .max();
            let store = Store::open_existing(&data, &StoreOptions::default()).unwrap();
            assert_eq!(journal_entries(&store), [event(newest.filter(|_| is_replaced).unwrap_or(0))], "{others:?}");
            store.check_journal_end().unwrap();
            assert_eq!(
                (store.database_path().unwrap(), list_numbered_databases(&data).unwrap()),
                (data.join(DATABASE_DIR), Vec::new())
            );
        }
    }
}
