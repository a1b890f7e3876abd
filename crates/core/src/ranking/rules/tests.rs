use super::*;
use crate::domain::{Item, ItemOperation, SourceName};
use crate::ranking::{EligibilityRules, ResultSelection};
use proptest::prelude::*;
use rustc_hash::FxHashSet;

const ITEM_COUNT: ItemIx = 40;

/// A catalog of 40 items whose price is the item number. Every third item has the brand `leaf`, and
/// every eleventh item is unavailable.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for item in 0..ITEM_COUNT {
        let brand = (item % 3 == 0).then(|| "leaf".to_owned());
        let attributes = Item { price: Some(f64::from(item)), brand, available: item % 11 != 0, ..Item::default() };
        catalog.apply(item, &ItemOperation::Put(attributes));
    }
    catalog
}

fn filter(text: &str) -> Arc<ItemFilter> {
    Arc::new(ItemFilter::parse(text).unwrap())
}

fn candidate(item: ItemIx) -> Candidate {
    Candidate { item, score: -(item as f32), source: SourceName::Transitions }
}

fn hide(rule: &str, text: &str) -> HideRule {
    HideRule { rule: Arc::from(rule), filter: filter(text) }
}

fn boost(rule: &str, text: &str, factor: f32) -> BoostRule {
    BoostRule { rule: Arc::from(rule), filter: filter(text), factor }
}

fn require(rule: &str, text: &str, min: f32, max: f32) -> ShareRule {
    ShareRule { rule: Arc::from(rule), filter: filter(text), min, max }
}

fn promote(rule: &str, item: ItemIx, position: usize) -> PromoteRule {
    PromoteRule { rule: Arc::from(rule), item, position }
}

/// Applies rules to the items 1, 2, … `count`, which are ranked in this order.
/// Numbers of removed items by rule.
type Removals = Vec<(Arc<str>, usize)>;

fn apply(rules: &ListRules, count: ItemIx, scale: ScoreScale) -> (Vec<ItemIx>, RuleTrace, Removals) {
    let mut list: Vec<_> = (1..=count).map(candidate).collect();
    let mut trace = RuleTrace::default();
    let removed = rules.apply_to_list(&catalog(), scale, &mut list, &mut trace);
    (list.iter().map(|candidate| candidate.item).collect(), trace, removed)
}

fn rules_of(rules: &ListRules, trace: &RuleTrace, item: ItemIx) -> Vec<Arc<str>> {
    rules.rules_that_moved(item, &catalog(), trace)
}

fn names(rules: &[Arc<str>]) -> Vec<&str> {
    rules.iter().map(|rule| &**rule).collect()
}

#[test]
fn hidden_items_count_for_the_first_rule_that_removes_them() {
    let rules = ListRules { hide: vec![hide("dear", "price > 7"), hide("leaf", "brand = leaf")], ..Default::default() };
    let (list, _, removed) = apply(&rules, 10, ScoreScale::Linear);
    assert_eq!(list, [1, 2, 4, 5, 7]);
    assert_eq!(removed, [(Arc::from("dear"), 3), (Arc::from("leaf"), 2)]);
}

#[test]
fn a_boost_multiplies_weights_and_adds_to_their_logarithms() {
    // Scores are −1, −2, … A factor of e³ adds 3.
    let rules = ListRules { boost: vec![boost("up", "price = 4", 3.0_f32.exp())], ..Default::default() };
    let (list, trace, _) = apply(&rules, 5, ScoreScale::Logarithmic);
    assert_eq!(list, [1, 4, 2, 3, 5], "the score of item 4 is −1, and item 1 has the smaller number");
    assert_eq!(names(&rules_of(&rules, &trace, 4)), ["up"]);
    assert!(rules_of(&rules, &trace, 1).is_empty());
    let weights = |item: ItemIx| Candidate { score: 10.0 / item as f32, ..candidate(item) };
    let mut list: Vec<_> = (1..=4).map(weights).collect();
    let rules = ListRules { boost: vec![boost("up", "price = 3", 2.0), boost("down", "price < 2", 0.2)], ..rules };
    rules.apply_boosts(&catalog(), ScoreScale::Linear, &mut list, &mut RuleTrace::default());
    // The weights are 10 · 0.2 = 2, 5, 10 / 3 · 2 = 6.7 and 2.5.
    assert_eq!(list.iter().map(|candidate| candidate.item).collect::<Vec<_>>(), [3, 2, 4, 1]);
}

