//! The source of item-to-item transitions: how often one item follows another, immediately (a
//! first-order Markov chain) or within a window of steps.

use super::candidate_set::CandidateSet;
use super::columns::EvidenceColumn;
use super::query_context::QueryContext;
use super::source::CandidateSource;
use super::transition_matrix::{TransitionMatrix, TransitionRow};
use super::user_profile::UserProfile;
use crate::domain::{ItemIx, SourceName, Step};
use serde::{Deserialize, Serialize};

/// Transition counts between items: within a window of steps, to the immediately next step, and in
/// the reverse direction.
///
/// Let i be the item of a target event, and j one of the user's last 10 items, at distance d from
/// the end (the last item has distance 0). The event adds weight 1 / (d + 1) for i to the window
/// row of j, and the same weight for j to the reverse row of i. If j is the last item, the event
/// also adds weight 1 for i to the next row of j. Before each addition, a window row is multiplied
/// by 0.99, and a next row by 0.95. Before the additions of a target event, the reverse row of its
/// item is multiplied by 0.95.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransitionSource {
    window: TransitionMatrix,
    next: TransitionMatrix,
    reverse: TransitionMatrix,
    /// Maximum number of items per row.
    capacity: usize,
}

/// The item of a target event counts as a follower of this many latest items.
const WINDOW_ITEMS: usize = 10;
/// Followers are added for this many items of a user's profile.
const PROFILE_ITEMS: usize = 10;
/// In a sum over the user's latest items, each item counts this factor times as much as the item
/// after it.
const DECAY_PER_STEP_BACK: f32 = 0.8;

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

impl TransitionSource {
    /// Adds the items that followed the most frequent items of a profile within the window. Each item
    /// of the profile adds its decayed count, which its followers share in proportion to their
    /// weights.
    pub(super) fn add_profile_transitions(&self, profile: &UserProfile, candidates: &mut CandidateSet) {
        for (item, count) in profile.heaviest_items(PROFILE_ITEMS) {
            let row = self.window.row_of(item).filter(|row| row.total_weight() > 0.0);
            let factor = row.map_or(0.0, |row| count / row.total_weight());
            add_row_as_evidence(row, [(EvidenceColumn::ProfileTransitions, factor)], candidates);
        }
    }
}

/// Adds the items of a row as evidence in several columns. Each column has a factor that multiplies
/// the weights.
fn add_row_as_evidence<const N: usize>(
    row: Option<&TransitionRow>,
    columns: [(EvidenceColumn, f32); N],
    candidates: &mut CandidateSet,
) {
    let Some(row) = row else { return };
    for (item, weight) in row.iter() {
        candidates.add_evidence_in_columns(item, columns.map(|(column, factor)| (column, factor * weight)));
    }
    for (column, factor) in columns {
        candidates.add_column_total(column, factor * row.total_weight());
    }
}

impl CandidateSource for TransitionSource {
    fn name(&self) -> SourceName {
        SourceName::Transitions
    }

    fn learn(&mut self, context: &QueryContext<'_>, arrival: &Step) {
        let Some(item) = arrival.item else { return };
        for (distance, previous) in context.recent_items().take(WINDOW_ITEMS).enumerate() {
            let weight = 1.0 / (distance + 1) as f32;
            self.window.update_row(previous, |row| {
                row.decay_weights(0.99);
                row.add_weight(item, weight, self.capacity);
            });
            self.reverse.update_row(item, |row| {
                if distance == 0 {
                    row.decay_weights(0.95);
                }
                row.add_weight(previous, weight, self.capacity);
            });
            if distance == 0 {
                self.next.update_row(previous, |row| {
                    row.decay_weights(0.95);
                    row.add_weight(item, 1.0, self.capacity);
                });
            }
        }
    }

    fn learn_dismissal(&mut self, context: &QueryContext<'_>, item: ItemIx) {
        if let Some(last) = context.recent_items().next() {
            self.window.update_row(last, |row| row.halve_weight(item));
            self.next.update_row(last, |row| row.halve_weight(item));
        }
    }

    fn generate(&self, context: &QueryContext<'_>, candidates: &mut CandidateSet) {
        let mut factor = 1.0;
        for (distance, item) in context.recent_items().take(WINDOW_ITEMS).enumerate() {
            let row = self.window.row_of(item);
            match distance {
                0 => {
                    add_row_as_evidence(
                        row,
                        [(EvidenceColumn::SessionTransitions, factor), (EvidenceColumn::WindowTransitions, 1.0)],
                        candidates,
                    );
                    add_row_as_evidence(self.next.row_of(item), [(EvidenceColumn::NextTransitions, 1.0)], candidates);
                    add_row_as_evidence(
                        self.reverse.row_of(item),
                        [(EvidenceColumn::ReverseTransitions, 1.0)],
                        candidates,
                    );
                }
                1 => add_row_as_evidence(
                    row,
                    [(EvidenceColumn::SessionTransitions, factor), (EvidenceColumn::PreviousItemTransitions, 1.0)],
                    candidates,
                ),
                _ => add_row_as_evidence(row, [(EvidenceColumn::SessionTransitions, factor)], candidates),
            }
            factor *= DECAY_PER_STEP_BACK;
        }
    }

    fn entry_count(&self) -> usize {
        self.window.len()
    }

    fn memory_bytes(&self) -> usize {
        self.window.memory_bytes() + self.next.memory_bytes() + self.reverse.memory_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_exceeds_its_capacity_and_the_latest_item_is_kept() {
        const CAPACITY: usize = 8;
        let mut source = TransitionSource::new(CAPACITY);
        let step = |item| Step { item: Some(item), kind: 0, starts_session: false, at: 0, value: 1.0 };
        let mut steps = Vec::new();
        // Item 0 follows and precedes each of 100 other items.
        for now in 0..400_u32 {
            let item = if now.is_multiple_of(2) { 0 } else { 1 + now / 2 % 100 };
            source.learn(
                &QueryContext {
                    steps: &steps,
                    session: 0,
                    session_start: 0,
                    now: now.into(),
                    ..QueryContext::default()
                },
                &step(item),
            );
            steps.push(step(item));
            for matrix in [&source.window, &source.next, &source.reverse] {
                let lengths = (0..=100).filter_map(|item| Some(matrix.row_of(item)?.iter().count()));
                assert!(lengths.max().unwrap_or(0) <= CAPACITY, "after {now} steps");
            }
        }
        let followers: Vec<_> = source.next.row_of(0).unwrap().iter().map(|(item, _)| item).collect();
        assert!(followers.len() == CAPACITY && followers.contains(&100), "{followers:?}");
    }
}
