use super::shop_catalog::ZIPF_EXPONENT;
use super::*;
use crate::domain::{Entry, Event, EventKind, ItemOperation};
use rustc_hash::{FxHashMap, FxHashSet};

fn new_shop(settings: ShopSettings) -> ShopSimulator {
    ShopSimulator::new(settings).unwrap()
}

fn take_events(shop: &mut ShopSimulator, count: usize) -> Vec<Event> {
    shop.filter_map(|entry| if let Entry::Event(event) = entry { Some(event) } else { None }).take(count).collect()
}

fn item_of(event: &Event) -> &str {
    event.item_id.as_deref().unwrap()
}

/// Counts the items and sorts them by descending frequency. Equally frequent items are sorted by
/// name.
fn items_by_frequency<'e>(items: impl Iterator<Item = &'e str>) -> Vec<(&'e str, usize)> {
    let mut counts: FxHashMap<&str, usize> = FxHashMap::default();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    let mut ranked: Vec<_> = counts.into_iter().collect();
    ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    ranked
}

#[test]
fn the_seed_determines_the_stream() {
    let stream = |seed| new_shop(ShopSettings { seed, ..ShopSettings::default() }).take(15_000).collect::<Vec<_>>();
    assert_eq!(stream(1), stream(1));
    let items = |seed| {
        take_events(&mut new_shop(ShopSettings { seed, ..ShopSettings::default() }), 1_000)
            .iter()
            .map(item_of)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(items(1) != items(2), "more than the event ids must differ");
}

#[test]
fn timestamps_ascend_and_visits_are_consistent() {
    let mut shop = new_shop(ShopSettings { opens_at: 1_000, ..ShopSettings::default() });
    let events = take_events(&mut shop, 20_000);
    assert!(events.first().unwrap().timestamp >= 1_000 && events.is_sorted_by_key(|event| event.timestamp));
    let visitors: FxHashSet<_> = events.iter().map(|event| (&event.session_id, &event.user_id)).collect();
    let visits: FxHashSet<_> = events.iter().map(|event| &event.session_id).collect();
    let users: FxHashSet<_> = events.iter().map(|event| &event.user_id).collect();
    assert_eq!(visitors.len(), visits.len(), "a visit belongs to one user");
    assert!(users.len() * 5 < visits.len() * 4, "customers return: {} visits of {} users", visits.len(), users.len());
    let length = events.len() as f64 / visits.len() as f64;
    assert!((4.0..9.0).contains(&length), "{length} events per visit");
    for (kind, share) in
        [(EventKind::View, 0.8..0.95), (EventKind::Cart, 0.05..0.15), (EventKind::Purchase, 0.01..0.05)]
    {
        let found = events.iter().filter(|event| event.kind == kind).count() as f64 / events.len() as f64;
        assert!(share.contains(&found), "{found} are {}", kind.name());
    }
}

#[test]
fn popularity_within_a_category_follows_zipf() {
    // The shop has 24 categories of 50 items. The probability of the first item of a visit is
    // proportional to rank^-s. The later items of a visit also depend on popularity, so the
    // distribution over all events is about as steep.
    let mut shop =
        new_shop(ShopSettings { items: 1_200, new_item_interval: 0, trend_interval: 0, ..ShopSettings::default() });
    let events = take_events(&mut shop, 200_000);
    let mut seen_visits = FxHashSet::default();
    let first_items: Vec<_> =
        events.iter().filter(|event| seen_visits.insert(&event.session_id)).map(item_of).collect();
    let popular = items_by_frequency(first_items.iter().copied().filter(|item| item.starts_with("cups-")));
    let (first, tenth) = (popular[0].1 as f64, popular[9].1 as f64);
    // Estimate the Zipf exponent: log(count of the first item / count of the tenth item) / log(10).
    let exponent = (first / tenth).log10();
    assert!((exponent - ZIPF_EXPONENT).abs() < 0.2, "{exponent}");
    let all = items_by_frequency(events.iter().map(item_of));
    let top_fifth: usize = all.iter().take(all.len() / 5).map(|(_, count)| count).sum();
    assert!(
        top_fifth * 2 > events.len(),
        "a fifth of the items gets most of the events: {top_fifth} of {}",
        events.len()
    );
}

#[test]
fn the_last_item_predicts_the_next_one_better_than_popularity() {
    let mut shop = new_shop(ShopSettings::default());
    let events = take_events(&mut shop, 40_000);
    let (past, future) = events.split_at(20_000);
    let popular: FxHashSet<_> =
        items_by_frequency(past.iter().map(item_of)).into_iter().take(20).map(|(item, _)| item).collect();
    let steps = |events: &'_ [Event]| {
        let mut last: FxHashMap<String, String> = FxHashMap::default();
        let step = |event: &Event| {
            Some((last.insert(event.session_id.clone()?, item_of(event).to_owned())?, item_of(event).to_owned()))
        };
        events.iter().filter_map(step).collect::<Vec<_>>()
    };
    let past = steps(past);
    let mut follows: FxHashMap<&str, Vec<&str>> = FxHashMap::default();
    past.iter().for_each(|(from, to)| follows.entry(from).or_default().push(to));
    let follows: FxHashMap<_, FxHashSet<_>> = follows
        .into_iter()
        .map(|(from, to)| {
            (from, items_by_frequency(to.into_iter()).into_iter().take(20).map(|(item, _)| item).collect())
        })
        .collect();
    let future = steps(future);
    let recall = |hit: &dyn Fn(&str, &str) -> bool| {
        future.iter().filter(|(from, to)| hit(from, to)).count() as f64 / future.len() as f64
    };
    let by_popularity = recall(&|_, to| popular.contains(to));
    let by_last = recall(&|from, to| follows.get(from).is_some_and(|likely| likely.contains(to)));
    assert!(
        by_popularity > 0.02 && by_last > 0.5 && by_last > 2.0 * by_popularity,
        "{by_last} by the last item, {by_popularity} by popularity"
    );
}

