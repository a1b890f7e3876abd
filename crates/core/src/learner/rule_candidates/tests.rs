#![allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one range")]

use super::*;
use crate::candidates::{CandidateSet, EvidenceColumn, QueryContext};
use crate::domain::{Catalog, Item, ItemOperation};
use crate::ranking::{HideRule, ItemFilter, PromoteRule};
use std::ops::Range;
use std::sync::Arc;

const ITEMS: ItemIx = 400;
const LIMIT: usize = 128;

/// Items whose prices are their numbers. The items after 300 are unavailable.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    for item in 0..ITEMS {
        let attributes = Item { price: Some(f64::from(item)), available: item <= 300, ..Item::default() };
        catalog.apply(item, &ItemOperation::Put(attributes));
    }
    catalog
}

/// All items as candidates. The smaller the number, the larger the evidence.
fn candidates() -> CandidateSet {
    let mut candidates = CandidateSet::default();
    for item in (0..ITEMS).rev() {
        candidates.add_evidence(item, EvidenceColumn::WindowTransitions, (ITEMS - item) as f32);
    }
    candidates.add_column_total(EvidenceColumn::WindowTransitions, 1_000.0);
    candidates
}

fn filter(text: &str) -> Arc<ItemFilter> {
    Arc::new(ItemFilter::parse(text).unwrap())
}

fn boost(text: &str, factor: f32) -> BoostRule {
    BoostRule { rule: "boost".into(), filter: filter(text), factor }
}

fn share(text: &str, min: f32, max: f32) -> ShareRule {
    ShareRule { rule: "share".into(), filter: filter(text), min, max }
}

/// The ranked items, the removed items, and whether a higher limit would rank more.
fn chosen(request_filter: Option<&str>, rules: &ListRules, limit: usize) -> (Vec<ItemIx>, Vec<ItemIx>, bool) {
    let (catalog, request_filter) = (catalog(), request_filter.map(filter));
    let eligibility =
        EligibilityRules { filter: request_filter.as_deref(), hide: &rules.hide, ..EligibilityRules::new(&catalog, 0) };
    let mut chooser = RuleChooser::of_list(eligibility, rules).unwrap();
    let mut candidates = candidates();
    // Each query begins anew.
    for _ in 0..2 {
        candidates.keep_chosen(limit, &QueryContext::default(), &mut chooser);
    }
    let mut items: Vec<_> = candidates.kept_items().collect();
    items.sort_unstable();
    (items, chooser.removed().to_vec(), candidates.has_more())
}

fn items(ranges: &[Range<ItemIx>]) -> Vec<ItemIx> {
    ranges.iter().cloned().flatten().collect()
}

#[test]
fn rules_that_select_no_item_change_no_candidate() {
    let none = "price > 1000";
    let rules = ListRules {
        hide: vec![HideRule { rule: "hide".into(), filter: filter(none) }],
        boost: vec![boost(none, 5.0), boost(none, 0.1)],
        require: vec![share(none, 0.5, 1.0)],
        promote: Vec::new(),
    };
    assert_eq!(chosen(None, &rules, LIMIT), (items(&[0..128]), Vec::new(), true));
    assert_eq!(chosen(None, &rules, 1000), (items(&[0..400]), Vec::new(), false));
}

#[test]
fn other_candidates_take_the_places_of_removed_ones() {
    let hide = ListRules {
        hide: vec![HideRule { rule: "hide".into(), filter: filter("price < 200") }],
        ..ListRules::default()
    };
    assert_eq!(chosen(None, &hide, LIMIT), (items(&[200..328]), items(&[0..200]), true));
    let filtered = chosen(Some("price >= 200"), &ListRules::default(), LIMIT);
    assert_eq!(filtered, (items(&[200..328]), items(&[0..200]), true));
    assert_eq!(chosen(Some("price < 5"), &hide, LIMIT), (Vec::new(), items(&[0..400]), false));
}

#[test]
fn lowered_candidates_are_ranked_but_others_take_their_places() {
    let lower =
        |text: &str| ListRules { boost: vec![boost(text, 0.1), boost("price >= 390", 5.0)], ..ListRules::default() };
    assert_eq!(chosen(None, &lower("price < 50"), LIMIT).0, items(&[0..178]));
    // The factors of an item are multiplied: no item is moved down.
    let both = ListRules { boost: vec![boost("price < 50", 0.1), boost("price < 60", 20.0)], ..ListRules::default() };
    assert_eq!(chosen(None, &both, LIMIT).0, items(&[0..128]));
    // Lowered candidates that a share needs are not among those that others replace.
    let required = ListRules { require: vec![share("price >= 290", 0.1, 1.0)], ..lower("price >= 0") };
    assert_eq!(chosen(None, &required, LIMIT).0, items(&[0..128, 290..301]));
    // The number of lowered candidates is bounded, too.
    assert_eq!(chosen(None, &lower("price >= 0"), LIMIT), (items(&[0..128]), Vec::new(), true));
    assert_eq!(chosen(None, &lower("price >= 0"), 400).0, items(&[0..400]));
}

#[test]
fn the_best_available_candidates_of_a_boost_are_ranked() {
    let rules = |texts: &[&str]| ListRules {
        boost: texts.iter().map(|text| boost(text, 2.0)).collect(),
        ..ListRules::default()
    };
    let lifted = MAX_LIFTED_CANDIDATES as ItemIx;
    assert_eq!(chosen(None, &rules(&["price >= 150"]), LIMIT).0, items(&[0..128, 150..150 + lifted]));
    assert_eq!(
        chosen(None, &rules(&["price >= 280"]), LIMIT).0,
        items(&[0..128, 280..301]),
        "the others are unavailable"
    );
    // The candidates before the limit count, too.
    assert_eq!(chosen(None, &rules(&["price >= 100"]), LIMIT).0, items(&[0..100 + lifted]));
    let both = chosen(None, &rules(&["price >= 150", "price >= 200"]), LIMIT);
    assert_eq!(both, (items(&[0..128, 150..150 + lifted, 200..200 + lifted]), Vec::new(), true));
    // The number of boosts is larger than the number of groups.
    let many: Vec<_> = (0..40).map(|number| format!("price = {}", 200 + number)).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(chosen(None, &rules(&many), LIMIT).0, items(&[0..128, 200..240]));
}

#[test]
fn shares_get_the_best_candidates_of_each_combination() {
    let require =
        |shares: &[ShareRule]| chosen(None, &ListRules { require: shares.to_vec(), ..ListRules::default() }, LIMIT).0;
    let lifted = MAX_LIFTED_CANDIDATES as ItemIx;
    assert_eq!(require(&[share("price >= 150", 0.5, 1.0)]), items(&[0..128, 150..150 + lifted]));
    assert_eq!(require(&[share("price < 150", 0.0, 0.5)]), items(&[0..128, 150..150 + lifted]));
    assert_eq!(require(&[share("price < 150", 0.5, 1.0)]), items(&[0..128]), "others need not be lifted");
    let two = [share("price >= 130", 0.5, 1.0), share("price >= 220", 0.5, 1.0)];
    assert_eq!(require(&two), items(&[0..128, 130..130 + lifted, 220..220 + lifted]));
}

#[test]
fn promoted_candidates_are_ranked() {
    let promote = |item| PromoteRule { rule: "promote".into(), item, position: 1 };
    let rules = ListRules {
        boost: vec![boost("price > 1000", 2.0)],
        promote: vec![promote(290), promote(350), promote(9_000)],
        ..ListRules::default()
    };
    assert_eq!(chosen(None, &rules, LIMIT).0, items(&[0..128, 290..291]), "item 350 is unavailable");
}
