//! Explanations of recommended items: the evidence and the most influential event.

use crate::candidates::{CandidateSet, EvidenceColumn};
use crate::domain::{Candidate, ItemIx, Objective, SourceName, Step, UserSequence};

use std::sync::Arc;

use super::scorer::{Scorer, ScoringWorkspace};
use super::sequence_state::SequenceState;

/// The explanation of one recommended item.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explanation {
    /// The evidence for the item from each source, in the order of [`SourceName::ALL`]. An item's
    /// share in an evidence column is its weight divided by the column's total weight. The evidence
    /// from a source is the item's largest share in a column of that source, in (0, 1]. The list is
    /// empty for a popular item that was added unranked because the ranked candidates were too few.
    pub sources: Vec<(SourceName, f32)>,
    /// The event of the session that improved the rank of the item the most; `None` if no event
    /// improved it.
    pub influence: Option<EventInfluence>,
    /// The rules that moved the item or put it into the list.
    pub rules: Vec<Arc<str>>,
    /// What the objective of the list added to the score; `None` without an objective.
    pub objective: Option<ObjectiveContribution>,
}

/// What an objective added to the score of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObjectiveContribution {
    /// The objective.
    pub objective: Objective,
    /// The difference of the scores with and without the objective.
    pub contribution: f32,
}

/// The effect of one event of the session on the rank of an item.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventInfluence {
    /// The event.
    pub step: Step,
    /// Number of events in the session after this event.
    pub events_back: usize,
    /// The rank of the item among all candidates, 1 for the best.
    pub rank: usize,
    /// The rank that the item would have without this event; `None` if it would not be a candidate.
    pub rank_without: Option<usize>,
}

/// Number of latest session events whose influence is measured. For each of these events, the
/// candidates are scored again without it.
const MAX_OMITTED_EVENTS: usize = 10;

/// Explains items that are among the last scored candidates in the workspace. To measure influence,
/// scores candidates again with `rescore`, so the workspace then holds other candidates.
pub(super) fn explain(
    scorer: &Scorer<'_>,
    objective: Option<Objective>,
    items: &[Candidate],
    user: &SequenceState,
    rescore: &mut dyn FnMut(&mut SequenceState, &mut ScoringWorkspace),
    workspace: &mut ScoringWorkspace,
) -> Vec<Option<Explanation>> {
    let ranks: Vec<_> = items.iter().map(|candidate| workspace.ranking.rank_of(candidate.item)).collect();
    let candidates = workspace.ranking.candidates();
    let contribution_to = |item| {
        let (objective, head) = objective.zip(scorer.head)?;
        let contribution = workspace.ranking.head_contribution(head, item)?;
        Some(ObjectiveContribution { objective, contribution })
    };
    let mut explanations: Vec<_> = items
        .iter()
        .map(|candidate| Explanation {
            sources: evidence_by_source(candidates, candidate.item),
            objective: contribution_to(candidate.item),
            ..Explanation::default()
        })
        .collect();
    let current = user.sequence.current_session();
    for (back, step) in current.iter().rev().enumerate().take(MAX_OMITTED_EVENTS) {
        let index = user.sequence.steps.len() - 1 - back;
        let mut other = SequenceState::restore(sequence_without_event(&user.sequence, index), None);
        rescore(&mut other, workspace);
        for ((candidate, rank), explanation) in items.iter().zip(&ranks).zip(&mut explanations) {
            let Some(rank) = *rank else { continue };
            let without = workspace.ranking.rank_of(candidate.item);
            let rank_loss = |without: Option<usize>| without.unwrap_or(usize::MAX).saturating_sub(rank);
            if rank_loss(without) > explanation.influence.map_or(0, |moved| rank_loss(moved.rank_without)) {
                explanation.influence =
                    Some(EventInfluence { step: *step, events_back: back, rank, rank_without: without });
            }
        }
    }
    explanations.into_iter().map(Some).collect()
}

/// Returns a copy of the sequence without the event at `index`.
fn sequence_without_event(session: &UserSequence, index: usize) -> UserSequence {
    let mut session = session.clone();
    if index < session.steps.len() {
        let removed = session.steps.remove(index);
        if let Some(next) = session.steps.get_mut(index) {
            next.starts_session |= removed.starts_session;
        }
    }
    session
}

/// Returns the evidence for an item from each source: the largest share of the item in a column of
/// the source.
fn evidence_by_source(candidates: &CandidateSet, item: ItemIx) -> Vec<(SourceName, f32)> {
    let Some((weights, ..)) = candidates.position_of(item).and_then(|position| candidates.kept_rows().nth(position))
    else {
        return Vec::new();
    };
    let share = |column: EvidenceColumn| {
        let (weight, total) = (weights.get(column as usize)?, candidates.column_totals().get(column as usize)?);
        (*weight > 0.0 && *total > 0.0).then(|| (weight / total).min(1.0))
    };
    let largest = |source| {
        EvidenceColumn::ALL.into_iter().filter(|column| column.source() == source).filter_map(share).reduce(f32::max)
    };
    SourceName::ALL.into_iter().filter_map(|source| Some((source, largest(source)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn omitting_the_first_event_of_a_session_makes_the_next_event_start_it() {
        let step = |item, starts_session| Step { item: Some(item), kind: 0, starts_session, at: 0, value: 1.0 };
        let session = UserSequence {
            steps: vec![step(1, true), step(2, false), step(3, true), step(4, false)],
            ..UserSequence::default()
        };
        assert_eq!(sequence_without_event(&session, 2).steps, [step(1, true), step(2, false), step(4, true)]);
        assert_eq!(sequence_without_event(&session, 1).steps, [step(1, true), step(3, true), step(4, false)]);
        assert_eq!(sequence_without_event(&session, 3).current_session(), [step(3, true)]);
    }
}
