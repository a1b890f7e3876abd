//! Sparse gradients: only the table rows that a batch uses have a gradient row.

/// Marks a row that has no slot.
const NO_SLOT: u32 = u32::MAX;

/// Assigns consecutive slots to the table rows that a batch uses, in order of first use, so that
/// their gradients are contiguous.
#[derive(Debug, Clone, Default)]
pub(super) struct RowSlots {
    /// Slot of each row, indexed by row number; [`NO_SLOT`] if the row has no slot.
    slot_of_row: Vec<u32>,
    /// Row number of each slot.
    rows: Vec<u32>,
}

impl RowSlots {
    /// Removes all slots and prepares for a table of `rows` rows. The cost is proportional to the
    /// number of assigned slots.
    pub(super) fn reset(&mut self, rows: usize) {
        for row in self.rows.drain(..) {
            if let Some(slot) = self.slot_of_row.get_mut(row as usize) {
                *slot = NO_SLOT;
            }
        }
        self.slot_of_row.resize(rows, NO_SLOT);
    }

    /// Prepares for a table of at least `rows` rows; assigned slots stay.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.slot_of_row.resize(rows.max(self.slot_of_row.len()), NO_SLOT);
    }

    /// Returns the slot of a row. If the row has no slot yet, assigns the next one. `None` beyond
    /// the end of the table.
    pub(super) fn get_or_assign(&mut self, row: u32) -> Option<usize> {
        let slot = self.slot_of_row.get_mut(row as usize)?;
        if *slot == NO_SLOT {
            *slot = self.rows.len() as u32;
            self.rows.push(row);
        }
        Some(*slot as usize)
    }

    /// Returns the slot of a row, or `None` if the row has none.
    pub(super) fn slot_of(&self, row: u32) -> Option<usize> {
        self.slot_of_row.get(row as usize).filter(|slot| **slot != NO_SLOT).map(|slot| *slot as usize)
    }

    /// The row numbers in the order of their slots.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }
}

/// Gradients of the table rows that have a slot.
#[derive(Debug, Clone, Default)]
pub(super) struct RowGradients {
    pub(super) slots: RowSlots,
    /// Gradient values, `(slots, width)`.
    pub(super) values: Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_slot_until_the_slots_are_reset() {
        let mut slots = RowSlots::default();
        slots.reset(10);
        assert_eq!([7, 3, 7, 9].map(|row| slots.get_or_assign(row).unwrap()), [0, 1, 0, 2]);
        assert_eq!(slots.get_or_assign(10), None);
        assert_eq!((slots.rows(), slots.slot_of(3), slots.slot_of(4)), (&[7, 3, 9][..], Some(1), None));
        slots.reset(12);
        assert_eq!((slots.slot_of(7), slots.get_or_assign(11)), (None, Some(0)));
    }
}
