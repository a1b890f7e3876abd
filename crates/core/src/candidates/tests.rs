//! Tests of all sources together on small event streams.

use super::*;
use crate::domain::{EventKind, EventKinds, ItemIx, SourceName, Step};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::Serialize;

fn new_sources(settings: CandidateSettings) -> CandidateSources {
    CandidateSources::new(&settings, &EventKinds::default()).unwrap()
}

fn step_of_kind(item: ItemIx, kind: EventKind, value: f32) -> Step {
    Step { item: Some(item), kind: EventKinds::default().id_of(&kind).unwrap(), starts_session: false, at: 0, value }
}

/// Learns the sessions in order, each a list of items. Returns the number of events.
fn learn_sessions(sources: &mut CandidateSources, sessions: &[&[ItemIx]]) -> u64 {
    let mut now = 0;
    for (session, items) in sessions.iter().enumerate() {
        let steps: Vec<_> = items.iter().map(|&item| step_of_kind(item, EventKind::View, 1.0)).collect();
        for (position, arrival) in steps.iter().enumerate() {
            sources.learn(
                &QueryContext {
                    steps: &steps[..position],
                    session: session as u32,
                    session_start: session as u64,
                    now,
                    ..QueryContext::default()
                },
                arrival,
            );
            now += 1;
        }
    }
    now
}

fn best_items_by_column(sources: &CandidateSources, steps: &[Step], now: u64, column: EvidenceColumn) -> Vec<ItemIx> {
    let mut candidates = CandidateSet::default();
    sources.generate(
        &QueryContext { steps, session: 1_000, session_start: 1_000, now, ..QueryContext::default() },
        &mut candidates,
    );
    candidates.best_by_column(column, 10).into_iter().map(|(item, _)| item).collect()
}

/// Learns many short random sessions, drawn with `seed`. Some of the steps are dismissals.
fn learn_random_events(sources: &mut CandidateSources, seed: u64, events: u64) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut steps: Vec<Step> = Vec::new();
    let mut session = 0;
    for now in 0..events {
        let draw = rng.next_u64();
        if draw % 5 == 0 {
            steps.clear();
            session += 1;
        }
        let item = ((draw >> 8) % 300) as ItemIx;
        let arrival = if draw % 17 == 0 {
            step_of_kind(item, EventKind::Dismiss, -1.0)
        } else {
            step_of_kind(item, EventKind::View, 1.0)
        };
        sources.learn(
            &QueryContext { steps: &steps, session, session_start: u64::from(session), now, ..QueryContext::default() },
            &arrival,
        );
        steps.push(arrival);
    }
}

fn encode_bytes(value: &impl Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
}

#[test]
fn transitions_rank_by_number_of_followers_and_ngrams_depend_on_item_order() {
    let mut sources = new_sources(CandidateSettings::default());
    let now = learn_sessions(&mut sources, &[&[1, 2, 3], &[2, 1, 4], &[2, 1, 4], &[5, 1, 6]]);
    let steps = [1, 2].map(|item| step_of_kind(item, EventKind::View, 1.0));
    assert_eq!(best_items_by_column(&sources, &steps, now, EvidenceColumn::PairContext), [3]);
    let steps = [2, 1].map(|item| step_of_kind(item, EventKind::View, 1.0));
    assert_eq!(best_items_by_column(&sources, &steps, now, EvidenceColumn::PairContext), [4]);
    // Item 1 was followed twice by item 4, once by item 6 (the latest event) and once by item 2.
    assert_eq!(best_items_by_column(&sources, &steps, now, EvidenceColumn::NextTransitions), [4, 6, 2]);
    // Item 1 was preceded twice by item 2 and once by item 5.
    assert_eq!(best_items_by_column(&sources, &steps, now, EvidenceColumn::ReverseTransitions), [2, 5]);
}

