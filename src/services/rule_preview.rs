//! The effect of a rule: compares a list with the rule to the same list without it.

use crate::domain::{ItemIx, RankingRule, RuleConsequence};
use crate::learner::RankedItem;
use rustc_hash::FxHashMap;

/// An item that has different positions in the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListChange {
    /// The item.
    pub item: ItemIx,
    /// The position without the rule, counted from 1; `None` if the list does not contain the item.
    pub position_without: Option<usize>,
    /// The position with the rule.
    pub position_with: Option<usize>,
    /// Why the positions differ.
    pub reason: ChangeReason,
}

/// Why an item has another position with a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeReason {
    /// The rule promotes the item.
    Promoted,
    /// The rule boosts the item.
    Boosted,
    /// The rule requires a share of items, and moves the item for it.
    Required,
    /// The rule hides the item.
    Hidden,
    /// The rule moves or hides other items.
    Displaced,
}

/// The items that have different positions without and with a rule: first those of the list with the
/// rule, in its order, then the missing ones. `hides` tells whether the rule hides an item.
#[must_use]
pub fn list_changes(
    without: &[RankedItem],
    with: &[RankedItem],
    (id, rule): (&str, &RankingRule),
    hides: impl Fn(ItemIx) -> bool,
) -> Vec<ListChange> {
    let (positions_without, positions_with) = (positions(without), positions(with));
    let is_moved = |listed: &RankedItem| listed.rules.iter().any(|name| &**name == id);
    let reason_of = |listed: &RankedItem| match rule.consequence {
        _ if !is_moved(listed) => ChangeReason::Displaced,
        RuleConsequence::Promote { .. } => ChangeReason::Promoted,
        RuleConsequence::Boost(_) => ChangeReason::Boosted,
        RuleConsequence::Require { .. } => ChangeReason::Required,
        RuleConsequence::Hide { .. } => ChangeReason::Hidden,
    };
    let change_of = |listed: &RankedItem| {
        let item = listed.candidate.item;
        let (position_without, position_with) =
            (positions_without.get(&item).copied(), positions_with.get(&item).copied());
        let is_missing = position_with.is_none();
        let reason = if is_missing && hides(item) { ChangeReason::Hidden } else { reason_of(listed) };
        ListChange { item, position_without, position_with, reason }
    };
    let missing = without.iter().filter(|listed| !positions_with.contains_key(&listed.candidate.item));
    let changes = with.iter().chain(missing).map(change_of);
    changes.filter(|change| change.position_without != change.position_with).collect()
}

/// The position of each item, counted from 1.
fn positions(list: &[RankedItem]) -> FxHashMap<ItemIx, usize> {
    (1..).zip(list).map(|(position, listed)| (listed.candidate.item, position)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Candidate, ItemBoost, RuleCondition, SourceName};
    use std::sync::Arc;

    /// A list of items, each with the rules that moved it.
    fn list(items: &[(ItemIx, &[&str])]) -> Vec<RankedItem> {
        let listed = |(item, rules): &(ItemIx, &[&str])| RankedItem {
            rules: rules.iter().map(|rule| Arc::from(*rule)).collect(),
            ..RankedItem::from(Candidate { item: *item, score: 0.0, source: SourceName::Trending })
        };
        items.iter().map(listed).collect()
    }

    fn rule(consequence: RuleConsequence) -> RankingRule {
        RankingRule {
            condition: RuleCondition::default(),
            consequence,
            valid_from: None,
            valid_until: None,
            priority: 0,
            is_enabled: true,
        }
    }

    fn changes(
        without: &[(ItemIx, &[&str])],
        with: &[(ItemIx, &[&str])],
        consequence: RuleConsequence,
    ) -> Vec<(ItemIx, Option<usize>, Option<usize>, ChangeReason)> {
        let hides = |item| item == 1;
        let changes = list_changes(&list(without), &list(with), ("r", &rule(consequence)), hides);
        let parts = |change: ListChange| (change.item, change.position_without, change.position_with, change.reason);
        changes.into_iter().map(parts).collect()
    }

    #[test]
    fn each_change_has_its_reason() {
        let promote = RuleConsequence::Promote { item_id: "9".to_owned(), position: 1 };
        assert_eq!(
            changes(&[(5, &["old"]), (6, &[]), (7, &[])], &[(9, &["r"]), (5, &["old"]), (6, &[])], promote),
            [
                (9, None, Some(1), ChangeReason::Promoted),
                (5, Some(1), Some(2), ChangeReason::Displaced),
                (6, Some(2), Some(3), ChangeReason::Displaced),
                (7, Some(3), None, ChangeReason::Displaced),
            ]
        );
        let hide = RuleConsequence::Hide { filter: "available".to_owned() };
        assert_eq!(
            changes(&[(1, &[]), (2, &[])], &[(2, &[]), (3, &[])], hide),
            [
                (2, Some(2), Some(1), ChangeReason::Displaced),
                (3, None, Some(2), ChangeReason::Displaced),
                (1, Some(1), None, ChangeReason::Hidden),
            ]
        );
        let boost = RuleConsequence::Boost(ItemBoost { filter: "available".to_owned(), factor: 2.0 });
        assert_eq!(
            changes(&[(1, &[]), (2, &[])], &[(2, &["r"]), (1, &["r"])], boost),
            [(2, Some(2), Some(1), ChangeReason::Boosted), (1, Some(1), Some(2), ChangeReason::Boosted)]
        );
        let require =
            RuleConsequence::Require { filter: "available".to_owned(), min_share: Some(0.5), max_share: None };
        assert_eq!(changes(&[(2, &[])], &[(2, &["r"])], require), [], "the position is the same");
    }
}
