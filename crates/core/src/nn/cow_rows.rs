//! Copy-on-write table of float rows: a clone shares all unchanged blocks of rows.

use super::float_rows::{FloatSlice, FloatVec};
use super::settings::CorruptNetworkError;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// Rows per block. A write copies the whole block if a clone still shares it, so a block is small. With
/// 65 floats a row, 3 rows and the reference counts fill a size class of the allocator (896 bytes) to
/// 89 %; 4 rows would fill theirs (1,280 bytes) to 83 %.
const ROWS_PER_BLOCK: usize = 3;
/// Blocks per page; the table is a list of pages of blocks.
const BLOCKS_PER_PAGE: usize = 64;
/// Rows per block and blocks per page of the stored form.
const ROWS_PER_STORED_BLOCK: usize = 16;
const BLOCKS_PER_STORED_PAGE: usize = 64;
const ROWS_PER_STORED_PAGE: usize = ROWS_PER_STORED_BLOCK * BLOCKS_PER_STORED_PAGE;

/// Rows of `width` floats, stored in pages of blocks of [`ROWS_PER_BLOCK`] rows.
///
/// Cloning copies only the list of pages. Before a write to a row, the row's block and page are
/// copied if a clone shares them. The cost of publishing a snapshot is therefore proportional to
/// the number of changed rows.
#[derive(Debug, Clone)]
pub(super) struct CowRows {
    width: usize,
    len: usize,
    pages: Vec<Page>,
}

/// Up to [`BLOCKS_PER_PAGE`] blocks of [`ROWS_PER_BLOCK`] rows. Rows beyond the end of the table are
/// zero.
type Page = Arc<Vec<Arc<[f32]>>>;

/// All rows of a table in pages of [`BLOCKS_PER_STORED_PAGE`] blocks.
struct StoredPages<'a>(&'a CowRows);

/// The stored page of a table that begins with row `first`.
struct StoredPage<'a> {
    table: &'a CowRows,
    first: usize,
}

/// The stored block of a table that begins with row `first`. It has [`ROWS_PER_STORED_BLOCK`] rows;
/// rows beyond the end of the table are zero.
struct StoredBlock<'a> {
    table: &'a CowRows,
    first: usize,
}

/// The stored form is the width, the number of rows, and the rows in pages.
impl Serialize for CowRows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.width, self.len, StoredPages(self)).serialize(serializer)
    }
}

impl Serialize for StoredPages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let firsts = (0..self.0.len).step_by(ROWS_PER_STORED_PAGE);
        serializer.collect_seq(firsts.map(|first| StoredPage { table: self.0, first }))
    }
}

impl Serialize for StoredPage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let end = self.table.len.min(self.first + ROWS_PER_STORED_PAGE);
        let firsts = (self.first..end).step_by(ROWS_PER_STORED_BLOCK);
        serializer.collect_seq(firsts.map(|first| StoredBlock { table: self.table, first }))
    }
}

impl Serialize for StoredBlock<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = ROWS_PER_STORED_BLOCK * self.table.width;
        let mut values = Vec::with_capacity(len);
        for row in self.first..self.first + ROWS_PER_STORED_BLOCK {
            values.extend_from_slice(self.table.row(row).unwrap_or_default());
        }
        values.resize(len, 0.0);
        FloatSlice(&values).serialize(serializer)
    }
}

/// Whether every stored block and page has the length that follows from the numbers of rows and
/// values.
fn has_consistent_pages(width: usize, len: usize, pages: &[Vec<FloatVec>]) -> bool {
    let values_per_block = width.checked_mul(ROWS_PER_STORED_BLOCK);
    pages.iter().map(Vec::len).sum::<usize>() == len.div_ceil(ROWS_PER_STORED_BLOCK)
        && pages.iter().rev().skip(1).all(|page| page.len() == BLOCKS_PER_STORED_PAGE)
        && pages.iter().flatten().all(|FloatVec(block)| Some(block.len()) == values_per_block)
}

impl<'de> Deserialize<'de> for CowRows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (width, len, pages) = <(usize, usize, Vec<Vec<FloatVec>>)>::deserialize(deserializer)?;
        if !has_consistent_pages(width, len, &pages) {
            return Err(D::Error::custom(CorruptNetworkError));
        }
        let mut table = Self::new(width);
        let blocks = pages.into_iter().flatten();
        for (first, FloatVec(block)) in (0..len).step_by(ROWS_PER_STORED_BLOCK).zip(blocks) {
            table.grow(len.min(first + ROWS_PER_STORED_BLOCK), |row, values| {
                let stored = block.get((row - first) * values.len()..).and_then(|rest| rest.get(..values.len()));
                values.copy_from_slice(stored.unwrap_or_default());
            });
        }
        Ok(table)
    }
}

