//! The trainer's own, mutable embedding tables. Each row is stored together with its optimiser
//! state.

use super::cow_rows::CowRows;
use super::float_rows::{FloatSlice, FloatVec};
use super::row_slots::RowSlots;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows per chunk. A table grows by whole chunks, so rows never move.
const ROWS_PER_CHUNK: usize = 1024;

/// A growing table of embeddings with their optimiser state. Only the trainer reads and writes it.
///
/// A row and its optimiser state are adjacent in memory because a weight update needs both. The
/// table shares no memory with readers, so a write needs no atomic operation.
/// [`EmbeddingTable::publish_into`] maintains the copy-on-write table that readers use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EmbeddingTable {
    width: usize,
    /// Number of optimiser state values per weight.
    state_per_weight: usize,
    len: usize,
    /// Chunks of rows; the shape of a chunk is `(ROWS_PER_CHUNK, (1 + state_per_weight) · width)`.
    #[serde(serialize_with = "serialize_chunks", deserialize_with = "deserialize_chunks")]
    chunks: Vec<Vec<f32>>,
    /// Rows written since the last publication.
    #[serde(skip)]
    changed_rows: RowSlots,
}

fn serialize_chunks<S: Serializer>(chunks: &[Vec<f32>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(chunks.iter().map(|chunk| FloatSlice(chunk)))
}

fn deserialize_chunks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<f32>>, D::Error> {
    let chunks = Vec::<FloatVec>::deserialize(deserializer)?;
    Ok(chunks.into_iter().map(|FloatVec(values)| values).collect())
}

impl EmbeddingTable {
    pub(super) fn new(width: usize, state_per_weight: usize) -> Self {
        Self { width, state_per_weight, len: 0, chunks: Vec::new(), changed_rows: RowSlots::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    fn values_per_row(&self) -> usize {
        self.width * (1 + self.state_per_weight)
    }

    /// Grows the table to at least `len` rows. `fill` initialises each new row; it receives the row
    /// number and the zeroed row.
    pub(super) fn grow(&mut self, len: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        let chunk = ROWS_PER_CHUNK * self.values_per_row();
        self.chunks.resize_with(len.max(self.len).div_ceil(ROWS_PER_CHUNK), || vec![0.0; chunk]);
        for row in self.len..len {
            self.len = row + 1;
            if let Some((values, _)) = self.row_mut(row) {
                fill(row, values);
            }
        }
        self.changed_rows.reserve(self.len);
    }

    /// The row with number `row`, or `None` beyond the end of the table.
    #[inline]
    pub(super) fn row(&self, row: usize) -> Option<&[f32]> {
        if row >= self.len {
            return None;
        }
        let start = row % ROWS_PER_CHUNK * self.values_per_row();
        self.chunks.get(row / ROWS_PER_CHUNK)?.get(start..start + self.width)
    }

    /// The row with number `row` and its optimiser state for writing, or `None` beyond the end of
    /// the table.
    #[inline]
    fn row_mut(&mut self, row: usize) -> Option<(&mut [f32], &mut [f32])> {
        if row >= self.len {
            return None;
        }
        let (stride, width) = (self.values_per_row(), self.width);
        let start = row % ROWS_PER_CHUNK * stride;
        self.chunks.get_mut(row / ROWS_PER_CHUNK)?.get_mut(start..start + stride).map(|row| row.split_at_mut(width))
    }

    /// Replaces the weights of a row and keeps its optimiser state. Does nothing if the row does
    /// not exist or the width differs.
    pub(super) fn overwrite_row(&mut self, row: u32, new: &[f32]) {
        if let Some((values, _)) = self.row_mut(row as usize).filter(|(values, _)| values.len() == new.len()) {
            values.copy_from_slice(new);
            self.changed_rows.get_or_assign(row);
        }
    }

    /// Calls `step(weights, optimiser_state, gradient)` for every row in `rows`. `gradients` holds
    /// the gradients of these rows, in the same order.
    pub(super) fn update_rows(
        &mut self,
        rows: &[u32],
        gradients: &[f32],
        step: impl Fn(&mut [f32], &mut [f32], &[f32]),
    ) {
        for (row, gradient) in rows.iter().zip(gradients.chunks_exact(self.width.max(1))) {
            if let Some((values, state)) = self.row_mut(*row as usize) {
                step(values, state, gradient);
            }
            self.changed_rows.get_or_assign(*row);
        }
    }

    /// Writes the rows that are new or were written since the last publication into `copy`, with
    /// `write(row of the copy, row)`. Then calls `on_change` with the copy and the numbers of the
    /// changed rows.
    pub(super) fn publish_into(
        &mut self,
        copy: &mut CowRows,
        write: impl Fn(&mut [f32], &[f32]),
        mut on_change: impl FnMut(&CowRows, &[u32]),
    ) {
        let known = copy.len();
        copy.grow(self.len, |row, values| {
            if let Some(row) = self.row(row) {
                write(values, row);
            }
        });
        for row in self.changed_rows.rows().iter().map(|row| *row as usize).filter(|row| *row < known) {
            if let (Some(new), Some(old)) = (self.row(row), copy.row_mut(row)) {
                write(old, new);
            }
        }
        (known..self.len).for_each(|row| {
            self.changed_rows.get_or_assign(row as u32);
        });
        on_change(copy, self.changed_rows.rows());
        self.changed_rows.reset(self.len);
    }

    /// Whether the table has the given width and number of optimiser state values, and every chunk
    /// has the size that follows from them. Deserialisation checks this.
    pub(super) fn is_consistent(&self, width: usize, state_per_weight: usize) -> bool {
        (self.width, self.state_per_weight) == (width, state_per_weight)
            && self.chunks.len() == self.len.div_ceil(ROWS_PER_CHUNK)
            && self.chunks.iter().all(|chunk| chunk.len() == ROWS_PER_CHUNK * self.values_per_row())
    }

    /// Allocates the list of changed rows, which is not serialised. The caller must call this after
    /// deserialisation.
    pub(super) fn allocate_change_tracking(&mut self) {
        self.changed_rows.reserve(self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of [`EmbeddingTable`] with the derived encoding.
    #[derive(Serialize)]
    struct ElementwiseTable<'a> {
        width: usize,
        state_per_weight: usize,
        len: usize,
        chunks: &'a Vec<Vec<f32>>,
    }

    #[test]
    fn a_table_has_the_bytes_of_its_single_floats() {
        // No chunk, one chunk with a single row, one full chunk, and two chunks.
        for (rows, width) in [(0, 3), (1, 3), (ROWS_PER_CHUNK, 2), (1500, 5)] {
            let mut table = EmbeddingTable::new(width, 1);
            table.grow(rows, |row, values| values.fill(row as f32 + 0.5));
            let EmbeddingTable { width, state_per_weight, len, ref chunks, .. } = table;
            let elementwise = ElementwiseTable { width, state_per_weight, len, chunks };
            let bytes = bincode::serde::encode_to_vec(&table, bincode::config::legacy()).unwrap();
            assert!(bytes == bincode::serde::encode_to_vec(elementwise, bincode::config::legacy()).unwrap());
            let (decoded, _): (EmbeddingTable, _) =
                bincode::serde::decode_from_slice(&bytes, bincode::config::legacy()).unwrap();
            assert!(decoded.is_consistent(width, 1) && decoded.chunks == *chunks);
        }
    }

    #[test]
    fn publishing_copies_new_and_changed_rows() {
        let (mut table, mut copy) = (EmbeddingTable::new(3, 1), CowRows::new(3));
        table.grow(1500, |row, values| values.fill(row as f32));
        table.publish_into(&mut copy, <[f32]>::copy_from_slice, |_, rows| assert_eq!(rows.len(), 1500));
        assert_eq!(copy.row(1400).unwrap(), [1400.0; 3]);
        table.grow(1501, |_, values| values.fill(-1.0));
        table.update_rows(&[7, 1500], &[1.0; 6], |values, state, gradient| {
            state.copy_from_slice(gradient);
            values.iter_mut().for_each(|value| *value *= 2.0);
        });
        let old = copy.clone();
        table.publish_into(&mut copy, <[f32]>::copy_from_slice, |_, rows| assert_eq!(rows, [7, 1500]));
        assert_eq!((copy.row(7).unwrap(), copy.row(1500).unwrap()), (&[14.0; 3][..], &[-2.0; 3][..]));
        assert_eq!((old.row(7).unwrap(), old.row(1500)), (&[7.0; 3][..], None));
        assert!(table.is_consistent(3, 1) && !table.is_consistent(3, 2));
    }
}
