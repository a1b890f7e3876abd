//! Tests of declared features in a simulated shop: users buy only items in their language.

use super::*;
use crate::domain::{AttributeValue, Attributes, AttributesPatch, EventDetails, ItemDetails, UserAttributesChange};
use crate::learner::{FeatureDeclarations, FeatureReport, LearnedFeatures, ListScoringRequest, score_list};

const LANGUAGES: [&str; 4] = ["de", "en", "fr", "it"];
const ITEMS: u64 = 40;
const USERS: u64 = 60;

fn text_attributes(values: &[(&str, &str)]) -> Attributes {
    Attributes::from_values(
        values.iter().map(|(name, text)| (Arc::from(*name), AttributeValue::Text(Arc::from(*text)))),
    )
}

fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

fn put_item(item: u64) -> Entry {
    let colour = format!("c{}", mixed(item) % 5);
    let attributes = text_attributes(&[("language", LANGUAGES[item as usize % 4]), ("colour", &colour)]);
    let details = ItemDetails { attributes, ..ItemDetails::default() };
    let operation = ItemOperation::Put(Item { details: details.into_shared(), ..Item::default() });
    Entry::Item(ItemChange { item_id: format!("i{item}"), timestamp: 0, operation })
}

fn change_user(user: &str, attributes: &Attributes) -> Entry {
    let changes = attributes.iter().map(|(name, value)| (Arc::clone(name), Some(value.clone()))).collect();
    let patch = AttributesPatch::Change(changes);
    Entry::UserAttributes(UserAttributesChange { user_id: user.to_owned(), patch, timestamp: 0 })
}

fn describe_user(user: u64) -> Entry {
    let mood = format!("m{}", mixed(user) % 3);
    change_user(&format!("u{user}"), &text_attributes(&[("language", LANGUAGES[user as usize % 4]), ("mood", &mood)]))
}

/// Items and users with attributes, and then `events` purchases of random items in the language of the
/// user. The context of an event names the language, too.
fn shop_journal(events: u64) -> Vec<Entry> {
    let purchase = |number: u64| {
        let user = mixed(number) % USERS;
        let item = mixed(number ^ 0xabcd) % (ITEMS / 4) * 4 + user % 4;
        let context = text_attributes(&[("place", LANGUAGES[user as usize % 4])]);
        let details = EventDetails { context, ..EventDetails::default() };
        let event = event_of_user(&format!("u{user}"), "purchase", &format!("i{item}"), number as i64 * 100_000);
        Entry::Event(Event { details: details.into_boxed(), ..event })
    };
    (0..ITEMS).map(put_item).chain((0..USERS).map(describe_user)).chain((0..events).map(purchase)).collect()
}

/// Visitors who view a page without attributes first, and then buy a random item in their language. No
/// other source can know the language.
fn visitors_journal(visitors: u64) -> Vec<Entry> {
    let events = |user: u64| {
        let (id, timestamp) = (format!("u{user}"), user as i64 * 10_000);
        let item = mixed(user ^ 0xabcd) % (ITEMS / 4) * 4 + user % 4;
        let purchase = event_of_user(&id, "purchase", &format!("i{item}"), timestamp + 1_000);
        [Entry::Event(event_of_user(&id, "view", "home", timestamp)), Entry::Event(purchase)]
    };
    (0..ITEMS).map(put_item).chain((0..visitors).map(describe_user)).chain((0..visitors).flat_map(events)).collect()
}

fn settings_with(features: &[(&str, &str)]) -> LearnerConfig {
    let features = features.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let mut settings = small_settings();
    settings.candidates.without = vec![SourceName::Network, SourceName::Clusters];
    settings.features = FeatureDeclarations::parse(features).unwrap();
    settings.evaluate_from = 400;
    settings
}

fn learn_shop(features: &[(&str, &str)], events: u64) -> LearnerFixture {
    let mut fixture = LearnerFixture::new(settings_with(features), Arc::default(), None);
    fixture.apply(&shop_journal(events));
    fixture
}

fn report_of(fixture: &LearnerFixture) -> FeatureReport {
    fixture.learner.snapshot().features().report()
}

const LANGUAGE: (&str, &str) = ("language", "item.language = user.language");
const MOOD: (&str, &str) = ("mood", "item.colour, user.mood");