#[test]
fn new_items_are_described_before_their_first_event_and_are_visited() {
    let mut shop = new_shop(ShopSettings { new_item_interval: 100, ..ShopSettings::default() });
    let entries: Vec<_> = shop.by_ref().take(12_000).collect();
    let (mut described, mut new) = (FxHashSet::default(), 0);
    for entry in &entries {
        match entry {
            Entry::Item(change) => {
                let ItemOperation::Put(item) = &change.operation else { panic!("{change:?}") };
                assert!(
                    item.categories.len() == 1
                        && item.brand.is_some()
                        && item.price.is_some_and(|price| (2.0..=200.0).contains(&price))
                );
                assert!(described.insert(change.item_id.as_str()), "{} is described twice", change.item_id);
            }
            Entry::Event(event) => {
                assert!(described.contains(item_of(event)), "{} was never described", item_of(event));
                new += usize::from(shop.is_new_item(item_of(event)));
            }
            other => panic!("unexpected entry {other:?}"),
        }
    }
    assert_eq!(
        (shop.new_item_count() as u64, described.len()),
        (shop.event_count() / 100, 1_000 + shop.new_item_count())
    );
    assert!(new * 50 > entries.len(), "{new} events on new items");
}

#[test]
fn a_trend_starts_and_ends() {
    let settings = ShopSettings { trend_interval: 10_000, new_item_interval: 0, ..ShopSettings::default() };
    let mut shop = new_shop(settings);
    let before = take_events(&mut shop, 9_999);
    assert_eq!(shop.current_trend(), None);
    let during = take_events(&mut shop, 5_000);
    let trend = shop.current_trend().cloned().unwrap();
    assert_eq!((trend.start_event, trend.items.len()), (10_000, 3));
    let after = take_events(&mut shop, 4_000);
    assert_eq!(shop.current_trend(), None);
    let share = |events: &[Event]| {
        events.iter().filter(|event| trend.items.iter().any(|trending| trending == item_of(event))).count() as f64
            / events.len() as f64
    };
    assert!(share(&before) < 0.02, "{}", share(&before));
    assert!(share(&during) > 0.05, "{}", share(&during));
    assert!(share(&after[2_000..]) < 0.02, "{}", share(&after[2_000..]));
    let most_frequent: Vec<_> =
        items_by_frequency(during.iter().map(item_of)).into_iter().take(3).map(|(item, _)| item).collect();
    assert!(most_frequent.contains(&trend.items[0].as_str()), "{most_frequent:?} instead of {trend:?}");
}

