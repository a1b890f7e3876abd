//! An answer with its inside shown.

use crate::candidates::{CandidateSet, EvidenceColumn, FeatureColumn, SessionIx};
use crate::domain::{Candidate, Catalog, ItemIx, SourceName};
use crate::ranking::SourceAffinity;

use super::scorer::ScoringWorkspace;
use super::sequence_state::{SequenceParams, SequenceState};
use super::serving::{RankedAnswer, RecommendationRequest, recommend};
use super::snapshot::ModelSnapshot;

/// What lies behind an answer, stage by stage.
#[derive(Debug, Clone, PartialEq)]
pub struct RankingInspection {
    /// The version of the weights that the hidden state began with, which may be a few older than
    /// those that ranked; `None` without a network.
    pub hidden_version: Option<u64>,
    /// What the network holds of the session, by name: of each layer h (and c), the memory m and
    /// the last input x, and o, against which items are scored; `(hidden)` each.
    pub hidden: Vec<(String, Vec<f32>)>,
    /// Items that the sources gathered, before the cut.
    pub generated: usize,
    /// Candidates that were ranked.
    pub retained: usize,
    /// Each source's best candidates by its own measure, and where they ended.
    pub sources: Vec<(SourceName, Vec<InspectedPosition>)>,
    /// The best of the ranking with what the ranker saw of each.
    pub ranking: Vec<InspectedCandidate>,
    /// The answer, explained.
    pub answer: RankedAnswer,
}

/// A candidate in the list of one source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InspectedPosition {
    /// The item.
    pub item: ItemIx,
    /// Its share of all evidence on the source's channel, in [0, 1].
    pub share: f32,
    /// Its rank among all candidates, 1 for the best; `None` if it did not pass the cut.
    pub rank: Option<usize>,
}

/// A ranked candidate with what the ranker saw of it.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectedCandidate {
    /// The item, its score, its source.
    pub candidate: Candidate,
    /// The rank that each source that named it gives it alone, 1 for the best.
    pub ranks: Vec<(SourceName, usize)>,
    /// Its share on every channel that has evidence for it, in (0, 1].
    pub evidence: Vec<(&'static str, f32)>,
    /// The facts that are not 0.
    pub features: Vec<(&'static str, f32)>,
}

/// Answers as [`recommend`] does, and reports how. The sequence state is not changed.
#[must_use]
pub fn inspect(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    follower: &SequenceState,
    pace: &SequenceParams,
    request: &RecommendationRequest,
) -> RankingInspection {
    let (mut follower, mut workspace) = (follower.clone(), ScoringWorkspace::default());
    let (hidden_version, hidden) = hidden(snapshot, &mut follower, pace, &mut workspace);
    let mood: SourceAffinity = snapshot.affinities.get(follower.sequence.session_start);
    snapshot.scorer().score(&mut follower, SessionIx::MAX, &mood, pace, &mut workspace);
    let mut ranked = Vec::new();
    workspace.ranking.best(request.limit, |_| true, &mut ranked);
    let desk = &workspace.ranking;
    let slate = desk.candidates();
    let list = |source| {
        let channel = EvidenceColumn::primary_of(source);
        let total = slate.totals().get(channel as usize).copied().unwrap_or_default().max(f32::MIN_POSITIVE);
        let best = slate.best(channel, request.limit).into_iter();
        best.map(|(item, weight)| InspectedPosition { item, share: (weight / total).clamp(0.0, 1.0), rank: desk.rank_of(item) }).collect()
    };
    let sources = SourceName::ALL.map(|source| (source, list(source))).to_vec();
    let ranking = ranked.into_iter().map(|candidate| considered(slate, candidate)).collect();
    let (gathered, kept) = (slate.gathered_count(), slate.len());
    let answer = recommend(snapshot, catalog, &mut follower, pace, request, &mut workspace);
    RankingInspection { hidden_version, hidden, generated: gathered, retained: kept, sources, ranking, answer }
}

fn hidden(
    snapshot: &ModelSnapshot,
    follower: &mut SequenceState,
    pace: &SequenceParams,
    workspace: &mut ScoringWorkspace,
) -> (Option<u64>, Vec<(String, Vec<f32>)>) {
    let Some(weights) = snapshot.weights() else { return (None, Vec::new()) };
    let state = follower.hidden(pace, weights, &mut workspace.network);
    let (version, mut query) = (state.version, Vec::new());
    weights.query(state, &mut query);
    let settings = weights.settings();
    let kept = settings.cell.state_blocks();
    let names = (0..settings.layers * kept).map(|row| {
        let letter = if row % kept == 0 { "h" } else { "c" };
        if settings.layers == 1 { letter.to_owned() } else { format!("{letter}{}", row / kept + 1) }
    });
    let names = names.chain(["m".to_owned(), "x".to_owned()]);
    let rows = names.zip(state.values().chunks_exact(weights.dimension().max(1)).map(<[f32]>::to_vec));
    (Some(version), rows.chain([("o".to_owned(), query)]).collect())
}

fn considered(slate: &CandidateSet, candidate: Candidate) -> InspectedCandidate {
    let ranks =
        SourceName::ALL.into_iter().zip(slate.source_ranks(candidate.item)).filter_map(|(source, rank)| Some((source, rank?))).collect();
    let row = slate.position(candidate.item).and_then(|position| slate.rows().nth(position));
    let Some((evidence, facts, _)) = row else {
        return InspectedCandidate { candidate, ranks, evidence: Vec::new(), features: Vec::new() };
    };
    let share = |channel: EvidenceColumn| {
        let (weight, total) = (evidence.get(channel as usize)?, slate.totals().get(channel as usize)?);
        (*weight > 0.0 && *total > 0.0).then(|| (channel.as_str(), (weight / total).min(1.0)))
    };
    let fact = |fact: FeatureColumn| Some((fact.as_str(), *facts.get(fact as usize).filter(|value| **value != 0.0)?));
    InspectedCandidate {
        candidate,
        ranks,
        evidence: EvidenceColumn::ALL.into_iter().filter_map(share).collect(),
        features: FeatureColumn::ALL.into_iter().filter_map(fact).collect(),
    }
}
