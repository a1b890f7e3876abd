//! Warnings about rules that contradict each other.

use crate::domain::{CatalogItem, ItemBoost, PlacementTable, RankingRule, RuleConsequence, Timestamp};
use crate::learner::{ItemFilter, ShareRule};

/// Maximum number of warnings in a receipt.
const MAX_WARNINGS: usize = 20;

/// What the warnings about a rule depend on.
pub(super) struct RuleWarningContext<'a> {
    /// All placements and rules.
    pub(super) table: &'a PlacementTable,
    /// The time of the change.
    pub(super) now: Timestamp,
    /// Returns the attributes of an item.
    pub(super) attributes_of: &'a dyn Fn(&str) -> Option<CatalogItem>,
    /// Whether an item of the catalog satisfies a filter, as far as that is known.
    pub(super) matches_any_item: &'a dyn Fn(&ItemFilter) -> bool,
}

/// The probable mistakes of a rule, in words:
///
/// - The rule and another one of the same priority promote different items to the same position.
/// - One of them promotes an item that the other one hides.
/// - The rule names a placement that does not exist, or promotes an item that is unknown.
/// - No item satisfies a filter of the rule, or its validity has ended, so it has no effect.
/// - More rules require shares than apply to one list.
///
/// Two rules conflict only if they can apply to the same list at the same time.
#[must_use]
pub(super) fn rule_warnings(id: &str, rule: &RankingRule, context: &RuleWarningContext<'_>) -> Vec<String> {
    let RuleWarningContext { table, attributes_of, .. } = context;
    let unknown = rule.condition.placements.iter().filter(|name| !table.placements().contains_key(*name));
    let mut warnings: Vec<_> = unknown.map(|name| format!("placement `{name}` does not exist yet")).collect();
    if let RuleConsequence::Promote { item_id, .. } = &rule.consequence
        && attributes_of(item_id).is_none()
    {
        warnings.push(format!("item `{item_id}` is unknown or was deleted, so it cannot be promoted yet"));
    }
    warnings.extend(missing_effects(rule, context));
    let others = || table.rules().iter().filter(|(other, old)| *other != id && old.overlaps(rule));
    for (other_id, other) in others() {
        warnings.extend(promotion_conflict(rule, other_id, other));
        warnings.extend(
            hidden_promotion(rule, other, attributes_of)
                .map(|item| format!("this rule promotes item `{item}`, but rule `{other_id}` hides it")),
        );
        warnings.extend(
            hidden_promotion(other, rule, attributes_of)
                .map(|item| format!("this rule hides item `{item}`, but rule `{other_id}` promotes it")),
        );
    }
    let requires = |rule: &RankingRule| matches!(rule.consequence, RuleConsequence::Require { .. });
    let count = 1 + others().filter(|(_, other)| requires(other)).count();
    if requires(rule) && count > ShareRule::MAX_PER_LIST {
        warnings
            .push(format!("{count} rules require shares; only the first {} apply to a list", ShareRule::MAX_PER_LIST));
    }
    warnings.truncate(MAX_WARNINGS);
    warnings
}

/// Reasons why the rule has no effect at the moment, whatever the other rules are.
fn missing_effects(rule: &RankingRule, context: &RuleWarningContext<'_>) -> Vec<String> {
    let filter_of_consequence = match &rule.consequence {
        RuleConsequence::Promote { .. } => None,
        RuleConsequence::Boost(ItemBoost { filter, .. })
        | RuleConsequence::Hide { filter }
        | RuleConsequence::Require { filter, .. } => Some(filter),
    };
    // Filters that read the request or the user may be satisfied by some of them.
    let is_constant = |filter: &ItemFilter| !filter.reads_context() && !filter.reads_user();
    let is_unsatisfied = |text: &String| {
        ItemFilter::parse(text).is_ok_and(|filter| is_constant(&filter) && !(context.matches_any_item)(&filter))
    };
    let mut warnings = Vec::new();
    if let Some(text) = rule.condition.context_filter.as_ref().filter(|text| is_unsatisfied(text)) {
        warnings.push(format!("no item satisfies the condition `{text}`, so the rule does not apply yet"));
    }
    if let Some(text) = filter_of_consequence.filter(|text| is_unsatisfied(text)) {
        warnings.push(format!("no item satisfies the filter `{text}`, so the rule has no effect yet"));
    }
    if rule.valid_until.is_some_and(|until| until <= context.now) {
        warnings.push("`valid_until` is in the past, so the rule does not apply any more".to_owned());
    }
    warnings
}

fn promotion_conflict(rule: &RankingRule, other_id: &str, other: &RankingRule) -> Option<String> {
    let (RuleConsequence::Promote { item_id, position }, RuleConsequence::Promote { item_id: rival, position: place }) =
        (&rule.consequence, &other.consequence)
    else {
        return None;
    };
    (position == place && item_id != rival && rule.priority == other.priority).then(|| {
        format!(
            "rule `{other_id}` of the same priority promotes item `{rival}` to position {position}, too; the rule with the smaller id applies first"
        )
    })
}