#[test]
fn a_smallest_share_moves_items_up_no_further_than_needed() {
    let rules = ListRules { require: vec![require("leaf", "brand = leaf", 0.5, 1.0)], ..Default::default() };
    // ⌊n / 2⌋ of the first n items must be 3, 6 or 9.
    let (list, trace, _) = apply(&rules, 9, ScoreScale::Linear);
    assert_eq!(list, [1, 3, 2, 6, 4, 9, 5, 7, 8]);
    assert_eq!(names(&rules_of(&rules, &trace, 6)), ["leaf"]);
    assert!(rules_of(&rules, &trace, 2).is_empty());
}

#[test]
fn a_largest_share_moves_items_down() {
    let rules = ListRules { require: vec![require("cheap", "price < 5", 0.0, 0.5)], ..Default::default() };
    // ⌈n / 2⌉ of the first n items may be 1, 2, 3 or 4.
    let (list, trace, _) = apply(&rules, 8, ScoreScale::Linear);
    assert_eq!(list, [1, 5, 2, 6, 3, 7, 4, 8]);
    assert_eq!((names(&rules_of(&rules, &trace, 2)), rules_of(&rules, &trace, 5).len()), (vec!["cheap"], 0));
    // If only cheap items are left, the rule cannot hold.
    assert_eq!(apply(&rules, 5, ScoreScale::Linear).0, [1, 5, 2, 3, 4]);
}

#[test]
fn items_of_rules_that_are_due_together_come_as_late_as_possible() {
    let rules = ListRules {
        require: vec![require("a", "price = 9", 0.2, 1.0), require("b", "price = 8", 0.2, 1.0)],
        ..Default::default()
    };
    // Both items must be among the first five.
    assert_eq!(apply(&rules, 9, ScoreScale::Linear).0, [1, 2, 3, 9, 8, 4, 5, 6, 7]);
    let overlapping = ListRules {
        require: vec![require("a", "price >= 8", 0.2, 1.0), require("b", "price >= 9", 0.2, 1.0)],
        ..Default::default()
    };
    assert_eq!(apply(&overlapping, 10, ScoreScale::Linear).0, [1, 2, 3, 4, 9, 5, 6, 7, 8, 10]);
}

#[test]
fn promoted_items_do_not_count_towards_shares_and_wait_for_their_page() {
    let rules = ListRules {
        require: vec![require("leaf", "brand = leaf", 0.5, 1.0)],
        promote: vec![promote("a", 3, 1), promote("b", 5, 6), promote("c", 1, 99)],
        ..Default::default()
    };
    let order: Vec<_> = (1..=9).collect();
    // Items 3, 6 and 9 have the brand. Without item 3, every second item must be 6 or 9.
    assert_eq!(page(&rules, &order, &[], 4), [3, 2, 6, 4]);
    assert_eq!(page(&rules, &order, &[3, 2, 6, 4], 3), [9, 5, 7]);
    assert_eq!(page(&rules, &order, &[3, 2, 6, 4, 9, 5, 7], 3), [8, 1]);
}

#[test]
fn the_last_share_rule_gives_way_if_two_contradict() {
    let first = require("first", "price = 5", 1.0, 1.0);
    let second = require("second", "price = 5", 0.0, 0.0);
    let rules = ListRules { require: vec![first.clone(), second.clone()], ..Default::default() };
    assert_eq!(apply(&rules, 6, ScoreScale::Linear).0[0], 5);
    let rules = ListRules { require: vec![second, first], ..rules };
    assert_eq!(apply(&rules, 6, ScoreScale::Linear).0[5], 5);
}

#[test]
fn promoted_items_take_their_positions_in_the_order_of_the_rules() {
    let promotions = vec![promote("a", 5, 1), promote("b", 4, 1), promote("c", 5, 3), promote("d", 6, 99)];
    let rules = ListRules { promote: promotions, ..Default::default() };
    let (list, trace, _) = apply(&rules, 6, ScoreScale::Linear);
    assert_eq!(list, [5, 4, 1, 2, 3, 6]);
    assert_eq!(names(&rules_of(&rules, &trace, 5)), ["a"], "the first rule of an item applies");
    assert_eq!(names(&rules_of(&rules, &trace, 6)), ["d"]);
}

#[test]
fn a_promoted_item_enters_the_list_only_if_it_is_eligible() {
    let rules = ListRules { promote: vec![promote("a", 30, 2), promote("b", 31, 1)], ..Default::default() };
    let mut list: Vec<_> = (1..=3).map(candidate).collect();
    let candidate_of = |item: ItemIx| (item == 30).then(|| candidate(item));
    let promoted = rules.take_promoted(0..9, &mut list, candidate_of, &mut RuleTrace::default());
    ListRules::insert_promoted(&mut list, promoted);
    assert_eq!(list.iter().map(|candidate| candidate.item).collect::<Vec<_>>(), [1, 30, 2, 3]);
}

