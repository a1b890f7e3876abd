//! The base of a list: the candidates from which it selects its items.

use super::item_lists::{add_similar_items, newest_items, popular_candidates};
use super::scorer::ScoringWorkspace;
use super::sequence_state::SequenceParams;
use super::snapshot::ModelSnapshot;
use crate::domain::{Candidate, ItemIx, KindId, SourceName, UserSequence};
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
    /// The items that the user has purchased.
    BuyAgain,
    /// The popular items.
    Trending,
    /// The newest items.
    New,
}

impl ListBase {
    /// Maximum number of items of [`ListBase::Similar`]. The last ones count.
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
    /// The event kind of a purchase.
    pub(super) purchase: Option<KindId>,
    /// Maximum number of items in the list.
    pub(super) limit: usize,
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
            let items = items.get(items.len().saturating_sub(ListBase::MAX_CONTEXT_ITEMS)..).unwrap_or_default();
            return add_similar_items(snapshot, eligibility, items, params, boost, workspace, selection);
        }
        ListBase::BuyAgain => purchased_items(context),
        ListBase::Trending => popular_candidates(context.snapshot, &context.eligibility, candidate_count(context)),
        ListBase::New => new_items(context),
    };
    boost(&mut candidates);
    candidates.into_iter().for_each(|candidate| selection.add_ranked(candidate));
}

/// Number of eligible candidates to collect. Without rules, later candidates cannot get into the list.
fn candidate_count(context: &ListContext<'_>) -> usize {
    let is_cut = context.list_rules.need_depth() || context.eligibility.max_per_category.is_some();
    if is_cut { MAX_BASE_CANDIDATES.max(context.limit) } else { context.limit }
}

/// The items that the user has purchased: the most often purchased item first, and among equal
/// numbers, the item of the latest purchase. The score is the number of purchases.
fn purchased_items(context: &ListContext<'_>) -> Vec<Candidate> {
    let steps = context.sequence.steps_with_kept();
    let purchases = steps.filter(|step| Some(step.kind) == context.purchase && !step.is_dismissal());
    let mut by_item: FxHashMap<ItemIx, (f32, usize)> = FxHashMap::default();
    for (index, item) in purchases.filter_map(|step| step.item).enumerate() {
        let (count, latest) = by_item.entry(item).or_default();
        *count += 1.0;
        *latest = index;
    }
    let mut items: Vec<_> = by_item.into_iter().collect();
    items.sort_unstable_by(|(_, a), (_, b)| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    let to_candidate =
        |(item, (count, _)): (ItemIx, (f32, usize))| Candidate { item, score: count, source: SourceName::Profile };
    items.into_iter().map(to_candidate).collect()
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
