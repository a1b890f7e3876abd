//! Tests of the learner on a small synthetic journal.

mod declared_features;
mod impressions;
mod jobs;
mod objectives;
mod profiles;
mod ruled_lists;
mod served_lists;
mod steering;
mod vectors;

use super::*;
use crate::domain::{
    EventKind, Expiry, ImpressionItem, Item, ItemOperation, ModelChange, ModelChangeCause, ModelOperation, SourceName,
    UserErasure, UserMerge,
};
use crate::learner::JobLost;
use crate::learner::{
    InlineJobs, LearningSettings, RecommendationRequest, ScoringWorkspace, SequenceParams, SequenceState, StateHistory,
    StateHistoryError, UserMemory, recommend,
};
use crate::nn::NetworkSettings;
use crate::ranking::Ranker;
use proptest::prelude::*;
use serde::Serialize;
use std::sync::Mutex;
use std::time::Duration;

/// Builds a journal of 40 users who walk around a ring of 12 items. A user usually moves to the
/// next item of the ring. Some events have a kind that is not a target, some are ratings, and some
/// follow a gap of an hour.
fn ring_journal(len: u64) -> Vec<Entry> {
    (0..len)
        .map(|n| {
            let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let (user, round) = (n % 40, n / 40);
            let item = if random.is_multiple_of(5) { random % 12 } else { (user + round) % 12 };
            let (kind, value) = match random {
                _ if random.is_multiple_of(17) => ("search", None),
                _ if random.is_multiple_of(7) => ("rate", Some(1.0 + ((item + user) % 5) as f32)),
                _ => ("view", None),
            };
            let timestamp = (n * 1_000 + round / 3 % 2 * 3_600_000) as i64;
            Entry::Event(Event { value, ..event_of_user(&format!("u{user}"), kind, &format!("i{item}"), timestamp) })
        })
        .collect()
}

fn event_of_user(user: &str, kind: &str, item: &str, timestamp: i64) -> Event {
    let item_id = Some(item.to_owned());
    Event {
        event_id: None,
        user_id: user.to_owned(),
        session_id: None,
        kind: EventKind::from_name(kind),
        item_id,
        value: None,
        timestamp,
        properties: None,
        details: None,
    }
}

fn small_settings() -> LearnerConfig {
    let network = NetworkSettings { hidden: 8, negatives: 16, ..Default::default() };
    let learning = LearningSettings { interval: 16, batch: 8, ..Default::default() };
    LearnerConfig { learning, network, ..Default::default() }
}

struct LearnerFixture {
    learner: Learner,
    dictionary: Arc<ItemDictionary>,
    applied: AppliedEntries,
}

/// All entries applied so far.
type AppliedEntries = Arc<Mutex<Vec<Entry>>>;

/// A state history that applies the journal from its start to reconstruct a state.
struct ReplayedHistory(Arc<ItemDictionary>, AppliedEntries);

impl StateHistory for ReplayedHistory {
    fn state_at(&mut self, present: &LearnerState, to: Offset) -> Result<LearnerState, StateHistoryError> {
        let journal = self.1.lock().unwrap()[..to as usize].to_vec();
        let mut fixture = LearnerFixture::new(present.settings.clone(), Arc::clone(&self.0), None);
        fixture.apply(&journal);
        Ok(fixture.learner.state()?.clone())
    }
}

impl LearnerFixture {
    fn new(settings: LearnerConfig, dictionary: Arc<ItemDictionary>, state: Option<LearnerState>) -> Self {
        Self::with_applied_entries(settings, dictionary, state, AppliedEntries::default())
    }

    fn with_applied_entries(
        settings: LearnerConfig,
        dictionary: Arc<ItemDictionary>,
        state: Option<LearnerState>,
        applied: AppliedEntries,
    ) -> Self {
        let (training, clustering) =
            (Box::<InlineJobs<TrainingOutcome>>::default(), Box::<InlineJobs<ClusteringResult>>::default());
        let deps = LearnerDeps {
            training,
            clustering,
            state_history: Box::new(ReplayedHistory(Arc::clone(&dictionary), Arc::clone(&applied))),
        };
        Self {
            learner: Learner::new(settings, Arc::clone(&dictionary), state, 0, None, deps).unwrap(),
            dictionary,
            applied,
        }
    }

