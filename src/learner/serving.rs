//! What is asked, and the answer to it.

use crate::candidates::{QueryContext, SessionIx};
use crate::domain::{Candidate, Catalog, Fallback, ItemIx, RemovalCounts, SourceName, Timestamp};
use crate::nn::Weights;
use crate::ranking::{EligibilityRules, ItemFilter, ResultSelection};

use super::explain::{Explanation, explain};
use super::item_lists::visit_popular_items;
use super::scorer::ScoringWorkspace;
use super::sequence_state::{SequenceParams, SequenceState};
use super::snapshot::ModelSnapshot;

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct RecommendationRequest {
    /// The longest list wanted.
    pub limit: usize,
    /// When.
    pub now: Timestamp,
    /// Items that are not wanted, ascending.
    pub exclude: Vec<ItemIx>,
    /// Whether the items of the user's remembered steps are not wanted.
    pub exclude_seen: bool,
    /// What is asked of the items' attributes.
    pub filter: Option<ItemFilter>,
    /// The most items of one category.
    pub max_per_category: Option<usize>,
    /// Whether to say why.
    pub explain: bool,
}

impl RecommendationRequest {
    /// The longest list that is answered.
    pub const MAX_LIMIT: usize = 1000;

    /// Asks for a list without further wishes.
    #[must_use]
    pub fn new(limit: usize, now: Timestamp) -> Self {
        Self { limit, now, exclude: Vec::new(), exclude_seen: false, filter: None, max_per_category: None, explain: false }
    }

    /// How many candidates are ranked: more where many of them will not be let through.
    fn breadth(&self) -> usize {
        if self.filter.is_some() || self.max_per_category.is_some() { SIFTED } else { KEPT.max(2 * self.limit) }
    }
}

/// Candidates that are ranked, at least.
const KEPT: usize = 256;
/// Candidates that are ranked where they are to be sifted.
const SIFTED: usize = 2048;

/// What is answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RankedAnswer {
    /// The version of the weights that ranked it.
    pub weights_version: u64,
    /// Best first; equals by the smaller item number.
    pub items: Vec<RankedItem>,
    /// What would come after these, best first.
    pub remainder: Vec<Candidate>,
    /// How many ranked candidates were left out.
    pub removed: RemovalCounts,
    /// How many of the ranked candidates each source named, in the order of [`SourceName::ALL`].
    pub candidates_by_source: [usize; SourceName::ALL.len()],
    /// What the answer falls short of.
    pub fallback: Fallback,
}

/// One item of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedItem {
    /// The item, its score, its source.
    pub candidate: Candidate,
    /// The value that the network predicts of its being chosen, if it predicts any.
    pub interest: Option<f32>,
    /// Why it is here, if that was asked.
    pub explanation: Option<Explanation>,
}

impl From<Candidate> for RankedItem {
    fn from(candidate: Candidate) -> Self {
        Self { candidate, interest: None, explanation: None }
    }
}

/// Answers a request from what a snapshot holds, with the items that `catalog` offers. Where too
/// few candidates remain, the most popular items that the request lets through come after them.
pub fn recommend(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    follower: &mut SequenceState,
    pace: &SequenceParams,
    request: &RecommendationRequest,
    workspace: &mut ScoringWorkspace,
) -> RankedAnswer {
    let judge = snapshot.scorer();
    let mood = snapshot.affinities.get(follower.sequence.session_start);
    workspace.ranking.set_limit(request.breadth());
    judge.score(follower, SessionIx::MAX, &mood, pace, workspace);
    let mut ranked = Vec::new();
    workspace.ranking.best(usize::MAX, |_| true, &mut ranked);
    let brought = workspace.ranking.candidates().counts_by_source();

    let steps = &follower.sequence.steps;
    let seen: Vec<ItemIx> = if request.exclude_seen { steps.iter().filter_map(|step| step.item).collect() } else { Vec::new() };
    let (exclude, filter) = (request.exclude.as_slice(), request.filter.as_ref());
    let terms = EligibilityRules {
        exclude,
        seen: &seen,
        filter,
        max_per_category: request.max_per_category,
        ..EligibilityRules::new(catalog, request.now)
    };
    let mut selection = ResultSelection::new(terms, request.limit, RecommendationRequest::MAX_LIMIT);
    ranked.iter().for_each(|candidate| selection.add_ranked(*candidate));
    let short = selection.needs_more();
    if short {
        let current = QueryContext {
            steps: follower.sequence.current_session(),
            session: SessionIx::MAX,
            session_start: follower.sequence.session_start,
            now: snapshot.offset,
        };
        let mut passed = ranked.iter().map(|candidate| candidate.item).chain(current.dismissed_items()).collect();
        visit_popular_items(snapshot, &terms, &mut passed, &mut |item, _| {
            // Below all that was ranked: popularity and the ranker's scores cannot be compared.
            let score = selection.selected().last().map_or(0.0, |last| last.score - 1.0);
            selection.add_unranked(Candidate { item, score, source: SourceName::Trending });
            selection.needs_more()
        });
    }

    let removed = selection.removal_counts();
    let fallback = match () {
        () if snapshot.item_count == 0 => Fallback::EmptyCatalog,
        () if selection.selected().is_empty() => Fallback::FilteredOut,
        () if steps.is_empty() => Fallback::UnknownUser,
        () if short && removed.total() > 0 => Fallback::FilteredOut,
        () => Fallback::None,
    };
    let (taken, rest) = selection.into_parts();
    let interest =
        |item| snapshot.weights().filter(|weights| Weights::item_count(weights) > 0).and_then(|weights| workspace.interest(weights, item));
    let interests: Vec<_> = taken.iter().map(|candidate| interest(candidate.item)).collect();
    let explanations = if request.explain { explain(&judge, &taken, follower, &mood, pace, workspace) } else { vec![None; taken.len()] };
    let picks = taken.into_iter().zip(interests).zip(explanations);
    let items = picks.map(|((candidate, interest), explanation)| RankedItem { candidate, interest, explanation }).collect();
    RankedAnswer { weights_version: snapshot.weights_version(), items, remainder: rest, removed, candidates_by_source: brought, fallback }
}
