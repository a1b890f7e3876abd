//! Windows laid out for the processor: longest first and time-major, so that the windows that reach step t are a prefix and their rows lie together.

use super::input::{StepInput, TrainingWindow};
use crate::domain::ItemIx;

/// One prediction of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BatchTarget {
    /// The row of the position that predicts.
    pub(super) row: usize,
    /// The window, as the batch orders them.
    pub(super) window: usize,
    /// What came.
    pub(super) item: ItemIx,
    /// By an event of this value, NaN if none.
    pub(super) value: f32,
}

/// One step of all windows that reach it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BatchStep {
    /// The first row of the step before; the same windows lie there in the same order.
    pub(super) before: Option<usize>,
    /// The step's first row.
    pub(super) first: usize,
    /// How many windows reach it.
    pub(super) rows: usize,
}

/// A mini-batch's layout. Row `offsets[t] + w` is step t of window w.
#[derive(Debug, Clone, Default)]
pub(super) struct TrainingBatch {
    /// The first row of every step, and the number of rows last.
    offsets: Vec<usize>,
    /// Every row's input.
    pub(super) inputs: Vec<StepInput>,
    /// Every prediction, in the order of its row.
    pub(super) targets: Vec<BatchTarget>,
    /// The session of every window, longest window first.
    pub(super) sessions: Vec<u64>,
}

impl TrainingBatch {
    /// Lays the windows out, of each the last `longest` positions; a target not among the first `items` items is none.
    pub(super) fn pack(&mut self, windows: &[TrainingWindow], longest: usize, items: usize) {
        let mut order: Vec<(u64, &[_])> = windows
            .iter()
            .map(|window| (window.session, &window.positions[window.positions.len().saturating_sub(longest)..]))
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

    /// All rows.
    pub(super) fn row_count(&self) -> usize {
        self.inputs.len()
    }

    /// All windows.
    pub(super) fn window_count(&self) -> usize {
        self.sessions.len()
    }

    /// The steps in order of time.
    pub(super) fn steps(&self) -> impl DoubleEndedIterator<Item = BatchStep> + '_ {
        self.offsets.windows(2).enumerate().map(|(step, pair)| {
            let before = step.checked_sub(1).map(|before| self.offsets[before]);
            BatchStep { before, first: pair[0], rows: pair[1] - pair[0] }
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
    fn every_step_is_a_prefix() {
        let mut batch = TrainingBatch::default();
        batch.pack(&[window(1, &[1, 2]), window(2, &[3]), window(3, &[4, 5, 6, 7]), window(4, &[8, 9, 10])], 2, 10);
        assert_eq!(batch.sessions, [3, 4, 1]);
        let items: Vec<_> = batch.inputs.iter().map(|input| input.item.unwrap()).collect();
        assert_eq!(items, [5, 8, 1, 6, 9], "of a long window the last positions");
        let (first, second) = (BatchStep { before: None, first: 0, rows: 3 }, BatchStep { before: Some(0), first: 3, rows: 2 });
        assert_eq!(batch.steps().collect::<Vec<_>>(), [first, second]);
        assert_eq!(batch.steps().rev().collect::<Vec<_>>(), [second, first]);
        let targets: Vec<_> = batch.targets.iter().map(|target| (target.row, target.window, target.item)).collect();
        assert_eq!(targets, [(0, 0, 6), (1, 1, 9), (2, 2, 2), (3, 0, 7)], "item 10 is not known yet");
        batch.pack(&[], 2, 10);
        assert_eq!((batch.row_count(), batch.window_count(), batch.steps().count()), (0, 0, 0));
    }
}
