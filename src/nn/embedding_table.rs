//! The trainer's own tables of embeddings: every row beside what the optimiser remembers of it.

use super::cow_rows::CowRows;
use super::row_slots::RowSlots;
use serde::{Deserialize, Serialize};

/// Rows of one chunk: a table grows by whole chunks and never moves.
const CHUNK: usize = 1024;

/// A growing table that one thread writes. A row and its memories lie together, since a step needs both; nothing is shared, so that a write costs no atomic operation. Readers get
/// their copy by [`EmbeddingTable::publish`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct EmbeddingTable {
    width: usize,
    /// Values that the optimiser remembers for every value.
    memories: usize,
    len: usize,
    /// `(CHUNK, (1 + memories) · width)` each.
    chunks: Vec<Vec<f32>>,
    /// Rows written since the last publication.
    #[serde(skip)]
    changed: RowSlots,
}

impl EmbeddingTable {
    pub(super) fn new(width: usize, memories: usize) -> Self {
        Self { width, memories, len: 0, chunks: Vec::new(), changed: RowSlots::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    fn stride(&self) -> usize {
        self.width * (1 + self.memories)
    }

    /// Makes the table at least `len` rows long; `fill` writes each new row, which comes to it as zeros.
    pub(super) fn grow(&mut self, len: usize, mut fill: impl FnMut(usize, &mut [f32])) {
        let chunk = CHUNK * self.stride();
        self.chunks.resize_with(len.max(self.len).div_ceil(CHUNK), || vec![0.0; chunk]);
        for row in self.len..len {
            self.len = row + 1;
            if let Some((values, _)) = self.row_mut(row) {
                fill(row, values);
            }
        }
        self.changed.reserve(self.len);
    }

    /// A row, if the table is that long.
    #[inline]
    pub(super) fn row(&self, row: usize) -> Option<&[f32]> {
        if row >= self.len {
            return None;
        }
        let start = row % CHUNK * self.stride();
        self.chunks.get(row / CHUNK)?.get(start..start + self.width)
    }

    /// A row and its memories, to change them.
    #[inline]
    fn row_mut(&mut self, row: usize) -> Option<(&mut [f32], &mut [f32])> {
        if row >= self.len {
            return None;
        }
        let (stride, width) = (self.stride(), self.width);
        let start = row % CHUNK * stride;
        self.chunks.get_mut(row / CHUNK)?.get_mut(start..start + stride).map(|row| row.split_at_mut(width))
    }

    /// Writes a row anew, leaving its memories alone; nothing happens beyond the last.
    pub(super) fn overwrite(&mut self, row: u32, new: &[f32]) {
        if let Some((values, _)) = self.row_mut(row as usize).filter(|(values, _)| values.len() == new.len()) {
            values.copy_from_slice(new);
            self.changed.get_or_assign(row);
        }
    }

    /// Hands every named row, its memories and its gradient (one row of `gradients` each) to `step`.
    pub(super) fn update(&mut self, rows: &[u32], gradients: &[f32], step: impl Fn(&mut [f32], &mut [f32], &[f32])) {
        for (row, gradient) in rows.iter().zip(gradients.chunks_exact(self.width.max(1))) {
            if let Some((values, memory)) = self.row_mut(*row as usize) {
                step(values, memory, gradient);
            }
            self.changed.get_or_assign(*row);
        }
    }

    /// Brings `copy` up to date: the rows that are new to it and those written since the last publication, which it hands to `changed`.
    pub(super) fn publish(&mut self, copy: &mut CowRows, mut changed: impl FnMut(&CowRows, &[u32])) {
        let known = copy.len();
        copy.grow(self.len, |row, values| values.copy_from_slice(self.row(row).unwrap_or_default()));
        for row in self.changed.rows().iter().map(|row| *row as usize).filter(|row| *row < known) {
            if let (Some(new), Some(old)) = (self.row(row), copy.row_mut(row)) {
                old.copy_from_slice(new);
            }
        }
        (known..self.len).for_each(|row| {
            self.changed.get_or_assign(row as u32);
        });
        changed(copy, self.changed.rows());
        self.changed.reset(self.len);
    }

    /// Whether the parts are as long as the fields say, as after reading them from bytes.
    pub(super) fn is_consistent(&self, width: usize, memories: usize) -> bool {
        (self.width, self.memories) == (width, memories)
            && self.chunks.len() == self.len.div_ceil(CHUNK)
            && self.chunks.iter().all(|chunk| chunk.len() == CHUNK * self.stride())
    }

    /// Makes room to note changes, after reading the table from bytes.
    pub(super) fn rebuild_transient(&mut self) {
        self.changed.reserve(self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_carries_what_is_new_and_what_changed() {
        let (mut table, mut copy) = (EmbeddingTable::new(3, 1), CowRows::new(3));
        table.grow(1500, |row, values| values.fill(row as f32));
        table.publish(&mut copy, |_, rows| assert_eq!(rows.len(), 1500));
        assert_eq!(copy.row(1400).unwrap(), [1400.0; 3]);
        table.grow(1501, |_, values| values.fill(-1.0));
        table.update(&[7, 1500], &[1.0; 6], |values, memory, gradient| {
            memory.copy_from_slice(gradient);
            values.iter_mut().for_each(|value| *value *= 2.0);
        });
        let old = copy.clone();
        table.publish(&mut copy, |_, rows| assert_eq!(rows, [7, 1500]));
        assert_eq!((copy.row(7).unwrap(), copy.row(1500).unwrap()), (&[14.0; 3][..], &[-2.0; 3][..]));
        assert_eq!((old.row(7).unwrap(), old.row(1500)), (&[7.0; 3][..], None));
        assert!(table.is_consistent(3, 1) && !table.is_consistent(3, 2));
    }
}