#[test]
fn neighbours_are_past_sessions_that_share_items() {
    let mut sources = new_sources(CandidateSettings::default());
    let now = learn_sessions(&mut sources, &[&[1, 2, 10], &[1, 2, 11], &[1, 12], &[7, 13]]);
    let steps = [1, 2].map(|item| step_of_kind(item, EventKind::View, 1.0));
    let found = best_items_by_column(&sources, &steps, now, EvidenceColumn::Neighbours);
    assert_eq!(&found[..2], [1, 2], "three sessions contain item 1, and the two most similar ones contain item 2");
    assert!(found.contains(&10) && found.contains(&11) && found.contains(&12) && !found.contains(&13));
    assert!(
        found.iter().position(|item| *item == 10) < found.iter().position(|item| *item == 12),
        "the more similar session votes more"
    );
    assert_eq!(
        best_items_by_column(&sources, &steps, now, EvidenceColumn::NeighbourSuccessors),
        [10, 11, 12],
        "among equal weights, the smaller number comes first"
    );
}

#[test]
fn trending_lists_the_items_with_the_highest_decayed_counts() {
    let mut sources = new_sources(CandidateSettings::default());
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let events: Vec<ItemIx> =
        (0..4000).map(|_| ((rng.next_u64() % 400) * (rng.next_u64() % 400) / 400) as ItemIx).collect();
    for (now, &item) in events.iter().enumerate() {
        sources.learn(
            &QueryContext {
                steps: &[],
                session: now as u32,
                session_start: now as u64,
                now: now as u64,
                ..QueryContext::default()
            },
            &step_of_kind(item, EventKind::View, 1.0),
        );
    }
    let mut counts = vec![(0.0f64, 0); 400];
    for (now, &item) in events.iter().enumerate() {
        counts[item as usize] = (counts[item as usize].0 + (-((4000 - now) as f64) / 300.0).exp2(), item);
    }
    counts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let expected: Vec<_> = counts.iter().take(10).map(|(_, item)| *item).collect();
    assert_eq!(best_items_by_column(&sources, &[], 4000, EvidenceColumn::ShortTermPopularity), expected);
}

#[test]
fn new_items_come_from_events_and_the_catalog_latest_first() {
    let mut sources = new_sources(CandidateSettings::default());
    let now = learn_sessions(&mut sources, &[&[0, 1, 2, 1]]);
    sources.add_new_item(3);
    assert_eq!(best_items_by_column(&sources, &[], now, EvidenceColumn::NewItems), [3, 2, 1, 0]);
}

#[test]
fn only_target_events_train_and_dismissals_reduce_weights() {
    let mut sources = new_sources(CandidateSettings::default());
    learn_sessions(&mut sources, &[&[1, 2], &[1, 3]]);
    let steps = [step_of_kind(1, EventKind::View, 1.0)];
    let context = QueryContext { steps: &steps, session: 9, session_start: 9, now: 4, ..QueryContext::default() };
    let before = encode_bytes(&sources);
    sources.learn(&context, &step_of_kind(5, EventKind::Search, 0.0));
    assert_eq!(encode_bytes(&sources), before, "a search trains nothing");
    assert_eq!(best_items_by_column(&sources, &steps, 4, EvidenceColumn::NextTransitions), [3, 2]);
    sources.learn(&context, &step_of_kind(3, EventKind::Dismiss, -1.0));
    assert_eq!(best_items_by_column(&sources, &steps, 4, EvidenceColumn::NextTransitions), [2, 3]);
}

#[test]
fn the_same_events_give_the_same_bytes_before_and_after_decoding() {
    let (mut first, mut second) =
        (new_sources(CandidateSettings::default()), new_sources(CandidateSettings::default()));
    learn_random_events(&mut first, 3, 2_000);
    learn_random_events(&mut second, 3, 2_000);
    let saved = encode_bytes(&first);
    assert_eq!(saved, encode_bytes(&second));
    let (mut restored, _): (CandidateSources, usize) =
        bincode::serde::decode_from_slice(&saved, bincode::config::standard()).unwrap();
    learn_random_events(&mut first, 4, 500);
    learn_random_events(&mut restored, 4, 500);
    assert_eq!(encode_bytes(&first), encode_bytes(&restored));
}

#[test]
fn a_clone_does_not_see_later_events() {
    let mut sources = new_sources(CandidateSettings::default());
    learn_random_events(&mut sources, 3, 500);
    let published = sources.clone();
    let before = encode_bytes(&published);
    learn_random_events(&mut sources, 9, 500);
    assert_eq!(encode_bytes(&published), before);
    assert_ne!(encode_bytes(&sources), before);
}