    /// Applies entries, after assigning numbers to their items as the committer does.
    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::Event(Event { item_id: Some(item), .. })
                | Entry::Private(Event { item_id: Some(item), .. })
                | Entry::Item(ItemChange { item_id: item, .. }) => {
                    self.dictionary.intern(item);
                }
                _ => {}
            }
            self.learner.apply(self.learner.next_offset(), entry).unwrap();
            self.applied.lock().unwrap().push(entry.clone());
        }
    }

    /// Encodes the whole state, as a checkpoint does.
    fn state_bytes(&mut self) -> Vec<u8> {
        let state = self.learner.state().unwrap();
        let parts = [
            encode(state),
            encode(&state.extension()),
            encode(state.supplement()),
            encode(&state.profiles_part()),
            encode(state.new_items_part()),
            encode(&state.vectors_part()),
            encode(state.item_histories_part()),
            encode(state.baskets_part()),
            encode(state.features_part()),
            encode(state.objectives_part()),
            encode(state.relevance_part()),
        ];
        parts.concat()
    }

    /// The predicted rating of an item.
    fn predicted_rating(&self, user: &str, item: &str) -> Option<f32> {
        let kind = self.learner.state.settings.kinds.id_of(&EventKind::Rate)?;
        let item = self.dictionary.get(item)?;
        let predicted = self.learner.snapshot().interests().predict(kind, Some(user), [item], 0)?;
        predicted.first().map(|predicted| predicted.value)
    }

    /// Encodes the parts of the learned state, without the measurements.
    fn learned_parts(&mut self) -> Vec<Vec<u8>> {
        let LearnerState { catalog, users, affinities, sources, ranker, training, clustering, profiles, .. } =
            self.learner.state().unwrap();
        vec![
            encode(catalog),
            encode(users),
            encode(affinities),
            encode(sources),
            encode(ranker),
            encode(training),
            encode(clustering),
            encode(profiles),
        ]
    }

    /// Encodes the state and continues with a learner from the decoded state.
    fn decode_and_continue(mut self) -> Self {
        let written = self.state_bytes();
        let mut state: LearnerState = decode(&written);
        state.set_extension(self.learner.state.extension());
        state.set_supplement(self.learner.state.supplement().clone());
        state.set_profiles_part(self.learner.state.profiles_part());
        state.set_new_items_part(Some(self.learner.state.new_items_part().clone()));
        state.set_vectors_part(self.learner.state.vectors_part());
        state.set_item_histories_part(self.learner.state.item_histories_part().clone());
        state.set_baskets_part(self.learner.state.baskets_part().clone());
        state.set_features_part(self.learner.state.features_part().clone());
        state.set_objectives_part(self.learner.state.objectives_part().clone());
        state.set_relevance_part(self.learner.state.relevance_part().clone());
        Self::with_applied_entries(self.learner.state.settings.clone(), self.dictionary, Some(state), self.applied)
    }
}

fn model_change_entry(operation: ModelOperation) -> Entry {
    Entry::Model(ModelChange { timestamp: 0, operation, cause: ModelChangeCause::Operator })
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap()
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
    bincode::serde::decode_from_slice(bytes, bincode::config::standard()).unwrap().0
}

