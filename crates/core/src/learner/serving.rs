//! Serving: recommends items from a model snapshot.

use crate::candidates::{CandidateChooser, CandidateSet, QueryContext, SessionIx};
use crate::domain::{
    Attributes, Candidate, Catalog, Fallback, ItemIx, KindId, Objective, Offset, PredictedInterest, RemovalCounts,
    SourceName, Step, Timestamp, UserSequence,
};
use crate::ranking::{
    EligibilityRules, FeatureContext, ItemFilter, ListRules, ResultSelection, RuleTrace, SourceAffinity,
};

use rustc_hash::FxHashSet;
use std::sync::Arc;

use super::explain::{Explanation, explain};
use super::interests::InterestPredictor;
use super::item_exclusions::{FatiguedItems, ItemExclusions};
use super::item_lists::visit_popular_items;
use super::list_base::{ListBase, ListContext, add_base_candidates};
use super::list_rules::apply_list_rules;
use super::rule_candidates::{MAX_LIFTED_CANDIDATES, RuleChooser};
use super::scorer::{DEFAULT_CANDIDATE_LIMIT, ScoredUser, ScoringWorkspace};
use super::sequence_state::{SequenceParams, SequenceState};
use super::snapshot::{ModelSnapshot, UserMemory};

/// A request for recommendations, as the model sees it: item numbers instead of ids.
#[derive(Debug, Clone, PartialEq)]
pub struct RecommendationRequest {
    /// Maximum number of items in the list.
    pub limit: usize,
    /// The time of the request.
    pub now: Timestamp,
    /// Items that the request excludes, in ascending order.
    pub exclude: Vec<ItemIx>,
    /// Whether to exclude the items in the user's sequence.
    pub exclude_seen: bool,
    /// A filter on item attributes.
    pub filter: Option<ItemFilter>,
    /// Maximum number of items per category.
    pub max_per_category: Option<usize>,
    /// Whether to explain the items.
    pub explain: bool,
    /// Whether to describe the items. It does not affect the ranking.
    pub details: bool,
    /// For how long dismissed and purchased items are hidden.
    pub hidden: HiddenItems,
    /// Items that are excluded by the user's item history.
    pub exclusions: ItemExclusions,
    /// The candidates from which the list selects its items.
    pub base: ListBase,
    /// What the ranking is for; `None`: the next event.
    pub objective: Option<Objective>,
    /// The rules that apply to the list.
    pub rules: Arc<ListRules>,
    /// The placement of the list. It does not affect the ranking.
    pub placement: Option<Arc<str>>,
    /// A digest of the parameters that the client sent, for the impression.
    pub digest: u64,
    /// The context of the request, for declared features.
    pub context: Attributes,
    /// Whether later pages of the list may follow. Without them, the answer has no remainder.
    pub has_later_pages: bool,
    /// The items of the earlier pages of the list, in their order. The answer continues the list.
    pub shown: Arc<[ItemIx]>,
}

/// For how long an item is not recommended to a user who has dismissed or purchased it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HiddenItems {
    /// Milliseconds for which a dismissed item is hidden, unless the user selects it again.
    pub dismissed_for_ms: i64,
    /// Milliseconds for which a purchased item is hidden; 0 disables the rule.
    pub purchased_for_ms: i64,
    /// The event kind of a purchase.
    pub purchase: Option<KindId>,
}

impl Default for HiddenItems {
    fn default() -> Self {
        Self { dismissed_for_ms: i64::MAX, purchased_for_ms: 0, purchase: None }
    }
}

impl HiddenItems {
    /// The items of a user's steps that are hidden at time `now`.
    #[must_use]
    pub fn items_hidden_at(&self, sequence: &UserSequence, now: Timestamp) -> Vec<ItemIx> {
        let steps = || sequence.steps_with_kept();
        let hides = |position: usize, step: &Step| {
            let age = now.saturating_sub(step.at);
            let selected_again = || {
                steps().enumerate().any(|(index, later)| {
                    later.item == step.item && !later.is_dismissal() && (later.at, index) > (step.at, position)
                })
            };
            let is_dismissed = step.is_dismissal() && age <= self.dismissed_for_ms && !selected_again();
            let is_purchased = Some(step.kind) == self.purchase && !step.is_dismissal() && age < self.purchased_for_ms;
            is_dismissed || is_purchased
        };
        steps()
            .enumerate()
            .filter(|(position, step)| hides(*position, step))
            .filter_map(|(_, step)| step.item)
            .collect()
    }
}

