//! What follows what: item-to-item transitions.

use super::{CandidateSet, CandidateSource, EvidenceColumn, QueryContext, TransitionMatrix, TransitionRow};
use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};

/// Transitions over a window, over the next step alone, and their reverse.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransitionSource {
    window: TransitionMatrix,
    next: TransitionMatrix,
    reverse: TransitionMatrix,
    /// Items remembered per row.
    capacity: usize,
}

/// How many steps back an event is counted as following.
const WINDOW: usize = 10;
/// Each further step back weighs this much less in the sum over the session.
const STEP_BACK: f32 = 0.8;

impl TransitionSource {
    /// Rows of at most `capacity` items.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { window: TransitionMatrix::default(), next: TransitionMatrix::default(), reverse: TransitionMatrix::default(), capacity }
    }
}

/// Adds a row's items to the slate on several channels at once, each with its factor.
fn pour<const N: usize>(row: Option<&TransitionRow>, channels: [(EvidenceColumn, f32); N], slate: &mut CandidateSet) {
    let Some(row) = row else { return };
    for (item, weight) in row.iter() {
        slate.add_columns(item, channels.map(|(channel, factor)| (channel, factor * weight)));
    }
    for (channel, factor) in channels {
        slate.add_total(channel, factor * row.total_weight());
    }
}

impl CandidateSource for TransitionSource {
    fn name(&self) -> SourceName {
        SourceName::Transitions
    }

    fn learn(&mut self, moment: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        for (distance, before) in moment.recent_items().take(WINDOW).enumerate() {
            let weight = 1.0 / (distance + 1) as f32;
            self.window.update_row(before, |row| {
                row.decay(0.99);
                row.add(item, weight, self.capacity);
            });
            self.reverse.update_row(item, |row| {
                if distance == 0 {
                    row.decay(0.95);
                }
                row.add(before, weight, self.capacity);
            });
            if distance == 0 {
                self.next.update_row(before, |row| {
                    row.decay(0.95);
                    row.add(item, 1.0, self.capacity);
                });
            }
        }
    }

    fn learn_dismissal(&mut self, moment: &QueryContext<'_>, item: ItemIx) {
        if let Some(last) = moment.recent_items().next() {
            self.window.update_row(last, |row| row.halve(item));
            self.next.update_row(last, |row| row.halve(item));
        }
    }

    fn generate(&self, moment: &QueryContext<'_>, slate: &mut CandidateSet) {
        let mut factor = 1.0;
        for (back, item) in moment.recent_items().take(WINDOW).enumerate() {
            let row = self.window.get(item);
            match back {
                0 => {
                    pour(row, [(EvidenceColumn::SessionTransitions, factor), (EvidenceColumn::WindowTransitions, 1.0)], slate);
                    pour(self.next.get(item), [(EvidenceColumn::NextTransitions, 1.0)], slate);
                    pour(self.reverse.get(item), [(EvidenceColumn::ReverseTransitions, 1.0)], slate);
                }
                1 => pour(row, [(EvidenceColumn::SessionTransitions, factor), (EvidenceColumn::PreviousItemTransitions, 1.0)], slate),
                _ => pour(row, [(EvidenceColumn::SessionTransitions, factor)], slate),
            }
            factor *= STEP_BACK;
        }
    }

    fn entry_count(&self) -> usize {
        self.window.len()
    }

    fn memory_bytes(&self) -> usize {
        self.window.memory_bytes() + self.next.memory_bytes() + self.reverse.memory_bytes()
    }
}
