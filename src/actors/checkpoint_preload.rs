//! Reads the newest checkpoint while the store is being opened. With a million sessions, reading
//! and opening each take a fraction of a second, so doing both at once shortens the start.

use std::path::Path;
use std::thread::JoinHandle;

use super::state_history::decode_checkpoint;
use crate::domain::Offset;
use crate::learner::LearnerState;
use crate::store::{Checkpoints, Store, StoreError};

/// A background read of the newest checkpoint of a data directory. The result is used only if the
/// opened store confirms that the checkpoint is the newest.
#[derive(Debug)]
pub struct CheckpointPreload(JoinHandle<Option<(Offset, LearnerState)>>);

impl CheckpointPreload {
    /// Starts to read the newest checkpoint on its own thread. Errors are ignored, because the
    /// regular load reads the checkpoints again and reports the errors.
    #[must_use]
    pub fn start_reading(data_dir: &Path) -> Self {
        let checkpoints = Checkpoints::in_data_dir(data_dir);
        Self(std::thread::spawn(move || {
            let newest = checkpoints.open_newest(Offset::MAX).ok()??;
            Some((newest.offset(), decode_checkpoint(newest)?))
        }))
    }

    /// Returns the preloaded state if its checkpoint is still the newest checkpoint of this store,
    /// and the journal reaches its offset. Otherwise returns `None`: another process may have
    /// written a newer checkpoint, or the journal may have lost its end.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the checkpoints cannot be listed.
    pub fn into_newest_state(self, store: &Store) -> Result<Option<LearnerState>, StoreError> {
        // If the thread panicked, the regular load reads the checkpoint again and reports the
        // error.
        let Some((offset, state)) = self.0.join().ok().flatten() else { return Ok(None) };
        let is_newest = store.checkpoints_read_only().offsets()?.last() == Some(&offset);
        Ok(Some(state).filter(|_| is_newest && offset <= store.journal().next_offset().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::state_history::StoreBackedStateHistory;
    use super::*;
    use crate::domain::{Entry, Item, ItemChange, ItemOperation};
    use crate::learner::{InlineJobs, Learner, LearnerConfig, LearnerDeps};
    use crate::store::{Durability, StoreOptions, codec};
    use std::sync::Arc;

    fn write_checkpoint_of_trained_state(store: &Store) -> LearnerState {
        let history = StoreBackedStateHistory::new(store.clone(), Arc::default(), LearnerConfig::default());
        let deps = LearnerDeps {
            training: Box::<InlineJobs<_>>::default(),
            clustering: Box::<InlineJobs<_>>::default(),
            state_history: Box::new(history),
        };
        let mut learner = Learner::new(LearnerConfig::default(), Arc::default(), None, 0, None, deps).unwrap();
        learner.state().unwrap().clone()
    }

    #[test]
    fn a_preloaded_checkpoint_is_used_only_if_it_is_the_newest_valid_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let entry = || {
            Entry::Item(ItemChange {
                item_id: "a".to_owned(),
                timestamp: 0,
                operation: ItemOperation::Put(Item::default()),
            })
        };
        store.journal().append(&[entry(), entry(), entry()], Durability::ProcessCrash).unwrap();
        let (checkpoints, state) = (store.checkpoints(3).unwrap(), write_checkpoint_of_trained_state(&store));
        let write =
            |offset| checkpoints.write::<StoreError>(offset, |file| Ok(codec::encode_to(&state, file)?)).unwrap();
        let is_used = |preload: CheckpointPreload| preload.into_newest_state(&store).unwrap().is_some();

        assert!(!is_used(CheckpointPreload::start_reading(dir.path())), "no checkpoint exists");
        write(2);
        assert!(is_used(CheckpointPreload::start_reading(dir.path())));
        let preload = CheckpointPreload::start_reading(dir.path());
        while !preload.0.is_finished() {
            std::thread::yield_now();
        }
        write(3);
        assert!(!is_used(preload), "a newer checkpoint exists");
        write(4);
        assert!(!is_used(CheckpointPreload::start_reading(dir.path())), "the checkpoint is ahead of the journal");
    }
}
