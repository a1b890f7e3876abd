//! No list violates its filter, its rules, its exclusions or the availability of items. Checked on
//! random catalogs, journals and requests, against definitions that share no code with serving.

use super::*;
use crate::domain::{ImpressionLimitAction, ItemIx, KindId, Timestamp};
use crate::learner::{EventExclusion, HiddenItems, ImpressionCap, ItemExclusions, ListBase, RankedAnswer};
use crate::ranking::{BoostRule, HideRule, ItemFilter, ListRules, PromoteRule, ShareRule};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use std::collections::BTreeMap;

const CATALOGS: u64 = 100;
const REQUESTS_PER_CATALOG: usize = 100;
const ITEMS: u64 = 40;
const USERS: u64 = 5;
const MINUTE_MS: i64 = 60_000;

type ItemPredicate = fn(&Item) -> bool;

/// Filters with their definitions.
const FILTERS: [(&str, ItemPredicate); 6] = [
    ("category = a", |item| item.categories.iter().any(|name| name == "a")),
    ("not category = b", |item| !item.categories.iter().any(|name| name == "b")),
    ("brand = leaf", |item| item.brand.as_deref() == Some("leaf")),
    ("price < 5", |item| item.price.is_some_and(|price| price < 5.0)),
    ("price >= 3 or tags has sale", |item| {
        item.price.is_some_and(|price| price >= 3.0) || item.tags.iter().any(|name| name == "sale")
    }),
    ("price < 0", |item| item.price.is_some_and(|price| price < 0.0)),
];

struct Random(Xoshiro256PlusPlus);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit
    }

    fn is_one_of(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    fn filter(&mut self) -> usize {
        self.below(FILTERS.len() as u64) as usize
    }
}

