//! Mini-batch layout: the training windows are sorted, longest first, and the rows of all windows
//! are stored step by step (time-major).
//!
//! The windows with more than t positions come first in the batch, so the rows of step t are
//! contiguous. Every matrix product therefore runs on a whole slice.

use super::input::{StepInput, TrainingWindow};
use crate::domain::ItemIx;

/// One prediction target of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BatchTarget {
    /// Batch row of the position at which the network predicts this target.
    pub(super) row: usize,
    /// Index of the training window in the batch.
    pub(super) window: usize,
    /// Item of the next target event: the class to predict.
    pub(super) item: ItemIx,
    /// Factor of the gradient of the target's loss.
    pub(super) weight: f32,
}

/// The rows of one time step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BatchStep {
    /// First row of the preceding step; `None` for the first step. The first `rows` rows of the two
    /// steps belong to the same windows, in the same order.
    pub(super) previous_first: Option<usize>,
    /// First row of this step.
    pub(super) first: usize,
    /// Number of windows that are long enough to contain this step.
    pub(super) rows: usize,
}

/// A packed mini-batch of training windows. Step t of window w is in row `offsets[t] + w`.
#[derive(Debug, Clone, Default)]
pub(super) struct TrainingBatch {
    /// First row of each step. The last element is the total number of rows.
    offsets: Vec<usize>,
    /// Network input of each row.
    pub(super) inputs: Vec<StepInput>,
    /// Prediction targets in row order.
    pub(super) targets: Vec<BatchTarget>,
    /// Session id of each window, in the order of the windows: longest first.
    pub(super) sessions: Vec<u64>,
}

impl TrainingBatch {
    /// Packs the last `max_steps` positions of every window into the batch.
    ///
    /// The network has embeddings for the first `items` item numbers. Targets with other numbers
    /// are dropped.
    pub(super) fn pack_windows(&mut self, windows: &[TrainingWindow], max_steps: usize, items: usize) {
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
                    self.targets.push(BatchTarget { row, window, item, weight: position.weight });
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

    /// The time steps of the batch, earliest first.
    pub(super) fn time_steps(&self) -> impl DoubleEndedIterator<Item = BatchStep> + '_ {
        self.offsets.windows(2).enumerate().map(|(step, pair)| {
            let previous_first = step.checked_sub(1).map(|previous| self.offsets[previous]);
            BatchStep { previous_first, first: pair[0], rows: pair[1] - pair[0] }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::input::TrainingPosition;

    fn session_window(session: u64, items: &[u32]) -> TrainingWindow {
        let position = |pair: &[u32]| TrainingPosition {
            input: StepInput { item: Some(pair[0]), ..Default::default() },
            target: Some(pair[1]),
            weight: 1.0,
        };
        TrainingWindow { session, positions: items.windows(2).map(position).collect() }
    }

    #[test]
    fn windows_are_packed_longest_first_and_cut_to_their_last_positions() {
        let mut batch = TrainingBatch::default();
        batch.pack_windows(
            &[
                session_window(1, &[1, 2]),
                session_window(2, &[3]),
                session_window(3, &[4, 5, 6, 7]),
                session_window(4, &[8, 9, 10]),
            ],
            2,
            10,
        );
        assert_eq!(batch.sessions, [3, 4, 1]);
        let items: Vec<_> = batch.inputs.iter().map(|input| input.item.unwrap()).collect();
        assert_eq!(items, [5, 8, 1, 6, 9], "a long window keeps its last positions");
        let (first, second) = (
            BatchStep { previous_first: None, first: 0, rows: 3 },
            BatchStep { previous_first: Some(0), first: 3, rows: 2 },
        );
        assert_eq!(batch.time_steps().collect::<Vec<_>>(), [first, second]);
        assert_eq!(batch.time_steps().rev().collect::<Vec<_>>(), [second, first]);
        let targets: Vec<_> = batch.targets.iter().map(|target| (target.row, target.window, target.item)).collect();
        assert_eq!(targets, [(0, 0, 6), (1, 1, 9), (2, 2, 2), (3, 0, 7)], "item 10 is out of range");
        batch.pack_windows(&[], 2, 10);
        assert_eq!((batch.row_count(), batch.window_count(), batch.time_steps().count()), (0, 0, 0));
    }
}
