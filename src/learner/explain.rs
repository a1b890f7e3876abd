//! Why an item is recommended.

use crate::candidates::{CandidateSet, EvidenceColumn, SessionIx};
use crate::domain::{Candidate, ItemIx, SourceName, Step, UserSequence};
use crate::ranking::SourceAffinity;

use super::scorer::{Scorer, ScoringWorkspace};
use super::sequence_state::{SequenceParams, SequenceState};

/// Why one item is in an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// What each source that knows the item gives it: the largest share of its evidence, in (0, 1],
    /// in the order of [`SourceName::ALL`]. Empty for an item that was not ranked but fills the
    /// answer.
    pub sources: Vec<(SourceName, f32)>,
    /// The event of the session that moved it up the most, if one did.
    pub influence: Option<EventInfluence>,
}

/// How an earlier event moved an item up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EventInfluence {
    /// The event.
    pub step: Step,
    /// How many events of the session came after it.
    pub events_back: usize,
    /// The item's rank among all candidates, 1 for the best.
    pub rank: usize,
    /// The rank that it would have if that event had not been; `None` if it would be no candidate.
    pub rank_without: Option<usize>,
}

/// The latest events of the session that are left out, one at a time, to see what each of them
/// moved.
const DROPPED: usize = 10;

/// Explains items whose candidates lie on the workspace's desk; what was there before is gone then.
pub(super) fn explain(
    judge: &Scorer<'_>,
    items: &[Candidate],
    follower: &SequenceState,
    mood: &SourceAffinity,
    pace: &SequenceParams,
    workspace: &mut ScoringWorkspace,
) -> Vec<Option<Explanation>> {
    let ranks: Vec<_> = items.iter().map(|candidate| workspace.ranking.rank_of(candidate.item)).collect();
    let slate = workspace.ranking.candidates();
    let mut explanations: Vec<_> =
        items.iter().map(|candidate| Explanation { sources: evidence(slate, candidate.item), influence: None }).collect();
    let current = follower.sequence.current_session();
    for (back, step) in current.iter().rev().enumerate().take(DROPPED) {
        let place = follower.sequence.steps.len() - 1 - back;
        let mut other = SequenceState::restore(without(&follower.sequence, place), None);
        judge.score(&mut other, SessionIx::MAX, mood, pace, workspace);
        for ((candidate, rank), explanation) in items.iter().zip(&ranks).zip(&mut explanations) {
            let Some(rank) = *rank else { continue };
            let without = workspace.ranking.rank_of(candidate.item);
            let lost = |without: Option<usize>| without.unwrap_or(usize::MAX).saturating_sub(rank);
            if lost(without) > explanation.influence.map_or(0, |moved| lost(moved.rank_without)) {
                explanation.influence = Some(EventInfluence { step: *step, events_back: back, rank, rank_without: without });
            }
        }
    }
    explanations.into_iter().map(Some).collect()
}

/// The sequence as if the event at `place` had not been.
fn without(session: &UserSequence, place: usize) -> UserSequence {
    let mut session = session.clone();
    if place < session.steps.len() {
        let gone = session.steps.remove(place);
        if let Some(next) = session.steps.get_mut(place) {
            next.starts_session |= gone.starts_session;
        }
    }
    session
}

/// What each source gives an item: of its channels' shares the largest.
fn evidence(slate: &CandidateSet, item: ItemIx) -> Vec<(SourceName, f32)> {
    let Some((weights, ..)) = slate.position(item).and_then(|position| slate.rows().nth(position)) else { return Vec::new() };
    let share = |channel: EvidenceColumn| {
        let (weight, total) = (weights.get(channel as usize)?, slate.totals().get(channel as usize)?);
        (*weight > 0.0 && *total > 0.0).then(|| (weight / total).min(1.0))
    };
    let largest = |source| EvidenceColumn::ALL.into_iter().filter(|channel| channel.source() == source).filter_map(share).reduce(f32::max);
    SourceName::ALL.into_iter().filter_map(|source| Some((source, largest(source)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_without_its_first_event_begins_with_the_next() {
        let step = |item, boundary| Step { item: Some(item), kind: 0, starts_session: boundary, at: 0, value: 1.0 };
        let session = UserSequence { steps: vec![step(1, true), step(2, false), step(3, true), step(4, false)], ..UserSequence::default() };
        assert_eq!(without(&session, 2).steps, [step(1, true), step(2, false), step(4, true)]);
        assert_eq!(without(&session, 1).steps, [step(1, true), step(3, true), step(4, false)]);
        assert_eq!(without(&session, 3).current_session(), [step(3, true)]);
    }
}
