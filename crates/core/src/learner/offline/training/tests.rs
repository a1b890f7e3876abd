use super::super::corpus::Recording;
use super::super::corpus::tests::view_event;
use super::*;

/// Builds a corpus whose sessions follow a ring of 200 items, so that the next item is predictable.
fn ring_corpus(settings: &OfflineSettings) -> Corpus {
    let mut recording = Recording::new(i64::MAX);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    for session in 0..600 {
        let (start, steps) = (rng.next_u64() % 200, 2 + rng.next_u64() % 30);
        for step in 0..steps {
            recording.add_event(
                &view_event(&format!("user {session}"), &format!("item {}", (start + step) % 200), 0),
                &EventKinds::default(),
            );
        }
    }
    recording.into_corpus(settings)
}

fn small_network_settings() -> NetworkSettings {
    NetworkSettings { hidden: 16, negatives: 32, ..Default::default() }
}

fn train_until_finished(training: &mut OfflineTraining, corpus: &Corpus) {
    while !training.is_finished() {
        training.train_epoch(corpus, |_| {}).unwrap();
    }
}

#[test]
fn every_position_is_in_exactly_one_slice() {
    let corpus = ring_corpus(&OfflineSettings::default());
    let slices = cut_into_slices(&corpus.training, 20);
    let mut positions: Vec<_> =
        slices.iter().flat_map(|slice| slice.positions.clone().map(|position| (slice.session, position))).collect();
    let all: Vec<_> = corpus
        .training
        .iter()
        .enumerate()
        .flat_map(|(session, steps)| (0..steps.len() - 1).map(move |position| (session, position)))
        .collect();
    assert_eq!(positions.len(), all.len());
    positions.sort_unstable();
    assert_eq!(positions, all);
    assert!(slices.iter().all(|slice| slice.positions.len() <= 20));
    let kinds = EventKinds::default();
    let predicted: Vec<_> = slices
        .iter()
        .flat_map(|slice| slice.to_training_window(&corpus.training, &kinds).unwrap().positions)
        .filter_map(|position| position.target)
        .collect();
    assert_eq!(predicted, target_items(&corpus.training, &kinds).collect::<Vec<_>>());
}

#[test]
fn training_learns_the_ring_and_keeps_the_weights_of_the_best_epoch() {
    let settings = OfflineSettings { epochs: 30, patience: 2, decay: 1.0, ..Default::default() };
    let corpus = ring_corpus(&settings);
    let mut training =
        OfflineTraining::new(settings, small_network_settings(), EventKinds::default(), &corpus).unwrap();
    train_until_finished(&mut training, &corpus);
    let best = training.epochs()[training.best_epoch() - 1].scores;
    assert!(training.epochs().iter().all(|epoch| epoch.scores.metrics.recall() <= best.metrics.recall()));
    assert_eq!(training.epochs().len(), training.best_epoch() + 2, "Recall@20 cannot rise above 1");
    let weights = training.best_weights();
    assert_eq!(
        score_sessions(&weights, &corpus.validation, training.kinds()),
        best,
        "the weights are those of the best epoch"
    );
    let mut longer = OfflineTraining::new(
        OfflineSettings { epochs: 30, patience: 30, ..training.settings().clone() },
        small_network_settings(),
        EventKinds::default(),
        &corpus,
    )
    .unwrap();
    train_until_finished(&mut longer, &corpus);
    assert!(longer.epochs().last().unwrap().scores.metrics.mrr() > 0.8, "{:?}", longer.epochs().last());
}

#[test]
fn new_rejects_a_corpus_without_two_items_or_without_a_prediction() {
    let settings = OfflineSettings::default();
    let new = |events: &[(&str, &str)]| {
        let mut recording = Recording::new(i64::MAX);
        events.iter().for_each(|(user, item)| recording.add_event(&view_event(user, item, 0), &EventKinds::default()));
        let corpus = recording.into_corpus(&settings);
        OfflineTraining::new(settings.clone(), small_network_settings(), EventKinds::default(), &corpus)
            .map(|_| ())
            .unwrap_err()
    };
    assert!(matches!(new(&[("a", "x"), ("a", "x"), ("b", "x"), ("b", "x")]), OfflineError::TooFewItems(1)));
    let single_event_users: Vec<String> = (0..40).map(|user| format!("user {user}")).collect();
    let single_events: Vec<_> = single_event_users
        .iter()
        .zip(["x", "y"].into_iter().cycle())
        .map(|(user, item)| (user.as_str(), item))
        .collect();
    assert!(matches!(new(&single_events), OfflineError::NothingToPredict));
}
