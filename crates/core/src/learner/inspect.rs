//! Recommends items and reports the intermediate results of every stage, for the admin pages.

use crate::candidates::{CandidateSet, EvidenceColumn, FeatureColumn};
use crate::domain::{Candidate, Catalog, ItemIx, SourceName, UserSequence};
use crate::ranking::SourceAffinity;

use super::scorer::ScoringWorkspace;
use super::sequence_state::{SequenceParams, SequenceState};
use super::serving::{RankedAnswer, RecommendationRequest, recommend_for_sequence, scored_user};
use super::snapshot::{ModelSnapshot, UserMemory};

/// The intermediate results of one recommendation request, stage by stage.
#[derive(Debug, Clone, PartialEq)]
pub struct RankingInspection {
    /// The version of the weights that computed the hidden state and ranked the candidates; `None`
    /// without a network.
    pub hidden_version: Option<u64>,
    /// Named vectors of the network after the last step, `(hidden)` each: h (and c) of each layer,
    /// the memory m, the last input x, and the query o. The logit of an item is the product of its
    /// embedding and o.
    pub hidden: Vec<(String, Vec<f32>)>,
    /// Number of candidates that the sources generated, before the set was cut to the best ones.
    pub generated: usize,
    /// Number of candidates that the ranker scored.
    pub retained: usize,
    /// For each source, the candidates for which it has the most evidence, with the ranks that the
    /// ranker gave them.
    pub sources: Vec<(SourceName, Vec<InspectedPosition>)>,
    /// The best ranked candidates, with the inputs of the ranker.
    pub ranking: Vec<InspectedCandidate>,
    /// The resulting list, with explanations.
    pub answer: RankedAnswer,
}

/// A candidate in the list of one source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InspectedPosition {
    /// The item.
    pub item: ItemIx,
    /// The share of the item in the primary evidence column of the source, in [0, 1].
    pub share: f32,
    /// The rank of the item among all ranked candidates, 1 for the best; `None` if the item was
    /// dropped before ranking because the sources generated too many candidates.
    pub rank: Option<usize>,
}

/// A ranked candidate, with the inputs of the ranker.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectedCandidate {
    /// The item with its score and source.
    pub candidate: Candidate,
    /// The rank that each source alone gives the item, 1 for the best. The list omits sources
    /// without evidence for the item.
    pub ranks: Vec<(SourceName, usize)>,
    /// The share of the item in each evidence column in which it has evidence, in (0, 1].
    pub evidence: Vec<(&'static str, f32)>,
    /// The feature columns of the item that are not zero.
    pub features: Vec<(&'static str, f32)>,
}

/// Answers like [`recommend_for_sequence`] and reports the intermediate results.
#[must_use]
pub fn inspect(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    sequence: &UserSequence,
    memory: UserMemory<'_>,
    params: &SequenceParams,
    request: &RecommendationRequest,
) -> RankingInspection {
    let (mut user, mut workspace) = (SequenceState::restore(sequence.clone(), None), ScoringWorkspace::default());
    let (hidden_version, hidden) = hidden_state_vectors(snapshot, &mut user, params, &mut workspace);
    let affinity: SourceAffinity = snapshot.affinities.affinity_of_session(sequence.session_start);
    let about = scored_user(sequence, &affinity, memory, &request.context, request.now, params);
    snapshot.scorer().score(&mut user, &about, params, &mut workspace);
    let mut ranked = Vec::new();
    workspace.ranking.best_candidates(|_, score| score, &mut ranked);
    ranked.truncate(request.limit);
    let ranking_workspace = &workspace.ranking;
    let candidates = ranking_workspace.candidates();
    let list = |source| {
        let column = EvidenceColumn::primary_column_of(source);
        let total = candidates.column_totals().get(column as usize).copied().unwrap_or_default().max(f32::MIN_POSITIVE);
        let best = candidates.best_by_column(column, request.limit).into_iter();
        best.map(|(item, weight)| InspectedPosition {
            item,
            share: (weight / total).clamp(0.0, 1.0),
            rank: ranking_workspace.rank_of(item),
        })
        .collect()
    };
    let sources = SourceName::ALL.map(|source| (source, list(source))).to_vec();
    let ranking = ranked.into_iter().map(|candidate| inspect_candidate(candidates, candidate)).collect();
    let (generated, retained) = (candidates.gathered_count(), candidates.len());
    let answer = recommend_for_sequence(snapshot, catalog, sequence, memory, params, request, &mut workspace);
    RankingInspection { hidden_version, hidden, generated, retained, sources, ranking, answer }
}

fn hidden_state_vectors(
    snapshot: &ModelSnapshot,
    user: &mut SequenceState,
    params: &SequenceParams,
    workspace: &mut ScoringWorkspace,
) -> (Option<u64>, Vec<(String, Vec<f32>)>) {
    let Some(weights) = snapshot.weights() else { return (None, Vec::new()) };
    let state = user.fresh_hidden_state(params, weights, &mut workspace.network);
    let (version, mut query) = (state.version, Vec::new());
    weights.compute_query(state, &mut query);
    let settings = weights.settings();
    let blocks = settings.cell.state_blocks();
    let names = (0..settings.layers * blocks).map(|row| {
        let letter = if row % blocks == 0 { "h" } else { "c" };
        if settings.layers == 1 { letter.to_owned() } else { format!("{letter}{}", row / blocks + 1) }
    });
    let names = names.chain(["m".to_owned(), "x".to_owned()]);
    let rows = names.zip(state.values().chunks_exact(weights.dimension().max(1)).map(<[f32]>::to_vec));
    (Some(version), rows.chain([("o".to_owned(), query)]).collect())
}

fn inspect_candidate(candidates: &CandidateSet, candidate: Candidate) -> InspectedCandidate {
    let ranks = SourceName::ALL
        .into_iter()
        .zip(candidates.source_ranks(candidate.item))
        .filter_map(|(source, rank)| Some((source, rank?)))
        .collect();
    let row = candidates.position_of(candidate.item).and_then(|position| candidates.kept_rows().nth(position));
    let Some((evidence, features, _)) = row else {
        return InspectedCandidate { candidate, ranks, evidence: Vec::new(), features: Vec::new() };
    };
    let share = |column: EvidenceColumn| {
        let (weight, total) = (evidence.get(column as usize)?, candidates.column_totals().get(column as usize)?);
        (*weight > 0.0 && *total > 0.0).then(|| (column.as_str(), (weight / total).min(1.0)))
    };
    let feature =
        |column: FeatureColumn| Some((column.as_str(), *features.get(column as usize).filter(|value| **value != 0.0)?));
    InspectedCandidate {
        candidate,
        ranks,
        evidence: EvidenceColumn::ALL.into_iter().filter_map(share).collect(),
        features: FeatureColumn::ALL.into_iter().filter_map(feature).collect(),
    }
}