#[test]
fn predicted_values_follow_merges_expiries_and_erasures_of_users() {
    let rating = |user: &str, item: &str, value, timestamp| {
        Entry::Event(Event { value: Some(value), ..event_of_user(user, "rate", item, timestamp) })
    };
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    for round in 0..60 {
        let (user, item) = (format!("u{}", round % 9), format!("i{}", round % 4));
        fixture.apply(&[rating(&user, &item, 3.0, round)]);
    }
    let stranger = fixture.predicted_rating("nobody", "i1").unwrap();
    let harsh: Vec<_> = (0..20).map(|number| rating("harsh", &format!("i{}", number % 4), 1.0, 1_000)).collect();
    fixture.apply(&harsh);
    let harsh = fixture.predicted_rating("harsh", "i1").unwrap();
    assert!((1.0..2.0).contains(&harsh) && stranger > 2.5, "{harsh} {stranger}");
    let timestamp = 2_000;
    fixture.apply(&[Entry::Merge(UserMerge { from: "harsh".to_owned(), into: "ann".to_owned(), timestamp })]);
    let stranger = fixture.predicted_rating("nobody", "i1");
    assert_eq!(fixture.predicted_rating("ann", "i1"), Some(harsh));
    assert_eq!(fixture.predicted_rating("harsh", "i1"), stranger);
    fixture.apply(&[rating("bob", "i2", 1.0, 3_000)]);
    let bob = fixture.predicted_rating("bob", "i1");
    fixture.apply(&[Entry::Expire(Expiry { events: vec![(EventKind::Rate, 2_500)], impressions: None, timestamp })]);
    let stranger = fixture.predicted_rating("nobody", "i1");
    assert_eq!(fixture.predicted_rating("ann", "i1"), stranger);
    assert_eq!(fixture.predicted_rating("bob", "i1"), bob);
    fixture.apply(&[Entry::Erase(UserErasure { user_id: "bob".to_owned(), timestamp, unlearn: false })]);
    assert_eq!(fixture.predicted_rating("bob", "i1"), stranger);
    assert_ne!(bob, stranger);
}

#[test]
fn while_learning_is_paused_or_frozen_the_sources_do_not_age() {
    let (journal, frozen_from) = (ring_journal(1_200), 600);
    let counts = |fixture: &LearnerFixture| {
        let snapshot = fixture.learner.snapshot();
        (0..12).map(|item| snapshot.item_counts(item)).collect::<Vec<_>>()
    };
    let live = LearnerFixture::new(small_settings(), Arc::default(), None);
    let frozen = LearnerConfig { freeze_from: Some(frozen_from as u64), ..small_settings() };
    let frozen = LearnerFixture::new(frozen, Arc::default(), None);
    for (mut fixture, is_paused) in [(live, true), (frozen, false)] {
        let (first, second) = journal.split_at(frozen_from);
        fixture.apply(first);
        let before = counts(&fixture);
        if is_paused {
            fixture.apply(&[model_change_entry(ModelOperation::Pause)]);
        }
        // The pause itself is an entry.
        let paused = counts(&fixture);
        fixture.apply(second);
        assert_eq!(counts(&fixture), paused);
        if is_paused {
            let mut fixture = fixture.decode_and_continue();
            assert_eq!(counts(&fixture), paused);
            fixture.apply(&[model_change_entry(ModelOperation::Resume)]);
            fixture.apply(second);
            assert_ne!(counts(&fixture), paused);
        } else {
            assert_eq!(paused, before);
        }
    }
}

#[test]
fn without_learning_the_values_of_users_advance_and_the_items_do_not_change() {
    let rating = |user: &str, item: &str, value| {
        Entry::Event(Event { value: Some(value), ..event_of_user(user, "rate", item, 0) })
    };
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    for round in 0..60 {
        fixture.apply(&[rating(&format!("u{}", round % 9), &format!("i{}", round % 4), 1.0 + (round % 4) as f32)]);
    }
    let stranger = fixture.predicted_rating("nobody", "i1");
    let known = fixture.predicted_rating("u1", "i1").unwrap();
    fixture.apply(&[model_change_entry(ModelOperation::Pause)]);
    (0..10).for_each(|_| fixture.apply(&[rating("u1", "i0", 4.0)]));
    assert_eq!(fixture.predicted_rating("nobody", "i1"), stranger);
    assert!(fixture.predicted_rating("u1", "i1").unwrap() > known);
    assert!(fixture.learner.report().interest[0].evaluated.ratings > 60);
}

