//! Lists with rules have the same candidates as lists without, and those that the rules lift.

use super::*;
use crate::learner::{RankedAnswer, RankedItem};
use crate::ranking::{BoostRule, HideRule, ItemFilter, ListRules, PromoteRule, ShareRule};

/// Items after the hub in some session. Their prices are their numbers.
const ITEMS: u64 = 400;

/// A shop in which each item follows the hub in sessions of other users. The user `ann` views the hub.
fn shop_with_hub() -> LearnerFixture {
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    let put = |item: u64| {
        let operation = ItemOperation::Put(Item { price: Some(item as f64), ..Item::default() });
        Entry::Item(ItemChange { item_id: format!("i{item}"), timestamp: 0, operation })
    };
    let mut journal: Vec<_> = (0..ITEMS).map(put).collect();
    for visit in 0..2 * ITEMS {
        let (user, at) = (format!("u{visit}"), visit as i64 * 60_000);
        let items = [visit % ITEMS, (visit * 7 + 3) % ITEMS].map(|item| format!("i{item}"));
        journal.extend(["hub", &items[0], &items[1]].map(|item| Entry::Event(event_of_user(&user, "view", item, at))));
    }
    journal.push(Entry::Event(event_of_user("ann", "view", "hub", 2 * ITEMS as i64 * 60_000)));
    journal.chunks(16).for_each(|entries| fixture.apply(entries));
    fixture
}

fn list_of_ann(fixture: &LearnerFixture, limit: usize, change: impl Fn(&mut RecommendationRequest)) -> RankedAnswer {
    let snapshot = fixture.learner.snapshot();
    let mut request = RecommendationRequest::new(limit, 2 * ITEMS as i64 * 60_000);
    request.exclude = vec![fixture.dictionary.get("hub").unwrap()];
    change(&mut request);
    let state = fixture.learner.sequence_state("ann").unwrap();
    let (memory, params, workspace) =
        (snapshot.memory_of("ann"), SequenceParams::default(), &mut ScoringWorkspace::default());
    recommend(&snapshot, snapshot.catalog(), state, memory, &params, &request, workspace)
}

fn filter(text: &str) -> Arc<ItemFilter> {
    Arc::new(ItemFilter::parse(text).unwrap())
}

/// The items of the list and those after it, with their scores.
fn scored(answer: &RankedAnswer) -> Vec<(ItemIx, f32)> {
    let listed = answer.items.iter().map(|ranked| &ranked.candidate).chain(&answer.remainder);
    listed.map(|candidate| (candidate.item, candidate.score)).collect()
}

#[test]
fn a_rule_that_selects_no_item_changes_no_list() {
    let fixture = shop_with_hub();
    let plain = list_of_ann(&fixture, 20, |_| {});
    assert!(plain.candidates_by_source.iter().sum::<usize>() > 128 && plain.remainder.len() > 100);
    let none = || filter("price > 1000");
    let rules = Arc::new(ListRules {
        hide: vec![HideRule { rule: "hide".into(), filter: none() }],
        boost: vec![BoostRule { rule: "boost".into(), filter: none(), factor: 9.0 }],
        ..ListRules::default()
    });
    let ruled = list_of_ann(&fixture, 20, |request| request.rules = Arc::clone(&rules));
    assert_eq!(scored(&ruled), scored(&plain));
    let filtered = list_of_ann(&fixture, 20, |request| request.filter = ItemFilter::parse("available").ok());
    assert_eq!(scored(&filtered), scored(&plain));
}

#[test]
fn a_boost_lifts_items_that_are_no_candidates_of_the_plain_list() {
    let fixture = shop_with_hub();
    let plain: Vec<_> = scored(&list_of_ann(&fixture, 20, |_| {})).into_iter().map(|(item, _)| item).collect();
    let rules = Arc::new(ListRules {
        boost: vec![BoostRule { rule: "boost".into(), filter: filter("price < 60"), factor: 1000.0 }],
        ..ListRules::default()
    });
    let answer = list_of_ann(&fixture, 20, |request| request.rules = Arc::clone(&rules));
    let lifted = scored(&answer).iter().filter(|(item, _)| !plain.contains(item)).count();
    let is_boosted = |ranked: &RankedItem| ranked.rules == [Arc::from("boost")];
    assert!(lifted > 5 && answer.items.iter().take(10).all(is_boosted), "{lifted}");
    assert!(answer.remainder.len() < 250, "not all candidates are ranked");
}

