//! The trainer's embedding tables: each row with its optimiser state.

use super::cow_rows::CowRows;
use super::float_rows::{FloatSlice, FloatVec};
use super::row_slots::RowSlots;
use super::settings::CorruptNetworkError;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Rows per chunk of the stored form.
const ROWS_PER_CHUNK: usize = 1024;

/// The optimiser state of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowState {
    /// This number of values per weight.
    PerWeight(usize),
    /// [`RowState::VALUES_PER_ROW`] values: one for the embedding, one for the biases that follow.
    PerRow,
}

impl RowState {
    const VALUES_PER_ROW: usize = 2;

    /// Number of values of a row of `width` weights.
    pub(super) fn len(self, width: usize) -> usize {
        self.checked_len(width).unwrap_or(usize::MAX)
    }

    fn checked_len(self, width: usize) -> Option<usize> {
        match self {
            Self::PerWeight(values) => values.checked_mul(width),
            Self::PerRow => Some(Self::VALUES_PER_ROW),
        }
    }

    /// The stored form: the number of values per weight; 0 for [`RowState::PerRow`].
    fn to_stored(self) -> usize {
        match self {
            Self::PerWeight(values) => values,
            Self::PerRow => 0,
        }
    }

    fn from_stored(stored: usize) -> Self {
        if stored == 0 { Self::PerRow } else { Self::PerWeight(stored) }
    }
}

/// A growing table of embeddings with their optimiser state. Only the trainer writes it.
///
/// Weights and optimiser state are copy-on-write tables. Published weights and the copy of the
/// trainer that a checkpoint encodes share all rows that have not changed since.
#[derive(Debug, Clone)]
pub(super) struct EmbeddingTable {
    row_state: RowState,
    /// `(rows, width)`.
    weights: CowRows,
    /// `(rows, row_state.len(width))`.
    state: CowRows,
    /// Rows written since the last publication.
    changed_rows: RowSlots,
}

/// All rows of a table in chunks of [`ROWS_PER_CHUNK`] rows. The shape of a chunk is
/// `(ROWS_PER_CHUNK, width + row_state.len(width))`: each row is followed by its optimiser state.
/// Rows beyond the end of the table are zero.
struct TableChunks<'a>(&'a EmbeddingTable);

/// The chunk of a table that begins with row `first`.
struct TableChunk<'a> {
    table: &'a EmbeddingTable,
    first: usize,
}

/// The stored form is the width, the stored form of [`RowState`], the number of rows, and the rows in
/// chunks.
impl Serialize for EmbeddingTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.width(), self.row_state.to_stored(), self.len(), TableChunks(self)).serialize(serializer)
    }
}

impl Serialize for TableChunks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let firsts = (0..self.0.len().div_ceil(ROWS_PER_CHUNK)).map(|chunk| chunk * ROWS_PER_CHUNK);
        serializer.collect_seq(firsts.map(|first| TableChunk { table: self.0, first }))
    }
}

impl Serialize for TableChunk<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let len = ROWS_PER_CHUNK * self.table.values_per_row();
        let mut values = Vec::with_capacity(len);
        for row in self.first..self.first + ROWS_PER_CHUNK {
            values.extend_from_slice(self.table.weights.row(row).unwrap_or_default());
            values.extend_from_slice(self.table.state.row(row).unwrap_or_default());
        }
        values.resize(len, 0.0);
        FloatSlice(&values).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EmbeddingTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (width, row_state, len, chunks) = <(usize, usize, usize, Vec<FloatVec>)>::deserialize(deserializer)?;
        let row_state = RowState::from_stored(row_state);
        let values_per_row = row_state.checked_len(width).and_then(|values| values.checked_add(width));
        let values_per_chunk = values_per_row.and_then(|values| values.checked_mul(ROWS_PER_CHUNK));
        let is_consistent = chunks.len() == len.div_ceil(ROWS_PER_CHUNK)
            && chunks.iter().all(|FloatVec(chunk)| Some(chunk.len()) == values_per_chunk);
        let Some(values_per_row) = values_per_row.filter(|_| is_consistent) else {
            return Err(D::Error::custom(CorruptNetworkError));
        };
        let mut table = Self::new(width, row_state);
        for (first, FloatVec(chunk)) in (0..len).step_by(ROWS_PER_CHUNK).zip(chunks) {
            let end = len.min(first + ROWS_PER_CHUNK);
            let row_in_chunk = |row: usize| {
                chunk.get((row - first) * values_per_row..).and_then(|values| values.get(..values_per_row))
            };
            table.weights.grow(end, |row, weights| {
                weights.copy_from_slice(row_in_chunk(row).and_then(|row| row.get(..width)).unwrap_or_default());
            });
            table.state.grow_zeroed(end);
            for row in first..end {
                let state = row_in_chunk(row).and_then(|row| row.get(width..)).unwrap_or_default();
                // Blocks of zeros, those of items without training, share memory.
                if state.iter().any(|value| value.to_bits() != 0)
                    && let Some(to) = table.state.row_mut(row)
                {
                    to.copy_from_slice(state);
                }
            }
        }
        Ok(table)
    }
}

