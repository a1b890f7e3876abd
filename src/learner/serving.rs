//! Serving: recommendation requests and their results.

use crate::candidates::{QueryContext, SessionIx};
use crate::domain::{
    Candidate, Catalog, Fallback, ItemIx, KindId, RemovalCounts, SourceName, Step, Timestamp, UserSequence,
};
use crate::nn::Weights;
use crate::ranking::{EligibilityRules, ItemFilter, ResultSelection};

use rustc_hash::FxHashSet;

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
    /// Which of the user's own items to hide.
    pub hidden: HiddenItems,
}

/// Which items of the user's remembered steps are not recommended again for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiddenItems {
    /// Milliseconds for which a dismissed item is hidden, unless the user selects it again.
    pub dismissed_for_ms: i64,
    /// Milliseconds for which a purchased item is hidden; 0: not at all.
    pub purchased_for_ms: i64,
    /// The kind of event that purchases an item.
    pub purchase: Option<KindId>,
}

impl Default for HiddenItems {
    fn default() -> Self {
        Self { dismissed_for_ms: i64::MAX, purchased_for_ms: 0, purchase: None }
    }
}

impl HiddenItems {
    /// The items of `steps` that are hidden at `now`.
    #[must_use]
    pub fn items_hidden_at(&self, steps: &[Step], now: Timestamp) -> Vec<ItemIx> {
        let hides = |position: usize, step: &Step| {
            let age = now.saturating_sub(step.at);
            let selected_again =
                || steps.iter().skip(position + 1).any(|later| later.item == step.item && !later.is_dismissal());
            let is_dismissed = step.is_dismissal() && age <= self.dismissed_for_ms && !selected_again();
            let is_purchased = Some(step.kind) == self.purchase && !step.is_dismissal() && age < self.purchased_for_ms;
            is_dismissed || is_purchased
        };
        steps
            .iter()
            .enumerate()
            .filter(|(position, step)| hides(*position, step))
            .filter_map(|(_, step)| step.item)
            .collect()
    }
}

impl RecommendationRequest {
    /// The largest allowed `limit`.
    pub const MAX_LIMIT: usize = 1000;

    /// Creates a request without filters or exclusions.
    #[must_use]
    pub fn new(limit: usize, now: Timestamp) -> Self {
        Self {
            limit,
            now,
            exclude: Vec::new(),
            exclude_seen: false,
            filter: None,
            max_per_category: None,
            explain: false,
            hidden: HiddenItems::default(),
        }
    }

    /// Numbers of candidates to rank, one after the other until the list is full. The numbers do
    /// not depend on `limit`, so that a shorter list is always the beginning of a longer one. A
    /// filter or category limit removes many candidates, so it starts with more.
    fn candidate_limits(&self) -> &'static [usize] {
        if self.filter.is_some() || self.max_per_category.is_some() {
            &[MAX_CANDIDATE_LIMIT]
        } else {
            &[INITIAL_CANDIDATE_LIMIT, MAX_CANDIDATE_LIMIT]
        }
    }
}

/// Number of candidates that are ranked at first.
const INITIAL_CANDIDATE_LIMIT: usize = 256;
/// Largest number of candidates that are ranked.
const MAX_CANDIDATE_LIMIT: usize = 2048;

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

/// Adds ranked candidates to the selection: `rank` ranks up to each of the limits in turn, until
/// the list is full or no candidate is left. Each item counts once, in `ranked`.
fn select_ranked_candidates(
    limits: &[usize],
    rank: &mut dyn FnMut(usize, &mut Vec<Candidate>),
    ranked: &mut FxHashSet<ItemIx>,
    selection: &mut ResultSelection<'_>,
) {
    let mut batch = Vec::new();
    for limit in limits {
        batch.clear();
        rank(*limit, &mut batch);
        batch
            .iter()
            .filter(|candidate| ranked.insert(candidate.item))
            .for_each(|candidate| selection.add_ranked(*candidate));
        if batch.len() < *limit || !selection.needs_more() {
            return;
        }
    }
}

/// The reason why a list is not personalised or not full; `was_list_short` if the ranked candidates did
/// not fill it.
fn fallback_reason(
    item_count: usize,
    is_known: bool,
    was_list_short: bool,
    selection: &ResultSelection<'_>,
) -> Fallback {
    let removed = selection.removal_counts();
    match () {
        () if item_count == 0 => Fallback::EmptyCatalog,
        () if selection.selected().is_empty() && removed.removed_by_request() > 0 => Fallback::FilteredOut,
        () if selection.selected().is_empty() => Fallback::Unavailable,
        () if !is_known => Fallback::UnknownUser,
        () if was_list_short && removed.removed_by_request() > 0 => Fallback::FilteredOut,
        () if selection.needs_more() && removed.unavailable > 0 => Fallback::Unavailable,
        () => Fallback::None,
    }
}

