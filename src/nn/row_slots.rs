//! Sparse row gradients: the rows of a table that one batch touches.

/// No slot assigned.
const NO_SLOT: u32 = u32::MAX;

/// Assigns dense slots to the rows that a batch touches, in order of first use, so that their
/// gradients are contiguous.
#[derive(Debug, Clone, Default)]
pub(super) struct RowSlots {
    /// Slot of every row.
    slot_of_row: Vec<u32>,
    /// Row of every slot.
    rows: Vec<u32>,
}

impl RowSlots {
    /// Clears all slots and resizes to `rows` rows. Costs in proportion to the rows that were
    /// touched.
    pub(super) fn reset(&mut self, rows: usize) {
        for row in self.rows.drain(..) {
            if let Some(slot) = self.slot_of_row.get_mut(row as usize) {
                *slot = NO_SLOT;
            }
        }
        self.slot_of_row.resize(rows, NO_SLOT);
    }

    /// Grows to at least `rows` rows and keeps the slots.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.slot_of_row.resize(rows.max(self.slot_of_row.len()), NO_SLOT);
    }

    /// The slot of a row, assigned if it has none. `None` beyond the end of the table.
    pub(super) fn get_or_assign(&mut self, row: u32) -> Option<usize> {
        let slot = self.slot_of_row.get_mut(row as usize)?;
        if *slot == NO_SLOT {
            *slot = self.rows.len() as u32;
            self.rows.push(row);
        }
        Some(*slot as usize)
    }

    /// The slot of a row, if it has one.
    pub(super) fn find(&self, row: u32) -> Option<usize> {
        self.slot_of_row.get(row as usize).filter(|slot| **slot != NO_SLOT).map(|slot| *slot as usize)
    }

    /// Rows in slot order.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }
}

/// One gradient row per slot.
#[derive(Debug, Clone, Default)]
pub(super) struct RowGradients {
    pub(super) slots: RowSlots,
    /// `(slots, width)`.
    pub(super) values: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assigns_each_row_one_slot_until_reset() {
        let mut slots = RowSlots::default();
        slots.reset(10);
        assert_eq!([7, 3, 7, 9].map(|row| slots.get_or_assign(row).unwrap()), [0, 1, 0, 2]);
        assert_eq!(slots.get_or_assign(10), None);
        assert_eq!((slots.rows(), slots.find(3), slots.find(4)), (&[7, 3, 9][..], Some(1), None));
        slots.reset(12);
        assert_eq!((slots.find(7), slots.get_or_assign(11)), (None, Some(0)));
    }
}
