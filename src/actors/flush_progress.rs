//! Flush progress: the offset up to which each shard's sessions are stored.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Offset;

/// One watermark per shard. The stored records of a shard contain every entry before the shard's
/// watermark. So the stored records of all shards contain every entry before the smallest
/// watermark.
#[derive(Debug)]
pub struct FlushProgress(Vec<AtomicU64>);

impl FlushProgress {
    /// Tracks `shards` shards; every watermark starts at offset `through`.
    #[must_use]
    pub fn new(shards: usize, through: Offset) -> Self {
        Self((0..shards).map(|_| AtomicU64::new(through)).collect())
    }

    /// The smallest watermark of all shards, computed as if the watermark of `shard` were
    /// `through`.
    pub(super) fn min_if_shard_at(&self, shard: usize, through: Offset) -> Offset {
        let watermarks = self.0.iter().enumerate();
        watermarks
            .map(|(number, watermark)| if number == shard { through } else { watermark.load(Ordering::SeqCst) })
            .min()
            .unwrap_or(0)
    }

    /// The smallest watermark of all shards.
    pub(super) fn min_watermark(&self) -> Offset {
        self.0.iter().map(|watermark| watermark.load(Ordering::SeqCst)).min().unwrap_or(0)
    }

    /// The watermark of a shard.
    pub(super) fn shard_watermark(&self, shard: usize) -> Offset {
        self.0.get(shard).map_or(0, |watermark| watermark.load(Ordering::SeqCst))
    }

    /// Lowers the watermark of a shard, because the store may have lost records.
    pub(super) fn lower_to(&self, shard: usize, through: Offset) {
        if let Some(watermark) = self.0.get(shard) {
            watermark.fetch_min(through, Ordering::SeqCst);
        }
    }

    /// Raises the watermark of a shard to `through`.
    pub(super) fn raise_to(&self, shard: usize, through: Offset) {
        if let Some(watermark) = self.0.get(shard) {
            watermark.fetch_max(through, Ordering::SeqCst);
        }
    }
}