impl RecommendationRequest {
    /// Value of `limit` if nothing else is requested.
    pub const DEFAULT_LIMIT: usize = 20;
    /// Largest allowed value of `limit`.
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
            details: false,
            hidden: HiddenItems::default(),
            exclusions: ItemExclusions::default(),
            base: ListBase::default(),
            objective: None,
            rules: Arc::default(),
            placement: None,
            digest: 0,
            context: Attributes::default(),
            has_later_pages: true,
            shown: Arc::default(),
        }
    }

    /// Numbers of candidates to rank. If ranking with the first number does not fill the list, the
    /// next number is used. The numbers do not depend on the length of the list, so that a short
    /// list is always the beginning of a longer one. A request with a category limit starts with the
    /// largest number, because the limit may remove most of the candidates.
    fn candidate_limits(&self) -> &'static [usize] {
        if self.max_per_category.is_some() {
            &[MAX_CANDIDATE_LIMIT]
        } else {
            &[DEFAULT_CANDIDATE_LIMIT, 2 * DEFAULT_CANDIDATE_LIMIT, MAX_CANDIDATE_LIMIT]
        }
    }

    /// Whether the candidates after the list are needed: for later pages, or because rules may put them
    /// into the list.
    fn needs_remainder(&self) -> bool {
        self.has_later_pages || !self.rules.require.is_empty() || !self.rules.promote.is_empty()
    }

    /// Whether the list is so long that required shares need more than the lifted candidates.
    fn needs_all_candidates(&self) -> bool {
        !self.rules.require.is_empty() && self.shown.len().saturating_add(self.limit) > MAX_LIFTED_CANDIDATES
    }

    /// The base of a list that is not ranked for a user. Boosts can lift any popular item into the
    /// list of an unknown user, so all popular items are candidates then. Without such rules, popular
    /// items only fill up the list.
    fn unranked_base(&self) -> &ListBase {
        if self.base == ListBase::NextItems && self.rules.need_depth() { &ListBase::Trending } else { &self.base }
    }
}

/// Largest number of candidates in a ranking.
const MAX_CANDIDATE_LIMIT: usize = CandidateSet::MAX_EXAMINED;

/// A list of recommended items, with diagnostics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RankedAnswer {
    /// The version of the weights that ranked the items.
    pub weights_version: u64,
    /// The offset of the snapshot that ranked the items.
    pub snapshot_offset: Offset,
    /// The items, best first. Among equal scores, the smaller item number comes first.
    pub items: Vec<RankedItem>,
    /// The candidates that follow the list, best first, for further pages.
    pub remainder: Vec<Candidate>,
    /// Numbers of removed candidates, by reason.
    pub removed: RemovalCounts,
    /// The rules that removed candidates, with their numbers, if an explanation is requested.
    pub removed_by_rules: Vec<(Arc<str>, usize)>,
    /// Number of ranked candidates with evidence from each source, in the order of
    /// [`SourceName::ALL`].
    pub candidates_by_source: [usize; SourceName::ALL.len()],
    /// The reason why the list is not personalised or not full; [`Fallback::None`] if it is
    /// personalised and full.
    pub fallback: Fallback,
    /// The kind of the events whose values are predicted; `None` if no values are predicted.
    pub interest_kind: Option<KindId>,
}

impl RankedAnswer {
    /// Predicts the value of an event of the user with each item of the list, for the kind with the
    /// most learned values. Without user id, predicts for an average user.
    pub fn predict_interest(&mut self, predictor: &InterestPredictor, user: Option<&str>, at: Timestamp) {
        self.interest_kind = predictor.main_kind();
        let items = self.items.iter().map(|ranked| ranked.candidate.item);
        let Some(predicted) = self.interest_kind.and_then(|kind| predictor.predict(kind, user, items, at)) else {
            return;
        };
        self.items.iter_mut().zip(predicted).for_each(|(item, predicted)| item.interest = Some(predicted));
    }
}

