//! The origins of a journal record's entries, run-length coded at the end of the record.
//!
//! ```text
//! trailer = run ‖ run ‖ …
//! run     = entries: u32 LE ‖ minute: u32 LE ‖ key hash: u64 LE ‖ address hash: u64 LE
//! ```
//!
//! The runs cover all entries of the record in order. A hash of 0 is unknown. A record in which no
//! origin is known has no trailer.

use super::{Durability, Store, StoreError, codec, envelope, keys};
use crate::domain::{Origin, OriginHash, OriginHasher};

/// Length of an encoded run, in bytes.
const RUN_BYTES: usize = 24;

/// Consecutive entries with the same origin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct OriginRun {
    entries: u32,
    origin: Option<Origin>,
}

impl OriginRun {
    fn to_bytes(self) -> [u8; RUN_BYTES] {
        let hash = |hash: Option<OriginHash>| hash.map_or(0, OriginHash::get).to_le_bytes();
        let (entries, minute) = (self.entries, self.origin.map_or(0, |origin| origin.minute));
        let key = hash(self.origin.and_then(|origin| origin.key));
        let address = hash(self.origin.and_then(|origin| origin.address));
        let mut bytes = [0; RUN_BYTES];
        let fields = entries.to_le_bytes().into_iter().chain(minute.to_le_bytes()).chain(key).chain(address);
        bytes.iter_mut().zip(fields).for_each(|(byte, value)| *byte = value);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (entries, rest) = bytes.split_first_chunk::<4>()?;
        let (minute, rest) = rest.split_first_chunk::<4>()?;
        let (key, address) = rest.split_first_chunk::<8>()?;
        let hash = |bytes: &[u8; 8]| OriginHash::new(u64::from_le_bytes(*bytes));
        let (key, address) = (hash(key), hash(address.try_into().ok()?));
        let minute = u32::from_le_bytes(*minute);
        let origin = (key.is_some() || address.is_some()).then_some(Origin { key, address, minute });
        Some(Self { entries: u32::from_le_bytes(*entries), origin })
    }
}

/// The origins of consecutive entries. The default value has no known origins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OriginRuns {
    runs: Vec<OriginRun>,
}

impl OriginRuns {
    /// Adds the origin of the next entry.
    pub(super) fn push(&mut self, origin: Option<Origin>) {
        match self.runs.last_mut() {
            Some(run) if run.origin == origin && run.entries < u32::MAX => run.entries += 1,
            _ => self.runs.push(OriginRun { entries: 1, origin }),
        }
    }

    /// Removes all origins and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// Appends the trailer to a record. Appends nothing if no origin is known.
    pub(super) fn encode_to(&self, record: &mut Vec<u8>) {
        if self.runs.iter().any(|run| run.origin.is_some()) {
            self.runs.iter().for_each(|run| record.extend_from_slice(&run.to_bytes()));
        }
    }

    /// Decodes the trailer of a record with `entries` entries.
    ///
    /// # Errors
    /// [`codec::CodecError::TrailingBytes`] if the bytes are no trailer of this record.
    pub(super) fn decode(trailer: &[u8], entries: u32) -> Result<Self, codec::CodecError> {
        let runs: Option<Vec<_>> = trailer.chunks(RUN_BYTES).map(OriginRun::from_bytes).collect();
        let runs = runs.unwrap_or_default();
        let covered: u64 = runs.iter().map(|run| u64::from(run.entries)).sum();
        let is_valid = trailer.is_empty() || covered == u64::from(entries) && runs.iter().all(|run| run.entries > 0);
        if is_valid { Ok(Self { runs }) } else { Err(codec::CodecError::TrailingBytes(trailer.len())) }
    }

    /// Iterates over the origins of the entries, and then endlessly returns `None` as origin.
    pub(super) fn into_origins(self) -> OriginIter {
        OriginIter { runs: self.runs.into_iter(), current: OriginRun::default() }
    }
}

/// Iterator over the origins of a record's entries. It does not end: after the last known origin,
/// it returns `None` as origin.
#[derive(Debug, Default)]
pub(super) struct OriginIter {
    runs: std::vec::IntoIter<OriginRun>,
    current: OriginRun,
}

impl OriginIter {
    /// The origin of the next entry.
    pub(super) fn next_origin(&mut self) -> Option<Origin> {
        if self.current.entries == 0 {
            self.current = self.runs.next().unwrap_or_default();
        }
        self.current.entries = self.current.entries.saturating_sub(1);
        self.current.origin
    }
}

impl Store {
    /// The hasher of origins with the secret key of this store. If the store has no key yet, stores
    /// `new_key`, which must be random.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] if the stored key is damaged, or any read or write error.
    pub fn origin_hasher(&self, new_key: [u8; 16]) -> Result<OriginHasher, StoreError> {
        Ok(OriginHasher::new(self.ensure_origin_key(new_key)?))
    }

    /// The secret key of the origin hashes of this store. If the store has no key yet, stores
    /// `new_key`, which must be random.
    ///
    /// # Errors
    /// As [`Store::origin_hasher`].
    pub fn ensure_origin_key(&self, new_key: [u8; 16]) -> Result<[u8; 16], StoreError> {
        if let Some(key) = self.origin_key()? {
            return Ok(key);
        }
        self.replace_origin_key(new_key)?;
        Ok(new_key)
    }