/// The page of a list after the items `shown`. The list ranks the items in the given order.
fn page(rules: &ListRules, order: &[ItemIx], shown: &[ItemIx], length: usize) -> Vec<ItemIx> {
    let (catalog, mut trace) = (catalog(), RuleTrace::default());
    let mut list: Vec<_> = order.iter().filter(|item| !shown.contains(item)).map(|item| candidate(*item)).collect();
    let promoted = rules.take_promoted(shown.len()..shown.len() + length, &mut list, |_| None, &mut trace);
    let is_promoted = |item: &&ItemIx| rules.promote.iter().any(|promotion| promotion.item == **item);
    let balanced: Vec<_> = shown.iter().filter(|item| !is_promoted(item)).copied().collect();
    rules.apply_shares(&catalog, &balanced, length, &mut list, &mut trace);
    ListRules::insert_promoted(&mut list, promoted);
    list.iter().take(length).map(|candidate| candidate.item).collect()
}

/// Filters that select many, few and no items.
const FILTERS: [&str; 6] = ["brand = leaf", "price < 6", "price > 30", "price = 7", "not brand = leaf", "price < 0"];

fn any_rules() -> impl Strategy<Value = ListRules> {
    let any_filter = || proptest::sample::select(&FILTERS[..]);
    let hides = proptest::collection::vec(any_filter(), 0..2);
    let boosts = proptest::collection::vec((any_filter(), 0.01_f32..100.0), 0..3);
    let shares = proptest::collection::vec((any_filter(), 0.0_f32..1.0, 0.0_f32..1.0), 0..3);
    let promotions = proptest::collection::vec((0..ITEM_COUNT, 1..15_usize), 0..4);
    (hides, boosts, shares, promotions).prop_map(|(hides, boosts, shares, promotions)| ListRules {
        hide: hides.into_iter().map(|text| hide(text, text)).collect(),
        boost: boosts.into_iter().map(|(text, factor)| boost(text, text, factor)).collect(),
        require: shares.into_iter().map(|(text, a, b)| require(text, text, a.min(b), a.max(b))).collect(),
        promote: promotions.into_iter().map(|(item, position)| promote("promote", item, position)).collect(),
    })
}