#[test]
fn private_events_change_only_the_offset() {
    let private =
        |n: u64, item: &str| Entry::Private(event_of_user(&format!("u{}", n % 40), "view", item, (n * 1_000) as i64));
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    // The interval is 16, so offsets 403 to 405 contain no training boundary.
    fixture.apply(&ring_journal(403));
    let before = fixture.learner.state().unwrap().clone();
    fixture.apply(&[private(7, "i3"), private(99, "never seen")]);
    let mut after = fixture.learner.state().unwrap().clone();
    assert_eq!(after.next_offset, before.next_offset + 2);
    // Apart from the offset, nothing may differ.
    (after.next_offset, after.health) = (before.next_offset, before.health.clone());
    assert!(encode(&after) == encode(&before));
    // The same holds over many training boundaries: private events leave the same learned state as
    // tombstones.
    let [one, other] = [true, false].map(|is_private| {
        let mut journal = ring_journal(400);
        // The loop starts at an offset at which every item already has a number.
        for n in (105..400).step_by(7) {
            journal[n] = if is_private { private(n as u64, &format!("i{}", n % 12)) } else { Entry::Tombstone };
        }
        let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
        fixture.apply(&journal);
        fixture.state_bytes()
    });
    assert!(one == other);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn a_restarted_learner_reaches_the_same_state(at in 0..400_usize) {
        let mut journal = ring_journal(400);
        let operations = [(90, ModelOperation::Rollback { to: 50 }), (120, ModelOperation::TrainingShare { halvings: 1 }), (150, ModelOperation::Pause), (170, ModelOperation::Resume), (200, ModelOperation::LearningRate { value: 0.3 })];
        for (offset, operation) in operations.into_iter().chain([(260, ModelOperation::Recluster), (290, ModelOperation::TrainingShare { halvings: 0 }), (300, ModelOperation::Rollback { to: 90 }), (333, ModelOperation::Rollback { to: 270 })]) {
            journal[offset] = model_change_entry(operation);
        }
        let mut whole = LearnerFixture::new(small_settings(), Arc::default(), None);
        whole.apply(&journal);
        let mut parts = LearnerFixture::new(small_settings(), Arc::default(), None);
        parts.apply(&journal[..at]);
        let mut parts = parts.decode_and_continue();
        prop_assert_eq!(parts.learner.next_offset(), at as u64, "the restarted learner continues at the same offset");
        parts.apply(&journal[at..]);
        prop_assert!(parts.state_bytes() == whole.state_bytes());
    }

    #[test]
    fn evaluation_does_not_affect_learning(every in 0..5_u64, teach_every in 1..4_u64) {
        let with = |evaluate_every| {
            let mut settings = small_settings();
            (settings.learning.evaluate_every, settings.learning.teach_every) = (evaluate_every, teach_every);
            let mut fixture = LearnerFixture::new(settings, Arc::default(), None);
            fixture.apply(&ring_journal(600));
            (fixture.learned_parts(), fixture.learner.report().total.steps)
        };
        let ((all, steps), (some, fewer)) = (with(1), with(every));
        prop_assert!(all == some, "every = {}", every);
        let expected = if every == 0 { 0.0 } else { steps as f64 / every as f64 };
        prop_assert!((fewer as f64 - expected).abs() < 0.3 * expected + 1.0, "{} of {} steps are tests", fewer, steps);
    }
}

#[test]
fn a_ranker_trained_on_one_event_in_ten_still_learns() {
    let with = |teach_every| {
        let mut settings = small_settings();
        settings.learning.teach_every = teach_every;
        let mut fixture = LearnerFixture::new(settings, Arc::default(), None);
        fixture.apply(&ring_journal(2_000));
        (encode(&fixture.learner.state.ranker), fixture.learner.report().live)
    };
    let (untaught, (always, best), (seldom, good)) =
        (encode(&Ranker::new(small_settings().learning.seed)), with(1), with(10));
    assert!(untaught != seldom && seldom != always);
    assert!(good.mrr() > 0.7 * best.mrr(), "{} of {}", good.mrr(), best.mrr());
}