/// One recommended item.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedItem {
    /// The item with its score and source.
    pub candidate: Candidate,
    /// The predicted value of an event of the user with the item; `None` if no values are predicted.
    pub interest: Option<PredictedInterest>,
    /// The explanation, if requested.
    pub explanation: Option<Explanation>,
    /// The rules that moved the item or put it into the list.
    pub rules: Vec<Arc<str>>,
}

impl From<Candidate> for RankedItem {
    fn from(candidate: Candidate) -> Self {
        Self { candidate, interest: None, explanation: None, rules: Vec::new() }
    }
}

/// Ranks candidates and adds them to the selection. Calls `rank` with one number of candidates of
/// `limits` after the other, until the list is full or `rank` returns that there are no more
/// candidates. If the list is still not full, `ranked` collects the items, so that each item is added
/// only once.
fn select_ranked_candidates(
    request: &RecommendationRequest,
    rank: &mut dyn FnMut(usize, &mut Vec<Candidate>) -> bool,
    ranked: &mut FxHashSet<ItemIx>,
    selection: &mut ResultSelection<'_>,
) {
    let mut batch = Vec::new();
    for limit in request.candidate_limits() {
        let has_more = rank(*limit, &mut batch);
        for candidate in batch.iter().filter(|candidate| !ranked.contains(&candidate.item)) {
            if !selection.needs_more() && !request.needs_remainder() {
                break;
            }
            selection.add_ranked(*candidate);
        }
        if !selection.needs_more() && !request.needs_all_candidates() {
            break;
        }
        ranked.extend(batch.iter().map(|candidate| candidate.item));
        if !has_more {
            break;
        }
    }
}

fn as_chooser<'c>(chooser: &'c mut Option<RuleChooser<'_>>) -> Option<&'c mut dyn CandidateChooser> {
    chooser.as_mut().map(|chooser| chooser as &mut dyn CandidateChooser)
}

/// A candidate that was not ranked, because the filter or a rule removes it. The selection counts it.
fn removed_candidate(item: ItemIx) -> Candidate {
    Candidate { item, score: f32::MIN, source: SourceName::Trending }
}

/// Returns the reason why the list is not personalised or not full. `was_list_short` says whether
/// the ranked candidates were too few to fill the list.
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

/// Fills up a list with the most popular eligible items that are not in `ranked`.
fn add_popular_items(
    snapshot: &ModelSnapshot,
    sequence: &UserSequence,
    rules: &EligibilityRules<'_>,
    is_known: bool,
    ranked: &FxHashSet<ItemIx>,
    selection: &mut ResultSelection<'_>,
) {
    let current = QueryContext {
        steps: sequence.current_session(),
        session: SessionIx::MAX,
        session_start: sequence.session_start,
        now: snapshot.source_time,
        ..QueryContext::default()
    };
    let mut visited_items = ranked.iter().copied().chain(current.dismissed_items()).collect();
    visit_popular_items(snapshot, rules, &mut visited_items, &mut |item, popularity| {
        // Score popular items below all ranked items, because popularity and ranker scores are not
        // comparable.
        let score =
            if is_known { selection.selected().last().map_or(0.0, |last| last.score - 1.0) } else { popularity };
        selection.add_unranked(Candidate { item, score, source: SourceName::Trending });
        selection.needs_more()
    });
}

/// The rules of a request on which items are eligible.
fn rules_of_request<'a>(
    catalog: &'a Catalog,
    request: &'a RecommendationRequest,
    (seen, fatigued): (&'a [ItemIx], &'a FatiguedItems),
) -> EligibilityRules<'a> {
    EligibilityRules {
        exclude: &request.exclude,
        seen,
        fatigued: &fatigued.dropped,
        demoted: &fatigued.demoted,
        filter: request.filter.as_ref(),
        hide: &request.rules.hide,
        max_per_category: request.max_per_category,
        ..EligibilityRules::new(catalog, request.now)
    }
}