impl EmbeddingTable {
    pub(super) fn new(width: usize, row_state: RowState) -> Self {
        Self {
            row_state,
            weights: CowRows::new(width),
            state: CowRows::new(row_state.len(width)),
            changed_rows: RowSlots::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }

    pub(super) fn width(&self) -> usize {
        self.weights.width()
    }

    fn values_per_row(&self) -> usize {
        self.width() + self.state.width()
    }

    /// Grows the table to at least `len` rows. `fill` initialises each new row; it receives the row
    /// number and the zeroed row.
    pub(super) fn grow(&mut self, len: usize, fill: impl FnMut(usize, &mut [f32])) {
        self.weights.grow(len, fill);
        self.state.grow_zeroed(len);
        self.changed_rows.reserve(self.len());
    }

    /// The row with number `row`, or `None` beyond the end of the table.
    #[inline]
    pub(super) fn row(&self, row: usize) -> Option<&[f32]> {
        self.weights.row(row)
    }

    /// All rows, without their optimiser state.
    pub(super) fn weights(&self) -> &CowRows {
        &self.weights
    }

    /// Replaces the weights of a row and keeps its optimiser state. Does nothing if the row does
    /// not exist or the width differs.
    pub(super) fn overwrite_row(&mut self, row: u32, new: &[f32]) {
        if let Some(values) = self.weights.row_mut(row as usize).filter(|values| values.len() == new.len()) {
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
        for (row, gradient) in rows.iter().zip(gradients.chunks_exact(self.width().max(1))) {
            if let (Some(values), Some(state)) =
                (self.weights.row_mut(*row as usize), self.state.row_mut(*row as usize))
            {
                step(values, state, gradient);
            }
            self.changed_rows.get_or_assign(*row);
        }
    }

    /// Replaces `copy` by the present weights; the two share memory. Then calls `on_change` with the
    /// copy and the numbers of the rows that are new or were written since the last publication.
    pub(super) fn publish_into(&mut self, copy: &mut CowRows, mut on_change: impl FnMut(&CowRows, &[u32])) {
        let known = copy.len();
        *copy = self.weights.clone();
        (known..self.len()).for_each(|row| {
            self.changed_rows.get_or_assign(row as u32);
        });
        on_change(copy, self.changed_rows.rows());
        self.changed_rows.reset(self.len());
    }

    /// Number of rows that were written since the last publication.
    pub(super) fn changed_row_count(&self) -> usize {
        self.changed_rows.rows().len()
    }

    /// Length of an encoded row: its number, its weights and its optimiser state.
    pub(super) fn encoded_row_bytes(&self) -> usize {
        size_of::<u32>() + self.values_per_row() * size_of::<f32>()
    }

    /// Encodes the rows that were written since the last publication.
    pub(super) fn encode_changed_rows(&self, bytes: &mut Vec<u8>) {
        bytes.reserve(self.changed_row_count() * self.encoded_row_bytes());
        for row in self.changed_rows.rows() {
            bytes.extend_from_slice(&row.to_le_bytes());
            let [weights, state] = [&self.weights, &self.state].map(|rows| rows.row(*row as usize).unwrap_or_default());
            bytes.extend(weights.iter().chain(state).flat_map(|value| value.to_le_bytes()));
        }
    }

    /// The encoded rows in `bytes`: their numbers and their values.
    fn encoded_rows<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = (u32, &'b [[u8; 4]])> + use<'b> {
        let rows = bytes.chunks_exact(self.encoded_row_bytes());
        rows.filter_map(|row| row.as_chunks::<{ size_of::<f32>() }>().0.split_first())
            .map(|(number, values)| (u32::from_le_bytes(*number), values))
    }

    /// Whether the table has all rows that `bytes` contains.
    pub(super) fn contains_encoded_rows(&self, bytes: &[u8]) -> bool {
        self.encoded_rows(bytes).all(|(row, _)| (row as usize) < self.len())
    }

    /// Overwrites rows, with their optimiser state, by encoded ones.
    pub(super) fn apply_encoded_rows(&mut self, bytes: &[u8]) {
        let width = self.width();
        for (row, values) in self.encoded_rows(bytes) {
            let (Some(weights), Some(state)) = (self.weights.row_mut(row as usize), self.state.row_mut(row as usize))
            else {
                continue;
            };
            let (of_weights, of_state) = values.split_at(width.min(values.len()));
            for (to, from) in [(weights, of_weights), (state, of_state)] {
                to.iter_mut().zip(from).for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
            }
            self.changed_rows.get_or_assign(row);
        }
    }

    /// Whether the table has the given width and optimiser state, and every block has the size that
    /// follows from them. Deserialisation checks this.
    pub(super) fn is_consistent(&self, width: usize, row_state: RowState) -> bool {
        self.row_state == row_state
            && self.weights.is_consistent(width)
            && self.state.is_consistent(row_state.len(width))
            && self.weights.len() == self.state.len()
    }

    /// Allocates the list of changed rows, which is not serialised. The caller must call this after
    /// deserialisation.
    pub(super) fn allocate_change_tracking(&mut self) {
        self.changed_rows.reserve(self.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a table with one call for each float, as a list of chunks of rows.
    fn elementwise_bytes(table: &EmbeddingTable) -> Vec<u8> {
        let values_of = |row: usize| -> Vec<f32> {
            let Some(weights) = table.row(row) else { return vec![0.0; table.values_per_row()] };
            [weights, table.state.row(row).unwrap()].concat()
        };
        let chunk = |chunk: usize| (chunk * ROWS_PER_CHUNK..(chunk + 1) * ROWS_PER_CHUNK).flat_map(values_of).collect();
        let chunks: Vec<Vec<f32>> = (0..table.len().div_ceil(ROWS_PER_CHUNK)).map(chunk).collect();
        let fields = (table.width(), table.row_state.to_stored(), table.len(), chunks);
        bincode::serde::encode_to_vec(fields, bincode::config::legacy()).unwrap()
    }

    #[test]
    fn a_table_has_the_bytes_of_its_single_floats() {
        // No chunk, one chunk with a single row, one full chunk, and two chunks.
        for (rows, width) in [(0, 3), (1, 3), (ROWS_PER_CHUNK, 2), (1500, 5)] {
            for row_state in [RowState::PerWeight(1), RowState::PerWeight(2), RowState::PerRow] {
                let mut table = EmbeddingTable::new(width, row_state);
                table.grow(rows, |row, values| values.fill(row as f32 + 0.5));
                let all: Vec<u32> = (0..rows as u32).collect();
                let gradients: Vec<f32> = (0..rows * width).map(|value| value as f32).collect();
                table.update_rows(&all, &gradients, |_, state, gradient| state.fill(gradient[0] + 0.25));
                let bytes = bincode::serde::encode_to_vec(&table, bincode::config::legacy()).unwrap();
                assert!(bytes == elementwise_bytes(&table), "{rows} rows of {width} values");
                let (decoded, _): (EmbeddingTable, _) =
                    bincode::serde::decode_from_slice(&bytes, bincode::config::legacy()).unwrap();
                assert!(decoded.is_consistent(width, row_state) && decoded.len() == rows);
                assert!(elementwise_bytes(&decoded) == bytes);
            }
        }
    }

    #[test]
    fn a_table_with_chunks_of_another_size_is_an_error() {
        let row = |values: usize| vec![0.5_f32; values];
        for (width, row_state, len, chunks) in [
            (3_usize, 1_usize, 5_usize, vec![]),
            (3, 1, 5, vec![row(6 * ROWS_PER_CHUNK - 1)]),
            (3, 1, 5, vec![row(6 * ROWS_PER_CHUNK); 2]),
            (usize::MAX, 1, 5, vec![row(6 * ROWS_PER_CHUNK)]),
            (3, usize::MAX, 5, vec![row(6 * ROWS_PER_CHUNK)]),
            (3, 0, 5, vec![row(6 * ROWS_PER_CHUNK)]),
            (usize::MAX, 0, 5, vec![row(5 * ROWS_PER_CHUNK)]),
        ] {
            let fields = (width, row_state, len, chunks);
            let bytes = bincode::serde::encode_to_vec(fields, bincode::config::legacy()).unwrap();
            assert!(bincode::serde::decode_from_slice::<EmbeddingTable, _>(&bytes, bincode::config::legacy()).is_err());
        }
    }

    #[test]
    fn publishing_shares_the_rows_and_names_the_new_and_changed_ones() {
        let (mut table, mut copy) = (EmbeddingTable::new(3, RowState::PerWeight(1)), CowRows::new(3));
        table.grow(1500, |row, values| values.fill(row as f32));
        table.publish_into(&mut copy, |_, rows| assert_eq!(rows.len(), 1500));
        assert_eq!(copy.row(1400).unwrap(), [1400.0; 3]);
        table.grow(1501, |_, values| values.fill(-1.0));
        table.update_rows(&[7, 1500], &[1.0; 6], |values, state, gradient| {
            state.copy_from_slice(gradient);
            values.iter_mut().for_each(|value| *value *= 2.0);
        });
        assert_eq!(copy.row(7).unwrap(), [7.0; 3], "a copy does not change with the table");
        let old = copy.clone();
        table.publish_into(&mut copy, |_, rows| assert_eq!(rows, [7, 1500]));
        assert_eq!((copy.row(7).unwrap(), copy.row(1500).unwrap()), (&[14.0; 3][..], &[-2.0; 3][..]));
        assert_eq!((old.row(7).unwrap(), old.row(1500)), (&[7.0; 3][..], None));
        assert_eq!(copy.row(1400).unwrap().as_ptr(), table.row(1400).unwrap().as_ptr());
        assert!(table.is_consistent(3, RowState::PerWeight(1)) && !table.is_consistent(3, RowState::PerRow));
    }
}