#[test]
fn each_source_is_measured_on_a_sample_of_the_tests() {
    let (journal, mut settings) = (ring_journal(800), LearnerConfig { evaluate_sources: true, ..small_settings() });
    settings.learning.live_window = 50;
    let mut fixture = LearnerFixture::new(settings.clone(), Arc::default(), None);
    fixture.apply(&journal);
    let report = fixture.learner.report();
    for ((source, alone), live) in SourceName::ALL.into_iter().zip(report.by_source).zip(report.live_by_source) {
        assert_eq!((alone.steps, live.steps), (report.total.steps, 50), "{source:?}");
    }
    let at = |source| SourceName::ALL.iter().position(|other| *other == source).unwrap();
    let recall = |source| report.live_by_source[at(source)].recall();
    // Trending and the network rank all twelve items. There are no clusters yet.
    assert_eq!(
        (recall(SourceName::Trending), recall(SourceName::Network), recall(SourceName::Clusters)),
        (1.0, 1.0, 0.0)
    );
    settings.learning.live_window = 10_000;
    let mut fixture = LearnerFixture::new(settings, Arc::default(), None);
    fixture.apply(&journal);
    let report = fixture.learner.report();
    let (sampled, all) = (report.live_by_source[0].steps, report.total.steps);
    assert!(
        (all / 5..all / 3).contains(&sampled),
        "{sampled} of {all} tests, of which about one in four should be sampled"
    );
}

#[test]
fn restart_does_not_change_recommendations() {
    let journal = ring_journal(600);
    let mut whole = LearnerFixture::new(small_settings(), Arc::default(), None);
    whole.apply(&journal[..599]);
    let mut parts = LearnerFixture::new(small_settings(), Arc::default(), None);
    parts.apply(&journal[..300]);
    let mut parts = parts.decode_and_continue();
    parts.apply(&journal[300..599]);
    let recommended = |fixture: &LearnerFixture| {
        let (snapshot, mut workspace) = (fixture.learner.snapshot(), ScoringWorkspace::default());
        let mut user = SequenceState::default();
        for (offset, item) in [3, 4, 9].into_iter().enumerate() {
            let step = Step { item: Some(item), kind: 0, starts_session: false, at: 1_000 * offset as i64, value: 0.0 };
            user.advance(
                offset as u64,
                step,
                None,
                &SequenceParams::default(),
                snapshot.weights(),
                &mut workspace.network,
            );
        }
        let request = RecommendationRequest::new(12, 0);
        recommend(
            &snapshot,
            snapshot.catalog(),
            &user,
            UserMemory::default(),
            &SequenceParams::default(),
            &request,
            &mut workspace,
        )
    };
    let expected = recommended(&whole);
    assert_eq!(expected.items.len(), 12);
    assert_eq!(recommended(&whole), expected, "the same request has the same result");
    assert_eq!(recommended(&parts), expected);
}

#[test]
fn new_item_starts_near_items_with_its_attributes() {
    let put_item = |item: &str, category: &str| {
        let item = ItemChange {
            item_id: item.to_owned(),
            operation: ItemOperation::Put(Item { categories: vec![category.to_owned()], ..Item::default() }),
            timestamp: 0,
        };
        Entry::Item(item)
    };
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    fixture.apply(&(0..12).map(|n| put_item(&format!("i{n}"), if n < 6 { "low" } else { "high" })).collect::<Vec<_>>());
    fixture.apply(&ring_journal(1_000));
    fixture.apply(&[put_item("new", "low")]);
    // Apply two training intervals, so that the weights contain the new item. None of the events is
    // on the new item.
    fixture.apply(&ring_journal(32));
    let new = fixture.dictionary.get("new").unwrap();
    let snapshot = fixture.learner.snapshot();
    let row = |item| snapshot.weights().unwrap().embedding(item).unwrap().to_vec();
    let cosine = |a: &[f32], b: &[f32]| {
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        product(a, b) / (product(a, a) * product(b, b)).sqrt()
    };
    let mean = |items: std::ops::Range<ItemIx>| {
        let rows: Vec<_> = items.map(row).collect();
        (0..8)
            .map(|dimension| rows.iter().map(|row| row[dimension]).sum::<f32>() / rows.len() as f32)
            .collect::<Vec<_>>()
    };
    let center = mean(0..12);
    let centered =
        |values: Vec<f32>| values.iter().zip(&center).map(|(value, center)| value - center).collect::<Vec<_>>();
    let similarity = |items| cosine(&centered(row(new)), &centered(mean(items)));
    let (near, far) = (similarity(0..6), similarity(6..12));
    assert!(near > 0.5 && near > far + 0.2, "cosine {near} to its own category, {far} to the other");
}

