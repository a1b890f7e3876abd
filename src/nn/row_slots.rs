//! The rows of a table that one batch touches, and their gradients.

/// No slot yet.
const NONE: u32 = u32::MAX;

/// Numbers the rows that a batch touches in the order in which they are first named, so that their gradients lie densely.
#[derive(Debug, Clone, Default)]
pub(super) struct RowSlots {
    /// By row, its slot.
    places: Vec<u32>,
    /// By slot, its row.
    rows: Vec<u32>,
}

impl RowSlots {
    /// Forgets the last batch, in proportion to what it touched, and makes room for `rows` rows.
    pub(super) fn reset(&mut self, rows: usize) {
        for row in self.rows.drain(..) {
            if let Some(place) = self.places.get_mut(row as usize) {
                *place = NONE;
            }
        }
        self.places.resize(rows, NONE);
    }

    /// Makes room for `rows` rows, forgetting nothing.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.places.resize(rows.max(self.places.len()), NONE);
    }

    /// The row's slot, given now if it has none; `None` for a row beyond the table.
    pub(super) fn get_or_assign(&mut self, row: u32) -> Option<usize> {
        let place = self.places.get_mut(row as usize)?;
        if *place == NONE {
            *place = self.rows.len() as u32;
            self.rows.push(row);
        }
        Some(*place as usize)
    }

    /// The row's slot, if it has one.
    pub(super) fn find(&self, row: u32) -> Option<usize> {
        self.places.get(row as usize).filter(|place| **place != NONE).map(|place| *place as usize)
    }

    /// The rows, by slot.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }
}

/// One gradient row for every slot.
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
    fn slots_are_given_once_and_forgotten() {
        let mut slots = RowSlots::default();
        slots.reset(10);
        assert_eq!([7, 3, 7, 9].map(|row| slots.get_or_assign(row).unwrap()), [0, 1, 0, 2]);
        assert_eq!(slots.get_or_assign(10), None);
        assert_eq!((slots.rows(), slots.find(3), slots.find(4)), (&[7, 3, 9][..], Some(1), None));
        slots.reset(12);
        assert_eq!((slots.find(7), slots.get_or_assign(11)), (None, Some(0)));
    }
}
