//! What is remembered of each user, so that a restart need not fold the whole journal.

use super::engine::Engine;
use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec, keys};
use crate::domain::{Offset, UserSequence};
use std::ops::Bound;

/// A user's record.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    /// The first journal offset that is not yet in it: a replay of the tail skips what lies before.
    pub applied_through: Offset,
    /// The behaviour sequence.
    pub sequence: UserSequence,
    /// The encoded hidden state; opaque to the store.
    pub hidden_state: Vec<u8>,
}

/// The session records of a store: `user id → sealed(applied ‖ session ‖ hidden)`.
#[derive(Debug, Clone)]
pub struct SessionTree {
    store: Store,
}

/// The tree's name in errors.
const TREE: &str = "sessions";

impl SessionTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// The user's record, if there is one.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] if it is not what was written, or what the database says.
    pub fn get(&self, user_id: &str) -> Result<Option<SessionRecord>, StoreError> {
        let engine = self.store.engine()?;
        let key = keys::user_key(user_id);
        engine.get(&engine.sessions, &key)?.map(|value| decode_record(&key, &value)).transpose()
    }

    /// Writes many records, but removes an empty one, then how far they all reach: every journal
    /// entry before `watermark` is in the stored records. They become durable with the next commit
    /// or [`Store::sync`]; until then a restart finds older ones and a `watermark` that is true of
    /// those.
    ///
    /// # Errors
    /// [`StoreError::Codec`] if a record cannot be encoded, or what the disk says. `watermark` is
    /// then as before.
    pub fn put<'r>(&self, records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>, through: Offset) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        write(&engine, records, through)
    }

    /// Writes as [`SessionTree::put`] does, if the store was not opened again since that
    /// [`Store::generation`]: `watermark` counts on what was written before.
    ///
    /// # Errors
    /// [`StoreError::Reopened`] if it was: nothing was written. Otherwise as [`SessionTree::put`].
    pub fn put_if_generation<'r>(
        &self,
        opening: u64,
        records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>,
        through: Offset,
    ) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        if engine.generation != opening {
            return Err(StoreError::Reopened { dir: self.store.dir().to_owned() });
        }
        write(&engine, records, through)
    }

    /// Writes records as [`SessionTree::put`] does that reach as far as those that they take the
    /// place of.
    ///
    /// # Errors
    /// As [`SessionTree::put`].
    pub fn rewrite<'r>(&self, records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        records.into_iter().try_for_each(|(user, record)| write_one(&engine, user, record))
    }

    /// Forgets users.
    ///
    /// # Errors
    /// What the disk says.
    pub fn remove<'u>(&self, users: impl IntoIterator<Item = &'u str>) -> Result<(), StoreError> {
        let engine = self.store.writable()?;
        users.into_iter().try_for_each(|user| engine.remove(&engine.sessions, &keys::user_key(user)))
    }

    /// Removes users whose record contains no entry from `before` on. Examines up to `most` records
    /// after the user `after`, in byte order of the ids. Returns the last user examined, to
    /// continue from; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a record that is not what was written, or what the disk
    /// says.
    pub fn remove_stale(&self, before: Offset, after: Option<&str>, most: usize) -> Result<Option<String>, StoreError> {
        let engine = self.store.writable()?;
        let from = after.map_or(Bound::Included(keys::USER_PREFIX.to_vec()), |user| Bound::Excluded(keys::user_key(user)));
        let mut last = None;
        for read in engine.sessions.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(most) {
            let (key, value) = read.map_err(|source| engine.error("reading", source))?;
            let user = keys::parse_user_key(&key).ok_or_else(|| damaged(&key, "its key is no user id".to_owned()))?;
            if decode_record(&key, &value)?.applied_through <= before {
                engine.remove(&engine.sessions, &key)?;
            }
            last = Some(user.to_owned());
        }
        Ok(last)
    }

    /// The records of `most` users, those that follow the user `after` in the order of the ids'
    /// bytes; `None` for a damaged one.
    ///
    /// # Errors
    /// What the database says.
    pub fn page(&self, after: Option<&str>, most: usize) -> Result<Vec<(String, Option<SessionRecord>)>, StoreError> {
        let engine = self.store.engine()?;
        let from = after.map_or(Bound::Included(keys::USER_PREFIX.to_vec()), |user| Bound::Excluded(keys::user_key(user)));
        let pairs = KeyValueIter::new(engine.sessions.range::<Vec<u8>, _>((from, Bound::Unbounded)), engine.path());
        let read = |pair: Result<(sled::IVec, sled::IVec), StoreError>| {
            let (key, value) = pair?;
            Ok((keys::parse_user_key(&key).unwrap_or_default().to_owned(), decode_record(&key, &value).ok()))
        };
        pairs.take(most).map(read).collect()
    }

    /// Every journal entry before this offset is in the stored records; 0 if none ever was.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] if it is not what was written, or what the database says.
    pub fn watermark(&self) -> Result<Offset, StoreError> {
        let engine = self.store.engine()?;
        let stored = engine.get(&engine.sessions, keys::SESSIONS_WATERMARK_KEY)?;
        stored.map_or(Ok(0), |value| envelope::open_offset(TREE, keys::SESSIONS_WATERMARK_KEY, &value))
    }

    /// How many users have a record. Counts them, which takes time in proportion to their number.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn count(&self) -> Result<usize, StoreError> {
        let engine = self.store.engine()?;
        Ok(KeyValueIter::new(engine.sessions.scan_prefix(keys::USER_PREFIX), engine.path()).count())
    }

    /// Every user's record, in the order of the ids' bytes.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened. The iterator's items are
    /// errors where a record is damaged.
    pub fn iter(&self) -> Result<impl Iterator<Item = Result<(String, SessionRecord), StoreError>> + use<>, StoreError> {
        self.iter_prefix("")
    }

    /// The record of every user whose id begins so, in the order of the ids' bytes.
    ///
    /// # Errors
    /// As [`SessionTree::iter`].
    pub fn iter_prefix(
        &self,
        prefix: &str,
    ) -> Result<impl Iterator<Item = Result<(String, SessionRecord), StoreError>> + use<>, StoreError> {
        let engine = self.store.engine()?;
        Ok(KeyValueIter::new(engine.sessions.scan_prefix(keys::user_key(prefix)), engine.path()).map(read_pair))
    }
}

