//! One database in place of another.

use super::engine::{Engine, wait_closed};
use super::reach::Reach;
use super::{Store, StoreError, sync_directory};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Where a database stands that another one is about to replace.
pub(super) fn replaced(dir: &Path) -> PathBuf {
    dir.join("store.before")
}

/// A replacement of the database that was cut short is undone; of one that was not, the rest is removed.
///
/// # Errors
/// What the file system says.
pub(super) fn undo(dir: &Path, path: &Path) -> Result<(), StoreError> {
    let before = replaced(dir);
    if !before.exists() {
        return Ok(());
    }
    if path.exists() {
        return std::fs::remove_dir_all(&before).map_err(StoreError::io("removing", &before));
    }
    std::fs::rename(&before, path).map_err(StoreError::io("renaming", &before))?;
    sync_directory(dir)
}

impl Store {
    /// Puts the store in `stage` in place of this one's database, and removes that. Every clone goes on with the new one. A process that dies on the way leaves either
    /// of them, whole. The files beside the database stay, except that the journal is known to reach as far as the new one does.
    ///
    /// # Errors
    /// What the disk says. If the store then is closed, opening it again finds one of the two.
    pub fn replace(&self, stage: Self) -> Result<(), StoreError> {
        let shared = &self.shared;
        let (path, new) = (shared.dir.join("store"), stage.shared.dir.join("store"));
        let end = stage.journal().next_offset()?;
        stage.close()?;
        let mut engine = shared.engine.write().unwrap_or_else(PoisonError::into_inner);
        *engine = None;
        wait_closed(&path)?;
        // Were the swap cut short behind this, it would say less of the old journal, but nothing wrong.
        Reach::open(&shared.dir)?.raise(end);
        let before = replaced(&shared.dir);
        std::fs::rename(&path, &before).map_err(StoreError::io("renaming", &path))?;
        std::fs::rename(&new, &path).map_err(StoreError::io("renaming", &new))?;
        sync_directory(&shared.dir)?;
        let number = shared.reopenings.fetch_add(1, Ordering::SeqCst) + 1;
        *engine = Some(Arc::new(Engine::open(&shared.dir, &shared.options, number)?));
        Ok(())
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
    fn a_store_takes_the_place_of_another_and_a_swap_cut_short_is_undone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("data"), &StoreOptions::default()).unwrap();
        store.journal().append(&[event(1), event(2), event(3)], Durability::PowerLoss).unwrap();
        let stage = store.begin_copy(&dir.path().join("stage")).unwrap();
        stage.journal().append(&[event(4)], Durability::PowerLoss).unwrap();
        let clone = store.clone();
        store.replace(stage).unwrap();
        assert_eq!(journal(&clone), [event(4)]);
        clone.check_end().unwrap();
        drop(clone);
        store.close().unwrap();
        let data = dir.path().join("data");
        assert!(!data.join("store.before").exists());
        std::fs::rename(data.join("store"), data.join("store.before")).unwrap();
        let store = Store::open_existing(&data, &StoreOptions::default()).unwrap();
        assert_eq!(journal(&store), [event(4)]);
        store.check_end().unwrap();
    }
}
