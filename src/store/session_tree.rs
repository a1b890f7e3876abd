//! The session records: the stored state of each user, so that a restart need not read the whole
//! journal.

use super::engine::Engine;
use super::envelope::{self, ChecksummedEnvelope};
use super::key_value_iter::KeyValueIter;
use super::{Store, StoreError, codec, keys};
use crate::domain::{Offset, UserSequence};
use std::ops::Bound;

/// The stored state of one user.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    /// The first journal offset that the record does not contain. A replay skips earlier entries
    /// for this user.
    pub applied_through: Offset,
    /// The user's sequence of steps.
    pub sequence: UserSequence,
    /// The encoded hidden state of the network; opaque to the store.
    pub hidden_state: Vec<u8>,
}

/// The session records of a store: `user id → envelope(applied ‖ sequence ‖ rest)`. The rest is a
/// tag, the earlier sessions and the kept steps; or a hidden state; or empty.
#[derive(Debug, Clone)]
pub struct SessionTree {
    store: Store,
}

/// The bytes before the earlier sessions in a record. They tell these sessions from a hidden state,
/// which records of earlier versions may hold instead. A hidden state begins with the version of its
/// weights (u64 LE), and no version is as large as these bytes read as a u64.
const EARLIER_SESSIONS_TAG: [u8; 8] = *b"\xff\xffearly\x01";

/// The name of the tree in error messages.
const TREE_NAME: &str = "sessions";