/// The item that `promoting` promotes, if `hiding` hides it.
fn hidden_promotion<'r>(
    promoting: &'r RankingRule,
    hiding: &RankingRule,
    attributes_of: impl Fn(&str) -> Option<CatalogItem>,
) -> Option<&'r str> {
    let RuleConsequence::Promote { item_id, .. } = &promoting.consequence else { return None };
    let filter = match &hiding.consequence {
        RuleConsequence::Hide { filter } => ItemFilter::parse(filter).ok()?,
        RuleConsequence::Promote { .. }
        | RuleConsequence::Boost(ItemBoost { .. })
        | RuleConsequence::Require { .. } => return None,
    };
    attributes_of(item_id).filter(|item| filter.matches(item)).map(|_| item_id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Entry, Item, RuleChange, RuleCondition, RuleOperation};

    fn rule(placement: Option<&str>, consequence: RuleConsequence) -> RankingRule {
        RankingRule {
            condition: RuleCondition {
                placements: placement.map(str::to_owned).into_iter().collect(),
                context_filter: None,
            },
            consequence,
            valid_from: None,
            valid_until: None,
            priority: 0,
            is_enabled: true,
        }
    }

    fn promote(item: &str) -> RuleConsequence {
        RuleConsequence::Promote { item_id: item.to_owned(), position: 1 }
    }

    fn warnings(id: &str, new: &RankingRule, others: &[(&str, RankingRule)]) -> Vec<String> {
        let mut table = PlacementTable::default();
        for (id, other) in others {
            let operation = RuleOperation::Put(other.clone());
            table.apply(&Entry::Rule(RuleChange { id: (*id).to_owned(), timestamp: 0, operation }));
        }
        let item = |brand: &str| CatalogItem::from(&Item { brand: Some(brand.to_owned()), ..Item::default() });
        let matches_any_item = |filter: &ItemFilter| ["tea", "cup"].iter().any(|brand| filter.matches(&item(brand)));
        let context = RuleWarningContext {
            table: &table,
            now: 100,
            attributes_of: &|id| Some(item(id)),
            matches_any_item: &matches_any_item,
        };
        rule_warnings(id, new, &context)
    }

    #[test]
    fn two_promotions_to_one_position_conflict() {
        let old = [("old", rule(None, promote("tea")))];
        let found = warnings("new", &rule(None, promote("cup")), &old);
        assert!(found.len() == 1 && found[0].contains("`old`") && found[0].contains("`tea`"), "{found:?}");
        assert!(warnings("new", &rule(None, promote("tea")), &old).is_empty(), "the same item");
        assert!(warnings("old", &rule(None, promote("cup")), &old).is_empty(), "the rule replaces the old one");
        let later = RankingRule { priority: 1, ..rule(None, promote("cup")) };
        assert!(warnings("new", &later, &old).is_empty(), "another priority");
    }

    #[test]
    fn a_promotion_of_a_hidden_item_conflicts() {
        let hide = rule(None, RuleConsequence::Hide { filter: "brand = tea".to_owned() });
        let promotion = rule(None, promote("tea"));
        let found = warnings("new", &promotion, &[("hides", hide.clone())]);
        assert_eq!(found, ["this rule promotes item `tea`, but rule `hides` hides it"]);
        let found = warnings("new", &hide, &[("promotes", promotion.clone())]);
        assert_eq!(found, ["this rule hides item `tea`, but rule `promotes` promotes it"]);
        assert!(warnings("new", &rule(None, promote("cup")), &[("hides", hide)]).is_empty());
        let disabled = RankingRule { is_enabled: false, ..promotion };
        assert!(warnings("new", &disabled, &[]).is_empty());
    }

    #[test]
    fn an_unknown_placement_is_named() {
        assert_eq!(warnings("new", &rule(Some("cart"), promote("tea")), &[]), ["placement `cart` does not exist yet"]);
    }

    #[test]
    fn a_rule_without_effect_is_named() {
        let hide = |filter: &str| rule(None, RuleConsequence::Hide { filter: filter.to_owned() });
        assert!(warnings("new", &hide("brand = tea"), &[]).is_empty());
        let contradiction = warnings("new", &hide("brand = tea and brand = cup"), &[]);
        assert_eq!(
            contradiction,
            ["no item satisfies the filter `brand = tea and brand = cup`, so the rule has no effect yet"]
        );
        let mut never = hide("brand = tea");
        never.condition.context_filter = Some("price < 1 and price > 2".to_owned());
        assert_eq!(
            warnings("new", &never, &[]),
            ["no item satisfies the condition `price < 1 and price > 2`, so the rule does not apply yet"]
        );
        let until = |valid_until| RankingRule { valid_until: Some(valid_until), ..hide("brand = tea") };
        assert!(warnings("new", &until(101), &[]).is_empty());
        let ended = warnings("new", &until(100), &[]);
        assert!(ended.len() == 1 && ended[0].contains("`valid_until` is in the past"), "{ended:?}");
    }
}