/// The items of pages of ten, each of which continues the earlier ones.
fn paged(fixture: &LearnerFixture, count: usize, rules: &Arc<ListRules>) -> Vec<ItemIx> {
    let mut shown = Vec::new();
    for _ in 0..count {
        let answer = list_of_ann(fixture, 10, |request| {
            (request.rules, request.shown) = (Arc::clone(rules), shown.as_slice().into());
        });
        assert!(answer.remainder.is_empty(), "a later page ranks again");
        shown.extend(answer.items.iter().map(|ranked| ranked.candidate.item));
    }
    shown
}

#[test]
fn required_shares_hold_on_all_pages_without_repeated_items() {
    let fixture = shop_with_hub();
    let snapshot = fixture.learner.snapshot();
    let share = |text: &str, min, max| ShareRule { rule: "share".into(), filter: filter(text), min, max };
    let require = |require: Vec<ShareRule>| Arc::new(ListRules { require, ..ListRules::default() });
    let price = |item: ItemIx| snapshot.catalog().get(item).and_then(|item| item.price()).unwrap();
    for (rules, least) in [
        (require(vec![share("price >= 300", 0.5, 1.0)]), 0.5),
        (require(vec![share("price < 300", 0.0, 0.5)]), 0.4),
        (require(vec![share("price >= 300", 0.3, 1.0), share("price < 100", 0.7, 1.0)]), 0.3),
    ] {
        let items = paged(&fixture, 15, &rules);
        let distinct: std::collections::BTreeSet<_> = items.iter().collect();
        assert_eq!((items.len(), distinct.len()), (150, 150));
        for length in 1..=items.len() {
            let required = items[..length].iter().filter(|item| price(**item) >= 300.0).count();
            assert!(required >= (least * length as f64).floor() as usize, "{required} of {length}");
        }
    }
}

#[test]
fn a_promoted_item_stands_at_its_position_on_a_later_page() {
    let fixture = shop_with_hub();
    let item = fixture.dictionary.get("i399").unwrap();
    let promote = |position| {
        let promote = vec![PromoteRule { rule: "promote".into(), item, position }];
        Arc::new(ListRules { promote, ..ListRules::default() })
    };
    for position in [1, 10, 11, 37, 140] {
        let items = paged(&fixture, 15, &promote(position));
        assert_eq!(items.iter().position(|found| *found == item), Some(position - 1));
        let single = list_of_ann(&fixture, 150, |request| request.rules = promote(position));
        let single: Vec<_> = single.items.iter().map(|ranked| ranked.candidate.item).collect();
        assert_eq!(items, single);
    }
}

#[test]
fn a_list_without_later_pages_has_the_same_items_and_no_remainder() {
    let fixture = shop_with_hub();
    let share = || ShareRule { rule: "share".into(), filter: filter("price >= 300"), min: 0.5, max: 1.0 };
    let promote = PromoteRule { rule: "promote".into(), item: fixture.dictionary.get("i399").unwrap(), position: 2 };
    for (rules, has_remainder) in [
        (ListRules::default(), true),
        (ListRules { require: vec![share()], ..ListRules::default() }, false),
        (ListRules { promote: vec![promote], ..ListRules::default() }, false),
    ] {
        let rules = Arc::new(rules);
        let list = |has_later_pages| {
            list_of_ann(&fixture, 20, |request| {
                (request.rules, request.has_later_pages) = (Arc::clone(&rules), has_later_pages);
            })
        };
        let (single, paged) = (list(false), list(true));
        assert_eq!((&single.items, single.fallback), (&paged.items, paged.fallback));
        assert!(single.remainder.is_empty() && paged.remainder.is_empty() != has_remainder);
    }
}