impl SessionTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Returns the user's record, if the user has a record.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] if the value is damaged, or any database error.
    pub fn get(&self, user_id: &str) -> Result<Option<SessionRecord>, StoreError> {
        let engine = self.store.engine()?;
        let key = keys::user_key(user_id);
        engine.get(&engine.sessions, &key)?.map(|value| decode_record(&key, &value)).transpose()
    }

    /// Stores `records`, and then raises the watermark to `through`. All stored records must then
    /// contain every journal entry before `through`. A record without content is not stored; an
    /// older record of the user is removed. The writes become durable with the next commit or
    /// [`Store::sync`]. If the daemon restarts before that, it may find the older records and their
    /// watermark.
    ///
    /// # Errors
    /// [`StoreError::Codec`] if a record cannot be encoded, or any I/O error. The watermark is then
    /// unchanged.
    pub fn put<'r>(
        &self,
        records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>,
        through: Offset,
    ) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        write_records(&engine, records, through)
    }

    /// Like [`SessionTree::put`], but fails if the store was reopened since [`Store::generation`]
    /// returned `generation`. The new watermark is only correct if earlier writes still exist, and
    /// a reopening may have lost them.
    ///
    /// # Errors
    /// [`StoreError::Reopened`] if the store was reopened. In this case the call writes nothing.
    /// Otherwise as [`SessionTree::put`].
    pub fn put_if_generation<'r>(
        &self,
        generation: u64,
        records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>,
        through: Offset,
    ) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        if engine.generation != generation {
            return Err(StoreError::Reopened { dir: self.store.dir().to_owned() });
        }
        write_records(&engine, records, through)
    }

    /// Replaces records without changing the watermark. A new record must contain the same journal
    /// entries as the record it replaces.
    ///
    /// # Errors
    /// As [`SessionTree::put`].
    pub fn replace_records<'r>(
        &self,
        records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>,
    ) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        records.into_iter().try_for_each(|(user, record)| write_record(&engine, user, record))
    }

    /// Like [`SessionTree::put_if_generation`], but does not change the watermark. The records may
    /// contain journal entries after the watermark. After a restart, these entries are delivered
    /// again, and the sessions whose records contain them skip them.
    ///
    /// # Errors
    /// As [`SessionTree::put_if_generation`].
    pub fn put_ahead_if_generation<'r>(
        &self,
        generation: u64,
        records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>,
    ) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        if engine.generation != generation {
            return Err(StoreError::Reopened { dir: self.store.dir().to_owned() });
        }
        records.into_iter().try_for_each(|(user, record)| write_record(&engine, user, record))
    }

    /// Removes the records of users.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn remove<'u>(&self, users: impl IntoIterator<Item = &'u str>) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        users.into_iter().try_for_each(|user| engine.remove(&engine.sessions, &keys::user_key(user)))
    }

    /// Removes the records of users who have no entry at or after the offset `before`. Examines up
    /// to `most` records, in byte order of the user ids, starting after the user `after`. Returns
    /// the last examined user, after whom the next call continues; `None` if no records remain to
    /// examine.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged record, or any I/O error.
    pub fn remove_stale_records(
        &self,
        before: Offset,
        after: Option<&str>,
        most: usize,
    ) -> Result<Option<String>, StoreError> {
        let engine = self.store.lock_for_writing()?;
        let from =
            after.map_or(Bound::Included(keys::USER_KEY_PREFIX.to_vec()), |user| Bound::Excluded(keys::user_key(user)));
        let mut last = None;
        for read in engine.sessions.range::<Vec<u8>, _>((from, Bound::Unbounded)).take(most) {
            let (key, value) = read.map_err(|source| engine.database_error("reading", source))?;
            let user = keys::parse_user_key(&key)
                .ok_or_else(|| damaged_record(&key, "its key is not a user id".to_owned()))?;
            if decode_record(&key, &value)?.applied_through <= before {
                engine.remove(&engine.sessions, &key)?;
            }
            last = Some(user.to_owned());
        }
        Ok(last)
    }

    /// Returns up to `most` records, in byte order of the user ids, starting after the user
    /// `after`. A damaged record is returned as `None`.
    ///
    /// # Errors
    /// Any database error.
    pub fn read_page(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Option<SessionRecord>)>, StoreError> {
        let engine = self.store.engine()?;
        let from =
            after.map_or(Bound::Included(keys::USER_KEY_PREFIX.to_vec()), |user| Bound::Excluded(keys::user_key(user)));
        let pairs = KeyValueIter::new(engine.sessions.range::<Vec<u8>, _>((from, Bound::Unbounded)), engine.path());
        let read = |pair: Result<(sled::IVec, sled::IVec), StoreError>| {
            let (key, value) = pair?;
            Ok((keys::parse_user_key(&key).unwrap_or_default().to_owned(), decode_record(&key, &value).ok()))
        };
        pairs.take(most).map(read).collect()
    }

    /// The watermark: the stored records contain all journal entries before this offset. 0 if no
    /// records are stored.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] if the value is damaged, or any database error.
    pub fn watermark(&self) -> Result<Offset, StoreError> {
        let engine = self.store.engine()?;
        let stored = engine.get(&engine.sessions, keys::SESSIONS_WATERMARK_KEY)?;
        stored.map_or(Ok(0), |value| envelope::open_offset(TREE_NAME, keys::SESSIONS_WATERMARK_KEY, &value))
    }

    /// Number of users with a record. Counting takes time proportional to the number of users.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened.
    pub fn count(&self) -> Result<usize, StoreError> {
        let engine = self.store.engine()?;
        Ok(KeyValueIter::new(engine.sessions.scan_prefix(keys::USER_KEY_PREFIX), engine.path()).count())
    }

    /// Iterates over all records, in byte order of the user ids.
    ///
    /// # Errors
    /// [`StoreError::NeedsReopen`] if the store could not be reopened. The iterator yields an error
    /// for a damaged record.
    pub fn iter(
        &self,
    ) -> Result<impl Iterator<Item = Result<(String, SessionRecord), StoreError>> + use<>, StoreError> {
        self.iter_prefix("")
    }

    /// Iterates over the records of users whose id starts with `prefix`, in byte order.
    ///
    /// # Errors
    /// As [`SessionTree::iter`].
    pub fn iter_prefix(
        &self,
        prefix: &str,
    ) -> Result<impl Iterator<Item = Result<(String, SessionRecord), StoreError>> + use<>, StoreError> {
        let engine = self.store.engine()?;
        Ok(KeyValueIter::new(engine.sessions.scan_prefix(keys::user_key(prefix)), engine.path()).map(decode_pair))
    }
}

