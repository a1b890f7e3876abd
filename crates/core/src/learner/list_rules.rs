//! Applies the rules of merchandisers to the selected items of a list.

use super::item_lists::visit_popular_items;
use super::list_base::ListContext;
use crate::domain::{Candidate, ItemIx, SourceName};
use crate::ranking::{ListRules, ResultSelection, RuleTrace};
use rustc_hash::FxHashSet;

/// Applies required shares and promotions to a selection. Returns the result list, and the candidates
/// after it. With required shares or promotions, there are none: a later page ranks again.
/// `score_of` returns the score of an item that the selection lacks, and its source.
///
/// If a rule requires more items than the selection contains, popular items of the rule are added
/// first, except to a list of purchased items.
pub(super) fn apply_list_rules(
    context: &ListContext<'_>,
    mut selection: ResultSelection<'_>,
    score_of: impl Fn(ItemIx) -> (f32, SourceName),
    trace: &mut RuleTrace,
) -> (Vec<Candidate>, Vec<Candidate>) {
    let (rules, eligibility) = (context.list_rules, &context.eligibility);
    if rules.require.is_empty() && rules.promote.is_empty() {
        return selection.into_parts();
    }
    let length = selection.selected().len();
    // Promoted items do not count towards shares.
    let shown: Vec<_> = context.shown.iter().copied().filter(|item| !is_promoted(context, *item)).collect();
    if context.takes_other_items {
        add_required_items(context, &shown, &mut selection, trace);
    }
    let (mut list, rest) = selection.into_parts();
    list.extend(rest);
    let candidate_of = |item| {
        let (score, source) = score_of(item);
        eligibility.is_eligible(item).then_some(Candidate { item, score, source })
    };
    let (count, start) = (list.len(), context.shown.len());
    let page = start..start.saturating_add(context.limit);
    let promoted = rules.take_promoted(page, &mut list, candidate_of, trace);
    rules.apply_shares(eligibility.catalog, &shown, context.limit, &mut list, trace);
    if length < context.limit {
        // Required items replace items of a short list.
        list.truncate(length.saturating_sub(count - list.len()));
    }
    ListRules::insert_promoted(&mut list, promoted);
    list.truncate(context.limit);
    (list, Vec::new())
}

/// Adds popular items, so that the selection contains as many items of each rule's group, and as many
/// other items, as its list needs after the items of earlier pages. A list that is shorter than
/// requested needs fewer.
fn add_required_items(
    context: &ListContext<'_>,
    shown: &[ItemIx],
    selection: &mut ResultSelection<'_>,
    trace: &mut RuleTrace,
) {
    let length = shown.len() + selection.selected().len().min(context.limit);
    for rule in &context.list_rules.require {
        let others = length.saturating_sub(rule.max_count(length));
        for (of_group, needed) in [(true, rule.min_count(length)), (false, others)] {
            let catalog = context.eligibility.catalog;
            let is_of_group = |item: ItemIx| catalog.get(item).is_some_and(|item| rule.filter.matches(item));
            let selected = selection.selected().iter().map(|candidate| candidate.item);
            let counts = |item: &ItemIx| is_of_group(*item) == of_group && !is_promoted(context, *item);
            let present = shown.iter().copied().chain(selected.clone()).filter(counts).count();
            let mut missing = needed.saturating_sub(present);
            if missing == 0 {
                continue;
            }
            let mut visited: FxHashSet<ItemIx> = selected.collect();
            visit_popular_items(context.snapshot, &context.eligibility, &mut visited, &mut |item, popularity| {
                if is_of_group(item) != of_group || is_promoted(context, item) {
                    return true;
                }
                let score = selection.selected().last().map_or(popularity, |last| last.score - 1.0);
                let is_added = selection.add_required(Candidate { item, score, source: SourceName::Trending });
                if is_added {
                    trace.record_move(item, &rule.rule);
                    missing -= 1;
                }
                missing > 0
            });
        }
    }
}

fn is_promoted(context: &ListContext<'_>, item: ItemIx) -> bool {
    context.list_rules.promote.iter().any(|promotion| promotion.item == item)
}
