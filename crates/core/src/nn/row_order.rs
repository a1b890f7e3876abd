//! The order of the rows of the quantised index.

use std::ops::Range;

use crate::domain::ItemIx;

/// Rows per block of the quantised index. A larger block suits the hardware prefetcher; a smaller
/// block makes the copy after a changed row cheaper.
pub(super) const ROWS_PER_BLOCK: usize = 64;

/// An order of rows in which the items of each cluster are contiguous (inverted file [Sivic &
/// Zisserman 2003]).
///
/// Each cluster begins at a block of the index, so its last block may have unused rows. The items
/// that are newer than the clusters follow after the last cluster, in the order of their numbers.
/// The order therefore depends only on the clusters.
#[derive(Debug)]
pub struct RowOrder {
    /// Row of each clustered item.
    rows: Vec<u32>,
    /// Item of each row of the clusters; [`ItemIx::MAX`] for an unused row.
    items: Vec<ItemIx>,
    /// Blocks of each cluster.
    blocks: Vec<Range<u32>>,
}

impl RowOrder {
    /// Creates the order for the given clusters. The clusters must contain the items 0, 1, …, each
    /// of them once.
    pub fn new<'a>(clusters: impl Iterator<Item = &'a [ItemIx]> + Clone) -> Self {
        let item_count = clusters.clone().map(<[ItemIx]>::len).sum();
        let (mut rows, mut items, mut blocks) = (vec![u32::MAX; item_count], Vec::new(), Vec::new());
        for members in clusters {
            let first_block = (items.len() / ROWS_PER_BLOCK) as u32;
            for &item in members {
                if let Some(row) = rows.get_mut(item as usize) {
                    *row = items.len() as u32;
                }
                items.push(item);
            }
            items.resize(items.len().next_multiple_of(ROWS_PER_BLOCK), ItemIx::MAX);
            blocks.push(first_block..(items.len() / ROWS_PER_BLOCK) as u32);
        }
        Self { rows, items, blocks }
    }

    /// Number of rows for a catalog of `item_count` items, with the unused rows.
    pub(super) fn row_count(&self, item_count: usize) -> usize {
        self.items.len() + item_count.saturating_sub(self.rows.len())
    }

    /// Row of an item.
    pub(super) fn row_of(&self, item: ItemIx) -> usize {
        match self.rows.get(item as usize) {
            Some(row) => *row as usize,
            None => self.items.len() + item as usize - self.rows.len(),
        }
    }

    /// Item of a row. The result is [`ItemIx::MAX`] for an unused row of a cluster.
    pub(super) fn item_at(&self, row: usize) -> ItemIx {
        match self.items.get(row) {
            Some(item) => *item,
            None => (row - self.items.len() + self.rows.len()) as ItemIx,
        }
    }

    /// Blocks of a cluster; empty for an unknown cluster.
    pub(super) fn blocks_of_cluster(&self, cluster: usize) -> Range<usize> {
        self.blocks.get(cluster).map_or(0..0, |blocks| blocks.start as usize..blocks.end as usize)
    }

    /// The first block of items newer than the clusters.
    pub(super) fn first_block_of_newer_items(&self) -> usize {
        self.items.len() / ROWS_PER_BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_item_has_its_own_row_within_the_blocks_of_its_cluster(
            clusters_of_items in proptest::collection::vec(0..5_usize, 0..400),
            newer in 0..100_usize,
        ) {
            let mut clusters = vec![Vec::new(); 5];
            for (item, cluster) in clusters_of_items.iter().enumerate() {
                clusters[*cluster].push(item as ItemIx);
            }
            let order = RowOrder::new(clusters.iter().map(Vec::as_slice));
            let item_count = clusters_of_items.len() + newer;
            for item in 0..item_count {
                let row = order.row_of(item as ItemIx);
                prop_assert!(row < order.row_count(item_count));
                prop_assert_eq!(order.item_at(row), item as ItemIx);
                let blocks = match clusters_of_items.get(item) {
                    Some(cluster) => order.blocks_of_cluster(*cluster),
                    None => order.first_block_of_newer_items()..usize::MAX,
                };
                prop_assert!(blocks.contains(&(row / ROWS_PER_BLOCK)));
            }
        }
    }
}