#[test]
fn a_declared_feature_raises_the_quality_and_shows_its_gain() {
    let [without, with] = [&[][..], &[LANGUAGE, MOOD]].map(|features| {
        let mut fixture = LearnerFixture::new(settings_with(features), Arc::default(), None);
        fixture.apply(&visitors_journal(800));
        fixture
    });
    let [before, after] = [&without, &with].map(|fixture| fixture.learner.report().evaluated);
    assert!(
        after.recall() > before.recall() + 0.1,
        "{} to {}, {:?}",
        before.recall(),
        after.recall(),
        (report_of(&with), with.learner.report().held_back)
    );
    assert!(after.mrr() > before.mrr() * 1.2, "{} to {}", before.mrr(), after.mrr());
    let report = report_of(&with);
    assert!((25..=80).contains(&report.sampled_events), "{}", report.sampled_events);
    let [language, mood] = &report.features[..] else { panic!("{report:?}") };
    assert_eq!((&*language.name, &*language.operands), LANGUAGE);
    let (of_language, of_mood) = (report.with.gain_over(language.without), report.with.gain_over(mood.without));
    assert!(of_language.recall > 0.1 && of_language.mrr > 0.02, "{of_language:?}");
    assert!(of_mood.recall.abs() < 0.05 && of_mood.mrr.abs() < 0.05, "{of_mood:?}");
    let of_all = report.with.gain_over(report.without_all);
    assert!(of_all.recall > of_language.recall / 2.0, "{of_all:?}");
    assert_eq!((language.weights, mood.weights), (2, 15));
    assert!(language.candidate_share > 0.9 && mood.candidate_share > 0.9, "{report:?}");
}

#[test]
fn a_feature_of_missing_operands_changes_nothing() {
    let without = learn_shop(&[], 600);
    let mut with =
        learn_shop(&[("absent", "item.none, user.language"), ("unset", "item.language = context.none")], 600);
    assert_eq!(with.learner.report().total, without.learner.report().total);
    let report = report_of(&with);
    assert!(report.features.iter().all(|feature| feature.weights == 0 && feature.candidate_share == 0.0));
    assert_eq!(report.with, report.without_all);
    let mut without = without;
    assert_eq!(encode(&with.learner.state().unwrap().ranker), encode(&without.learner.state().unwrap().ranker));
}

#[test]
fn the_context_of_events_and_requests_counts() {
    let fixture = learn_shop(&[("place", "item.language = context.place")], 1_000);
    let report = report_of(&fixture);
    assert!(report.with.gain_over(report.without_all).recall > 0.1, "{report:?}");
    let snapshot = fixture.learner.snapshot();
    let state = fixture.learner.sequence_state("u0").unwrap();
    let items: Vec<_> = (0..ITEMS).map(|item| fixture.dictionary.get(&format!("i{item}")).unwrap()).collect();
    let language_of_best = |context: &Attributes| {
        let request = ListScoringRequest {
            items: items.clone(),
            now: 0,
            explain: false,
            context: context.clone(),
            objective: None,
        };
        let (params, workspace) = (SequenceParams::default(), &mut ScoringWorkspace::default());
        let scores = score_list(&snapshot, &state.sequence, UserMemory::default(), &params, &request, workspace);
        let mut best: Vec<_> = scores.items.iter().map(|item| item.score).enumerate().collect();
        best.sort_by(|a, b| b.1.total_cmp(&a.1));
        best.iter().take(8).map(|(item, _)| LANGUAGES[item % 4]).collect::<Vec<_>>()
    };
    let count = |context: &Attributes, language| language_of_best(context).iter().filter(|of| **of == language).count();
    let french = text_attributes(&[("place", "fr")]);
    assert!(count(&french, "fr") >= 7, "{:?}", language_of_best(&french));
    assert!(count(&Attributes::default(), "fr") < 6);
}

fn list_of_user(fixture: &LearnerFixture, user: &str) -> Vec<u64> {
    let (snapshot, state) = (fixture.learner.snapshot(), fixture.learner.sequence_state(user).cloned());
    let answer = recommend(
        &snapshot,
        snapshot.catalog(),
        &state.unwrap_or_default(),
        snapshot.memory_of(user),
        &SequenceParams::default(),
        &RecommendationRequest::new(8, 0),
        &mut ScoringWorkspace::default(),
    );
    let name = |item| fixture.dictionary.name(item).unwrap()[1..].parse().unwrap();
    answer.items.iter().map(|ranked| name(ranked.candidate.item)).collect()
}