/// Runs all jobs inline except one, which it drops, so that its result is missing.
struct JobsLosingOneResult {
    jobs: InlineJobs<TrainingOutcome>,
    begun: u32,
    lost: u32,
}

impl BackgroundJobs<TrainingOutcome> for JobsLosingOneResult {
    fn start(&mut self, job: crate::learner::BackgroundJob<TrainingOutcome>) {
        self.begun += 1;
        if self.begun != self.lost {
            self.jobs.start(job);
        }
    }

    fn wait(&mut self, longest: Duration) -> bool {
        self.jobs.wait(longest)
    }

    fn take_result(&mut self) -> Result<TrainingOutcome, JobLost> {
        self.jobs.take_result()
    }
}

#[test]
fn learning_fails_at_the_boundary_that_needs_a_lost_training_and_can_skip_its_entry() {
    let journal = ring_journal(200);
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    fixture.learner.training = Box::new(JobsLosingOneResult { jobs: InlineJobs::default(), begun: 0, lost: 5 });
    fixture.dictionary.intern("i0");
    let failed =
        journal.iter().enumerate().find_map(|(offset, entry)| match fixture.learner.apply(offset as u64, entry) {
            Err(LearnerError::BackgroundJobLost { begun, .. }) => Some((offset, begun)),
            outcome => outcome.map(|()| None).unwrap(),
        });
    assert_eq!(
        failed,
        Some((95, 79)),
        "the fifth training begins after entry 79, and its result is needed at the next boundary"
    );

    let mut without = LearnerFixture::new(small_settings(), Arc::default(), None);
    without.apply(&journal[..79]);
    let mut without = without.decode_and_continue();
    without.learner.skip_entry(79).unwrap();
    without.apply(&journal[80..]);
    let mut whole = LearnerFixture::new(small_settings(), Arc::default(), None);
    whole.apply(&journal);
    assert_eq!(without.learner.next_offset(), 200);
    let batches = [&without, &whole].map(|fixture| fixture.learner.report().training.batches);
    assert!(0 < batches[0] && batches[0] < batches[1], "{batches:?}");
}

#[test]
fn apply_rejects_an_entry_that_is_not_the_next() {
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    let entry = ring_journal(1).remove(0);
    assert!(matches!(fixture.learner.apply(1, &entry), Err(LearnerError::OutOfOrder { expected: 0, got: 1 })));
    fixture.apply(&[entry]);
    assert_eq!(fixture.learner.next_offset(), 1);
}

/// A restart builds the quantised index again, in the order of the clusters in use. The cluster
/// changes of this journal fall between training boundaries.
#[test]
fn a_restart_does_not_change_what_is_learned_with_items_ordered_by_cluster() {
    let clusters = ClusterSettings { every: 90, lag: 27, probes: 2, exact_up_to: 8, ..ClusterSettings::default() };
    let settings = LearnerConfig { clusters, ..small_settings() };
    let journal = ring_journal(420);
    let apply = |restarts: &[usize]| {
        let mut fixture = LearnerFixture::new(settings.clone(), Arc::default(), None);
        let mut applied = 0;
        for &restart in restarts {
            fixture.apply(&journal[applied..restart]);
            fixture = fixture.decode_and_continue();
            applied = restart;
        }
        fixture.apply(&journal[applied..]);
        assert!(fixture.learner.snapshot().weights().unwrap().row_order().is_some());
        fixture.learned_parts()
    };
    let expected = apply(&[]);
    for restart in (100..400).step_by(7).chain([117, 128, 207, 208, 297]) {
        assert!(apply(&[restart]) == expected, "restart at {restart}");
    }
    assert!(apply(&[110, 118, 119, 206, 300]) == expected);
}

