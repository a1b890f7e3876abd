//! How much of the journal the session records hold.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Offset;

/// How far each shard's records are stored; the least of them is how far all are.
#[derive(Debug)]
pub struct FlushProgress(Vec<AtomicU64>);

impl FlushProgress {
    /// So many shards, all stored up to `through`.
    #[must_use]
    pub fn new(shards: usize, through: Offset) -> Self {
        Self((0..shards).map(|_| AtomicU64::new(through)).collect())
    }

    /// How far all would be stored if this shard were up to `through`.
    pub(super) fn min_with(&self, shard: usize, through: Offset) -> Offset {
        let places = self.0.iter().enumerate();
        places.map(|(number, place)| if number == shard { through } else { place.load(Ordering::SeqCst) }).min().unwrap_or(0)
    }

    /// How far all are.
    pub(super) fn min(&self) -> Offset {
        self.0.iter().map(|place| place.load(Ordering::SeqCst)).min().unwrap_or(0)
    }

    /// How far this shard's are.
    pub(super) fn get(&self, shard: usize) -> Offset {
        self.0.get(shard).map_or(0, |place| place.load(Ordering::SeqCst))
    }

    /// Takes back how far this shard's are, where the store has lost some.
    pub(super) fn lower(&self, shard: usize, through: Offset) {
        if let Some(place) = self.0.get(shard) {
            place.fetch_min(through, Ordering::SeqCst);
        }
    }

    /// Notes that this shard's are stored up to `through`.
    pub(super) fn raise(&self, shard: usize, through: Offset) {
        if let Some(place) = self.0.get(shard) {
            place.fetch_max(through, Ordering::SeqCst);
        }
    }
}
