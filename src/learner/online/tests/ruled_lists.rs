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

#[test]
fn required_shares_hold_on_all_kept_pages_and_later_pages_begin_with_them() {
    let fixture = shop_with_hub();
    let snapshot = fixture.learner.snapshot();
    let rules = Arc::new(ListRules {
        require: vec![ShareRule { rule: "share".into(), filter: filter("price >= 300"), min: 0.5, max: 1.0 }],
        ..ListRules::default()
    });
    let short = scored(&list_of_ann(&fixture, 10, |request| request.rules = Arc::clone(&rules)));
    let long = scored(&list_of_ann(&fixture, 1000, |request| request.rules = Arc::clone(&rules)));
    assert!(short.len() == 32 && long.len() > 150, "{} {}", short.len(), long.len());
    assert_eq!(short, long[..short.len()]);
    let is_required = |item: ItemIx| snapshot.catalog().get(item).and_then(|item| item.price()) >= Some(300.0);
    for length in 1..=short.len() {
        let required = short[..length].iter().filter(|(item, _)| is_required(*item)).count();
        assert!(required >= length / 2, "{required} of {length}");
    }
}

#[test]
fn a_list_without_later_pages_has_the_same_items_and_no_remainder() {
    let fixture = shop_with_hub();
    let share = || ShareRule { rule: "share".into(), filter: filter("price >= 300"), min: 0.5, max: 1.0 };
    let promote = PromoteRule { rule: "promote".into(), item: fixture.dictionary.get("i399").unwrap(), position: 2 };
    for rules in [
        ListRules::default(),
        ListRules { require: vec![share()], ..ListRules::default() },
        ListRules { promote: vec![promote], ..ListRules::default() },
    ] {
        let rules = Arc::new(rules);
        let list = |has_later_pages| {
            list_of_ann(&fixture, 20, |request| {
                (request.rules, request.has_later_pages) = (Arc::clone(&rules), has_later_pages);
            })
        };
        let (single, paged) = (list(false), list(true));
        assert_eq!((&single.items, single.fallback), (&paged.items, paged.fallback));
        assert!(single.remainder.is_empty() && !paged.remainder.is_empty());
    }
}