fn sorted(items: &[ItemIx]) -> Vec<ItemIx> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items
}

/// A listed item with the rules that moved it.
fn to_ranked_item(
    (candidate, explanation): (Candidate, Option<Explanation>),
    (catalog, trace): (&Catalog, &RuleTrace),
    request: &RecommendationRequest,
) -> RankedItem {
    let rules = request.rules.rules_that_moved(candidate.item, catalog, trace);
    let explanation = if request.explain { with_rules(explanation, &rules) } else { None };
    RankedItem { candidate, interest: None, explanation, rules }
}

/// Adds the rules that moved an item to its explanation.
fn with_rules(explanation: Option<Explanation>, rules: &[Arc<str>]) -> Option<Explanation> {
    if rules.is_empty() {
        return explanation;
    }
    Some(Explanation { rules: rules.to_vec(), ..explanation.unwrap_or_default() })
}

/// What the scorer needs to know of a user at time `now`. If the user's last event is longer ago than
/// an idle gap, the next event begins a session.
pub(super) fn scored_user<'a>(
    sequence: &UserSequence,
    affinity: &'a SourceAffinity,
    memory: UserMemory<'a>,
    context: &'a Attributes,
    now: Timestamp,
    params: &SequenceParams,
) -> ScoredUser<'a> {
    let is_idle = |last: &Step| now.saturating_sub(last.at) > params.idle_gap_ms;
    ScoredUser {
        session: SessionIx::MAX,
        affinity,
        profile: memory.profile,
        begins_session: sequence.steps.last().is_none_or(is_idle),
        declared: FeatureContext { user: memory.attributes, context: Some(context) },
    }
}

/// The items that the user's events exclude, in ascending order, and those that were shown too often.
fn items_hidden_from_user(
    sequence: &UserSequence,
    memory: UserMemory<'_>,
    request: &RecommendationRequest,
) -> (Vec<ItemIx>, FatiguedItems) {
    let mut seen = request.hidden.items_hidden_at(sequence, request.now);
    if request.exclude_seen {
        seen.extend(sequence.steps.iter().filter_map(|step| step.item));
    }
    let exclusions = &request.exclusions;
    exclusions.add_items_with_events(sequence, memory.item_history, request.now, &mut seen);
    seen.sort_unstable();
    (seen, exclusions.fatigued_items(memory.item_history, request.now))
}

/// What the candidates of a list depend on.
fn list_context<'a>(
    snapshot: &'a ModelSnapshot,
    sequence: &'a UserSequence,
    memory: UserMemory<'a>,
    params: &'a SequenceParams,
    request: &'a RecommendationRequest,
    eligibility: EligibilityRules<'a>,
) -> ListContext<'a> {
    ListContext {
        snapshot,
        sequence,
        params,
        eligibility,
        list_rules: &request.rules,
        item_history: memory.item_history,
        purchase: request.hidden.purchase,
        shown: &request.shown,
        limit: request.limit,
        takes_other_items: request.base != ListBase::BuyAgain,
    }
}

/// Recommends items from a snapshot. `catalog` says which items can be recommended at the time of
/// the request. If too few candidates are eligible, the most popular eligible items fill up the
/// list.
///
/// The list depends only on the user's sequence and memory, the snapshot, the catalog and the
/// request. The cached hidden state of `user` is not used, see [`recommend_for_sequence`].
pub fn recommend(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    user: &SequenceState,
    memory: UserMemory<'_>,
    params: &SequenceParams,
    request: &RecommendationRequest,
    workspace: &mut ScoringWorkspace,
) -> RankedAnswer {
    recommend_for_sequence(snapshot, catalog, &user.sequence, memory, params, request, workspace)
}