/// What happened in one random shop, in the order of the journal.
#[derive(Default)]
struct ShopHistory {
    items: BTreeMap<ItemIx, Item>,
    /// User, item, kind and time of each event.
    events: Vec<(u64, ItemIx, &'static str, Timestamp)>,
    /// User, item and time of each shown item, with the number of events before it.
    shown: Vec<(u64, ItemIx, Timestamp, usize)>,
    now: Timestamp,
}

fn random_item(random: &mut Random, end: Timestamp) -> Item {
    let categories = ["a", "b", "c"].into_iter().filter(|_| random.is_one_of(3)).map(str::to_owned).collect();
    let time = |random: &mut Random| random.is_one_of(6).then(|| random.below(2 * end as u64) as i64);
    Item {
        categories,
        brand: random.is_one_of(2).then(|| "leaf".to_owned()),
        price: random.is_one_of(2).then(|| random.below(10) as f64),
        tags: if random.is_one_of(3) { vec!["sale".to_owned()] } else { Vec::new() },
        available: !random.is_one_of(6),
        published: time(random),
        expires: time(random),
        details: None,
    }
}

/// Applies a random journal, and returns what happened.
fn random_shop(random: &mut Random, fixture: &mut LearnerFixture) -> ShopHistory {
    let mut shop = ShopHistory::default();
    let end = 300 * MINUTE_MS;
    for number in 0..ITEMS {
        let name = format!("i{number}");
        // A tenth of the items are not in the catalog.
        if random.is_one_of(10) {
            continue;
        }
        let item = random_item(random, end);
        let operation = ItemOperation::Put(item.clone());
        fixture.apply(&[Entry::Item(ItemChange { item_id: name.clone(), timestamp: 0, operation })]);
        shop.items.insert(fixture.dictionary.get(&name).unwrap(), item);
    }
    for minute in 0..200 {
        shop.now = minute * MINUTE_MS;
        let (user, name) = (random.below(USERS), format!("i{}", random.below(ITEMS)));
        let kind = ["view", "view", "view", "purchase", "dismiss"][random.below(5) as usize];
        if random.is_one_of(4) {
            let known: Vec<_> = (0..8).map(|_| format!("i{}", random.below(ITEMS))).collect();
            let known: BTreeMap<_, _> =
                known.into_iter().filter_map(|name| Some((fixture.dictionary.get(&name)?, name))).collect();
            let items = known.values().map(|name| ImpressionItem::new(name.clone(), SourceName::New)).collect();
            let (recommendation_id, user_id) = (format!("r{minute}"), format!("u{user}"));
            let impression =
                Impression { recommendation_id, user_id, timestamp: shop.now, items, ..Impression::default() };
            fixture.apply(&[Entry::Impression(impression)]);
            shop.shown.extend(known.keys().map(|item| (user, *item, shop.now, shop.events.len())));
        } else {
            let event = event_of_user(&format!("u{user}"), kind, &name, shop.now);
            let value = (kind == "dismiss").then_some(-1.0);
            fixture.apply(&[Entry::Event(Event { value, ..event })]);
            shop.events.push((user, fixture.dictionary.get(&name).unwrap(), kind, shop.now));
        }
    }
    shop.now += MINUTE_MS;
    shop
}

/// The parts of a request that the check needs, with the request.
struct CheckedRequest {
    request: RecommendationRequest,
    filter: Option<usize>,
    hides: Vec<usize>,
    purchases_excluded_for: Option<i64>,
}

fn parsed(filter: usize) -> Arc<ItemFilter> {
    Arc::new(ItemFilter::parse(FILTERS[filter].0).unwrap())
}

fn random_rules(random: &mut Random, hides: &[usize]) -> ListRules {
    let name = || Arc::from("rule");
    let count = |random: &mut Random| random.below(3);
    let share = |random: &mut Random| random.below(5) as f32 / 4.0;
    ListRules {
        hide: hides.iter().map(|filter| HideRule { rule: name(), filter: parsed(*filter) }).collect(),
        boost: (0..count(random))
            .map(|_| BoostRule { rule: name(), filter: parsed(random.filter()), factor: 0.01 + random.below(9) as f32 })
            .collect(),
        require: (0..count(random))
            .map(|_| {
                let (a, b) = (share(random), share(random));
                ShareRule { rule: name(), filter: parsed(random.filter()), min: a.min(b), max: a.max(b) }
            })
            .collect(),
        promote: (0..count(random))
            .map(|_| PromoteRule {
                rule: name(),
                item: random.below(ITEMS) as ItemIx,
                position: 1 + random.below(12) as usize,
            })
            .collect(),
    }
}

fn random_request(random: &mut Random, now: Timestamp, purchase: KindId) -> CheckedRequest {
    let context = || vec![3, 7];
    let base = match random.below(8) {
        0 => ListBase::Similar(context()),
        1 => ListBase::BoughtTogether(context()),
        2 => ListBase::BuyAgain,
        3 => ListBase::Trending,
        4 => ListBase::New,
        _ => ListBase::NextItems,
    };
    let filter = random.is_one_of(3).then(|| random.filter());
    let hides: Vec<_> = (0..random.below(2)).map(|_| random.filter()).collect();
    let has_rules = random.is_one_of(2);
    let purchases_excluded_for = random.is_one_of(3).then(|| (1 + random.below(300) as i64) * MINUTE_MS);
    let action = if random.is_one_of(2) { ImpressionLimitAction::Drop } else { ImpressionLimitAction::Demote };
    let count = 1 + random.below(3) as usize;
    let cap = ImpressionCap { count, period_ms: (1 + random.below(300) as i64) * MINUTE_MS, action };
    let mut exclude: Vec<_> = (0..random.below(6)).map(|_| random.below(ITEMS) as ItemIx).collect();
    exclude.sort_unstable();
    let request = RecommendationRequest {
        exclude,
        exclude_seen: random.is_one_of(3),
        filter: filter.map(|filter| ItemFilter::parse(FILTERS[filter].0).unwrap()),
        max_per_category: random.is_one_of(4).then(|| 1 + random.below(3) as usize),
        hidden: HiddenItems {
            purchased_for_ms: purchases_excluded_for.filter(|_| random.is_one_of(2)).unwrap_or(0),
            purchase: Some(purchase),
            ..HiddenItems::default()
        },
        exclusions: ItemExclusions {
            events: purchases_excluded_for
                .map(|period_ms| EventExclusion { kind: purchase, period_ms })
                .into_iter()
                .collect(),
            max_impressions: random.is_one_of(3).then_some(cap),
        },
        base,
        rules: Arc::new(if has_rules { random_rules(random, &hides) } else { ListRules::default() }),
        ..RecommendationRequest::new(1 + random.below(15) as usize, now)
    };
    CheckedRequest { request, filter, hides: if has_rules { hides } else { Vec::new() }, purchases_excluded_for }
}

impl ShopHistory {
    /// Number of displays of an item to a user in a period, without those before the user's latest
    /// event on the item.
    fn displays(&self, user: u64, item: ItemIx, period_ms: i64) -> usize {
        let latest = self.events.iter().rposition(|(by, on, ..)| (*by, *on) == (user, item));
        let counts = |(to, shown, at, events): &&(u64, ItemIx, Timestamp, usize)| {
            (*to, *shown) == (user, item) && self.now - at < period_ms && latest.is_none_or(|latest| *events > latest)
        };
        self.shown.iter().filter(counts).count()
    }

