//! Tracks writes to a database: the changed keys, for a running compaction, and the total size of
//! live values.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A tree's name and a key in it.
pub(crate) type WritePosition = (Vec<u8>, Vec<u8>);

/// Written positions and the number of live bytes.
#[derive(Debug, Default)]
pub(crate) struct WriteTracker {
    /// Positions of the writes and removals since tracking started; `None` if tracking is off.
    positions: Mutex<Option<BTreeSet<WritePosition>>>,
    /// Growth of all keys and values since the database was opened, in bytes; after
    /// [`WriteTracker::set_counted_bytes`], their total size.
    bytes: AtomicI64,
    counted: AtomicBool,
}

impl WriteTracker {
    /// Records a finished write, so that a later read of the key sees the new value. `old` is the
    /// replaced value, and `length` is the length of the new value.
    pub(crate) fn record_write(&self, tree: &sled::Tree, key: &[u8], old: Option<&[u8]>, length: Option<usize>) {
        let bytes = |length: Option<usize>| length.map_or(0, |length| to_signed_bytes(key.len() + length));
        self.bytes.fetch_add(bytes(length) - bytes(old.map(<[u8]>::len)), Ordering::Relaxed);
        if let Some(positions) = self.positions.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            positions.insert((tree.name().to_vec(), key.to_vec()));
        }
    }

    /// Starts to track the positions of writes.
    pub(crate) fn start_tracking(&self) {
        *self.positions.lock().unwrap_or_else(PoisonError::into_inner) = Some(BTreeSet::new());
    }

    /// Returns and clears the positions tracked since the last call.
    pub(crate) fn drain_positions(&self) -> BTreeSet<WritePosition> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Stops tracking.
    pub(crate) fn stop_tracking(&self) {
        *self.positions.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Growth of all keys and values since the database was opened, in bytes.
    pub(crate) fn grown_bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sets the total size of all keys and values after a count. `grown` is the
    /// [`WriteTracker::grown_bytes`] at the start of the count.
    pub(crate) fn set_counted_bytes(&self, bytes: u64, grown: i64) {
        if !self.counted.swap(true, Ordering::AcqRel) {
            self.bytes.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX).saturating_sub(grown), Ordering::Relaxed);
        }
    }

    /// Total size of all keys and values in bytes, if it was counted.
    pub(crate) fn live_bytes(&self) -> Option<u64> {
        let counted = self.counted.load(Ordering::Acquire);
        counted.then(|| self.bytes.load(Ordering::Relaxed).max(0).unsigned_abs())
    }
}

fn to_signed_bytes(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