fn decode_pair(read: Result<(sled::IVec, sled::IVec), StoreError>) -> Result<(String, SessionRecord), StoreError> {
    let (key, value) = read?;
    let user = keys::parse_user_key(&key).ok_or_else(|| damaged_record(&key, "its key is not a user id".to_owned()))?;
    Ok((user.to_owned(), decode_record(&key, &value)?))
}

fn write_records<'r>(
    engine: &Engine,
    records: impl IntoIterator<Item = (&'r str, &'r SessionRecord)>,
    through: Offset,
) -> Result<(), StoreError> {
    records.into_iter().try_for_each(|(user, record)| write_record(engine, user, record))?;
    engine.insert(
        &engine.sessions,
        keys::SESSIONS_WATERMARK_KEY,
        envelope::seal_offset(keys::SESSIONS_WATERMARK_KEY, through),
    )
}

fn write_record(engine: &Engine, user: &str, record: &SessionRecord) -> Result<(), StoreError> {
    let key = keys::user_key(user);
    // An erasure leaves a record without content. Such a record is removed, because its key would
    // still contain the user id.
    if record.sequence.steps.is_empty() && record.hidden_state.is_empty() {
        return engine.remove(&engine.sessions, &key);
    }
    let mut envelope = ChecksummedEnvelope::with_capacity(
        record.hidden_state.len() + record.sequence.steps.len() * size_of::<crate::domain::Step>(),
    );
    codec::encode_to(&(record.applied_through, &record.sequence), envelope.payload())?;
    let UserSequence { earlier_sessions, kept_steps, .. } = &record.sequence;
    if earlier_sessions.is_empty() && kept_steps.is_empty() {
        envelope.payload().extend_from_slice(&record.hidden_state);
    } else {
        envelope.payload().extend_from_slice(&EARLIER_SESSIONS_TAG);
        codec::encode_to(&(earlier_sessions, kept_steps), envelope.payload())?;
    }
    engine.insert(&engine.sessions, &key, envelope.seal(&key))
}

fn damaged_record(key: &[u8], reason: String) -> StoreError {
    // The error may be logged, so it must not contain the user id.
    let key =
        keys::parse_user_key(key).map_or_else(|| format!("a key of {} bytes", key.len()), keys::redacted_user_name);
    StoreError::DamagedValue { tree: TREE_NAME, key, reason }
}

