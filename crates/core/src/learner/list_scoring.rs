//! Scores the items of a given list, for example the results of a site's search.

use crate::domain::{
    Attributes, Candidate, ItemIx, Objective, Offset, PredictedInterest, SourceName, Timestamp, UserSequence,
};

use super::explain::{Explanation, explain};
use super::interests::InterestPredictor;
use super::scorer::{DEFAULT_CANDIDATE_LIMIT, ScoringWorkspace};
use super::sequence_state::{SequenceParams, SequenceState};
use super::serving::scored_user;
use super::snapshot::{ModelSnapshot, UserMemory};
use crate::ranking::RelevanceModel;

/// A request to score the items of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListScoringRequest {
    /// The items, in any order.
    pub items: Vec<ItemIx>,
    /// The time of the request.
    pub now: Timestamp,
    /// What the scores are for; `None`: the next event.
    pub objective: Option<Objective>,
    /// Whether to explain the scores.
    pub explain: bool,
    /// The context of the request, for declared features.
    pub context: Attributes,
}

/// The scores of the items of a list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListScores {
    /// The version of the weights that scored the items.
    pub weights_version: u64,
    /// The offset of the snapshot that scored the items: it contains every entry before it.
    pub snapshot_offset: Offset,
    /// One score for each item of the request, in the same order.
    pub items: Vec<ScoredListItem>,
    /// Whether the scores depend on the user. Without an event of the user, the score of an item is
    /// its popularity.
    pub is_personalised: bool,
    /// The weights with which [`ListScores::combine_with_relevance`] combines.
    pub relevance: RelevanceModel,
}

impl ListScores {
    /// Replaces the scores by combinations of the scores with the relevance that the site gives to
    /// the items. `relevance` has one value for each item.
    pub fn combine_with_relevance(&mut self, relevance: &[Option<f32>]) {
        let scores: Vec<_> = self.items.iter().map(|item| item.score).collect();
        let combined = self.relevance.combine(&scores, relevance);
        self.items.iter_mut().zip(combined).for_each(|(item, combined)| item.score = combined);
    }

    /// Predicts the value of an event of the user with each item of the list, for the kind with the
    /// most learned values. Without user id, predicts for an average user.
    pub fn predict_interest(
        &mut self,
        predictor: &InterestPredictor,
        user: Option<&str>,
        request: &ListScoringRequest,
    ) {
        let items = || request.items.iter().copied();
        let predict = |kind| predictor.predict(kind, user, items(), request.now);
        let predicted = predictor.main_kind().and_then(predict).unwrap_or_default();
        self.items.iter_mut().zip(predicted).for_each(|(item, predicted)| item.interest = Some(predicted));
    }
}

/// The score of one item of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredListItem {
    /// The score. A higher score is better. Scores of different requests are not comparable.
    pub score: f32,
    /// The candidate source that generates the item for the user; `None` if none does.
    pub source: Option<SourceName>,
    /// Whether no target event has named the item. Its score depends on its attributes alone.
    pub is_new: bool,
    /// The predicted value of an event of the user with the item; `None` if no values are predicted.
    pub interest: Option<PredictedInterest>,
    /// The explanation, if requested.
    pub explanation: Option<Explanation>,
}

/// Scores the items of a list for a sequence, together with the user's candidates, as
/// [`recommend_for_sequence`](super::recommend_for_sequence) scores these. Applies no rule, so the
/// list may contain items that are unavailable or that the user has dismissed.
///
/// Cost: that of a recommendation, plus that of one more candidate for each item.
pub fn score_list(
    snapshot: &ModelSnapshot,
    sequence: &UserSequence,
    memory: UserMemory<'_>,
    params: &SequenceParams,
    request: &ListScoringRequest,
    workspace: &mut ScoringWorkspace,
) -> ListScores {
    let is_personalised = !sequence.steps.is_empty() || memory.profile.is_some();
    let user = &mut SequenceState::restore(sequence.clone(), None);
    let affinity = snapshot.affinities.affinity_of_session(sequence.session_start);
    let about = scored_user(sequence, &affinity, memory, &request.context, request.now, params);
    let scorer = snapshot.scorer_for(request.objective);
    if is_personalised {
        workspace.ranking.set_limit(DEFAULT_CANDIDATE_LIMIT, &request.items);
        scorer.score(user, &about, params, workspace);
    }
    let mut items: Vec<_> = request
        .items
        .iter()
        .map(|&item| {
            let (score, source) = if is_personalised {
                (workspace.ranking.score_of(item).unwrap_or(f32::MIN), workspace.ranking.source_of(item))
            } else {
                (snapshot.sources.popularity(item, snapshot.source_time), None)
            };
            ScoredListItem {
                score,
                source,
                is_new: snapshot.item_counts(item).is_none(),
                interest: None,
                explanation: None,
            }
        })
        .collect();
    if request.explain && is_personalised {
        let to_candidate = |(item, scored): (&ItemIx, &ScoredListItem)| Candidate {
            item: *item,
            score: scored.score,
            source: scored.source.unwrap_or(SourceName::Session),
        };
        let candidates: Vec<_> = request.items.iter().zip(&items).map(to_candidate).collect();
        let mut rescore = |other: &mut SequenceState, workspace: &mut ScoringWorkspace| {
            scorer.score(other, &about, params, workspace);
        };
        let explanations = explain(&scorer, request.objective, &candidates, user, &mut rescore, workspace);
        items.iter_mut().zip(explanations).for_each(|(item, explanation)| item.explanation = explanation);
    }
    ListScores {
        weights_version: snapshot.weights_version(),
        snapshot_offset: snapshot.offset(),
        items,
        is_personalised,
        relevance: snapshot.relevance,
    }
}