fn read_pair(read: Result<(sled::IVec, sled::IVec), StoreError>) -> Result<(String, SessionRecord), StoreError> {
    let (key, value) = read?;
    let user = keys::parse_user_key(&key).ok_or_else(|| damaged(&key, "its key is no user id".to_owned()))?;
    Ok((user.to_owned(), decode_record(&key, &value)?))
}

fn write<'r>(engine: &Engine, records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>, through: Offset) -> Result<(), StoreError> {
    records.into_iter().try_for_each(|(user, record)| write_one(engine, user, record))?;
    engine.insert(&engine.sessions, keys::SESSIONS_WATERMARK_KEY, envelope::seal_offset(keys::SESSIONS_WATERMARK_KEY, through))
}

fn write_one(engine: &Engine, user: &str, record: &SessionRecord) -> Result<(), StoreError> {
    let key = keys::user_key(user);
    // Of a user who was erased: a record that says nothing says who it was.
    if record.sequence.steps.is_empty() && record.hidden_state.is_empty() {
        return engine.remove(&engine.sessions, &key);
    }
    let mut envelope =
        ChecksummedEnvelope::with_capacity(record.hidden_state.len() + record.sequence.steps.len() * size_of::<crate::domain::Step>());
    codec::encode_to(&(record.applied_through, &record.sequence), envelope.payload())?;
    envelope.payload().extend_from_slice(&record.hidden_state);
    engine.insert(&engine.sessions, &key, envelope.seal(&key))
}

fn damaged(key: &[u8], reason: String) -> StoreError {
    // An id is never said: this may be logged.
    let key = keys::parse_user_key(key).map_or_else(|| format!("a key of {} bytes", key.len()), keys::redacted);
    StoreError::DamagedValue { tree: TREE, key, reason }
}