    /// Sets the secret key of the origin hashes to that of the cluster.
    ///
    /// # Errors
    /// Any read or write error.
    pub fn replace_origin_key(&self, key: [u8; 16]) -> Result<(), StoreError> {
        if self.origin_key()? == Some(key) {
            return Ok(());
        }
        self.set_origin_key(&key)?;
        // The key must be durable before the journal contains the first hash.
        self.sync(Durability::PowerLoss)
    }

    /// The stored secret key of the origin hashes.
    pub(super) fn origin_key(&self) -> Result<Option<[u8; 16]>, StoreError> {
        let engine = self.engine()?;
        let Some(value) = engine.get(&engine.db, keys::ORIGIN_KEY)? else { return Ok(None) };
        let payload = envelope::open_value(keys::ORIGIN_KEY, &value)
            .and_then(|payload| payload.try_into().map_err(|_| "it is not a key of 16 bytes".to_owned()));
        payload.map(Some).map_err(|reason| StoreError::DamagedValue {
            tree: "default",
            key: "origin-key".to_owned(),
            reason,
        })
    }

    pub(super) fn set_origin_key(&self, key: &[u8; 16]) -> Result<(), StoreError> {
        let engine = self.lock_for_writing()?;
        let mut envelope = envelope::ChecksummedEnvelope::with_capacity(key.len());
        envelope.payload().extend_from_slice(key);
        engine.insert(&engine.db, keys::ORIGIN_KEY, envelope.seal(keys::ORIGIN_KEY))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{JournalBatch, StoreOptions};
    use super::*;
    use crate::domain::Entry;
    use proptest::prelude::*;

    fn any_origin() -> impl Strategy<Value = Option<Origin>> {
        let known = (0..3_u64, 0..3_u64, 0..2_u32).prop_map(|(key, address, minute)| {
            let (key, address) = (OriginHash::new(key), OriginHash::new(address));
            (key.is_some() || address.is_some()).then_some(Origin { key, address, minute })
        });
        prop_oneof![1 => Just(None), 3 => known]
    }

    fn runs_of(origins: &[Option<Origin>]) -> OriginRuns {
        let mut runs = OriginRuns::default();
        origins.iter().for_each(|origin| runs.push(*origin));
        runs
    }

    fn encode(runs: &OriginRuns) -> Vec<u8> {
        let mut bytes = Vec::new();
        runs.encode_to(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_decoded_trailer_has_the_origins_of_the_entries(origins in proptest::collection::vec(any_origin(), 0..40)) {
            let trailer = encode(&runs_of(&origins));
            prop_assert_eq!(trailer.is_empty(), origins.iter().all(Option::is_none));
            let mut decoded = OriginRuns::decode(&trailer, origins.len() as u32).unwrap().into_origins();
            let read: Vec<_> = origins.iter().map(|_| decoded.next_origin()).collect();
            prop_assert_eq!(&read, &origins);
            prop_assert_eq!(decoded.next_origin(), None);
        }

        #[test]
        fn a_trailer_of_another_length_is_damaged(origins in proptest::collection::vec(any_origin(), 1..40), cut in 1..24_usize) {
            let trailer = encode(&runs_of(&origins));
            prop_assume!(!trailer.is_empty());
            prop_assert!(OriginRuns::decode(&trailer[..trailer.len() - cut], origins.len() as u32).is_err());
            prop_assert!(OriginRuns::decode(&trailer, origins.len() as u32 + 1).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in any::<Vec<u8>>(), entries in any::<u32>()) {
            let _ = OriginRuns::decode(&bytes, entries);
        }
    }

    #[test]
    fn a_batch_of_one_origin_has_one_run() {
        let origin = Some(Origin { key: OriginHash::new(7), address: OriginHash::new(9), minute: 5 });
        assert_eq!(encode(&runs_of(&[origin; 1000])).len(), RUN_BYTES);
        let no_trailer = [encode(&runs_of(&[None; 1000])), encode(&OriginRuns::default())];
        assert_eq!(no_trailer, [[0; 0], [0; 0]]);
    }

    #[test]
    fn the_key_of_a_store_is_made_once_and_copied() {
        let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let first = store.origin_hasher([1; 16]).unwrap().hash_key_id("k");
        let again = store.origin_hasher([2; 16]).unwrap().hash_key_id("k");
        let origin = Origin { key: Some(first), address: None, minute: 3 };
        let mut batch = JournalBatch::default();
        batch.push(event(1), Some(origin));
        batch.push(event(2), None);
        batch.push(Entry::Tombstone, Some(origin));
        store.journal().append_batch(&batch, Durability::PowerLoss).unwrap();
        store.copy_to(&copies.path().join("copy"), &mut |_, _| {}).unwrap();
        let copy = Store::open_existing(copies.path().join("copy"), &StoreOptions::default()).unwrap();
        let copied = copy.origin_hasher([3; 16]).unwrap().hash_key_id("k");
        assert_eq!([again, copied], [first; 2]);
        let read: Vec<_> =
            copy.journal().entries(0).unwrap().with_origins().map(|read| read.unwrap()).map(|read| read.2).collect();
        assert_eq!(read, [Some(origin), None, None], "a tombstone has no origin");
    }
}