    /// The rule that an item of a user's list violates.
    fn violation(&self, user: u64, item: ItemIx, checked: &CheckedRequest) -> Option<&'static str> {
        let attributes = self.items.get(&item).cloned().unwrap_or_default();
        let of_user = || self.events.iter().filter(|(by, on, ..)| (*by, *on) == (user, item));
        let is_purchased =
            |period_ms: i64| of_user().any(|(.., kind, at)| *kind == "purchase" && self.now - at < period_ms);
        let CheckedRequest { request, filter, hides, purchases_excluded_for } = checked;
        let dropped = request.exclusions.max_impressions.filter(|cap| cap.action == ImpressionLimitAction::Drop);
        let violations = [
            (!attributes.available, "unavailable"),
            (attributes.published.is_some_and(|from| self.now < from), "not yet published"),
            (attributes.expires.is_some_and(|to| self.now >= to), "expired"),
            (request.exclude.contains(&item), "excluded"),
            (request.exclude_seen && of_user().next().is_some(), "seen"),
            (of_user().next_back().is_some_and(|(.., kind, _)| *kind == "dismiss"), "dismissed"),
            (purchases_excluded_for.is_some_and(is_purchased), "purchased"),
            (filter.is_some_and(|filter| !FILTERS[filter].1(&attributes)), "filter"),
            (hides.iter().any(|hide| FILTERS[*hide].1(&attributes)), "hide rule"),
            (dropped.is_some_and(|cap| self.displays(user, item, cap.period_ms) >= cap.count), "shown too often"),
        ];
        violations.into_iter().find(|(is_violated, _)| *is_violated).map(|(_, rule)| rule)
    }

    fn check(&self, user: u64, checked: &CheckedRequest, answer: &RankedAnswer) {
        let request = &checked.request;
        let listed: Vec<_> = answer.items.iter().map(|ranked| ranked.candidate.item).collect();
        let remainder = answer.remainder.iter().map(|candidate| candidate.item);
        let mut all: Vec<_> = listed.iter().copied().chain(remainder).collect();
        for item in &all {
            assert_eq!(self.violation(user, *item, checked), None, "item {item} of {request:?}");
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert!(listed.len() <= request.limit && all.len() == count, "{request:?}");
        if let Some(max) = request.max_per_category.filter(|_| request.rules.promote.is_empty()) {
            for category in ["a", "b", "c"] {
                let in_category = |item: &&ItemIx| {
                    self.items.get(item).is_some_and(|item| item.categories.iter().any(|name| name == category))
                };
                assert!(listed.iter().filter(in_category).count() <= max, "{category} {request:?}");
            }
        }
    }
}

#[test]
fn no_list_violates_its_request() {
    let (mut listed, mut lists) = (0, 0);
    for seed in 0..CATALOGS {
        let random = &mut Random(Xoshiro256PlusPlus::seed_from_u64(seed));
        let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
        let shop = random_shop(random, &mut fixture);
        let snapshot = fixture.learner.snapshot();
        let params = SequenceParams::default();
        let purchase = fixture.learner.state.settings.kinds.id_of(&EventKind::Purchase).unwrap();
        let mut workspace = ScoringWorkspace::default();
        for _ in 0..REQUESTS_PER_CATALOG {
            // The last user has no event.
            let user = random.below(USERS + 1);
            let name = format!("u{user}");
            let stranger = SequenceState::default();
            let state = fixture.learner.sequence_state(&name).unwrap_or(&stranger);
            let checked = random_request(random, shop.now, purchase);
            let memory = snapshot.memory_of(&name);
            let (catalog, request) = (snapshot.catalog(), &checked.request);
            let answer = recommend(&snapshot, catalog, state, memory, &params, request, &mut workspace);
            shop.check(user, &checked, &answer);
            listed += answer.items.len();
            lists += usize::from(!answer.items.is_empty());
        }
    }
    assert!(lists > 5_000 && listed > 20_000, "{lists} lists with {listed} items");
}