pub(super) fn decode_record(key: &[u8], value: &[u8]) -> Result<SessionRecord, StoreError> {
    let payload = envelope::open(key, value).map_err(|reason| damaged(key, reason))?;
    let ((applied, session), hidden) = codec::decode_prefix(payload).map_err(|error| damaged(key, error.to_string()))?;
    Ok(SessionRecord { applied_through: applied, sequence: session, hidden_state: hidden.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{event, flip_bit};
    use super::super::{Durability, StoreOptions};
    use super::*;
    use crate::domain::Step;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn record(seed: u32, steps: u32, hidden: usize) -> SessionRecord {
        let step =
            |n| Step { item: (n % 3 > 0).then_some(n), kind: 1, starts_session: n == 0, at: i64::from(seed) + i64::from(n), value: 0.5 };
        let session = UserSequence {
            session_number: seed,
            session_start: 7,
            session_id: (seed > 4).then(|| seed.to_string()),
            steps: (0..steps).map(step).collect(),
        };
        SessionRecord { applied_through: u64::from(seed), sequence: session, hidden_state: vec![seed as u8; hidden] }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_is_a_map_that_survives_reopening(
            batches in proptest::collection::vec((proptest::collection::vec(("[a-e/m]{0,2}", 0_u32..9, 1_u32..50, 0_usize..9000), 0..8), any::<bool>()), 0..8),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
            let sessions = store.sessions();
            let mut model = BTreeMap::new();
            prop_assert_eq!(sessions.watermark().unwrap(), 0);
            for (through, (batch, reopen)) in batches.into_iter().enumerate() {
                let records: Vec<_> = batch.into_iter().map(|(user, seed, steps, hidden)| (user, record(seed, steps, hidden))).collect();
                sessions.put(records.iter().map(|(user, record)| (user.as_str(), record)), through as u64).unwrap();
                model.extend(records);
                if reopen {
                    store.reopen().unwrap();
                }
                prop_assert_eq!(sessions.watermark().unwrap(), through as u64);
                prop_assert_eq!(sessions.iter().unwrap().collect::<Result<BTreeMap<_, _>, _>>().unwrap(), model.clone());
                for (user, record) in &model {
                    prop_assert_eq!(sessions.get(user).unwrap(), Some(record.clone()));
                }
            }
        }
    }

    #[test]
    fn a_later_commit_makes_records_durable() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let ann = record(1, 3, 64);
        store.sessions().put([("ann", &ann)], 0).unwrap();
        store.journal().append(&[event(0)], Durability::PowerLoss).unwrap();
        // A copy of the files is what a process that died now would leave.
        let copy = super::super::testing::copy_directory(dir.path());
        let found = Store::open(copy.path(), &StoreOptions::default()).unwrap();
        assert_eq!(found.sessions().get("ann").unwrap(), Some(ann));
    }

    #[test]
    fn a_damaged_record_is_named_and_the_others_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let sessions = store.sessions();
        sessions.put([("ann", &record(1, 3, 8)), ("bob", &record(2, 3, 8))], 5).unwrap();
        flip_bit(&store.engine().unwrap().sessions, &keys::user_key("ann"), 20);
        let error = sessions.get("ann").unwrap_err();
        assert!(matches!(&error, StoreError::DamagedValue { key, .. } if *key == keys::redacted("ann")), "{error}");
        assert_eq!(sessions.get("bob").unwrap(), Some(record(2, 3, 8)));
        assert_eq!(sessions.iter().unwrap().filter(Result::is_err).count(), 1);
    }

    #[test]
    fn who_was_long_away_is_forgotten_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let sessions = store.sessions();
        let records: Vec<_> = (0..10).map(|number| (format!("user{number}"), record(number, 3, 10))).collect();
        sessions.put(records.iter().map(|(user, record)| (user.as_str(), record)), 10).unwrap();
        let mut after = sessions.remove_stale(6, None, 4).unwrap();
        assert_eq!(after.as_deref(), Some("user3"));
        let left = || sessions.iter().unwrap().map(|read| read.unwrap().0).collect::<Vec<_>>();
        assert_eq!(left().len(), 6, "the first four are gone, the rest was not looked at");
        while after.is_some() {
            after = sessions.remove_stale(6, after.as_deref(), 4).unwrap();
        }
        assert_eq!(left(), ["user7", "user8", "user9"]);
        assert_eq!(sessions.watermark().unwrap(), 10);
    }
}