#[test]
fn lists_follow_the_attributes_of_the_user_until_they_are_removed() {
    let mut fixture = learn_shop(&[LANGUAGE], 1_000);
    let french = |fixture: &LearnerFixture, user| {
        list_of_user(fixture, user).iter().filter(|item| LANGUAGES[**item as usize % 4] == "fr").count()
    };
    let view = |user: &str, timestamp| Entry::Event(event_of_user(user, "view", "i0", timestamp));
    fixture.apply(&[change_user("ann", &text_attributes(&[("language", "fr")])), view("ann", 300_000_000)]);
    assert!(french(&fixture, "ann") >= 7, "{}", french(&fixture, "ann"));
    fixture.apply(&[view("bob", 300_001_000)]);
    let stranger = list_of_user(&fixture, "bob");
    let merge = UserMerge { from: "ann".to_owned(), into: "bob".to_owned(), timestamp: 300_002_000 };
    fixture.apply(&[Entry::Merge(merge)]);
    assert!(french(&fixture, "bob") >= 7, "the merged user has the attributes of both");
    let erasure = UserErasure { user_id: "bob".to_owned(), unlearn: false, timestamp: 300_003_000 };
    fixture.apply(&[Entry::Erase(erasure)]);
    assert!(fixture.learner.snapshot().memory_of("bob").attributes.is_none());
    fixture.apply(&[view("bob", 300_004_000)]);
    assert!(french(&fixture, "bob") < 6, "{:?} {stranger:?}", list_of_user(&fixture, "bob"));
}

#[test]
fn a_decoded_part_continues_with_the_same_bytes() {
    let journal = shop_journal(800);
    let mut whole = LearnerFixture::new(settings_with(&[LANGUAGE, MOOD]), Arc::default(), None);
    whole.apply(&journal);
    let mut parts = LearnerFixture::new(settings_with(&[LANGUAGE, MOOD]), Arc::default(), None);
    let (first, second) = journal.split_at(700);
    parts.apply(first);
    let written = encode(parts.learner.state().unwrap().features_part());
    let decoded: LearnedFeatures = decode(&written);
    assert_eq!(encode(&decoded), written);
    parts.learner.state.features = decoded;
    parts = parts.decode_and_continue();
    parts.apply(second);
    assert!(report_of(&parts).sampled_events > 20);
    let [of_whole, of_parts] = [&mut whole, &mut parts].map(|fixture| {
        let state = fixture.learner.state().unwrap();
        (encode(state.features_part()), encode(&state.ranker))
    });
    assert!(of_whole == of_parts);
}

#[test]
fn other_declarations_learn_the_journal_again() {
    let mut fixture = learn_shop(&[LANGUAGE], 400);
    let (state, dictionary) = (fixture.learner.state().unwrap().clone(), Arc::clone(&fixture.dictionary));
    let start = |features: &[(&str, &str)], state: &LearnerState| {
        LearnerFixture::new(settings_with(features), Arc::clone(&dictionary), Some(state.clone())).learner.next_offset()
    };
    assert_eq!(start(&[LANGUAGE], &state), state.next_offset());
    assert_eq!(start(&[], &state), 0);
    assert_eq!(start(&[LANGUAGE, MOOD], &state), 0);
    assert_eq!(start(&[("language", "item.language, user.language")], &state), 0);
    // A checkpoint of an earlier build has no features.
    let mut plain = learn_shop(&[], 400);
    let state = plain.learner.state().unwrap().clone();
    let written = encode(&state);
    let mut decoded: LearnerState = decode(&written);
    decoded.set_new_items_part(Some(state.new_items_part().clone()));
    assert_eq!(start(&[], &decoded), state.next_offset());
    assert_eq!(start(&[LANGUAGE], &decoded), 0);
}

#[test]
fn a_rollback_restores_the_weights_and_keeps_the_attributes() {
    let journal = shop_journal(600);
    let mut fixture = LearnerFixture::new(settings_with(&[LANGUAGE]), Arc::default(), None);
    fixture.apply(&journal[..400]);
    let early = fixture.learner.state.features.clone();
    fixture.apply(&journal[400..]);
    fixture.apply(&[change_user("ann", &text_attributes(&[("language", "fr")]))]);
    let learnt_on = fixture.learner.state.features.clone();
    fixture.apply(&[model_change_entry(ModelOperation::Rollback { to: 400 })]);
    assert!(fixture.learner.snapshot().memory_of("ann").attributes.is_some());
    let encoded_model = |features: &LearnedFeatures| {
        let mut rolled_back = LearnedFeatures::new(fixture.learner.state.settings.features.clone());
        rolled_back.roll_back(features);
        encode(&rolled_back)
    };
    assert!(encoded_model(&fixture.learner.state.features) == encoded_model(&early));
    assert!(encoded_model(&learnt_on) != encoded_model(&early));
}