pub(super) fn decode_record(key: &[u8], value: &[u8]) -> Result<SessionRecord, StoreError> {
    let payload = envelope::open_value(key, value).map_err(|reason| damaged_record(key, reason))?;
    let damaged = |error: codec::CodecError| damaged_record(key, error.to_string());
    let ((applied_through, sequence), rest): ((Offset, UserSequence), _) =
        codec::decode_prefix(payload).map_err(damaged)?;
    Ok(match rest.strip_prefix(&EARLIER_SESSIONS_TAG) {
        None => SessionRecord { applied_through, sequence, hidden_state: rest.to_vec() },
        Some(rest) => {
            let (earlier_sessions, rest) = codec::decode_prefix(rest).map_err(damaged)?;
            let kept_steps = if rest.is_empty() { Vec::new() } else { codec::decode(rest).map_err(damaged)? };
            let sequence = UserSequence { earlier_sessions, kept_steps, ..sequence };
            SessionRecord { applied_through, sequence, hidden_state: Vec::new() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::flip_bit;
    use super::super::{Durability, StoreOptions};
    use super::*;
    use crate::domain::{EarlierSession, Step};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn sample_record(seed: u32, steps: u32, hidden: usize) -> SessionRecord {
        let step = |n| Step {
            item: (n % 3 > 0).then_some(n),
            kind: 1,
            starts_session: n == 0,
            at: i64::from(seed) + i64::from(n),
            value: 0.5,
        };
        let session = UserSequence {
            session_number: seed,
            session_start: 7,
            session_id: (seed > 4).then(|| seed.to_string()),
            steps: (0..steps).map(step).collect(),
            earlier_sessions: Vec::new(),
            kept_steps: Vec::new(),
        };
        SessionRecord { applied_through: u64::from(seed), sequence: session, hidden_state: vec![seed as u8; hidden] }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn session_records_match_a_map_and_survive_reopening(
            batches in proptest::collection::vec((proptest::collection::vec(("[a-e/m]{0,2}", 0_u32..9, 1_u32..50, 0_usize..9000), 0..8), any::<bool>()), 0..8),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
            let sessions = store.sessions();
            let mut model = BTreeMap::new();
            prop_assert_eq!(sessions.watermark().unwrap(), 0);
            for (through, (batch, reopen)) in batches.into_iter().enumerate() {
                let records: Vec<_> = batch.into_iter().map(|(user, seed, steps, hidden)| (user, sample_record(seed, steps, hidden))).collect();
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
    fn a_later_sync_makes_session_records_durable() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let ann = sample_record(1, 3, 64);
        store.sessions().put([("ann", &ann)], 0).unwrap();
        store.sync(Durability::PowerLoss).unwrap();
        // A crash leaves the files as they are now, so a copy of the files stands for the state
        // after a crash.
        let copy = super::super::testing::copy_directory(dir.path());
        let found = Store::open(copy.path(), &StoreOptions::default()).unwrap();
        assert_eq!(found.sessions().get("ann").unwrap(), Some(ann));
    }

    #[test]
    fn a_damaged_session_record_is_an_error_and_others_stay_readable() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let sessions = store.sessions();
        sessions.put([("ann", &sample_record(1, 3, 8)), ("bob", &sample_record(2, 3, 8))], 5).unwrap();
        flip_bit(&store.engine().unwrap().sessions, &keys::user_key("ann"), 20);
        let error = sessions.get("ann").unwrap_err();
        assert!(
            matches!(&error, StoreError::DamagedValue { key, .. } if *key == keys::redacted_user_name("ann")),
            "{error}"
        );
        assert_eq!(sessions.get("bob").unwrap(), Some(sample_record(2, 3, 8)));
        assert_eq!(sessions.iter().unwrap().filter(Result::is_err).count(), 1);
    }

    #[test]
    fn earlier_sessions_are_stored_and_records_of_earlier_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let mut record = sample_record(1, 3, 0);
        let session = |after: u32| EarlierSession {
            sessions_after: after,
            session_start: 4,
            session_id: Some("tab".to_owned()),
            is_late: after > 1,
        };
        record.sequence.earlier_sessions = vec![session(1), session(2)];
        record.sequence.kept_steps = record.sequence.steps.clone();
        store.sessions().put([("ann", &record)], 5).unwrap();
        assert_eq!(store.sessions().get("ann").unwrap(), Some(record.clone()));
        // An earlier version wrote a hidden state after the sequence.
        record.sequence.earlier_sessions.clear();
        record.sequence.kept_steps.clear();
        record.hidden_state = vec![7, 0, 0, 0, 0, 0, 0, 0, 255, 255];
        store.sessions().put([("ann", &record)], 5).unwrap();
        assert_eq!(store.sessions().get("ann").unwrap(), Some(record));
    }

    #[test]
    fn stale_records_are_removed_page_by_page() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let sessions = store.sessions();
        let records: Vec<_> = (0..10).map(|number| (format!("user{number}"), sample_record(number, 3, 10))).collect();
        sessions.put(records.iter().map(|(user, record)| (user.as_str(), record)), 10).unwrap();
        let mut after = sessions.remove_stale_records(6, None, 4).unwrap();
        assert_eq!(after.as_deref(), Some("user3"));
        let remaining = || sessions.iter().unwrap().map(|read| read.unwrap().0).collect::<Vec<_>>();
        assert_eq!(remaining().len(), 6, "the first four are removed, and the rest was not examined");
        while after.is_some() {
            after = sessions.remove_stale_records(6, after.as_deref(), 4).unwrap();
        }
        assert_eq!(remaining(), ["user7", "user8", "user9"]);
        assert_eq!(sessions.watermark().unwrap(), 10);
    }
}
