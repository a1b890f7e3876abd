//! Tracks writes to a database: the changed keys, for a running compaction, and the total size of
//! live values.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A tree's name and a key in it.
pub(crate) type WritePosition = (Vec<u8>, Vec<u8>);

/// The places written to, and the bytes that stand there.
#[derive(Debug, Default)]
pub(crate) struct WriteTracker {
    /// Where something was written or removed since this was asked for; `None` while nobody asks.
    places: Mutex<Option<BTreeSet<WritePosition>>>,
    /// By how much keys and values have grown since the database was opened, and, once that was
    /// counted, what there was.
    bytes: AtomicI64,
    counted: AtomicBool,
}

impl WriteTracker {
    /// Records a finished write; later reads of the key see its value. `former` is the replaced
    /// value, `length` the length of the new one.
    pub(crate) fn record_write(&self, tree: &sled::Tree, key: &[u8], former: Option<&[u8]>, length: Option<usize>) {
        let bytes = |length: Option<usize>| length.map_or(0, |length| as_bytes(key.len() + length));
        self.bytes.fetch_add(bytes(length) - bytes(former.map(<[u8]>::len)), Ordering::Relaxed);
        if let Some(places) = self.places.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            places.insert((tree.name().to_vec(), key.to_vec()));
        }
    }

    /// Notes every place from now on.
    pub(crate) fn start_tracking(&self) {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = Some(BTreeSet::new());
    }

    /// The places noted since the last time.
    pub(crate) fn drain_positions(&self) -> BTreeSet<WritePosition> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Notes no more.
    pub(crate) fn stop_tracking(&self) {
        *self.places.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// By how much keys and values have grown since the database was opened.
    pub(crate) fn growth(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes in that all keys and values were counted to be so many bytes, since they had `growth`
    /// by so much.
    pub(crate) fn set_counted_bytes(&self, bytes: u64, grown: i64) {
        if !self.counted.swap(true, Ordering::AcqRel) {
            self.bytes.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX).saturating_sub(grown), Ordering::Relaxed);
        }
    }

    /// The bytes of all keys and values, if they were counted.
    pub(crate) fn live_bytes(&self) -> Option<u64> {
        let counted = self.counted.load(Ordering::Acquire);
        counted.then(|| self.bytes.load(Ordering::Relaxed).max(0).unsigned_abs())
    }
}

fn as_bytes(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
