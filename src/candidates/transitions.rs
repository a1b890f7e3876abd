//! Item-to-item transitions (first-order Markov and windowed co-occurrence).

use super::candidate_set::CandidateSet;
use super::columns::EvidenceColumn;
use super::query_context::QueryContext;
use super::source::CandidateSource;
use super::transition_matrix::{TransitionMatrix, TransitionRow};
use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};

/// Transition counts within a window of steps, to the immediate next step, and reversed.
///
/// A target event adds 1 / (distance + 1) to the window row of each of the last 10 items and to its
/// own reverse row. It adds 1 to the next row of the last item. Window rows decay by 0.99 per
/// addition, next rows by 0.95 per addition, reverse rows by 0.95 per target event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransitionSource {
    window: TransitionMatrix,
    next: TransitionMatrix,
    reverse: TransitionMatrix,
    /// Maximum items per row.
    capacity: usize,
}

/// Number of previous items for which a target event counts as a follower.
const WINDOW: usize = 10;
/// Decay per step back of the sum over the session.
const STEP_DECAY: f32 = 0.8;

impl TransitionSource {
    /// Creates a source with at most `capacity` items per row.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            window: TransitionMatrix::default(),
            next: TransitionMatrix::default(),
            reverse: TransitionMatrix::default(),
            capacity,
        }
    }
}

/// Adds the items of a row in several evidence columns, each multiplied by its factor.
fn add_row<const N: usize>(
    row: Option<&TransitionRow>,
    columns: [(EvidenceColumn, f32); N],
    candidates: &mut CandidateSet,
) {
    let Some(row) = row else { return };
    for (item, weight) in row.iter() {
        candidates.add_columns(item, columns.map(|(column, factor)| (column, factor * weight)));
    }
    for (column, factor) in columns {
        candidates.add_total(column, factor * row.total_weight());
    }
}

impl CandidateSource for TransitionSource {
    fn name(&self) -> SourceName {
        SourceName::Transitions
    }

    fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        for (distance, previous) in context.recent_items().take(WINDOW).enumerate() {
            let weight = 1.0 / (distance + 1) as f32;
            self.window.update_row(previous, |row| {
                row.decay(0.99);
                row.add(item, weight, self.capacity);
            });
            self.reverse.update_row(item, |row| {
                if distance == 0 {
                    row.decay(0.95);
                }
                row.add(previous, weight, self.capacity);
            });
            if distance == 0 {
                self.next.update_row(previous, |row| {
                    row.decay(0.95);
                    row.add(item, 1.0, self.capacity);
                });
            }
        }
    }

    fn learn_dismissal(&mut self, context: &QueryContext<'_>, item: ItemIx) {
        if let Some(last) = context.recent_items().next() {
            self.window.update_row(last, |row| row.halve(item));
            self.next.update_row(last, |row| row.halve(item));
        }
    }

    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        let mut factor = 1.0;
        for (distance, item) in context.recent_items().take(WINDOW).enumerate() {
            let row = self.window.get(item);
            match distance {
                0 => {
                    add_row(
                        row,
                        [(EvidenceColumn::SessionTransitions, factor), (EvidenceColumn::WindowTransitions, 1.0)],
                        candidates,
                    );
                    add_row(self.next.get(item), [(EvidenceColumn::NextTransitions, 1.0)], candidates);
                    add_row(self.reverse.get(item), [(EvidenceColumn::ReverseTransitions, 1.0)], candidates);
                }
                1 => add_row(
                    row,
                    [(EvidenceColumn::SessionTransitions, factor), (EvidenceColumn::PreviousItemTransitions, 1.0)],
                    candidates,
                ),
                _ => add_row(row, [(EvidenceColumn::SessionTransitions, factor)], candidates),
            }
            factor *= STEP_DECAY;
        }
    }

    fn entry_count(&self) -> usize {
        self.window.len()
    }

    fn memory_bytes(&self) -> usize {
        self.window.memory_bytes() + self.next.memory_bytes() + self.reverse.memory_bytes()
    }
}
