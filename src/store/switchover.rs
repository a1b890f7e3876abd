//! One database in place of another.
//!
//! A database stands in `store`, or, since it took the place of another while that was still being
//! read, in `store.N`: the database goes by the names of its files, so that one that is open keeps
//! its own. It takes the place at the instant at which the file `whole` is in it; of several such
//! the one of the highest number is the store. The next start gives it the name `store` and removes
//! the rest.

use super::committer::event_id_file;
use super::end_marker::EndMarker;
use super::engine::{Engine, wait_closed};
use super::{Store, StoreError, sync_directory};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// The name of a database that no other one has taken the place of.
const STORE: &str = "store";
/// The file in a database that has taken the place of another.
const WHOLE: &str = "whole";

/// The number in the name of a database's directory.
fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(STORE)?.strip_prefix('.')?.parse().ok()
}

/// Every database of a data directory that has a number, whole or not.
fn numbered(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed: Result<Vec<_>, _> = dir.read_dir().and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    Ok(listed.map_err(StoreError::io("listing", dir))?.into_iter().filter(|path| number(path).is_some()).collect())
}

/// Where the database of a data directory stands; there need not be one.
///
/// # Errors
/// What the file system says.
pub(super) fn current_database(dir: &Path) -> Result<PathBuf, StoreError> {
    let whole = numbered(dir)?.into_iter().filter(|path| path.join(WHOLE).exists()).max_by_key(|path| number(path));
    Ok(whole.unwrap_or_else(|| dir.join(STORE)))
}

/// Where the database that is to take the place of that one is made. What an earlier one left there
/// is removed.
///
/// # Errors
/// What the file system says.
pub(super) fn next_database(dir: &Path, path: &Path) -> Result<PathBuf, StoreError> {
    let next = dir.join(format!("{STORE}.{}", number(path).unwrap_or(0) + 1));
    remove_database(&next)?;
    Ok(next)
}

/// Lets the database in `database_path`, which is on the disk with all that it has, be the store of
/// the data directory `dir` from now on.
///
/// # Errors
/// What the file system says. Which of the two a start finds is then not known.
pub(super) fn activate(dir: &Path, path: &Path) -> Result<(), StoreError> {
    sync_directory(dir)?;
    let whole = path.join(WHOLE);
    File::create(&whole).and_then(|file| file.sync_all()).map_err(StoreError::io("writing", &whole))?;
    sync_directory(path)
}

/// Names the store of a data directory that nobody has open `store`, and removes every other
/// database. May be cut short anywhere.
///
/// # Errors
/// What the file system says.
pub(super) fn finish_switchover(dir: &Path) -> Result<(), StoreError> {
    let (numbered, present, store) = (numbered(dir)?, current_database(dir)?, dir.join(STORE));
    if numbered.is_empty() {
        return Ok(());
    }
    let all = numbered.iter().chain((present != store).then_some(&store));
    all.filter(|path| **path != present).try_for_each(|path| remove_database(path))?;
    if present != store {
        wait_closed(&present)?;
        std::fs::rename(&present, &store).map_err(StoreError::io("renaming", &present))?;
    }
    sync_directory(dir)
}

/// Removes a database that nobody needs any more, once nobody has it open.
///
/// # Errors
/// What the file system says, also if somebody keeps it open.
pub(super) fn remove_database(path: &Path) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    wait_closed(path)?;
    std::fs::remove_dir_all(path).map_err(StoreError::io("removing", path))
}

impl Store {
    /// Puts the store in `stage` in place of this one's database, which nobody may be reading, and
    /// removes that. Every clone goes on with the new one. A process that dies on the way leaves
    /// either of them, whole. The files beside the database stay, except that the journal is known
    /// to reach as far as the new one does, and that no event ids are left for the next start.
    ///
    /// # Errors
    /// What the disk says. If the store then is closed, opening it again finds one of the two.
    pub fn replace_with(&self, stage: Self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let (staged, end) = (stage.engine()?.path().to_owned(), stage.journal().next_offset()?);
        stage.close()?;
        let _no_writer = shared.writers.write().unwrap_or_else(PoisonError::into_inner);
        let mut engine = shared.engine.write().unwrap_or_else(PoisonError::into_inner);
        let path = self.database_path()?;
        *engine = None;
        wait_closed(&path)?;
        event_id_file::remove(&shared.dir)?;
        // Were the swap cut short behind this, it would say less of the old journal, but nothing
        // wrong.
        EndMarker::open(&shared.dir)?.advance(end);
        let new = next_database(&shared.dir, &path)?;
        std::fs::rename(&staged, &new).map_err(StoreError::io("renaming", &staged))?;
        activate(&shared.dir, &new)?;
        finish_switchover(&shared.dir)?;
        let number = shared.reopenings.fetch_add(1, Ordering::SeqCst) + 1;
        *engine = Some(Arc::new(Engine::open(&shared.dir, &current_database(&shared.dir)?, &shared.options, number, false)?));
        Ok(())
    }

    /// Where the database stands.
    pub(super) fn database_path(&self) -> Result<PathBuf, StoreError> {
        current_database(&self.shared.dir)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Durability, StoreOptions};
    use super::*;
    use crate::domain::Entry;

    fn journal(store: &Store) -> Vec<Entry> {
        store.journal().entries(0).unwrap().map(|entry| entry.unwrap().1).collect()
    }

    #[test]
    fn a_store_takes_the_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("data"), &StoreOptions::default()).unwrap();
        store.journal().append(&[event(1), event(2), event(3)], Durability::PowerLoss).unwrap();
        let stage = store.create_copy(&dir.path().join("stage")).unwrap();
        stage.journal().append(&[event(4)], Durability::PowerLoss).unwrap();
        let clone = store.clone();
        store.replace_with(stage).unwrap();
        assert_eq!(journal(&clone), [event(4)]);
        clone.check_journal_end().unwrap();
        drop(clone);
        store.close().unwrap();
        assert_eq!(numbered(&dir.path().join("data")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn wherever_a_swap_is_cut_short_one_of_the_two_is_found() {
        let made = |dir: &Path, entry: u64| {
            let store = Store::open(dir, &StoreOptions::default()).unwrap();
            store.journal().append(&[event(entry)], Durability::PowerLoss).unwrap();
            store.close().unwrap();
            dir.join(STORE)
        };
        // What stands beside the old database, whether that is still there, and whether it has been
        // taken the place of.
        for (others, is_there, taken) in [
            (vec![("store.1", false)], true, false),
            (vec![("store.1", true)], true, true),
            (vec![("store.1", true)], false, true),
            (vec![("store.9", false), ("store.10", true), ("store.2", false)], true, true),
            (vec![("store.9", true), ("store.10", true)], true, true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path().join("data");
            made(&data, 0);
            for (name, is_whole) in &others {
                std::fs::rename(made(&dir.path().join(name), number(&data.join(name)).unwrap()), data.join(name)).unwrap();
                if *is_whole {
                    activate(&data, &data.join(name)).unwrap();
                }
            }
            if !is_there {
                std::fs::remove_dir_all(data.join(STORE)).unwrap();
            }
            let newest = others.iter().filter(|(_, whole)| *whole).filter_map(|(name, _)| number(&data.join(name))).max();
            let store = Store::open_existing(&data, &StoreOptions::default()).unwrap();
            assert_eq!(journal(&store), [event(newest.filter(|_| taken).unwrap_or(0))], "{others:?}");
            store.check_journal_end().unwrap();
            assert_eq!((store.database_path().unwrap(), numbered(&data).unwrap()), (data.join(STORE), Vec::new()));
        }
    }
}
