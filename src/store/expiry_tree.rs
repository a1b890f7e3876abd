//! What was kept long enough and is still to be taken out.

use super::envelope::ChecksummedEnvelope;
use super::erasure_tree::{PendingTask, decode_value, parse_offset_key};
use super::key_value_iter::KeyValueIter;
use super::{Durability, Store, StoreError, codec};
use crate::domain::{Entry, Expiry, Offset};

/// Begins the key of an expiry that is under way; its entry's offset follows, big-endian.
const UNDER_WAY: u8 = b'x';
/// The one that was begun last.
const LAST: &[u8] = b"e";

/// The expiries of a store, beside the erasures: `x ‖ offset → sealed(expiry)` while they are under
/// way, and `e → sealed(expiry)` for the one that was begun last, if there ever was one.
#[derive(Debug, Clone)]
pub struct ExpiryTree {
    store: Store,
}

impl ExpiryTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Notes that an expiry is under way. Becomes durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(&self, offset: Offset, expiry: &Expiry) -> Result<(), StoreError> {
        self.set_last_begun(expiry)?;
        self.put(&under_way(offset), expiry)
    }

    /// Those under way with where they stand in the journal, in its order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for one that is not what was written, or what the database
    /// says.
    pub fn in_progress(&self) -> Result<Vec<(Offset, Expiry)>, StoreError> {
        let engine = self.store.engine()?;
        KeyValueIter::new(engine.erasures.scan_prefix([UNDER_WAY]), engine.path())
            .map(|read| {
                let (key, value) = read?;
                Ok((parse_offset_key(&key)?, decode_value(&key, &value)?))
            })
            .collect()
    }

    /// The one that was begun last, if anything was ever taken out or is to be: then the journal
    /// does not tell of all that follows from it.
    ///
    /// # Errors
    /// As [`ExpiryTree::in_progress`].
    pub fn last_begun(&self) -> Result<Option<Expiry>, StoreError> {
        let engine = self.store.engine()?;
        engine.get(&engine.erasures, LAST)?.map(|value| decode_value(LAST, &value)).transpose()
    }

    /// Notes one as the last that was begun, also of a journal that this is a copy of.
    ///
    /// # Errors
    /// What the disk says.
    pub fn set_last_begun(&self, expiry: &Expiry) -> Result<(), StoreError> {
        self.put(LAST, expiry)
    }

    fn put(&self, key: &[u8], expiry: &Expiry) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        let mut envelope = ChecksummedEnvelope::with_capacity(64);
        codec::encode_to(expiry, envelope.payload())?;
        engine.insert(&engine.erasures, key, envelope.seal(key))
    }

    /// Notes, durably, that expiries are done, but for what is left of them in the database's
    /// files.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(&self, done: &[(Offset, Expiry)]) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        engine.insert(&engine.erasures, PendingTask::Compaction.key(), &[])?;
        done.iter().try_for_each(|(offset, _)| engine.remove(&engine.erasures, &under_way(*offset)))?;
        engine.sync(Durability::PowerLoss)
    }
}

fn under_way(offset: Offset) -> Vec<u8> {
    [&[UNDER_WAY], &offset.to_be_bytes()[..]].concat()
}

impl Store {
    /// Whether the journal holds anything that such an expiry would take out. Reads all of it,
    /// unless something is found.
    ///
    /// # Errors
    /// What reading says.
    pub fn has_expired_entries(&self, expiry: &Expiry) -> Result<bool, StoreError> {
        for read in self.journal().entries(self.journal().first_offset()?)? {
            if read?.1.is_expired_by(expiry) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes out of the journal what expiries that are under way cover. Everything that is folded
    /// from the journal must have passed the last of them, and nothing on the disk may have to be
    /// folded from before: states of earlier offsets are removed first. Returns how many entries
    /// went. May be cut short anywhere; then it is to be done again.
    ///
    /// # Errors
    /// What reading or the disk says; they stay under way.
    pub fn remove_expired(&self, due: &[(Offset, Expiry)]) -> Result<u64, StoreError> {
        let Some((last, _)) = due.last() else { return Ok(0) };
        for states in [self.checkpoints_read_only(), self.restore_points_read_only()] {
            states.drop_before(*last + 1)?;
        }
        let covered = |offset, entry: &Entry| due.iter().any(|(until, expiry)| offset < *until && entry.is_expired_by(expiry));
        let gone = self.journal().replace_with_tombstones(*last + 1, &mut |offset, entry| covered(offset, entry))?;
        self.sync(Durability::PowerLoss)?;
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Committer, CommitterSettings, StoreOptions};
    use super::*;
    use crate::domain::{Event, EventKind};

    #[test]
    fn what_was_kept_long_enough_is_a_blank_and_a_start_goes_on_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let open = || Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        let mut committer = open();
        let at = |number: u64, kind: EventKind| match event(number) {
            Entry::Event(event) => Entry::Event(Event { kind, timestamp: number as i64, ..event }),
            other => other,
        };
        let entries: Vec<_> =
            (0..100).map(|number| at(number, if number % 2 == 0 { EventKind::Search } else { EventKind::View })).collect();
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
        assert_eq!(store.remove_expired(&due).unwrap(), 25);
        assert_eq!(store.remove_expired(&due).unwrap(), 0, "once more does no harm");
        for (offset, entry) in store.journal().read(0, 200).unwrap() {
            let goes = offset < 50 && offset % 2 == 0;
            assert_eq!(entry == Entry::Tombstone, goes, "{offset}: what came after it was found stays until the next time");
        }
        assert_eq!(store.expiries().last_begun().unwrap(), Some(expiry(50)));
        store.expiries().finish(&due).unwrap();
        assert_eq!(store.expiries().in_progress().unwrap(), []);
        assert!(store.erasures().is_pending(PendingTask::Compaction).unwrap());
        assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
    }
}
