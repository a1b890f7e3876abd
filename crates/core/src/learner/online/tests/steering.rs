//! Tests of the operations on the model: rollback, pause, learning rate, training share, clustering.

use super::*;

#[test]
fn a_rollback_restores_an_earlier_model_and_can_be_undone() {
    let journal = ring_journal(900);
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    let model = |fixture: &mut LearnerFixture| {
        let LearnerState { ranker, training, clustering, .. } = fixture.learner.state().unwrap();
        (encode(&training.as_ref().unwrap().trainer()), encode(ranker), encode(clustering))
    };
    fixture.apply(&journal[..400]);
    let before = model(&mut fixture);
    fixture.apply(&journal[400..700]);
    let (after, known) = (model(&mut fixture), fixture.learned_parts()[..4].to_vec());
    assert!(before != after);
    let version = fixture.learner.snapshot().weights_version();
    fixture.apply(&[model_change_entry(ModelOperation::Rollback { to: 400 })]);
    assert!(model(&mut fixture) == before, "the model is restored");
    assert!(fixture.learned_parts()[..4] == known, "users, sequences and counts are kept");
    assert!(
        fixture.learner.snapshot().weights_version() >= version + small_settings().learning.refresh_after,
        "no hidden state continues from the replaced weights"
    );
    fixture.apply(&[model_change_entry(ModelOperation::Rollback { to: 700 })]);
    assert!(model(&mut fixture) == after);
    assert_eq!(fixture.learner.model_operations().map(|(at, _)| *at).collect::<Vec<_>>(), [700, 701]);
    fixture.apply(&journal[700..]);
    assert!(model(&mut fixture) != after, "learning continues");
}

#[test]
fn items_newer_than_the_restored_state_have_embeddings_after_a_rollback() {
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    let put_item = |name: &str| {
        let item = Item { categories: vec!["tea".to_owned()], ..Item::default() };
        Entry::Item(ItemChange { item_id: name.to_owned(), timestamp: 0, operation: ItemOperation::Put(item) })
    };
    fixture.apply(&(0..12).map(|n| put_item(&format!("i{n}"))).collect::<Vec<_>>());
    fixture.apply(&ring_journal(400));
    fixture.apply(&[put_item("late")]);
    fixture.apply(&ring_journal(60));
    fixture.apply(&[model_change_entry(ModelOperation::Rollback { to: 300 })]);
    fixture.apply(&ring_journal(64));
    let late = fixture.dictionary.get("late").unwrap();
    let snapshot = fixture.learner.snapshot();
    let embedding = snapshot.weights().unwrap().embedding(late).unwrap();
    assert!(embedding.iter().any(|value| *value != 0.0));
}

#[test]
fn the_number_of_recorded_operations_is_bounded_and_the_training_share_in_force_is_kept() {
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    fixture.apply(&[model_change_entry(ModelOperation::TrainingShare { halvings: 3 })]);
    for number in 1..=640 {
        fixture.apply(&[model_change_entry(ModelOperation::LearningRate { value: number as f32 / 1000.0 })]);
        let offsets: Vec<_> = fixture.learner.model_operations().map(|(at, _)| *at).collect();
        assert!(offsets.len() <= 64, "{} operations", offsets.len());
        assert_eq!((offsets.first(), offsets.last()), (Some(&0), Some(&number)));
    }
    assert_eq!(fixture.learner.training_share_halvings(), 3);
}

#[test]
fn paused_learner_does_not_learn() {
    let journal = ring_journal(600);
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    fixture.apply(&journal[..320]);
    fixture.apply(&[model_change_entry(ModelOperation::Pause)]);
    // Learning is paused, but the weights of the pending training still come into use.
    fixture.apply(&journal[320..400]);
    let learned = |fixture: &mut LearnerFixture| {
        let LearnerState { sources, ranker, .. } = fixture.learner.state().unwrap();
        (encode(sources), encode(ranker))
    };
    let (before, batches, events) =
        (learned(&mut fixture), fixture.learner.report().training.batches, fixture.learner.report().events);
    fixture.apply(&journal[400..500]);
    assert!(learned(&mut fixture) == before && fixture.learner.report().is_paused);
    assert_eq!((fixture.learner.report().training.batches, fixture.learner.report().events), (batches, events + 100));
    fixture.apply(&[model_change_entry(ModelOperation::Resume)]);
    fixture.apply(&journal[500..]);
    assert!(learned(&mut fixture) != before && fixture.learner.report().training.batches > batches);
}

#[test]
fn learning_rate_operation_changes_training() {
    let journal = ring_journal(400);
    let with = |value: Option<f32>| {
        let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
        fixture.apply(&journal[..200]);
        if let Some(value) = value {
            fixture.apply(&[model_change_entry(ModelOperation::LearningRate { value })]);
            assert_eq!(fixture.learner.report().learning_rate, Some(value));
        }
        fixture.apply(&journal[200..]);
        fixture.learned_parts()[5].clone()
    };
    assert!(with(Some(0.01)) != with(Some(0.2)));
}

#[test]
fn recluster_starts_a_clustering_before_the_scheduled_one() {
    let mut fixture = LearnerFixture::new(small_settings(), Arc::default(), None);
    fixture.apply(&ring_journal(300));
    assert_eq!(fixture.learner.report().clusters, 0);
    fixture.apply(&[model_change_entry(ModelOperation::Recluster)]);
    fixture.apply(&ring_journal(small_settings().clusters.lag));
    assert!(fixture.learner.report().clusters > 0);
}
