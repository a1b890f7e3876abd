//! Copy-on-write table of float rows: a clone shares all unchanged blocks of rows.

use super::float_rows::{FloatSlice, FloatVec};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// Rows per block. A write copies the whole block if a clone still shares it.
pub(super) const ROWS_PER_BLOCK: usize = 16;
/// Blocks per page; the table is a list of pages of blocks.
const BLOCKS_PER_PAGE: usize = 64;

/// Rows of `width` floats, stored in pages of blocks of [`ROWS_PER_BLOCK`] rows.
///
/// Cloning copies only the list of pages. Before a write to a row, the row's block and page are
/// copied if a clone shares them. The cost of publishing a snapshot is therefore proportional to
/// the number of changed rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CowRows {
    width: usize,
    len: usize,
    #[serde(serialize_with = "serialize_pages", deserialize_with = "deserialize_pages")]
    pages: Vec<Page>,
}

/// Up to [`BLOCKS_PER_PAGE`] blocks of [`ROWS_PER_BLOCK`] rows.
type Page = Arc<Vec<Arc<[f32]>>>;

fn serialize_pages<S: Serializer>(pages: &[Page], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(pages.iter().map(|page| PageBlocks(page)))
}

fn deserialize_pages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Page>, D::Error> {
    let pages = Vec::<DecodedPage>::deserialize(deserializer)?;
    Ok(pages.into_iter().map(|DecodedPage(page)| page).collect())
}

struct DecodedPage(Page);

impl<'de> Deserialize<'de> for DecodedPage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let blocks = Vec::<FloatVec>::deserialize(deserializer)?;
        Ok(Self(Arc::new(blocks.into_iter().map(|FloatVec(block)| block.into()).collect())))
    }
}

/// The blocks of a page, for writing.
struct PageBlocks<'a>(&'a [Arc<[f32]>]);

impl Serialize for PageBlocks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|block| FloatSlice(block)))
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
        let start = row % ROWS_PER_BLOCK * self.width;
        self.block(row / ROWS_PER_BLOCK)?.get(start..start + self.width)
    }

    /// The block with number `block`, of [`ROWS_PER_BLOCK`] rows. Rows beyond the end of the table
    /// are zero.
    #[inline]
    pub(super) fn block(&self, block: usize) -> Option<&[f32]> {
        self.pages.get(block / BLOCKS_PER_PAGE)?.get(block % BLOCKS_PER_PAGE).map(|block| &**block)
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
    /// follows from the number of rows. Deserialisation checks this.
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
        assert_eq!([shares(0), shares(1), shares(2)], [true, false, true]);
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

    /// The fields of [`CowRows`] with the derived encoding.
    #[derive(Serialize)]
    struct ElementwiseRows<'a> {
        width: usize,
        len: usize,
        pages: &'a Vec<Page>,
    }

    #[test]
    fn rows_have_the_bytes_of_their_single_floats() {
        // No page, a partial block, one full page, and a partial second page.
        for (rows, width) in [(0, 3), (1, 3), (ROWS_PER_BLOCK * BLOCKS_PER_PAGE, 5), (1100, 2)] {
            let mut table = CowRows::new(width);
            table.grow(rows, |row, values| values.fill(row as f32 + 0.5));
            let elementwise = ElementwiseRows { width, len: rows, pages: &table.pages };
            let bytes = bincode::serde::encode_to_vec(&table, bincode::config::legacy()).unwrap();
            assert!(bytes == bincode::serde::encode_to_vec(elementwise, bincode::config::legacy()).unwrap());
            let (decoded, _): (CowRows, _) =
                bincode::serde::decode_from_slice(&bytes, bincode::config::legacy()).unwrap();
            assert!(decoded.is_consistent(width) && decoded.pages == table.pages);
        }
    }
}
