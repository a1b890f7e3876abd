//! Stores expiries, and removes expired journal entries. An expiry is a journal entry that removes
//! events and impressions older than a time that depends on their kind.

use super::erasure_tree::PendingTask;
use super::removal_records::{decode_value, removal_key};
use super::{Durability, Store, StoreError};
use crate::domain::{Entry, Expiry, Offset};

/// Key prefix of an expiry in progress. The offset of the expiry's journal entry follows,
/// big-endian.
const IN_PROGRESS_PREFIX: u8 = b'x';
/// Key of the expiry that was started last.
const LAST_BEGUN_KEY: &[u8] = b"e";

/// The expiries of a store, in the same tree as the erasures: `x ‖ offset → envelope(expiry)` for
/// expiries in progress, and `e → envelope(expiry)` for the last started expiry.
#[derive(Debug, Clone)]
pub struct ExpiryTree {
    store: Store,
}

impl ExpiryTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Records that the expiry whose journal entry has the offset `offset` is in progress. The
    /// write becomes durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn record_begun(&self, offset: Offset, expiry: &Expiry) -> Result<(), StoreError> {
        self.set_last_begun(expiry)?;
        self.store.put_removal(IN_PROGRESS_PREFIX, offset, expiry)
    }

    /// The expiries in progress with the offsets of their journal entries, in journal order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn in_progress(&self) -> Result<Vec<(Offset, Expiry)>, StoreError> {
        self.store.removals_in_progress(IN_PROGRESS_PREFIX)
    }

    /// The expiry that was started last; `None` if there never was one. If there was one, the
    /// journal may lack entries from which derived state was computed.
    ///
    /// # Errors
    /// As [`ExpiryTree::in_progress`].
    pub fn last_begun(&self) -> Result<Option<Expiry>, StoreError> {
        let engine = self.store.engine()?;
        engine.get(&engine.erasures, LAST_BEGUN_KEY)?.map(|value| decode_value(LAST_BEGUN_KEY, &value)).transpose()
    }

    /// Sets the expiry that counts as started last. A copy of a store gets it from the original.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn set_last_begun(&self, expiry: &Expiry) -> Result<(), StoreError> {
        self.store.put_removal_value(LAST_BEGUN_KEY, expiry)
    }

    /// Durably records that expiries are finished. Also marks a compaction as pending, because the
    /// database's files still contain the removed bytes.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn record_finished(&self, done: &[(Offset, Expiry)]) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        engine.insert(&engine.erasures, PendingTask::Compaction.task_key(), &[])?;
        done.iter()
            .try_for_each(|(offset, _)| engine.remove(&engine.erasures, &removal_key(IN_PROGRESS_PREFIX, *offset)))?;
        engine.sync(Durability::PowerLoss)
    }
}

impl Store {
    /// Whether the journal contains entries that `expiry` would remove. The call reads the journal
    /// up to the first such entry.
    ///
    /// # Errors
    /// Any read error.
    pub fn has_expired_entries(&self, expiry: &Expiry) -> Result<bool, StoreError> {
        for read in self.journal().entries(self.journal().first_offset()?)? {
            if read?.1.is_expired_by(expiry) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Executes the expiries in `due`: replaces expired journal entries with tombstones. All
    /// derived state must already contain the last of these expiries, so that no restart has to
    /// read earlier entries. The call first removes the checkpoints and restore points of earlier
    /// offsets. Returns the number of removed entries. If the call is interrupted, the caller must
    /// repeat it.
    ///
    /// # Errors
    /// Any read or write error; the expiries stay in progress.
    pub fn remove_expired_entries(&self, due: &[(Offset, Expiry)]) -> Result<u64, StoreError> {
        let Some((last, _)) = due.last() else { return Ok(0) };
        self.drop_learned_states_before(*last + 1)?;
        let is_expired =
            |offset, entry: &Entry| due.iter().any(|(until, expiry)| offset < *until && entry.is_expired_by(expiry));
        let removed =
            self.journal().replace_with_tombstones(*last + 1, &mut |offset, entry, _| is_expired(offset, entry))?;
        self.sync(Durability::PowerLoss)?;
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Committer, CommitterSettings, StoreOptions};
    use super::*;
    use crate::domain::{Event, EventKind};

    #[test]
    fn expired_entries_become_tombstones_and_a_restart_continues_the_removal() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let open = || Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        let mut committer = open();
        let at = |number: u64, kind: EventKind| match event(number) {
            Entry::Event(event) => Entry::Event(Event { kind, timestamp: number as i64, ..event }),
            other => other,
        };
        let entries: Vec<_> = (0..100)
            .map(|number| at(number, if number % 2 == 0 { EventKind::Search } else { EventKind::View }))
            .collect();
        committer.commit(vec![entries]).unwrap();
        let expiry = |before| Expiry { events: vec![(EventKind::Search, before)], impressions: None, timestamp: 200 };
        assert_eq!(store.expiries().last_begun().unwrap(), None);
        assert!(store.has_expired_entries(&expiry(1)).unwrap() && !store.has_expired_entries(&expiry(0)).unwrap());
        let late = Entry::Event(Event { event_id: None, ..at(2, EventKind::Search).as_event().unwrap().clone() });
        committer.commit(vec![vec![Entry::Expire(expiry(50)), late]]).unwrap();
        drop(committer);

        let mut committer = open();
        let due = store.expiries().in_progress().unwrap();
        assert_eq!(due, [(100, expiry(50))]);
        committer.persist_indexes().unwrap();
        assert_eq!(store.remove_expired_entries(&due).unwrap(), 25);
        assert_eq!(store.remove_expired_entries(&due).unwrap(), 0, "repeating the removal changes nothing");
        for (offset, entry) in store.journal().read_entries(0, 200).unwrap() {
            let is_removed = offset < 50 && offset % 2 == 0;
            assert_eq!(
                entry == Entry::Tombstone,
                is_removed,
                "{offset}: entries after the expiry stay until the next one"
            );
        }
        assert_eq!(store.expiries().last_begun().unwrap(), Some(expiry(50)));
        store.expiries().record_finished(&due).unwrap();
        assert_eq!(store.expiries().in_progress().unwrap(), []);
        assert!(store.erasures().is_pending(PendingTask::Compaction).unwrap());
        assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
    }
}
