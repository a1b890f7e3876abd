use super::super::corpus::Recording;
use super::super::corpus::tests::event;
use super::*;

/// Sessions that walk around a ring of items, so that the next item is predictable.
fn corpus(settings: &OfflineSettings) -> Corpus {
    let mut recording = Recording::new(i64::MAX);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    for session in 0..600 {
        let (start, steps) = (rng.next_u64() % 200, 2 + rng.next_u64() % 30);
        for step in 0..steps {
            recording.add(
                &event(&format!("user {session}"), &format!("item {}", (start + step) % 200), 0),
                &EventKinds::default(),
            );
        }
    }
    recording.into_corpus(settings)
}

fn network() -> NetworkSettings {
    NetworkSettings { hidden: 16, negatives: 32, ..Default::default() }
}

fn run(training: &mut OfflineTraining, corpus: &Corpus) {
    while !training.is_finished() {
        training.train_epoch(corpus, |_| {}).unwrap();
    }
}

#[test]
fn every_position_is_in_exactly_one_slice() {
    let corpus = corpus(&OfflineSettings::default());
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
        .flat_map(|slice| slice.window(&corpus.training, &kinds).unwrap().positions)
        .filter_map(|position| position.target)
        .collect();
    assert_eq!(predicted, targets(&corpus.training, &kinds).collect::<Vec<_>>());
}

#[test]
fn ring_of_items_is_learned_and_best_epoch_is_kept() {
    let settings = OfflineSettings { epochs: 30, patience: 2, decay: 1.0, ..Default::default() };
    let corpus = corpus(&settings);
    let mut training = OfflineTraining::new(settings, network(), EventKinds::default(), &corpus).unwrap();
    run(&mut training, &corpus);
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
        network(),
        EventKinds::default(),
        &corpus,
    )
    .unwrap();
    run(&mut longer, &corpus);
    assert!(longer.epochs().last().unwrap().scores.metrics.mrr() > 0.8, "{:?}", longer.epochs().last());
}

#[test]
fn corpora_with_nothing_to_learn_are_rejected() {
    let settings = OfflineSettings::default();
    let new = |events: &[(&str, &str)]| {
        let mut recording = Recording::new(i64::MAX);
        events.iter().for_each(|(user, item)| recording.add(&event(user, item, 0), &EventKinds::default()));
        let corpus = recording.into_corpus(&settings);
        OfflineTraining::new(settings.clone(), network(), EventKinds::default(), &corpus).map(|_| ()).unwrap_err()
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
