//! The base of a list: the candidates from which it selects its items.

use super::item_history::ItemHistory;
use super::item_lists::{add_similar_items, newest_items, popular_candidates};
use super::scorer::ScoringWorkspace;
use super::sequence_state::SequenceParams;
use super::snapshot::ModelSnapshot;
use crate::domain::{Candidate, ItemIx, KindId, SourceName, Timestamp, UserSequence};
use crate::ranking::{EligibilityRules, ListRules, ResultSelection, RuleTrace, ScoreScale};
use rustc_hash::FxHashMap;

/// The candidates from which a list selects its items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ListBase {
    /// The items that are likely to be next, ranked for the user. Without user, the popular items.
    #[default]
    NextItems,
    /// The items that are similar to these items.
    Similar(Vec<ItemIx>),
    /// The items that are bought together with these items.
    BoughtTogether(Vec<ItemIx>),
    /// The items that the user has purchased, those first that are due again.
    BuyAgain,
    /// The popular items.
    Trending,
    /// The newest items.
    New,
}

impl ListBase {
    /// Maximum number of items of [`ListBase::Similar`] and [`ListBase::BoughtTogether`]. The last
    /// ones count.
    pub const MAX_CONTEXT_ITEMS: usize = 10;
}

/// Number of popular and of newest items that rules can reorder.
const MAX_BASE_CANDIDATES: usize = 2048;

/// What the candidates of a list depend on.
pub(super) struct ListContext<'a> {
    pub(super) snapshot: &'a ModelSnapshot,
    pub(super) sequence: &'a UserSequence,
    pub(super) params: &'a SequenceParams,
    pub(super) eligibility: EligibilityRules<'a>,
    pub(super) list_rules: &'a ListRules,
    pub(super) item_history: Option<&'a ItemHistory>,
    /// The event kind of a purchase.
    pub(super) purchase: Option<KindId>,
    /// The items of earlier pages, in their order.
    pub(super) shown: &'a [ItemIx],
    /// Maximum number of items in the list.
    pub(super) limit: usize,
    /// Whether rules may add items that the base of the list does not generate.
    pub(super) takes_other_items: bool,
}

/// Adds the candidates of a base to the selection, best first. [`ListBase::NextItems`] has none
/// here, because a ranking for the user gives its candidates.
pub(super) fn add_base_candidates(
    context: &ListContext<'_>,
    base: &ListBase,
    trace: &mut RuleTrace,
    workspace: &mut ScoringWorkspace,
    selection: &mut ResultSelection<'_>,
) {
    let boost = &mut |list: &mut Vec<Candidate>| {
        context.list_rules.apply_boosts(context.eligibility.catalog, ScoreScale::Linear, list, trace);
    };
    let mut candidates = match base {
        ListBase::NextItems => Vec::new(),
        ListBase::Similar(items) => {
            let ListContext { snapshot, params, eligibility, .. } = context;
            let items = latest_context_items(items);
            return add_similar_items(snapshot, eligibility, items, params, boost, workspace, selection);
        }
        ListBase::BoughtTogether(items) => {
            let partners = context.snapshot.baskets.partners(latest_context_items(items));
            let to_candidate = |(item, score)| Candidate { item, score, source: SourceName::Transitions };
            partners.into_iter().map(to_candidate).collect()
        }
        ListBase::BuyAgain => purchased_items(context),
        ListBase::Trending => popular_candidates(context.snapshot, &context.eligibility, candidate_count(context)),
        ListBase::New => new_items(context),
    };
    boost(&mut candidates);
    candidates.into_iter().for_each(|candidate| selection.add_ranked(candidate));
    if let ListBase::BoughtTogether(items) = base
        && selection.needs_more()
    {
        fill_with_similar_items(context, latest_context_items(items), boost, workspace, selection);
    }
}

/// Fills a list up with items that are similar to the context items, with scores below those of the
/// list.
fn fill_with_similar_items(
    context: &ListContext<'_>,
    items: &[ItemIx],
    boost: &mut dyn FnMut(&mut Vec<Candidate>),
    workspace: &mut ScoringWorkspace,
    selection: &mut ResultSelection<'_>,
) {
    let lowest = selection.selected().last().map_or(1.0, |last| last.score);
    let mut below_the_list = |list: &mut Vec<Candidate>| {
        boost(list);
        list.iter_mut().for_each(|candidate| candidate.score = lowest * candidate.score / (1.0 + candidate.score));
    };
    let ListContext { snapshot, params, eligibility, .. } = context;
    add_similar_items(snapshot, eligibility, items, params, &mut below_the_list, workspace, selection);
}

/// Number of eligible candidates to collect. Unless rules reorder candidates or a category limit
/// removes them, later candidates cannot get into the list, except by passing demoted ones.
fn candidate_count(context: &ListContext<'_>) -> usize {
    let is_cut = context.list_rules.reorder() || context.eligibility.max_per_category.is_some();
    let count = if is_cut { MAX_BASE_CANDIDATES.max(context.limit) } else { context.limit };
    count + context.eligibility.demoted.len()
}

fn latest_context_items(items: &[ItemIx]) -> &[ItemIx] {
    items.get(items.len().saturating_sub(ListBase::MAX_CONTEXT_ITEMS)..).unwrap_or_default()
}

/// The items that the user has purchased. The score is the number of purchases times how much the
/// item is due again, see [`BasketStatistics::dueness`]. Among equal scores, the smaller item number
/// comes first.
///
/// [`BasketStatistics::dueness`]: crate::candidates::BasketStatistics::dueness
fn purchased_items(context: &ListContext<'_>) -> Vec<Candidate> {
    let Some(purchase) = context.purchase else { return Vec::new() };
    let mut by_item: FxHashMap<ItemIx, (f32, Timestamp)> = FxHashMap::default();
    let steps = context.sequence.steps_with_kept().filter(|step| step.kind == purchase && !step.is_dismissal());
    for (item, at) in steps.filter_map(|step| Some((step.item?, step.at))) {
        let (count, latest) = by_item.entry(item).or_insert((0.0, at));
        *count += 1.0;
        *latest = at.max(*latest);
    }
    for (item, at) in context.item_history.into_iter().flat_map(|history| history.events_of(purchase)) {
        by_item.entry(item).or_insert((1.0, at));
    }
    let (baskets, now) = (&context.snapshot.baskets, context.eligibility.now);
    let to_candidate = |(item, (count, latest))| {
        let score = count * baskets.dueness(item, latest, now);
        Candidate { item, score, source: SourceName::Profile }
    };
    let mut items: Vec<_> = by_item.into_iter().map(to_candidate).collect();
    items.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.item.cmp(&b.item)));
    items
}

/// The newest eligible items, the newest first. The score of the item at position n is 1 / n.
fn new_items(context: &ListContext<'_>) -> Vec<Candidate> {
    // Hidden items stay in the list, so that the selection counts them as removed.
    let visible = EligibilityRules { hide: &[], ..context.eligibility };
    let newest = newest_items(context.snapshot).rev().filter(|item| visible.is_eligible(*item));
    let to_candidate =
        |(index, item): (usize, ItemIx)| Candidate { item, score: 1.0 / (index + 1) as f32, source: SourceName::New };
    let mut eligible = 0;
    let is_needed = |item: &ItemIx| {
        let is_needed = eligible < candidate_count(context);
        eligible += usize::from(context.eligibility.is_eligible(*item));
        is_needed
    };
    newest.take_while(is_needed).enumerate().map(to_candidate).collect()
}
