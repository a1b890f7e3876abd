//! Tests of the heads of the ranker: what they learn from which events.

use super::*;
use crate::domain::{Candidate, Objective};
use crate::learner::HeadQuality;
use crate::learner::objective_heads::ObjectiveHeads;
use std::ops::Range;

/// A journal of a shop where clicks and purchases differ. A visit has seven events in random order:
/// six views of items 0 to 7, and a purchase of item 8 or, half as often and at ten times the price,
/// of item 9. Before each visit, a list with item 5 alone is shown.
fn shop_journal(visits: Range<u64>) -> Vec<Entry> {
    let visit = |visit: u64| {
        let (user, begin) = (format!("u{}", visit % 20), (visit * 10_000) as i64);
        let random = move |place: u64| (visit * 8 + place).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let items = vec![ImpressionItem::new("i5".to_owned(), SourceName::Trending)];
        let shown = Impression { user_id: user.clone(), timestamp: begin, items, ..Impression::default() };
        let events = (0..7).map(move |place| {
            let at = begin + (place * 1_000) as i64;
            if place != random(7) % 7 {
                return Entry::Event(event_of_user(&user, "view", &format!("i{}", random(place) % 8), at));
            }
            let (item, value) = if visit.is_multiple_of(3) { ("i9", 100.0) } else { ("i8", 10.0) };
            Entry::Event(Event { value: Some(value), ..event_of_user(&user, "purchase", item, at) })
        });
        std::iter::once(Entry::Impression(shown)).chain(events)
    };
    visits.flat_map(visit).collect()
}

fn learned_shop(visits: u64) -> LearnerFixture {
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    fixture.apply(&shop_journal(0..visits));
    fixture
}

/// The list of a visitor after one view, with explanations.
fn list_for(fixture: &LearnerFixture, objective: Option<Objective>) -> Vec<(String, crate::learner::RankedItem)> {
    let mut user = SequenceState::default();
    let step = Step { item: fixture.dictionary.get("i2"), kind: 0, starts_session: true, at: 0, value: 1.0 };
    user.sequence.steps.push(step);
    let request = RecommendationRequest { objective, explain: true, ..RecommendationRequest::new(10, 0) };
    let (snapshot, mut workspace) = (fixture.learner.snapshot(), ScoringWorkspace::default());
    let (memory, params) = (UserMemory::default(), SequenceParams::default());
    let answer = recommend(&snapshot, snapshot.catalog(), &user, memory, &params, &request, &mut workspace);
    let name = |candidate: Candidate| fixture.dictionary.name(candidate.item).unwrap().to_string();
    answer.items.into_iter().map(|ranked| (name(ranked.candidate), ranked)).collect()
}

fn first_item(fixture: &LearnerFixture, objective: Option<Objective>) -> String {
    list_for(fixture, objective)[0].0.clone()
}

fn quality(fixture: &LearnerFixture, objective: Objective) -> HeadQuality {
    fixture.learner.report().objectives.into_iter().find(|quality| quality.objective == objective).unwrap()
}

#[test]
fn a_list_for_conversions_begins_with_converted_items() {
    let fixture = learned_shop(150);
    assert!(!["i8", "i9"].contains(&first_item(&fixture, None).as_str()), "the next event is a view");
    assert_eq!(first_item(&fixture, Some(Objective::Cvr)), "i8");
    assert_eq!(first_item(&fixture, Some(Objective::Revenue)), "i9");
    let cvr = quality(&fixture, Objective::Cvr);
    assert!(cvr.learned_events > 120 && cvr.with.steps > 120, "{cvr:?}");
    assert!(cvr.with.mrr() > 1.3 * cvr.without.mrr(), "{cvr:?}");
    let ctr = quality(&fixture, Objective::Ctr);
    assert_eq!(first_item(&fixture, Some(Objective::Ctr)), "i5", "only this item is shown");
    assert!((50..150).contains(&ctr.learned_events), "one event a list: {ctr:?}");
}

#[test]
fn an_explanation_names_the_objective_and_its_contribution() {
    let fixture = learned_shop(60);
    let plain = list_for(&fixture, None);
    assert!(plain.iter().all(|(_, ranked)| ranked.explanation.as_ref().unwrap().objective.is_none()));
    for (id, ranked) in list_for(&fixture, Some(Objective::Cvr)) {
        let effect = ranked.explanation.unwrap().objective.unwrap();
        let (_, without) = plain.iter().find(|(other, _)| *other == id).unwrap();
        let difference = ranked.candidate.score - without.candidate.score;
        assert_eq!(effect.objective, Objective::Cvr);
        assert!((effect.contribution - difference).abs() < 1e-4, "{id}: {effect:?} {difference}");
    }
}

#[test]
fn heads_are_restored_from_checkpoints_and_by_a_rollback() {
    let journal = shop_journal(0..60);
    let mut whole = learned_shop(60);
    let mut parts = LearnerFixture::new(small_settings(), Arc::default(), None);
    parts.apply(&journal[..201]);
    let mut parts = parts.decode_and_continue();
    parts.apply(&journal[201..]);
    assert!(whole.state_bytes() == parts.state_bytes());

    let heads = |fixture: &LearnerFixture| encode(&fixture.learner.state.objectives.heads());
    let before = heads(&whole);
    whole.apply(&shop_journal(60..70));
    assert!(before != heads(&whole));
    whole.apply(&[model_change_entry(ModelOperation::Rollback { to: journal.len() as u64 })]);
    assert!(before == heads(&whole));
    let tests = quality(&whole, Objective::Cvr).with.steps;
    whole.apply(&[model_change_entry(ModelOperation::Pause)]);
    whole.apply(&shop_journal(70..80));
    assert!(before == heads(&whole), "while learning is paused, heads do not change");
    assert!(quality(&whole, Objective::Cvr).with.steps >= tests + 8, "but they are tested");
}

#[test]
fn a_state_without_heads_gets_untrained_heads() {
    let mut fixture = learned_shop(60);
    let mut state = fixture.learner.state().unwrap().clone();
    let none: ObjectiveHeads = decode(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    state.set_objectives_part(none);
    let (config, dictionary) = (state.settings.clone(), Arc::clone(&fixture.dictionary));
    let mut continued = LearnerFixture::new(config, dictionary, Some(state));
    assert_eq!(quality(&continued, Objective::Cvr).learned_events, 0);
    continued.apply(&shop_journal(60..90));
    assert_eq!(quality(&continued, Objective::Revenue).learned_events, 30);
}
