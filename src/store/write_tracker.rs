//! Tracks writes to a database: the changed keys, for a running compaction, and the total size of
//! live values.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The place of a value in the database: the name of a tree, and a key in this tree.
pub(crate) type WritePosition = (Vec<u8>, Vec<u8>);

/// The positions of recent writes, and the total size of all keys and values.
#[derive(Debug, Default)]
pub(crate) struct WriteTracker {
    /// Positions of the writes and removals since tracking started or was last drained; `None` if
    /// tracking is off.
    positions: Mutex<Option<BTreeSet<WritePosition>>>,
    /// Total size of all keys and values, in bytes, after [`WriteTracker::set_counted_bytes`] was
    /// called. Before that, the growth of this size since the database was opened.
    bytes: AtomicI64,
    counted: AtomicBool,
}

impl WriteTracker {
    /// Records a write. The write must be finished: the compaction that drains its position must
    /// read the new value. `old` is the replaced value, and `length` is the length of the new
    /// value.
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

    /// By how many bytes all keys and values together have grown since the database was opened.
    pub(crate) fn grown_bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sets the total size of all keys and values to `bytes`, the result of a count. `grown` is
    /// what [`WriteTracker::grown_bytes`] returned when the count began.
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