#[test]
fn a_disabled_source_generates_nothing() {
    let mut sources = new_sources(CandidateSettings {
        without: vec![SourceName::Neighbours, SourceName::Session],
        ..CandidateSettings::default()
    });
    let now = learn_sessions(&mut sources, &[&[1, 2, 3], &[1, 2, 4]]);
    let steps = [1, 2].map(|item| step_of_kind(item, EventKind::View, 1.0));
    assert!(best_items_by_column(&sources, &steps, now, EvidenceColumn::Neighbours).is_empty());
    assert!(best_items_by_column(&sources, &steps, now, EvidenceColumn::SessionItems).is_empty());
    assert!(!best_items_by_column(&sources, &steps, now, EvidenceColumn::SessionTransitions).is_empty());
}

#[test]
fn memory_is_bounded_by_the_settings() {
    let settings = CandidateSettings {
        row_items: 8,
        contexts: 1024,
        sessions: 1024,
        sessions_per_item: 10,
        ..CandidateSettings::default()
    };
    let mut sources = new_sources(settings);
    learn_random_events(&mut sources, 3, 20_000);
    let early: usize = sources.memory_usage().map(|(.., bytes)| bytes).sum();
    learn_random_events(&mut sources, 4, 40_000);
    let late: usize = sources.memory_usage().map(|(.., bytes)| bytes).sum();
    assert!(late < early + early / 4, "{early} bytes grew to {late}");
}

#[test]
fn new_rejects_a_setting_outside_its_range() {
    let error = CandidateSources::new(
        &CandidateSettings { row_items: 2, ..CandidateSettings::default() },
        &EventKinds::default(),
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "recall.row_items = 2 is not in 8..=1024");
}

/// Clusters of the items 0 to 39: the even items, and the odd items.
fn even_and_odd_clusters() -> Clusters {
    let copy_embedding = |item: ItemIx, out: &mut [f32]| {
        (0..).zip(out).for_each(|(axis, value)| *value = f32::from(item % 2 == axis));
    };
    let input = ClusterInput { items: 40, dimension: 2, copy_embedding: &copy_embedding };
    Clusters::build(&input, 2, 1, None).unwrap()
}

#[test]
fn a_session_begins_with_popular_items_of_the_clusters_of_earlier_sessions() {
    let mut sources = new_sources(CandidateSettings::default());
    let (clusters, mut profile) = (even_and_odd_clusters(), UserProfile::default());
    // Of the even items, item 2 has two of three views. Of the odd items, item 9 has all five.
    let now = learn_sessions(&mut sources, &[&[2, 4], &[2, 9, 9], &[9], &[9], &[9]]);
    // Item 60 is newer than the clusters.
    profile.add_session([(6, 0, 1), (8, 0, 2), (11, 0, 3), (60, 0, 4)], 50);
    let steps = [step_of_kind(13, EventKind::View, 1.0)];
    let mut candidates = CandidateSet::default();
    let mut column = |begins_session: bool, clusters: Option<&Clusters>| {
        let context = QueryContext {
            steps: &steps,
            session: 1_000,
            now,
            profile: Some(&profile),
            clusters,
            begins_session,
            ..QueryContext::default()
        };
        sources.generate(&context, &mut candidates);
        let total = candidates.column_totals()[EvidenceColumn::ProfileClusters as usize];
        let shares: Vec<_> = candidates
            .best_by_column(EvidenceColumn::ProfileClusters, 10)
            .into_iter()
            .map(|(item, weight)| (item, (100.0 * weight / total).round()))
            .collect();
        candidates.keep_top_candidates(100, &context);
        sources.add_features(&context, &mut candidates);
        let share = |item| {
            let row = candidates.kept_rows().nth(candidates.position_of(item)?)?;
            Some((100.0 * row.1[FeatureColumn::ProfileClusterShare as usize]).round())
        };
        (shares, [share(9), share(2), share(60)])
    };
    // Each cluster has two items of the profile and of the session before: 50 %.
    let (shares, of_clusters) = column(true, Some(&clusters));
    assert_eq!(shares, [(9, 50.0), (2, 33.0), (4, 17.0)]);
    assert_eq!(of_clusters, [Some(50.0), Some(50.0), Some(0.0)]);
    // Within a session, only the profile counts, and only as a feature.
    assert_eq!(column(false, Some(&clusters)), (vec![], [Some(33.0), Some(67.0), Some(0.0)]));
    assert_eq!(column(true, None), (vec![], [Some(0.0); 3]));
}
