//! What was kept long enough and is still to be taken out.

use super::engine::Pairs;
use super::erasures::{Debt, TREE};
use super::sealed::{self, Envelope};
use super::{Durability, Store, StoreError, codec};
use crate::domain::{Entry, Expiry, Offset};

/// Begins the key of an expiry that is under way; its entry's offset follows, big-endian.
const UNDER_WAY: u8 = b'x';
/// Once there was one.
const ANY: &[u8] = b"e";

/// The expiries of a store, beside the erasures: `x ‖ offset → sealed(expiry)` while they are under way, and one key that there ever were any.
#[derive(Debug, Clone)]
pub struct Expiries {
    store: Store,
}

impl Expiries {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Notes that an expiry is under way. Becomes durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(&self, offset: Offset, expiry: &Expiry) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        let key = under_way(offset);
        let mut envelope = Envelope::with_capacity(64);
        codec::encode_to(expiry, envelope.payload())?;
        engine.insert(&engine.erasures, ANY, &[])?;
        engine.insert(&engine.erasures, &key, envelope.seal(&key))
    }

    /// Those under way with where they stand in the journal, in its order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for one that is not what was written, or what the database says.
    pub fn under_way(&self) -> Result<Vec<(Offset, Expiry)>, StoreError> {
        let engine = self.store.engine()?;
        Pairs::new(engine.erasures.scan_prefix([UNDER_WAY]), engine.path())
            .map(|read| {
                let (key, value) = read?;
                let damaged = |reason| StoreError::DamagedValue { tree: TREE, key: format!("{key:?}"), reason };
                let offset = key.get(1..).and_then(|offset| offset.try_into().ok()).map(Offset::from_be_bytes);
                let payload = sealed::open(&key, &value).map_err(damaged)?;
                let expiry = codec::decode(payload).map_err(|error| damaged(error.to_string()))?;
                Ok((offset.ok_or_else(|| damaged("its key is no offset".to_owned()))?, expiry))
            })
            .collect()
    }

    /// Whether anything was ever taken out, or is to be: then the journal does not tell of all that follows from it.
    ///
    /// # Errors
    /// What the database says.
    pub fn any(&self) -> Result<bool, StoreError> {
        let engine = self.store.engine()?;
        Ok(engine.get(&engine.erasures, ANY)?.is_some())
    }

    /// Notes that something was taken out of the journal that this is a copy of.
    ///
    /// # Errors
    /// What the disk says.
    pub fn note(&self) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        engine.insert(&engine.erasures, ANY, &[])
    }

    /// Notes, durably, that expiries are done, but for what is left of them in the database's files.
    ///
    /// # Errors
    /// What the disk says.
    pub fn finish(&self, done: &[(Offset, Expiry)]) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        engine.insert(&engine.erasures, Debt::Compaction.key(), &[])?;
        done.iter().try_for_each(|(offset, _)| engine.remove(&engine.erasures, &under_way(*offset)))?;
        engine.sync(Durability::PowerLoss)
    }
}

fn under_way(offset: Offset) -> Vec<u8> {
    [&[UNDER_WAY], &offset.to_be_bytes()[..]].concat()
}

impl Store {
    /// Whether the journal holds anything that such an expiry would take out. Reads all of it, unless something is found.
    ///
    /// # Errors
    /// What reading says.
    pub fn holds_expired(&self, expiry: &Expiry) -> Result<bool, StoreError> {
        for read in self.journal().entries(self.journal().begin()?)? {
            if expiry.covers(&read?.1) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes out of the journal what expiries that are under way cover. Everything that is folded from the journal must have passed the last of them, and nothing on the disk may have to be
    /// folded from before: states of earlier offsets are removed first. Returns how many entries went. May be cut short anywhere; then it is to be done again.
    ///
    /// # Errors
    /// What reading or the disk says; they stay under way.
    pub fn expire(&self, due: &[(Offset, Expiry)]) -> Result<u64, StoreError> {
        let Some((last, _)) = due.last() else { return Ok(0) };
        for states in [self.present_checkpoints(), self.present_restore_points()] {
            states.drop_before(*last + 1)?;
        }
        let covered = |offset, entry: &Entry| due.iter().any(|(until, expiry)| offset < *until && expiry.covers(entry));
        let gone = self.journal().blank(*last + 1, &mut |offset, entry| covered(offset, entry))?;
        self.sync(Durability::PowerLoss)?;
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Committer, CommitterSettings, StoreOptions};
    use super::*;
    use crate::domain::{Event, Kind};

    #[test]
    fn what_was_kept_long_enough_is_a_blank_and_a_start_goes_on_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let open = || Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        let mut committer = open();
        let at = |number: u64, kind: Kind| match event(number) {
            Entry::Event(event) => Entry::Event(Event { kind, timestamp: number as i64, ..event }),
            other => other,
        };
        let entries: Vec<_> = (0..100).map(|number| at(number, if number % 2 == 0 { Kind::Search } else { Kind::View })).collect();
        committer.commit(vec![entries]).unwrap();
        let expiry = |before| Expiry { events: vec![(Kind::Search, before)], impressions: None, timestamp: 200 };
        assert!(!store.expiries().any().unwrap());
        assert!(store.holds_expired(&expiry(1)).unwrap() && !store.holds_expired(&expiry(0)).unwrap());
        let late = Entry::Event(Event { event_id: None, ..at(2, Kind::Search).as_event().unwrap().clone() });
        committer.commit(vec![vec![Entry::Expire(expiry(50)), late]]).unwrap();
        drop(committer);

        let mut committer = open();
        let due = store.expiries().under_way().unwrap();
        assert_eq!(due, [(100, expiry(50))]);
        committer.persist_items().unwrap();
        assert_eq!(store.expire(&due).unwrap(), 25);
        assert_eq!(store.expire(&due).unwrap(), 0, "once more does no harm");
        for (offset, entry) in store.journal().read(0, 200).unwrap() {
            let goes = offset < 50 && offset % 2 == 0;
            assert_eq!(entry == Entry::Blank, goes, "{offset}: what came after it was found stays until the next time");
        }
        assert!(store.expiries().any().unwrap());
        store.expiries().finish(&due).unwrap();
        assert_eq!(store.expiries().under_way().unwrap(), []);
        assert!(store.erasures().owes(Debt::Compaction).unwrap());
        assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
    }
}