#[test]
fn a_category_is_more_popular_in_its_season() {
    // With one customer, nearly all visits are by one-time visitors, who have no preferred
    // category. A year lasts two hours. The weight of the category tea over the year is 1 + 0.7
    // sin. The mean weight is 1 + 0.7 * 2 / pi = 1.45 in the first half of the year and 0.55 in the
    // second half.
    let mut shop =
        new_shop(ShopSettings { customers: 1, new_item_interval: 0, trend_interval: 0, ..ShopSettings::default() });
    let mut seen_visits = FxHashSet::default();
    let mut halves = [0.0; 2];
    for event in take_events(&mut shop, 40_000) {
        let half = usize::from(event.timestamp > 3_600_000);
        if event.timestamp <= 7_200_000
            && seen_visits.insert(event.session_id.clone())
            && item_of(&event).starts_with("tea-")
        {
            halves[half] += 1.0;
        }
    }
    assert!(halves[1] > 40.0 && halves[0] > 1.7 * halves[1], "{halves:?}");
}

#[test]
fn visitors_click_some_items_of_the_lists_they_see() {
    let mut shop = new_shop(ShopSettings::default());
    let _ = take_events(&mut shop, 5_000);
    let mut clicked = 0;
    for _ in 0..2_000 {
        let event = take_events(&mut shop, 1).remove(0);
        let category = item_of(&event).split('-').next().unwrap();
        let list: Vec<_> = (1..=20).map(|number| format!("{category}-{number}")).collect();
        shop.show_list(&event.user_id, list.iter().map(String::as_str));
        clicked += usize::from(event.kind == EventKind::Click);
    }
    assert!((200..1_900).contains(&clicked), "{clicked}");
    shop.show_list("unknown", ["cups-1"]);
    let without_lists = take_events(&mut shop, 2_000);
    assert!(without_lists.iter().skip(1_000).all(|event| event.kind != EventKind::Click), "clicks need a list");
}

#[test]
fn new_rejects_a_parameter_outside_its_range_and_names_it() {
    let error = ShopSimulator::new(ShopSettings { items: 10, ..ShopSettings::default() }).unwrap_err();
    assert_eq!(error.to_string(), "invalid `items` of the shop: 10 is not in 40..=2,000,000");
    assert!(ShopSimulator::new(ShopSettings { customers: 0, ..ShopSettings::default() }).is_err());
}

#[test]
fn the_ideal_first_list_has_the_probabilities_of_the_draws() {
    let settings = ShopSettings { items: 400, customers: 50, trend_interval: 2_000, ..ShopSettings::default() };
    let mut simulator = ShopSimulator::new(settings).unwrap();
    let mut visits = std::collections::HashSet::new();
    let (mut hits, mut expected, mut variance) = (0.0, 0.0, 0.0);
    while simulator.event_count() < 60_000 {
        let Some(Entry::Event(event)) = simulator.next() else { continue };
        if !visits.insert(event.session_id.unwrap()) || event.user_id.starts_with("guest") {
            continue;
        }
        let list = simulator.ideal_first_list(&event.user_id, 20);
        assert_eq!(list.len(), 20);
        assert!(list.is_sorted_by(|(_, more), (_, less)| more >= less));
        let probability: f64 = list.iter().map(|(_, probability)| probability).sum();
        hits += f64::from(u8::from(list.iter().any(|(item, _)| Some(*item) == event.item_id.as_deref())));
        expected += probability;
        variance += probability * (1.0 - probability);
    }
    assert!(variance > 500.0);
    let deviations = (hits - expected) / f64::sqrt(variance);
    assert!(deviations.abs() < 4.0, "{hits} hits, {expected:.0} expected, {deviations:.1} standard deviations");
    assert!(simulator.ideal_first_list("guest-1", 20).is_empty());
}