proptest! {
    #[test]
    fn a_list_with_rules_satisfies_them(
        order in Just((0..ITEM_COUNT).collect::<Vec<ItemIx>>()).prop_shuffle(),
        ranked in 5..40_usize,
        rules in any_rules(),
        excluded in proptest::collection::btree_set(0..ITEM_COUNT, 0..5),
        limit in 1..20_usize,
    ) {
        let catalog = catalog();
        let exclude: Vec<_> = excluded.into_iter().collect();
        let wanted = ItemFilter::parse("price != 3").unwrap();
        let eligibility = EligibilityRules {
            exclude: &exclude,
            filter: Some(&wanted),
            hide: &rules.hide,
            ..EligibilityRules::new(&catalog, 0)
        };
        let mut list: Vec<_> = order.iter().take(ranked).enumerate()
            .map(|(place, item)| Candidate { score: -(place as f32), ..candidate(*item) })
            .collect();
        let mut trace = RuleTrace::default();
        rules.apply_boosts(&catalog, ScoreScale::Logarithmic, &mut list, &mut trace);
        let mut selection = ResultSelection::new(eligibility, limit, 40);
        list.iter().for_each(|candidate| selection.add_ranked(*candidate));
        let mut list = selection.selected().to_vec();
        let eligible = list.len();
        let promotable = |item| eligibility.is_eligible(item).then(|| candidate(item));
        let promoted = rules.take_promoted(0..limit, &mut list, promotable, &mut trace);
        let length = list.len();
        rules.apply_shares(&catalog, &[], length, &mut list, &mut trace);
        prop_assert_eq!(list.len(), length, "shares lose no item");
        ListRules::insert_promoted(&mut list, promoted);
        list.truncate(limit);

        let items: Vec<_> = list.iter().map(|candidate| candidate.item).collect();
        let distinct: FxHashSet<_> = items.iter().collect();
        prop_assert!(items.len() <= limit && distinct.len() == items.len());
        prop_assert!(items.len() >= limit.min(eligible), "rules after the selection do not shorten the list");
        for item in &items {
            prop_assert!(eligibility.is_eligible(*item), "{}", item);
            let attributes = catalog.get(*item).unwrap();
            prop_assert!(rules.hide.iter().all(|hide| !hide.filter.matches(attributes)));
        }
        // The first promotion of an eligible item to a free position holds.
        if let Some(first) = rules.promote.first().filter(|first| eligibility.is_eligible(first.item)) {
            let place = items.iter().position(|item| *item == first.item);
            let expected = first.position - 1;
            // If there are too few other items, promoted items follow the last of them.
            let is_promoted = |item: &ItemIx| rules.promote.iter().any(|promotion| promotion.item == *item);
            let others = items.iter().filter(|item| !is_promoted(item)).count();
            prop_assert!(place == Some(expected) || items.len() <= expected || others < expected);
        }
    }

    /// The first positions do not depend on how many positions are balanced.
    #[test]
    fn a_balanced_beginning_is_the_beginning_of_the_balanced_list(
        order in Just((0..ITEM_COUNT).collect::<Vec<ItemIx>>()).prop_shuffle(),
        rules in any_rules(),
        length in 0..30_usize,
    ) {
        let catalog = catalog();
        let balance = |length: usize| {
            let (mut list, mut trace): (Vec<_>, _) = (order.iter().map(|item| candidate(*item)).collect(), RuleTrace::default());
            rules.apply_shares(&catalog, &[], length, &mut list, &mut trace);
            let with_moves = |candidate: &Candidate| (candidate.item, trace.moves_of(candidate.item).to_vec());
            list.iter().map(with_moves).collect::<Vec<_>>()
        };
        let (whole, mut part) = (balance(usize::MAX), balance(length));
        let length = length.min(whole.len());
        prop_assert_eq!(&part[..length], &whole[..length]);
        part.sort();
        prop_assert!(part.iter().map(|(item, _)| *item).eq(0..ITEM_COUNT), "no item is lost");
    }

    #[test]
    fn pages_are_parts_of_one_list(
        order in Just((0..ITEM_COUNT).collect::<Vec<ItemIx>>()).prop_shuffle(),
        rules in any_rules(),
        lengths in proptest::collection::vec(1..15_usize, 1..12),
    ) {
        let whole = page(&rules, &order, &[], ITEM_COUNT as usize);
        prop_assert_eq!(whole.len(), ITEM_COUNT as usize);
        let mut shown = Vec::new();
        for length in lengths {
            shown.extend(page(&rules, &order, &shown, length));
        }
        prop_assert_eq!(&shown[..], &whole[..shown.len()]);
    }

    /// Shares of several groups without common items, each of ten items.
    #[test]
    fn several_smallest_shares_hold_in_every_beginning(
        order in Just((0..ITEM_COUNT).collect::<Vec<ItemIx>>()).prop_shuffle(),
        weights in proptest::array::uniform4(0..10_u32),
        total in 0.3_f32..=1.0,
    ) {
        let sum = weights.iter().sum::<u32>().max(1) as f32;
        let range = |group: usize| format!("price >= {} and price < {}", 10 * group, 10 * group + 10);
        let share = |(group, weight): (usize, &u32)| require("share", &range(group), total * *weight as f32 / sum, 1.0);
        let rules = ListRules { require: weights.iter().enumerate().map(share).collect(), ..ListRules::default() };
        let list = page(&rules, &order, &[], ITEM_COUNT as usize);
        for length in 1..=list.len() {
            if rules.require.iter().any(|rule| rule.min_count(length) > 10) {
                break;
            }
            for (group, rule) in rules.require.iter().enumerate() {
                let count = list[..length].iter().filter(|item| **item as usize / 10 == group).count();
                prop_assert!(count >= rule.min_count(length), "{} of {}: {:?}", count, length, rule);
            }
        }
    }

    #[test]
    fn a_share_holds_in_every_beginning_with_enough_items(
        order in Just((0..ITEM_COUNT).collect::<Vec<ItemIx>>()).prop_shuffle(),
        text in proptest::sample::select(&FILTERS[..]),
        (a, b) in (0.0_f32..1.0, 0.0_f32..1.0),
    ) {
        let (catalog, rule) = (catalog(), require("share", text, a.min(b), a.max(b)));
        let is_in_group = |item: ItemIx| catalog.get(item).is_some_and(|item| rule.filter.matches(item));
        let total = order.iter().filter(|item| is_in_group(**item)).count();
        let mut list: Vec<_> = order.iter().map(|item| candidate(*item)).collect();
        let rules = ListRules { require: vec![rule.clone()], ..ListRules::default() };
        let length = list.len();
        rules.apply_shares(&catalog, &[], length, &mut list, &mut RuleTrace::default());
        let mut count = 0;
        for (length, candidate) in (1..).zip(&list) {
            count += usize::from(is_in_group(candidate.item));
            let others = list.len() - total;
            prop_assert!(count >= rule.min_count(length).min(total), "{} of {}", count, length);
            prop_assert!(count <= rule.max_count(length).max(length.saturating_sub(others)), "{} of {}", count, length);
        }
        let mut items: Vec<_> = list.iter().map(|candidate| candidate.item).collect();
        items.sort_unstable();
        prop_assert_eq!(items, (0..ITEM_COUNT).collect::<Vec<_>>());
    }
}