#[test]
fn erasure_removes_all_per_user_data() {
    let entries = ring_journal(1_200);
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    fixture.apply(&entries);
    let sessions = fixture.learner.state.session_owners.clone().remove_user("u3");
    assert!(sessions.len() > 1, "the user has several sessions");
    let kept = |fixture: &LearnerFixture| {
        let LearnerState { sources, training, .. } = &fixture.learner.state;
        let trained =
            sessions.iter().filter(|(session, _)| training.as_ref().unwrap().has_session(u64::from(*session))).count();
        (sources.count_stored_sessions(sessions.iter().map(|(session, _)| *session)), trained)
    };
    assert_eq!(kept(&fixture), (sessions.len(), sessions.len()));
    let (others, popular) = (fixture.learner.report().users, fixture.learner.state.sources.trending_items(1_200));
    fixture.apply(&[Entry::Erase(UserErasure { user_id: "u3".to_owned(), unlearn: false, timestamp: 0 })]);
    assert_eq!(kept(&fixture), (0, 0));
    assert_eq!(fixture.learner.report().users, others - 1);
    assert_eq!(fixture.learner.state.sources.trending_items(1_200), popular, "counts are kept");
    assert!(fixture.learner.state.users.get_mut("u3").is_none());
    // Events under the erased id now belong to a new user.
    fixture.apply(&entries[..300]);
    let whole = fixture.state_bytes();
    let mut restarted = LearnerFixture::new(small_settings(), Arc::default(), None);
    restarted.apply(&entries);
    let mut restarted = restarted.decode_and_continue();
    restarted.apply(&[Entry::Erase(UserErasure { user_id: "u3".to_owned(), unlearn: false, timestamp: 0 })]);
    restarted.apply(&entries[..300]);
    assert_eq!(restarted.state_bytes(), whole);
}

#[test]
fn expiry_removes_old_events_and_impressions() {
    let entries = ring_journal(1_200);
    let before = 2_000_000;
    let expire =
        Entry::Expire(Expiry { events: vec![(EventKind::View, before)], impressions: Some(before), timestamp: 0 });
    let kinds = small_settings().kinds;
    let view = kinds.id_of(&EventKind::View).unwrap();
    let too_old = |step: &&Step| step.kind == view && step.at < before;
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    let shown = vec![ImpressionItem::new("i3".to_owned(), SourceName::Clusters)];
    let impression = Impression {
        recommendation_id: String::new(),
        user_id: "u3".to_owned(),
        timestamp: 0,
        weights_version: 0,
        items: shown,
        ..Impression::default()
    };
    fixture.apply(&[Entry::Impression(impression.clone())]);
    fixture.apply(&entries);
    let old_and_others = |fixture: &mut LearnerFixture| {
        let LearnerState { users, sources, next_session: sessions, .. } = &mut fixture.learner.state;
        let (mut old, mut others) = (0, 0);
        for user in 0..40 {
            let steps = &users.get_mut(&format!("u{user}")).unwrap().state.sequence.steps;
            old += steps.iter().filter(too_old).count();
            others += steps.iter().filter(|step| !too_old(step)).count();
        }
        (old, others, sources.count_stored_sessions(0..*sessions), sources.trending_items(1_200))
    };
    let (old, others, neighbours, trending) = old_and_others(&mut fixture);
    assert!(old > 100 && others > 100, "{old} {others}");
    fixture.apply(std::slice::from_ref(&expire));
    let after = old_and_others(&mut fixture);
    assert_eq!((after.0, after.1), (0, others));
    assert!(after.2 > 0 && after.2 < neighbours, "{} of {neighbours} sessions are still used as neighbours", after.2);
    assert_eq!(after.3, trending, "counts are kept");
    assert_eq!(
        fixture.learner.state.users.get_mut("u3").unwrap().impressions,
        crate::learner::attribution::RecentImpressions::default()
    );
    // The state still depends only on the journal.
    fixture.apply(&entries[..300]);
    let whole = fixture.state_bytes();
    let mut restarted = LearnerFixture::new(small_settings(), Arc::default(), None);
    restarted.apply(&[Entry::Impression(impression)]);
    restarted.apply(&entries);
    let mut restarted = restarted.decode_and_continue();
    restarted.apply(std::slice::from_ref(&expire));
    let mut restarted = restarted.decode_and_continue();
    restarted.apply(&entries[..300]);
    assert_eq!(restarted.state_bytes(), whole);
}