impl CowRows {
    pub(super) fn new(width: usize) -> Self {
        Self { width, len: 0, pages: Vec::new() }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Grows the table to at least `len` rows. `fill` initialises each new row; it receives the row
    /// number and the zeroed row.
    pub(super) fn grow(&mut self, len: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        let first = self.len;
        self.grow_zeroed(len);
        for row in first..self.len {
            if let Some(values) = self.row_mut(row) {
                fill(row, values);
            }
        }
    }

    /// Grows the table to at least `len` rows. New rows are zero. Their blocks share memory until a
    /// row is written.
    pub(super) fn grow_zeroed(&mut self, len: usize) {
        let zeros: Arc<[f32]> = vec![0.0; ROWS_PER_BLOCK * self.width].into();
        for block in self.len.div_ceil(ROWS_PER_BLOCK)..len.div_ceil(ROWS_PER_BLOCK) {
            if block.is_multiple_of(BLOCKS_PER_PAGE) {
                self.pages.push(Arc::new(Vec::with_capacity(BLOCKS_PER_PAGE)));
            }
            if let Some(page) = self.pages.last_mut() {
                Arc::make_mut(page).push(Arc::clone(&zeros));
            }
        }
        self.len = self.len.max(len);
    }

    /// The row with number `row`, or `None` beyond the end of the table.
    #[inline]
    pub(super) fn row(&self, row: usize) -> Option<&[f32]> {
        if row >= self.len {
            return None;
        }
        let (block, start) = (row / ROWS_PER_BLOCK, row % ROWS_PER_BLOCK * self.width);
        self.pages.get(block / BLOCKS_PER_PAGE)?.get(block % BLOCKS_PER_PAGE)?.get(start..start + self.width)
    }

    fn block_mut(&mut self, block: usize) -> Option<&mut [f32]> {
        let page = Arc::make_mut(self.pages.get_mut(block / BLOCKS_PER_PAGE)?);
        page.get_mut(block % BLOCKS_PER_PAGE).map(Arc::make_mut)
    }

    /// The row with number `row` for writing, or `None` beyond the end of the table.
    pub(super) fn row_mut(&mut self, row: usize) -> Option<&mut [f32]> {
        if row >= self.len {
            return None;
        }
        let (start, width) = (row % ROWS_PER_BLOCK * self.width, self.width);
        self.block_mut(row / ROWS_PER_BLOCK)?.get_mut(start..start + width)
    }

    /// The rows whose blocks are not shared with `other`, in ascending order. All rows that differ
    /// from those of `other` are among them.
    pub(super) fn rows_not_shared_with(&self, other: &Self) -> Vec<u32> {
        let mut rows = Vec::new();
        for (number, page) in self.pages.iter().enumerate() {
            let of_other = other.pages.get(number);
            if of_other.is_some_and(|of_other| Arc::ptr_eq(page, of_other)) {
                continue;
            }
            let of_other = of_other.map_or(&[][..], |page| page.as_slice());
            for (position, block) in page.iter().enumerate() {
                if !of_other.get(position).is_some_and(|of_other| Arc::ptr_eq(block, of_other)) {
                    let first = (number * BLOCKS_PER_PAGE + position) * ROWS_PER_BLOCK;
                    rows.extend(first as u32..self.len.min(first + ROWS_PER_BLOCK) as u32);
                }
            }
        }
        // A block with rows beyond the end of `other` may be shared.
        if other.len < self.len {
            let first_of_others = rows.partition_point(|row| (*row as usize) < other.len);
            rows.truncate(first_of_others);
            rows.extend(other.len as u32..self.len as u32);
        }
        rows
    }

    /// Shares the memory of all blocks whose bits equal those of `other`. Changes no value.
    pub(super) fn share_equal_blocks(&mut self, other: &Self) {
        let equal =
            |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        for (page, others) in self.pages.iter_mut().zip(&other.pages) {
            for (block, other) in Arc::make_mut(page).iter_mut().zip(others.iter()) {
                if equal(block, other) {
                    *block = Arc::clone(other);
                }
            }
        }
    }

    /// Whether the rows are `width` values wide, and every block and page has the length that
    /// follows from the number of rows.
    pub(super) fn is_consistent(&self, width: usize) -> bool {
        let blocks = self.len.div_ceil(ROWS_PER_BLOCK);
        self.width == width
            && self.pages.iter().map(|page| page.len()).sum::<usize>() == blocks
            && self.pages.iter().rev().skip(1).all(|page| page.len() == BLOCKS_PER_PAGE)
            && self.pages.iter().flat_map(|page| page.iter()).all(|block| block.len() == ROWS_PER_BLOCK * self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_blocks_share_memory_until_a_row_is_written() {
        let mut table = CowRows::new(3);
        table.grow_zeroed(50);
        assert!(Arc::ptr_eq(&table.pages[0][0], &table.pages[0][3]));
        table.row_mut(49).unwrap().fill(1.0);
        assert!(Arc::ptr_eq(&table.pages[0][0], &table.pages[0][2]));
        assert_eq!((table.row(48).unwrap(), table.row(49).unwrap()), (&[0.0; 3][..], &[1.0; 3][..]));
        table.grow(52, |row, values| values.fill(row as f32));
        assert_eq!((table.row(49).unwrap(), table.row(51).unwrap()), (&[1.0; 3][..], &[51.0; 3][..]));
        table.grow_zeroed(7);
        assert!(table.len() == 52 && table.is_consistent(3));
    }

    #[test]
    fn rows_that_are_not_shared_include_the_changed_and_the_new_ones() {
        let mut table = CowRows::new(3);
        table.grow(1_000, |row, values| values.fill(row as f32));
        let earlier = table.clone();
        assert!(table.rows_not_shared_with(&earlier).is_empty());
        table.row_mut(600).unwrap().fill(0.0);
        assert_eq!(table.rows_not_shared_with(&earlier), [600, 601, 602]);
        assert_eq!(earlier.rows_not_shared_with(&table), [600, 601, 602]);
        let before_growth = table.clone();
        table.grow_zeroed(1_006);
        assert_eq!(table.rows_not_shared_with(&before_growth), [1_000, 1_001, 1_002, 1_003, 1_004, 1_005]);
        let mut partial = CowRows::new(3);
        partial.grow_zeroed(6);
        let earlier = partial.clone();
        partial.grow_zeroed(7);
        assert_eq!(partial.rows_not_shared_with(&earlier), [6]);
        assert_eq!(partial.rows_not_shared_with(&CowRows::new(3)), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn equal_blocks_are_shared_and_others_keep_their_bits() {
        let new = |value: f32| {
            let mut table = CowRows::new(2);
            table.grow(40, |row, values| values.fill(row as f32));
            table.row_mut(20).unwrap().fill(value);
            table
        };
        let (mut table, other) = (new(-0.0), new(0.0));
        table.share_equal_blocks(&other);
        let shares = |block: usize| Arc::ptr_eq(&table.pages[0][block], &other.pages[0][block]);
        let changed = 20 / ROWS_PER_BLOCK;
        assert_eq!([shares(changed - 1), shares(changed), shares(changed + 1)], [true, false, true]);
        assert!(table.row(20).unwrap().iter().all(|value| value.is_sign_negative()));
    }

    #[test]
    fn a_clone_keeps_its_rows_and_shares_unchanged_blocks() {
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

    /// Encodes a table with one call for each float, as pages of blocks of rows.
    fn elementwise_bytes(table: &CowRows) -> Vec<u8> {
        let rows: Vec<usize> = (0..table.len.next_multiple_of(ROWS_PER_STORED_BLOCK)).collect();
        let block = |rows: &[usize]| -> Vec<f32> {
            let zeros = vec![0.0; table.width];
            rows.iter().flat_map(|row| table.row(*row).unwrap_or(&zeros).to_vec()).collect()
        };
        let blocks: Vec<_> = rows.chunks(ROWS_PER_STORED_BLOCK).map(block).collect();
        let pages: Vec<_> = blocks.chunks(BLOCKS_PER_STORED_PAGE).map(<[Vec<f32>]>::to_vec).collect();
        bincode::serde::encode_to_vec((table.width, table.len, pages), bincode::config::legacy()).unwrap()
    }

    #[test]
    fn rows_have_the_bytes_of_their_single_floats() {
        // No page, a partial block, one full page, and a partial second page.
        for (rows, width) in [(0, 3), (1, 3), (ROWS_PER_STORED_PAGE, 5), (1100, 2)] {
            let mut table = CowRows::new(width);
            table.grow(rows, |row, values| values.fill(row as f32 + 0.5));
            let bytes = bincode::serde::encode_to_vec(&table, bincode::config::legacy()).unwrap();
            assert!(bytes == elementwise_bytes(&table), "{rows} rows of {width} values");
            let (decoded, _): (CowRows, _) =
                bincode::serde::decode_from_slice(&bytes, bincode::config::legacy()).unwrap();
            assert!(decoded.is_consistent(width) && decoded.pages == table.pages);
        }
    }

    #[test]
    fn rows_in_blocks_or_pages_of_another_size_are_an_error() {
        let block = |values: usize| vec![0.5_f32; values];
        for (width, len, pages) in [
            (3_usize, 5_usize, vec![]),
            (3, 5, vec![vec![block(3 * ROWS_PER_STORED_BLOCK - 1)]]),
            (3, 5, vec![vec![block(3 * ROWS_PER_STORED_BLOCK); 2]]),
            (3, 40, vec![vec![block(3 * ROWS_PER_STORED_BLOCK)], vec![block(3 * ROWS_PER_STORED_BLOCK); 2]]),
            (usize::MAX, 5, vec![vec![block(3 * ROWS_PER_STORED_BLOCK)]]),
        ] {
            let bytes = bincode::serde::encode_to_vec((width, len, pages), bincode::config::legacy()).unwrap();
            assert!(bincode::serde::decode_from_slice::<CowRows, _>(&bytes, bincode::config::legacy()).is_err());
        }
    }
}
