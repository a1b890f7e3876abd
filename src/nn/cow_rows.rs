//! A growing table of equally wide rows whose copies share what has not changed.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows of one block: what a write copies if a published copy still holds it.
pub(super) const ROWS_PER_BLOCK: usize = 16;
/// Blocks of one page of the spine.
const PAGE: usize = 64;

/// Rows of `width` floats in blocks of [`BLOCK`], behind a spine of two levels. Cloning copies the upper level alone, and writing to a row copies its block and its page of the
/// spine only if a clone holds them: so publishing costs in proportion to the rows changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CowRows {
    width: usize,
    len: usize,
    pages: Vec<Arc<Vec<Arc<[f32]>>>>,
}

impl CowRows {
    pub(super) fn new(width: usize) -> Self {
        Self { width, len: 0, pages: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Makes the table at least `len` rows long; `fill` writes each new row, which comes to it as zeros.
    pub(super) fn grow(&mut self, len: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        while self.len < len {
            let row = self.len;
            if row.is_multiple_of(ROWS_PER_BLOCK * PAGE) {
                self.pages.push(Arc::new(Vec::with_capacity(PAGE)));
            }
            if let (0, Some(page)) = (row % ROWS_PER_BLOCK, self.pages.last_mut()) {
                Arc::make_mut(page).push(vec![0.0; ROWS_PER_BLOCK * self.width].into());
            }
            self.len += 1;
            if let Some(values) = self.row_mut(row) {
                fill(row, values);
            }
        }
    }

    /// A row, if the table is that long.
    #[inline]
    pub(super) fn row(&self, row: usize) -> Option<&[f32]> {
        if row >= self.len {
            return None;
        }
        let start = row % ROWS_PER_BLOCK * self.width;
        self.block(row / ROWS_PER_BLOCK)?.get(start..start + self.width)
    }

    /// A block of [`BLOCK`] rows, those beyond the table's end zero.
    #[inline]
    pub(super) fn block(&self, block: usize) -> Option<&[f32]> {
        self.pages.get(block / PAGE)?.get(block % PAGE).map(|block| &**block)
    }

    fn block_mut(&mut self, block: usize) -> Option<&mut [f32]> {
        let page = Arc::make_mut(self.pages.get_mut(block / PAGE)?);
        page.get_mut(block % PAGE).map(Arc::make_mut)
    }

    /// A row, to change it.
    pub(super) fn row_mut(&mut self, row: usize) -> Option<&mut [f32]> {
        if row >= self.len {
            return None;
        }
        let (start, width) = (row % ROWS_PER_BLOCK * self.width, self.width);
        self.block_mut(row / ROWS_PER_BLOCK)?.get_mut(start..start + width)
    }

    /// Whether the rows are so wide and the parts as long as `len` says, as after reading them from bytes.
    pub(super) fn is_consistent(&self, width: usize) -> bool {
        let blocks = self.len.div_ceil(ROWS_PER_BLOCK);
        self.width == width
            && self.pages.iter().map(|page| page.len()).sum::<usize>() == blocks
            && self.pages.iter().rev().skip(1).all(|page| page.len() == PAGE)
            && self.pages.iter().flat_map(|page| page.iter()).all(|block| block.len() == ROWS_PER_BLOCK * self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_its_rows_and_shares_the_rest() {
        let mut table = CowRows::new(3);
        table.grow(2000, |row, values| values.fill(row as f32));
        let published = table.clone();
        table.row_mut(1999).unwrap().fill(0.5);
        assert_eq!(published.row(1999).unwrap(), [1999.0; 3]);
        assert_eq!(table.row(1999).unwrap(), [0.5; 3]);
        assert!(table.row(2000).is_none() && table.row_mut(2000).is_none());
        assert!(Arc::ptr_eq(&table.pages[0], &published.pages[0]));
        assert!(Arc::ptr_eq(&table.pages[1][0], &published.pages[1][0]));
        assert!(table.is_consistent(3));
    }
}
