//! The learned state, read while the store is still being opened: each takes a part of a second
//! where a million sessions were seen.

use std::path::Path;
use std::thread::JoinHandle;

use super::state_history::decode_checkpoint;
use crate::domain::Offset;
use crate::learner::LearnerState;
use crate::store::{Checkpoints, Store, StoreError};

/// The newest checkpoint of a data directory, on its way into memory on a thread of its own.
/// Nothing is believed of it that the store, once open, does not bear out.
#[derive(Debug)]
pub struct CheckpointPreload(JoinHandle<Option<(Offset, LearnerState)>>);

impl CheckpointPreload {
    /// Begins to read. If nothing can be read the store's owner finds out, and says so.
    #[must_use]
    pub fn read(data_dir: &Path) -> Self {
        let checkpoints = Checkpoints::in_data_dir(data_dir);
        Self(std::thread::spawn(move || {
            let newest = checkpoints.newest(Offset::MAX).ok()??;
            Some((newest.offset(), decode_checkpoint(newest)?))
        }))
    }

    /// Returns the state that was read if it is still the newest of this store. Another process may
    /// have written a newer one, or the journal may have lost its end.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the checkpoints cannot be listed.
    pub fn into_state(self, store: &Store) -> Result<Option<LearnerState>, StoreError> {
        // One that died reads again, where it is told of.
        let Some((offset, state)) = self.0.join().ok().flatten() else { return Ok(None) };
        let newest = store.checkpoints_read_only().offsets()?.last() == Some(&offset);
        Ok(Some(state).filter(|_| newest && offset <= store.journal().next_offset().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::state_history::StoredStateHistory;
    use super::*;
    use crate::domain::{Entry, Item, ItemChange, ItemOperation};
    use crate::learner::{InlineJobs, Learner, LearnerConfig, LearnerDeps};
    use crate::store::{Durability, StoreOptions, codec};
    use std::sync::Arc;

    fn state(store: &Store) -> LearnerState {
        let past = StoredStateHistory::new(store.clone(), Arc::default(), LearnerConfig::default());
        let aides = LearnerDeps {
            training: Box::<InlineJobs<_>>::default(),
            clustering: Box::<InlineJobs<_>>::default(),
            state_history: Box::new(past),
        };
        let mut learner = Learner::new(LearnerConfig::default(), Arc::default(), None, 0, None, aides).unwrap();
        learner.state().unwrap().clone()
    }

    #[test]
    fn what_was_read_ahead_is_used_only_if_it_is_the_newest_that_the_store_has() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let entry = || Entry::Item(ItemChange { item_id: "a".to_owned(), timestamp: 0, operation: ItemOperation::Put(Item::default()) });
        store.journal().append(&[entry(), entry(), entry()], Durability::ProcessCrash).unwrap();
        let (checkpoints, state) = (store.checkpoints(3).unwrap(), state(&store));
        let write = |offset| checkpoints.write::<StoreError>(offset, |file| Ok(codec::encode_to(&state, file)?)).unwrap();
        let used = |ahead: CheckpointPreload| ahead.into_state(&store).unwrap().is_some();

        assert!(!used(CheckpointPreload::read(dir.path())), "there is none");
        write(2);
        assert!(used(CheckpointPreload::read(dir.path())));
        let ahead = CheckpointPreload::read(dir.path());
        while !ahead.0.is_finished() {
            std::thread::yield_now();
        }
        write(3);
        assert!(!used(ahead), "another came after it");
        write(4);
        assert!(!used(CheckpointPreload::read(dir.path())), "it knows more than the journal");
    }
}
