//! Serving: recommendation requests and their results.

use crate::candidates::{QueryContext, SessionIx};
use crate::domain::{Candidate, Catalog, Fallback, ItemIx, RemovalCounts, SourceName, Timestamp};
use crate::nn::Weights;
use crate::ranking::{EligibilityRules, ItemFilter, ResultSelection};

use super::explain::{Explanation, explain};
use super::item_lists::visit_popular_items;
use super::scorer::ScoringWorkspace;
use super::sequence_state::{SequenceParams, SequenceState};
use super::snapshot::ModelSnapshot;

/// A recommendation request.
#[derive(Debug, Clone, PartialEq)]
pub struct RecommendationRequest {
    /// Maximum length of the list.
    pub limit: usize,
    /// The time of the request.
    pub now: Timestamp,
    /// Excluded items, ascending.
    pub exclude: Vec<ItemIx>,
    /// Whether to exclude the items of the user's remembered steps.
    pub exclude_seen: bool,
    /// A filter on item attributes.
    pub filter: Option<ItemFilter>,
    /// Maximum number of items per category.
    pub max_per_category: Option<usize>,
    /// Whether to explain the items.
    pub explain: bool,
}

impl RecommendationRequest {
    /// The largest allowed `limit`.
    pub const MAX_LIMIT: usize = 1000;

    /// Creates a request without filters or exclusions.
    #[must_use]
    pub fn new(limit: usize, now: Timestamp) -> Self {
        Self { limit, now, exclude: Vec::new(), exclude_seen: false, filter: None, max_per_category: None, explain: false }
    }

    /// Number of candidates to rank. A filter or category limit needs more, because it removes many
    /// of them.
    fn candidate_limit(&self) -> usize {
        if self.filter.is_some() || self.max_per_category.is_some() { FILTERED_CANDIDATES } else { MIN_CANDIDATES.max(2 * self.limit) }
    }
}

/// Minimum number of candidates that are ranked.
const MIN_CANDIDATES: usize = 256;
/// Number of candidates that are ranked for a filtered request.
const FILTERED_CANDIDATES: usize = 2048;

/// A ranked list with its diagnostics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RankedAnswer {
    /// The version of the weights used for ranking.
    pub weights_version: u64,
    /// The items, best first. Ties are ordered by item number.
    pub items: Vec<RankedItem>,
    /// The candidates after the last item, best first, for further pages.
    pub remainder: Vec<Candidate>,
    /// Counts of the ranked candidates that were removed.
    pub removed: RemovalCounts,
    /// Number of ranked candidates with evidence from each source, in the order of
    /// [`SourceName::ALL`].
    pub candidates_by_source: [usize; SourceName::ALL.len()],
    /// The reason why the list is not personalised or not full, if any.
    pub fallback: Fallback,
}

/// One recommended item.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedItem {
    /// The item with its score and source.
    pub candidate: Candidate,
    /// The predicted value of the user choosing the item, if the network predicts values.
    pub interest: Option<f32>,
    /// The explanation, if requested.
    pub explanation: Option<Explanation>,
}

impl From<Candidate> for RankedItem {
    fn from(candidate: Candidate) -> Self {
        Self { candidate, interest: None, explanation: None }
    }
}

/// Recommends items from a snapshot; `catalog` decides which items are eligible. If too few
/// candidates remain, the most popular eligible items follow.
pub fn recommend(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    user: &mut SequenceState,
    params: &SequenceParams,
    request: &RecommendationRequest,
    workspace: &mut ScoringWorkspace,
) -> RankedAnswer {
    let scorer = snapshot.scorer();
    let affinity = snapshot.affinities.get(user.sequence.session_start);
    workspace.ranking.set_limit(request.candidate_limit());
    scorer.score(user, SessionIx::MAX, &affinity, params, workspace);
    let mut ranked = Vec::new();
    workspace.ranking.best(usize::MAX, |_| true, &mut ranked);
    let candidates_by_source = workspace.ranking.candidates().counts_by_source();

    let steps = &user.sequence.steps;
    let seen: Vec<ItemIx> = if request.exclude_seen { steps.iter().filter_map(|step| step.item).collect() } else { Vec::new() };
    let (exclude, filter) = (request.exclude.as_slice(), request.filter.as_ref());
    let rules = EligibilityRules {
        exclude,
        seen: &seen,
        filter,
        max_per_category: request.max_per_category,
        ..EligibilityRules::new(catalog, request.now)
    };
    let mut selection = ResultSelection::new(rules, request.limit, RecommendationRequest::MAX_LIMIT);
    ranked.iter().for_each(|candidate| selection.add_ranked(*candidate));
    let is_short = selection.needs_more();
    if is_short {
        let current = QueryContext {
            steps: user.sequence.current_session(),
            session: SessionIx::MAX,
            session_start: user.sequence.session_start,
            now: snapshot.offset,
        };
        let mut passed = ranked.iter().map(|candidate| candidate.item).chain(current.dismissed_items()).collect();
        visit_popular_items(snapshot, &rules, &mut passed, &mut |item, _| {
            // Scored below all ranked items, because popularity and ranker scores are not comparable.
            let score = selection.selected().last().map_or(0.0, |last| last.score - 1.0);
            selection.add_unranked(Candidate { item, score, source: SourceName::Trending });
            selection.needs_more()
        });
    }

    let removed = selection.removal_counts();
    let fallback = match () {
        () if snapshot.item_count == 0 => Fallback::EmptyCatalog,
        () if selection.selected().is_empty() => {
            if removed.by_request() > 0 {
                Fallback::FilteredOut
            } else {
                Fallback::Unavailable
            }
        }
        () if steps.is_empty() => Fallback::UnknownUser,
        () if is_short && removed.by_request() > 0 => Fallback::FilteredOut,
        () if selection.needs_more() && removed.unavailable > 0 => Fallback::Unavailable,
        () => Fallback::None,
    };
    let (selected, remainder) = selection.into_parts();
    let interest =
        |item| snapshot.weights().filter(|weights| Weights::item_count(weights) > 0).and_then(|weights| workspace.interest(weights, item));
    let interests: Vec<_> = selected.iter().map(|candidate| interest(candidate.item)).collect();
    let explanations =
        if request.explain { explain(&scorer, &selected, user, &affinity, params, workspace) } else { vec![None; selected.len()] };
    let selected_items = selected.into_iter().zip(interests).zip(explanations);
    let items = selected_items.map(|((candidate, interest), explanation)| RankedItem { candidate, interest, explanation }).collect();
    RankedAnswer { weights_version: snapshot.weights_version(), items, remainder, removed, candidates_by_source, fallback }
}