/// Recommends items for a sequence, like [`recommend`]. Computes the hidden state from the last
/// [`SequenceParams::window`] steps with the weights of the snapshot. A cached hidden state would
/// depend on the weights in use at earlier requests and restarts, so the list would too.
pub fn recommend_for_sequence(
    snapshot: &ModelSnapshot,
    catalog: &Catalog,
    sequence: &UserSequence,
    memory: UserMemory<'_>,
    params: &SequenceParams,
    request: &RecommendationRequest,
    workspace: &mut ScoringWorkspace,
) -> RankedAnswer {
    let user = &mut SequenceState::restore(sequence.clone(), None);
    let scorer = snapshot.scorer_for(request.objective);
    let affinity = snapshot.affinities.affinity_of_session(sequence.session_start);
    let (seen, fatigued) = items_hidden_from_user(sequence, memory, request);
    let shown = sorted(&request.shown);
    let eligible = rules_of_request(catalog, request, (&seen, &fatigued));
    let rules = EligibilityRules { unproven: Some(&snapshot.unproven), shown: &shown, ..eligible };
    let mut selection = ResultSelection::new(rules, request.limit, RecommendationRequest::MAX_LIMIT);
    // Without a step or a profile there is no query to rank by, so the list contains popular items.
    let is_known = !sequence.steps.is_empty() || memory.profile.is_some();
    let is_ranked = is_known && request.base == ListBase::NextItems;
    let about = scored_user(sequence, &affinity, memory, &request.context, request.now, params);
    let context = list_context(snapshot, sequence, memory, params, request, rules);
    let mut trace = RuleTrace::default();
    let mut chooser = RuleChooser::of_list(rules, &request.rules);
    let (mut ranked, mut candidates_by_source) = (FxHashSet::default(), Default::default());
    if is_ranked {
        let mut rank = |limit, batch: &mut Vec<Candidate>| {
            workspace.ranking.set_limit(limit, &[]);
            scorer.score_chosen(user, &about, params, as_chooser(&mut chooser), workspace);
            let boosted = |item, score| request.rules.boosted_log_score(catalog, item, score, &mut trace);
            workspace.ranking.best_candidates(boosted, batch);
            let candidates = workspace.ranking.candidates();
            candidates_by_source = candidates.counts_by_source();
            batch.extend(chooser.iter().flat_map(RuleChooser::removed).copied().map(removed_candidate));
            candidates.has_more()
        };
        select_ranked_candidates(request, &mut rank, &mut ranked, &mut selection);
    } else {
        add_base_candidates(&context, request.unranked_base(), &mut trace, workspace, &mut selection);
    }
    let is_short = selection.needs_more();
    if is_short && (is_ranked || *request.unranked_base() == ListBase::NextItems) {
        add_popular_items(snapshot, sequence, &rules, is_known, &ranked, &mut selection);
    }
    selection.add_demoted(&mut trace);

    let (removed, has_candidates) = (selection.removal_counts(), is_known || request.base != ListBase::NextItems);
    let fallback = fallback_reason(snapshot.item_count, has_candidates, is_short, &selection);
    let removed_by_rules = if request.explain { selection.counts_by_hiding_rule() } else { Vec::new() };
    let score_of = |item: ItemIx| {
        let ranking = &workspace.ranking;
        let scored = if is_ranked { ranking.score_of(item).zip(ranking.source_of(item)) } else { None };
        scored.unwrap_or((snapshot.sources.popularity(item, snapshot.source_time), SourceName::Trending))
    };
    let (selected, mut remainder) = apply_list_rules(&context, selection, score_of, &mut trace);
    if !request.has_later_pages {
        remainder.clear();
    }
    let explanations = if request.explain && is_ranked {
        let mut rescore = |other: &mut _, workspace: &mut ScoringWorkspace| {
            scorer.score_chosen(other, &about, params, as_chooser(&mut chooser), workspace);
        };
        explain(&scorer, request.objective, &selected, user, &mut rescore, workspace)
    } else {
        vec![None; selected.len()]
    };
    let ranked_item = |listed| to_ranked_item(listed, (catalog, &trace), request);
    let items = selected.into_iter().zip(explanations).map(ranked_item).collect();
    RankedAnswer {
        weights_version: snapshot.weights_version(),
        snapshot_offset: snapshot.offset(),
        items,
        remainder,
        removed,
        removed_by_rules,
        candidates_by_source,
        fallback,
        interest_kind: None,
    }
}
