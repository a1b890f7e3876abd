//! Tests of the long-term profiles of users.

use super::*;
use crate::candidates::ProfileSettings;

const HOUR_MS: i64 = 3_600_000;
const SESSIONS: u64 = 25;

/// Sessions of the users, one after the other. A session views one of the user's own two items first,
/// in turns, and then two items that have no relation to it.
fn journal_of_favourites(users: std::ops::Range<u64>, sessions: std::ops::Range<u64>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for session in sessions {
        for user in users.clone() {
            let noise = |step: u64| format!("i{}", (session * 40 + user + step).wrapping_mul(7919) % 60);
            let items = [own_item(user, session), noise(1), noise(2)];
            for (step, item) in items.iter().enumerate() {
                let timestamp = session as i64 * 2 * HOUR_MS + (user * 10_000) as i64 + step as i64 * 1_000;
                entries.push(Entry::Event(event_of_user(&format!("u{user}"), "view", item, timestamp)));
            }
        }
    }
    entries
}

fn own_item(user: u64, session: u64) -> String {
    format!("own{user}-{}", session % 2)
}

/// The catalog entries of the users' own items. Without them, items of a single user are not
/// recommended.
fn items_of(users: u64) -> Vec<Entry> {
    let put = |name: String| {
        let operation = ItemOperation::Put(Item::default());
        Entry::Item(ItemChange { item_id: name, timestamp: 0, operation })
    };
    (0..users).flat_map(|user| [own_item(user, 0), own_item(user, 1)]).map(put).collect()
}

fn has_own_items(user: u64, profile: &[String]) -> bool {
    (0..2).all(|session| profile.contains(&own_item(user, session)))
}

fn profile_items(fixture: &LearnerFixture, user: &str) -> Vec<String> {
    let snapshot = fixture.learner.snapshot();
    let items = snapshot.profile_of(user).into_iter().flat_map(|profile| profile.weighted_items());
    items.filter_map(|(item, _)| fixture.dictionary.name(item).map(|name| name.to_string())).collect()
}

#[test]
fn profiles_are_bounded_and_follow_erasure_merges_and_expiry() {
    let settings = LearnerConfig { profiles: ProfileSettings { items_kept: 8, users_kept: 4 }, ..small_settings() };
    let mut fixture = LearnerFixture::new(settings, Arc::default(), None);
    for entry in journal_of_favourites(0..8, 0..2).into_iter().chain(journal_of_favourites(4..8, 2..14)) {
        fixture.apply(&[entry]);
        let known = (0..8).filter(|user| !profile_items(&fixture, &format!("u{user}")).is_empty()).count();
        assert!(known <= 4, "{known} profiles");
        assert!((0..8).all(|user| profile_items(&fixture, &format!("u{user}")).len() <= 8));
    }
    assert!(profile_items(&fixture, "u0").is_empty(), "the users without a new session for the longest time go first");
    for user in [6, 7] {
        assert!(has_own_items(user, &profile_items(&fixture, &format!("u{user}"))));
    }
    let sizes = fixture.learner.snapshot();
    let size = sizes.source_sizes().find(|(source, ..)| *source == SourceName::Profile).unwrap();
    assert!(size.1 == 4 && (1_000..4_000).contains(&size.2), "{size:?}");
    let timestamp = 0;
    fixture.apply(&[Entry::Merge(UserMerge { from: "u7".to_owned(), into: "u6".to_owned(), timestamp })]);
    assert!(profile_items(&fixture, "u7").is_empty());
    let merged = profile_items(&fixture, "u6");
    assert!(merged.len() == 8 && has_own_items(6, &merged) && has_own_items(7, &merged), "{merged:?}");
    let mut fixture = fixture.decode_and_continue();
    assert_eq!(profile_items(&fixture, "u6"), merged);
    fixture.apply(&[Entry::Erase(UserErasure { user_id: "u6".to_owned(), timestamp, unlearn: false })]);
    assert!(profile_items(&fixture, "u6").is_empty() && has_own_items(5, &profile_items(&fixture, "u5")));
    let events = vec![(EventKind::View, 1_000 * HOUR_MS)];
    fixture.apply(&[Entry::Expire(Expiry { events, impressions: None, timestamp })]);
    assert!(profile_items(&fixture, "u5").is_empty());
}

#[test]
fn a_returning_user_gets_items_of_earlier_sessions() {
    let users = 40;
    let recommended = |settings: LearnerConfig| {
        let mut fixture = LearnerFixture::new(settings, Arc::default(), None);
        fixture.apply(&items_of(users));
        fixture.apply(&journal_of_favourites(0..users, 0..SESSIONS));
        let snapshot = fixture.learner.snapshot();
        let (params, mut workspace) = (SequenceParams::default(), ScoringWorkspace::default());
        let request = RecommendationRequest::new(5, 100 * HOUR_MS);
        let mut found = 0;
        for user in 0..users {
            let id = format!("u{user}");
            let state = fixture.learner.sequence_state(&id).cloned().unwrap();
            let memory = snapshot.memory_of(&id);
            let answer = recommend(&snapshot, snapshot.catalog(), &state, memory, &params, &request, &mut workspace);
            let own = fixture.dictionary.get(&own_item(user, SESSIONS));
            found += usize::from(answer.items.iter().any(|item| Some(item.candidate.item) == own));
        }
        let nobody = SequenceState::default();
        let mut answer = |request: &RecommendationRequest| {
            let memory = snapshot.memory_of("u3");
            recommend(&snapshot, snapshot.catalog(), &nobody, memory, &params, request, &mut workspace)
        };
        let long = answer(&RecommendationRequest::new(1_000, 100 * HOUR_MS));
        assert!(long.items.is_sorted_by(|a, b| a.candidate.score >= b.candidate.score), "popular items follow");
        let answer = answer(&request);
        let own = fixture.dictionary.get(&own_item(3, SESSIONS));
        (found, answer.items.iter().any(|item| Some(item.candidate.item) == own), answer.fallback)
    };
    let (found, without_steps, fallback) = recommended(small_settings());
    assert!(found >= 38, "{found} of {users} users");
    assert!(without_steps, "a user whose steps have expired has a profile");
    assert_eq!(fallback, crate::domain::Fallback::None);
    let profiles = ProfileSettings { items_kept: 0, ..ProfileSettings::default() };
    let (_, without_steps, fallback) = recommended(LearnerConfig { profiles, ..small_settings() });
    assert!(!without_steps && fallback == crate::domain::Fallback::UnknownUser);
}