/// Fills a short list with the most popular eligible items that are not `ranked`.
fn add_popular_items(
    snapshot: &ModelSnapshot,
    sequence: &UserSequence,
    rules: &EligibilityRules<'_>,
    ranked: &FxHashSet<ItemIx>,
    selection: &mut ResultSelection<'_>,
) {
    let current = QueryContext {
        steps: sequence.current_session(),
        session: SessionIx::MAX,
        session_start: sequence.session_start,
        now: snapshot.offset,
    };
    let is_known = !sequence.steps.is_empty();
    let mut passed = ranked.iter().copied().chain(current.dismissed_items()).collect();
    visit_popular_items(snapshot, rules, &mut passed, &mut |item, popularity| {
        // Scored below all ranked items, because popularity and ranker scores are not comparable.
        let score =
            if is_known { selection.selected().last().map_or(0.0, |last| last.score - 1.0) } else { popularity };
        selection.add_unranked(Candidate { item, score, source: SourceName::Trending });
        selection.needs_more()
    });
}

/// Recommends items from a snapshot; `catalog` decides which items are eligible. If too few
/// candidates remain, the most popular eligible items follow.
///
/// The list depends on the user's sequence, the snapshot, the catalog and the request alone. A
/// hidden state that `user` holds is not used: see [`recommend_for_sequence`].
pub fn recommend(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    user: &SequenceState,
    params: &SequenceParams,
    request: &RecommendationRequest,
    workspace: &mut ScoringWorkspace,
) -> RankedAnswer {
    recommend_for_sequence(snapshot, catalog, &user.sequence, params, request, workspace)
}

/// Recommends like [`recommend`]. Computes the hidden state from the last
/// [`SequenceParams::window`] steps under the snapshot's weights. A state that was carried along
/// would also depend on the versions of the weights at the times of earlier requests and restarts.
pub fn recommend_for_sequence(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    sequence: &UserSequence,
    params: &SequenceParams,
    request: &RecommendationRequest,
    workspace: &mut ScoringWorkspace,
) -> RankedAnswer {
    let user = &mut SequenceState::restore(sequence.clone(), None);
    let scorer = snapshot.scorer();
    let affinity = snapshot.affinities.get(sequence.session_start);
    let steps = &sequence.steps;
    let mut seen = request.hidden.items_hidden_at(steps, request.now);
    if request.exclude_seen {
        seen.extend(steps.iter().filter_map(|step| step.item));
    }
    let (exclude, filter) = (request.exclude.as_slice(), request.filter.as_ref());
    let rules = EligibilityRules {
        exclude,
        seen: &seen,
        filter,
        max_per_category: request.max_per_category,
        ..EligibilityRules::new(catalog, request.now)
    };
    let mut selection = ResultSelection::new(rules, request.limit, RecommendationRequest::MAX_LIMIT);
    // Without a step there is nothing to rank by: the list is what is popular.
    let is_known = !steps.is_empty();
    let (mut ranked, mut candidates_by_source) = (FxHashSet::default(), Default::default());
    if is_known {
        let mut rank = |limit, batch: &mut Vec<Candidate>| {
            workspace.ranking.set_limit(limit);
            scorer.score(user, SessionIx::MAX, &affinity, params, workspace);
            workspace.ranking.best_candidates(usize::MAX, |_| true, batch);
            candidates_by_source = workspace.ranking.candidates().counts_by_source();
        };
        select_ranked_candidates(request.candidate_limits(), &mut rank, &mut ranked, &mut selection);
    }
    let is_short = selection.needs_more();
    if is_short {
        add_popular_items(snapshot, sequence, &rules, &ranked, &mut selection);
    }

    let removed = selection.removal_counts();
    let fallback = fallback_reason(snapshot.item_count, is_known, is_short, &selection);
    let (selected, remainder) = selection.into_parts();
    let interest = |item| {
        snapshot
            .weights()
            .filter(|weights| is_known && Weights::item_count(weights) > 0)
            .and_then(|weights| workspace.predicted_value(weights, item))
    };
    let interests: Vec<_> = selected.iter().map(|candidate| interest(candidate.item)).collect();
    let explanations = if request.explain && is_known {
        explain(&scorer, &selected, user, &affinity, params, workspace)
    } else {
        vec![None; selected.len()]
    };
    let selected_items = selected.into_iter().zip(interests).zip(explanations);
    let items = selected_items
        .map(|((candidate, interest), explanation)| RankedItem { candidate, interest, explanation })
        .collect();
    RankedAnswer {
        weights_version: snapshot.weights_version(),
        items,
        remainder,
        removed,
        candidates_by_source,
        fallback,
    }
}
