//! Mini-batch layout: windows sorted longest first, rows stored step by step (time-major).
//!
//! The windows that are still active at step t are a prefix of the batch, so the rows of one step
//! are contiguous and every matrix product runs on whole slices.

use super::input::{StepInput, TrainingWindow};
use crate::domain::ItemIx;

/// One prediction target of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BatchTarget {
    /// Row of the predicting position.
    pub(super) row: usize,
    /// Index of the window in batch order.
    pub(super) window: usize,
    /// The item of the next target event.
    pub(super) item: ItemIx,
    /// Value of the target event; NaN if it has none.
    pub(super) value: f32,
}

/// The rows of one time step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BatchStep {
    /// First row of the preceding step, whose leading rows belong to the same windows in the same
    /// order.
    pub(super) previous_first: Option<usize>,
    /// First row of this step.
    pub(super) first: usize,
    /// Number of windows with at least this many steps.
    pub(super) rows: usize,
}

/// A packed mini-batch. Row `offsets[t] + w` is step t of window w.
#[derive(Debug, Clone, Default)]
pub(super) struct TrainingBatch {
    /// First row of every step, followed by the total number of rows.
    offsets: Vec<usize>,
    /// Input of every row.
    pub(super) inputs: Vec<StepInput>,
    /// Prediction targets in row order.
    pub(super) targets: Vec<BatchTarget>,
    /// Session id of every window, longest window first.
    pub(super) sessions: Vec<u64>,
}

impl TrainingBatch {
    /// Packs the last `max_steps` positions of every window.
    ///
    /// Targets outside the first `items` items are dropped.
    pub(super) fn pack(&mut self, windows: &[TrainingWindow], max_steps: usize, items: usize) {
        let mut order: Vec<(u64, &[_])> = windows
            .iter()
            .map(|window| (window.session, &window.positions[window.positions.len().saturating_sub(max_steps)..]))
            .filter(|(_, positions)| !positions.is_empty())
            .collect();
        order.sort_by_key(|(_, positions)| std::cmp::Reverse(positions.len()));
        self.offsets.clear();
        self.inputs.clear();
        self.targets.clear();
        self.sessions.clear();
        self.sessions.extend(order.iter().map(|(session, _)| session));
        self.offsets.push(0);
        for step in 0..order.first().map_or(0, |(_, positions)| positions.len()) {
            for (window, position) in order.iter().map_while(|(_, positions)| positions.get(step)).enumerate() {
                let row = self.inputs.len();
                self.inputs.push(position.input);
                if let Some(item) = position.target.filter(|item| (*item as usize) < items) {
                    self.targets.push(BatchTarget { row, window, item, value: position.value });
                }
            }
            self.offsets.push(self.inputs.len());
        }
    }

    /// Number of rows.
    pub(super) fn row_count(&self) -> usize {
        self.inputs.len()
    }

    /// Number of windows.
    pub(super) fn window_count(&self) -> usize {
        self.sessions.len()
    }

    /// The steps in time order.
    pub(super) fn steps(&self) -> impl DoubleEndedIterator<Item = BatchStep> + '_ {
        self.offsets.windows(2).enumerate().map(|(step, pair)| {
            let previous_first = step.checked_sub(1).map(|previous_first| self.offsets[previous_first]);
            BatchStep { previous_first, first: pair[0], rows: pair[1] - pair[0] }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::input::TrainingPosition;

    fn window(session: u64, items: &[u32]) -> TrainingWindow {
        let position = |pair: &[u32]| TrainingPosition {
            input: StepInput { item: Some(pair[0]), ..Default::default() },
            target: Some(pair[1]),
            value: f32::NAN,
        };
        TrainingWindow { session, positions: items.windows(2).map(position).collect() }
    }

    #[test]
    fn windows_active_at_a_step_form_a_prefix() {
        let mut batch = TrainingBatch::default();
        batch.pack(&[window(1, &[1, 2]), window(2, &[3]), window(3, &[4, 5, 6, 7]), window(4, &[8, 9, 10])], 2, 10);
        assert_eq!(batch.sessions, [3, 4, 1]);
        let items: Vec<_> = batch.inputs.iter().map(|input| input.item.unwrap()).collect();
        assert_eq!(items, [5, 8, 1, 6, 9], "a long window keeps its last positions");
        let (first, second) = (
            BatchStep { previous_first: None, first: 0, rows: 3 },
            BatchStep { previous_first: Some(0), first: 3, rows: 2 },
        );
        assert_eq!(batch.steps().collect::<Vec<_>>(), [first, second]);
        assert_eq!(batch.steps().rev().collect::<Vec<_>>(), [second, first]);
        let targets: Vec<_> = batch.targets.iter().map(|target| (target.row, target.window, target.item)).collect();
        assert_eq!(targets, [(0, 0, 6), (1, 1, 9), (2, 2, 2), (3, 0, 7)], "item 10 is out of range");
        batch.pack(&[], 2, 10);
        assert_eq!((batch.row_count(), batch.window_count(), batch.steps().count()), (0, 0, 0));
    }
}
