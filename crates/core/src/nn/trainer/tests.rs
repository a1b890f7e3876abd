use super::*;
use crate::nn::input::{StepInput, TrainingPosition};
use crate::nn::settings::{CellKind, LossKind, OptimiserKind, SessionTargetHandling};
use crate::nn::weights::NetworkScratch;

const ITEM_COUNT: usize = 12;

/// Builds training windows of several lengths. Two of the windows belong to the same session.
///
/// The inputs include unknown and missing items, session starts, kinds, gaps, and positions without
/// a target.
fn training_windows() -> Vec<TrainingWindow> {
    let position = |n: usize| TrainingPosition {
        input: StepInput {
            item: (n % 5 != 4).then_some((n * 7 % 13) as u32),
            kind: (n % 4) as u8,
            gap_bucket: (n * 5 % 17) as u8,
            starts_session: n.is_multiple_of(3),
        },
        target: (n % 6 != 5).then_some((n * 5 % 13) as u32),
        weight: 1.0,
    };
    let window = |session: u64, from: usize, len: usize| TrainingWindow {
        session,
        positions: (from..from + len).map(position).collect(),
    };
    vec![window(1, 0, 2), window(2, 3, 6), window(1, 9, 4), window(3, 20, 1), window(4, 30, 0)]
}

fn trainer_of_12_items(settings: NetworkSettings) -> Trainer {
    let mut trainer = Trainer::new(settings, 3, 5).unwrap();
    trainer.grow_items(ITEM_COUNT);
    for item in 0..ITEM_COUNT as u32 {
        (0..=item % 4).for_each(|_| trainer.count_target(item));
        trainer.set_attributes(item, &[item % 3, 3 + item % 2]);
    }
    trainer
}

/// Returns network settings with every optional part enabled.
fn all_parts_enabled() -> NetworkSettings {
    NetworkSettings {
        hidden: 5,
        kinds: true,
        gaps: true,
        attributes: true,
        negatives: 6,
        input_dropout: 0.3,
        hidden_dropout: 0.3,
        initial_scale: 0.8,
        bpr_regularisation: 0.3,
        ..Default::default()
    }
}

/// Returns network settings with every optional part enabled and embeddings that are not scaled.
fn embeddings_of_any_length() -> NetworkSettings {
    NetworkSettings { loss: LossKind::CrossEntropy, ..all_parts_enabled() }
}

/// Value of the training objective, whose gradient the trainer computes.
fn objective_value(trainer: &Trainer) -> f64 {
    let mut copy = trainer.clone();
    copy.compute_gradients(&training_windows(), 9).loss
}

/// Central difference of the objective along one parameter. `nudge` adds a number to that
/// parameter.
fn central_difference(trainer: &mut Trainer, mut nudge: impl FnMut(&mut Trainer, f32)) -> f64 {
    const DIFFERENCE_STEP: f32 = 4e-3;
    nudge(trainer, DIFFERENCE_STEP);
    let more = objective_value(trainer);
    nudge(trainer, -2.0 * DIFFERENCE_STEP);
    let less = objective_value(trainer);
    nudge(trainer, DIFFERENCE_STEP);
    (more - less) / f64::from(2.0 * DIFFERENCE_STEP)
}

/// Relative error of the gradient, ‖gradient − differences‖ / ‖differences‖, over all dense
/// parameters and all used table rows.
fn relative_gradient_error(settings: NetworkSettings) -> f64 {
    let mut trainer = trainer_of_12_items(settings);
    let generic = |i: usize, value: &mut f32| *value += ((i * 37 % 19) as f32 - 9.0) / 30.0;
    Arc::make_mut(&mut trainer.state.parameters.dense).iter_mut().enumerate().for_each(|(i, value)| generic(i, value));
    let mut computed = trainer.clone();
    computed.compute_gradients(&training_windows(), 9);
    let workspace = &computed.workspace;
    let (mut error, mut norm) = (0.0, 0.0);
    let mut compare = |gradient: f32, expected: f64| {
        error += (f64::from(gradient) - expected).powi(2);
        norm += expected.powi(2);
    };
    for (i, gradient) in workspace.dense.iter().enumerate() {
        let expected = central_difference(&mut trainer, |trainer, step| {
            let dense: &mut Vec<f32> = Arc::make_mut(&mut trainer.state.parameters.dense);
            dense[i] += step;
        });
        compare(*gradient, expected);
    }
    type TableAccessor = fn(&mut Trainer) -> &mut EmbeddingTable;
    let outputs: TableAccessor = |trainer| match &mut trainer.state.parameters.outputs {
        Some(table) => table,
        None => &mut trainer.state.parameters.items,
    };
    let inputs: TableAccessor = |trainer| &mut trainer.state.parameters.items;
    let attributes: TableAccessor = |trainer| &mut trainer.state.parameters.attribute_rows;
    for (rows, pick) in
        [(&workspace.outputs, outputs), (&workspace.inputs, inputs), (&workspace.attributes, attributes)]
    {
        let width = pick(&mut trainer).width();
        assert_eq!(rows.values.len(), rows.slots.rows().len() * width);
        for (row, gradients) in rows.slots.rows().iter().zip(rows.values.chunks_exact(width)) {
            for (i, gradient) in gradients.iter().enumerate() {
                let expected = central_difference(&mut trainer, |trainer, step| {
                    pick(trainer).update_rows(&[*row], &vec![0.0; width], |values, _, _| values[i] += step);
                });
                compare(*gradient, expected);
            }
        }
    }
    (error / norm).sqrt()
}

#[test]
fn gradients_match_finite_differences_for_every_cell_and_loss() {
    for cell in [CellKind::Rnn, CellKind::Lstm, CellKind::Gru] {
        for loss in [LossKind::CrossEntropy, LossKind::BprMax, LossKind::NormalisedSoftmax] {
            for (layers, tied, in_batch, session_targets) in [
                (1, true, true, SessionTargetHandling::Masked),
                (2, false, true, SessionTargetHandling::Certain),
                (3, true, false, SessionTargetHandling::Negatives),
            ] {
                let settings =
                    NetworkSettings { cell, loss, layers, tied, in_batch, session_targets, ..all_parts_enabled() };
                let error = relative_gradient_error(settings);
                assert!(error < 1e-3, "{cell:?}, {loss:?}, {layers} layers, tied {tied}: off by {error}");
            }
        }
    }
}

#[test]
fn gradients_match_finite_differences_with_parts_disabled() {
    for part in 0..5 {
        let mut settings = all_parts_enabled();
        match part {
            0 => settings.input_to_output = false,
            1 => settings.input_memory = false,
            2 => (settings.kinds, settings.gaps, settings.attributes) = (false, false, false),
            3 => (settings.input_dropout, settings.hidden_dropout) = (0.0, 0.0),
            _ => (settings.negatives, settings.logq) = (0, 0.0),
        }
        let error = relative_gradient_error(settings);
        assert!(error < 1e-3, "part {part}: off by {error}");
    }
}

#[test]
fn every_optimiser_learns_and_resumes_bit_identically() {
    let bytes = |trainer: &Trainer| bincode::serde::encode_to_vec(trainer, bincode::config::standard()).unwrap();
    for (optimiser, learning_rate) in [
        (OptimiserKind::Sgd, 0.05),
        (OptimiserKind::Adagrad, 0.2),
        (OptimiserKind::Adam, 0.02),
        (OptimiserKind::RowAdagrad, 0.2),
    ] {
        for tied in [true, false] {
            let plain = NetworkSettings { input_dropout: 0.0, hidden_dropout: 0.0, ..all_parts_enabled() };
            let mut trainer =
                trainer_of_12_items(NetworkSettings { optimiser, learning_rate, tied, clip: 5.0, ..plain });
            let first = trainer.train(&training_windows(), 0);
            let after_one_batch = trainer.clone();
            (1..20).for_each(|seed| {
                trainer.train(&training_windows(), seed);
            });
            let (mut resumed, _): (Trainer, _) =
                bincode::serde::decode_from_slice(&bytes(&trainer), bincode::config::standard()).unwrap();
            assert_eq!(resumed.publish(1).embedding(3), trainer.publish(1).embedding(3));
            for seed in 20..60 {
                assert_eq!(trainer.train(&training_windows(), seed), resumed.train(&training_windows(), seed));
            }
            assert_eq!(bytes(&trainer), bytes(&resumed));
            let last = trainer.train(&training_windows(), 60);
            assert!(last.loss < 0.7 * first.loss, "{optimiser:?}: {} after {}", last.loss, first.loss);
            assert_ne!(bytes(&after_one_batch), bytes(&trainer));
        }
    }
}

#[test]
fn a_clipped_gradient_never_exceeds_the_limit() {
    const CLIP: f32 = 0.01;
    let sgd = NetworkSettings {
        optimiser: OptimiserKind::Sgd,
        learning_rate: 1.0,
        momentum: 0.0,
        ..embeddings_of_any_length()
    };
    let mut trainer = trainer_of_12_items(NetworkSettings { clip: CLIP, ..sgd });
    let weights = |trainer: &mut Trainer| {
        let published = trainer.publish(1);
        let items: Vec<f32> =
            (0..ITEM_COUNT as u32).flat_map(|item| published.embedding(item).unwrap().to_vec()).collect();
        [items, trainer.state.parameters.dense.to_vec()].concat()
    };
    for seed in 0..20 {
        let before = weights(&mut trainer);
        let report = trainer.train(&training_windows(), seed);
        assert!(report.gradient_norm > CLIP);
        let step: f32 = before.iter().zip(weights(&mut trainer)).map(|(before, after)| (after - before).powi(2)).sum();
        assert!((CLIP / 100.0..CLIP * 1.01).contains(&step.sqrt()), "{}", step.sqrt());
    }
}

#[test]
fn deserialisation_rejects_damaged_bytes() {
    let bytes =
        bincode::serde::encode_to_vec(trainer_of_12_items(all_parts_enabled()), bincode::config::standard()).unwrap();
    let read = |bytes: &[u8]| bincode::serde::decode_from_slice::<Trainer, _>(bytes, bincode::config::standard());
    assert!(read(&bytes).is_ok());
    assert!(read(&bytes[..bytes.len() / 2]).is_err());
    let mut other = trainer_of_12_items(all_parts_enabled());
    other.state.optimiser_state.pop();
    assert!(read(&bincode::serde::encode_to_vec(&other, bincode::config::standard()).unwrap()).is_err());
}

#[test]
fn a_batch_with_a_non_finite_loss_changes_no_weight() {
    let mut trainer = trainer_of_12_items(all_parts_enabled());
    Arc::make_mut(&mut trainer.state.parameters.dense)[0] = f32::NAN;
    let before = bincode::serde::encode_to_vec(&trainer.state.parameters, bincode::config::standard()).unwrap();
    let report = trainer.train(&training_windows(), 1);
    assert!(report.skipped && report.examples > 0);
    assert_eq!(trainer.step_count(), 0);
    assert_eq!(bincode::serde::encode_to_vec(&trainer.state.parameters, bincode::config::standard()).unwrap(), before);
}

#[test]
fn weights_stay_finite_at_a_diverging_learning_rate() {
    for optimiser in [OptimiserKind::Sgd, OptimiserKind::Adagrad, OptimiserKind::Adam, OptimiserKind::RowAdagrad] {
        let mut trainer =
            trainer_of_12_items(NetworkSettings { optimiser, learning_rate: 10.0, ..all_parts_enabled() });
        (0..200).for_each(|seed| {
            trainer.train(&training_windows(), seed);
        });
        let weights = trainer.publish(1);
        assert!(
            (0..ITEM_COUNT as u32).all(|item| weights.embedding(item).unwrap().iter().all(|value| value.is_finite())),
            "{optimiser:?}"
        );
        assert!(trainer.state.parameters.dense.iter().all(|value| value.is_finite()), "{optimiser:?}");
    }
}

#[test]
fn a_batch_without_targets_leaves_the_step_count_unchanged() {
    let mut trainer = trainer_of_12_items(all_parts_enabled());
    assert_eq!(trainer.train(&[], 1), BatchReport::default());
    let input = StepInput { item: Some(900), ..Default::default() };
    let unknown = TrainingPosition { input, target: Some(901), weight: 1.0 };
    assert_eq!(trainer.train(&[TrainingWindow { session: 1, positions: vec![unknown] }], 1).examples, 0);
    assert_eq!(trainer.step_count(), 0);
}

#[test]
fn snapshot_inference_matches_the_batch_forward_pass() {
    for (cell, loss, tied) in [
        (CellKind::Rnn, LossKind::CrossEntropy, true),
        (CellKind::Lstm, LossKind::NormalisedSoftmax, true),
        (CellKind::Gru, LossKind::NormalisedSoftmax, false),
    ] {
        let mut trainer = trainer_of_12_items(NetworkSettings {
            cell,
            loss,
            tied,
            layers: 2,
            input_dropout: 0.0,
            hidden_dropout: 0.0,
            ..all_parts_enabled()
        });
        trainer.train(&training_windows(), 1);
        let weights = trainer.publish(1);
        trainer.compute_gradients(&training_windows()[1..2], 2);
        let (mut state, mut scratch, mut query) = (weights.initial_state(), NetworkScratch::default(), Vec::new());
        for (position, expected) in
            training_windows()[1].positions.iter().zip(trainer.workspace.pass.outputs.chunks_exact(5))
        {
            weights.advance(&mut state, &position.input, &mut scratch);
            let factor = weights.compute_query(&state, &mut query);
            let expected: Vec<f32> = expected.iter().map(|value| factor * value).collect();
            assert!(
                query.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5),
                "{cell:?}: {query:?} is not {expected:?}"
            );
        }
        for steps in 0..=training_windows()[1].positions.len() {
            let inputs: Vec<_> =
                training_windows()[1].positions[..steps].iter().map(|position| position.input).collect();
            let mut expected = weights.initial_state();
            inputs.iter().for_each(|input| weights.advance(&mut expected, input, &mut scratch));
            let state = weights.hidden_state_after(&inputs, &mut scratch);
            let pairs = state.values().iter().zip(expected.values());
            assert!(
                state.values().len() == expected.values().len() && pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5)
            );
        }
    }
}

#[test]
fn the_normalised_softmax_scales_queries_and_embeddings() {
    let length = |vector: &[f32]| vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    for tied in [true, false] {
        let mut trainer = trainer_of_12_items(NetworkSettings { tied, ..all_parts_enabled() });
        (0..5).for_each(|seed| {
            trainer.train(&training_windows(), seed);
        });
        let weights = trainer.publish(1);
        let (mut state, mut query) = (weights.initial_state(), Vec::new());
        weights.advance(&mut state, &training_windows()[0].positions[0].input, &mut NetworkScratch::default());
        weights.compute_query(&state, &mut query);
        assert!((length(&query) - 12.0).abs() < 1e-4, "tied {tied}: {query:?}");
        for item in 0..ITEM_COUNT as u32 {
            let embedding = weights.scaled_embedding(item).unwrap();
            assert!((length(&embedding) - 1.0).abs() < 1e-5, "tied {tied}: {embedding:?}");
            assert!((length(&weights.to_query(&embedding)) - 12.0).abs() < 1e-4);
            let bias = weights.logit(&[0.0; 5], item);
            assert!((weights.logit(&query, item) - bias).abs() <= 12.001, "12 times a cosine");
        }
    }
}

#[test]
fn a_snapshot_does_not_change_when_training_continues() {
    let mut trainer = trainer_of_12_items(all_parts_enabled());
    let first = trainer.publish(1);
    let before = first.embedding(3).unwrap().to_vec();
    trainer.train(&training_windows(), 1);
    trainer.grow_items(40);
    let second = trainer.publish(2);
    assert_eq!((first.item_count(), second.item_count()), (ITEM_COUNT, 40));
    assert_eq!(first.embedding(3).unwrap(), before);
    assert_ne!(second.embedding(3).unwrap(), before);
    let decoded = Trainer::from(trainer.state.clone()).publish(2);
    let (mut scratch, query) = (NetworkScratch::default(), [0.3, -0.2, 0.9, 0.1, -0.5]);
    assert_eq!(
        second.top_items(&query, 40, None, &mut scratch),
        decoded.top_items(&query, 40, None, &mut scratch),
        "incremental and full publication give the same index"
    );
}

#[test]
fn the_top_items_equal_those_of_exact_scoring() {
    let mut trainer = trainer_of_12_items(NetworkSettings { hidden: 33, ..all_parts_enabled() });
    trainer.grow_items(3000);
    let weights = trainer.publish(1);
    let query: Vec<f32> = (0..33).map(|i| (i * 7 % 11) as f32 / 5.0 - 1.0).collect();
    let mut expected: Vec<(u32, f32)> = (0..3000).map(|item| (item, weights.logit(&query, item))).collect();
    let partition = expected.iter().map(|(_, score)| f64::from(*score).exp()).sum::<f64>().ln();
    expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    expected.truncate(20);
    let top = weights.top_items(&query, 20, None, &mut NetworkScratch::default());
    assert_eq!(top.items, expected);
    assert!((f64::from(top.log_partition) - partition).abs() < 1e-2);
    assert_eq!(weights.top_items(&query, 5000, None, &mut NetworkScratch::default()).items.len(), 3000);
    assert_eq!(weights.logit(&query, 3000), f32::NEG_INFINITY);
}

/// The ranker takes 48 items by their approximate logits instead of 40 by their exact logits.
#[test]
fn the_approximate_top_items_contain_the_exact_ones() {
    let mut trainer = trainer_of_12_items(NetworkSettings { hidden: 100, ..all_parts_enabled() });
    trainer.grow_items(20_000);
    let (weights, mut scratch) = (trainer.publish(1), NetworkScratch::default());
    let (mut found, queries) = (0, 50);
    for query in 0..queries {
        let query: Vec<f32> = (0..100).map(|i| ((i * 7 + query * 13) % 37) as f32 / 18.0 - 1.0).collect();
        let mut exact: Vec<(u32, f32)> = (0..20_000).map(|item| (item, weights.logit(&query, item))).collect();
        exact.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let approximate = weights.approximate_top_items(&query, 48, None, &mut scratch).items;
        assert!(approximate.len() == 48 && approximate.is_sorted_by(|a, b| a.1 >= b.1));
        found += exact.iter().take(40).filter(|(item, _)| approximate.iter().any(|(other, _)| other == item)).count();
    }
    assert!(found * 100 >= 99 * 40 * queries, "{found} of {}", 40 * queries);
}

#[test]
fn the_top_items_of_clusters_equal_those_of_exact_scoring() {
    let mut trainer = trainer_of_12_items(NetworkSettings { hidden: 33, ..all_parts_enabled() });
    trainer.grow_items(3000);
    trainer.publish(1);
    let clusters: Vec<Vec<u32>> =
        (0..20).map(|cluster| (0..2900).filter(|item| item * 7 % 20 == cluster).collect()).collect();
    let order = Arc::new(RowOrder::new(clusters.iter().map(Vec::as_slice)));
    let ordered = trainer.publish(1).with_row_order(Some(Arc::clone(&order)));
    trainer.set_row_order_of(&ordered);
    trainer.train(&training_windows(), 1);
    trainer.grow_items(3100);
    let weights = trainer.publish(2);
    let query: Vec<f32> = (0..33).map(|i| (i * 7 % 11) as f32 / 5.0 - 1.0).collect();
    let mut scratch = NetworkScratch::default();
    let by_number = weights.with_row_order(None);
    assert_eq!(
        weights.top_items(&query, 40, None, &mut scratch).items,
        by_number.top_items(&query, 40, None, &mut scratch).items
    );
    let top = weights.top_items(&query, 20, Some(&[3, 17, 5]), &mut scratch);
    let is_probed = |item: u32| item >= 2900 || [3, 17, 5].contains(&(item * 7 % 20));
    let mut expected: Vec<(u32, f32)> =
        (0..3100).filter(|item| is_probed(*item)).map(|item| (item, weights.logit(&query, item))).collect();
    let partition = expected.iter().map(|(_, score)| f64::from(*score).exp()).sum::<f64>().ln();
    let (mut logits, all) = (Vec::new(), (0..3100).collect::<Vec<_>>());
    weights.logits_of(&query, &all, &scratch, &mut logits);
    for item in 0..3100 {
        let logit = weights.approximate_logit(item, &scratch);
        assert_eq!(logits[item as usize], logit.unwrap_or_else(|| weights.logit(&query, item)), "item {item}");
        assert_eq!(logit.is_some(), is_probed(item), "item {item}");
        assert!(logit.is_none_or(|logit| (logit - weights.logit(&query, item)).abs() < 0.2), "item {item}");
    }
    expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    expected.truncate(20);
    assert_eq!(top.items, expected);
    assert!((f64::from(top.log_partition) - partition).abs() < 1e-2);
    let rebuilt = weights.with_row_order(Some(order));
    assert_eq!(rebuilt.top_items(&query, 20, Some(&[3, 17, 5]), &mut NetworkScratch::default()), top);
    weights.logits_of(&query, &[9_999], &scratch, &mut logits);
    assert_eq!(logits, [f32::NEG_INFINITY], "an unknown item");
}

#[test]
fn an_index_that_takes_the_row_order_of_other_weights_equals_a_rebuilt_one() {
    let mut trainer = trainer_of_12_items(NetworkSettings { hidden: 33, ..all_parts_enabled() });
    trainer.grow_items(300);
    let order_of = |items: u32, count: u32| {
        let clusters: Vec<Vec<u32>> =
            (0..count).map(|cluster| (0..items).filter(|item| item % count == cluster).collect()).collect();
        Some(Arc::new(RowOrder::new(clusters.iter().map(Vec::as_slice))))
    };
    let query: Vec<f32> = (0..33).map(|i| (i * 7 % 11) as f32 / 5.0 - 1.0).collect();
    let scores = |weights: &Weights| {
        weights.approximate_top_items(&query, 400, Some(&[0, 3, 4]), &mut NetworkScratch::default())
    };
    let expect_rebuilt = |weights: &Weights, order: &Option<Arc<RowOrder>>| {
        assert_eq!(weights.row_order().map(Arc::as_ptr), order.as_ref().map(Arc::as_ptr));
        assert_eq!(scores(weights), scores(&weights.with_row_order(order.clone())));
    };
    let order = order_of(300, 5);
    let ordered = trainer.publish(1).with_row_order(order.clone());
    trainer.train(&training_windows(), 1);
    trainer.grow_items(350);
    let later = trainer.publish(2);
    assert_ne!(scores(&later.with_row_order(order.clone())), scores(&ordered));
    expect_rebuilt(&later.with_row_order_of(ordered.clone()), &order);
    trainer.set_row_order_of(&ordered);
    trainer.train(&training_windows(), 2);
    let trained = trainer.publish(3);
    expect_rebuilt(&trained, &order);
    // The order of weights with more items, and the order of weights without clusters.
    let order = order_of(350, 7);
    expect_rebuilt(&ordered.with_row_order_of(trained.with_row_order(order.clone())), &order);
    expect_rebuilt(&trained.with_row_order_of(trained.with_row_order(None)), &None);
}

#[test]
fn a_decoded_snapshot_gives_the_same_scores() {
    let weights = trainer_of_12_items(all_parts_enabled()).publish(7);
    let bytes = bincode::serde::encode_to_vec(&*weights, bincode::config::standard()).unwrap();
    let (decoded, _): (Weights, _) = bincode::serde::decode_from_slice(&bytes, bincode::config::standard()).unwrap();
    let query = [1.0, 0.5, -0.5, 0.2, 0.0];
    assert_eq!(
        decoded.top_items(&query, 5, None, &mut NetworkScratch::default()),
        weights.top_items(&query, 5, None, &mut NetworkScratch::default())
    );
    assert_eq!((decoded.version(), decoded.initial_state()), (7, weights.initial_state()));
}

#[test]
fn a_new_item_starts_at_the_mean_of_similar_trained_items() {
    for tied in [true, false] {
        let mut trainer = trainer_of_12_items(NetworkSettings { tied, ..embeddings_of_any_length() });
        trainer.publish(1);
        trainer.grow_items(ITEM_COUNT + 2);
        let before = trainer.publish(2);
        let new = ITEM_COUNT as u32;
        // Item new + 1 has no target event, so its embeddings are ignored.
        trainer.init_from_similar(new, &[3, new + 1, 4]);
        trainer.init_from_similar(new + 1, &[new, new + 1]);
        let weights = trainer.publish(3);
        let mean: Vec<f32> = weights
            .embedding(3)
            .unwrap()
            .iter()
            .zip(weights.embedding(4).unwrap())
            .map(|(a, b)| (a + b) / 2.0)
            .collect();
        assert!(weights.embedding(new).unwrap().iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-6), "tied: {tied}");
        assert_eq!(
            weights.embedding(new + 1),
            before.embedding(new + 1),
            "an item without trained similar items keeps its rows"
        );
    }
}

#[test]
fn the_weight_of_a_target_multiplies_its_gradient() {
    for loss in [LossKind::CrossEntropy, LossKind::BprMax, LossKind::NormalisedSoftmax] {
        let norm = |weight_of_session: &dyn Fn(u64) -> f32| {
            let mut windows = training_windows();
            for window in &mut windows {
                let weight = weight_of_session(window.session);
                window.positions.iter_mut().for_each(|position| position.weight = weight);
            }
            trainer_of_12_items(NetworkSettings { loss, ..all_parts_enabled() }).train(&windows, 3).gradient_norm
        };
        let (single, triple) = (norm(&|_| 1.0), norm(&|_| 3.0));
        assert!((triple - 3.0 * single).abs() < 1e-4 * triple, "{loss:?}: {triple} {single}");
        assert_eq!(norm(&|_| 0.0), 0.0, "{loss:?}");
        let part = |weight: f32| norm(&|session| if session == 2 { weight } else { 0.0 });
        assert!(part(1.0) > 0.0 && (part(2.0) - 2.0 * part(1.0)).abs() < 1e-4 * part(2.0), "{loss:?}");
    }
}

#[test]
fn a_trainer_with_the_changes_of_a_training_has_the_same_bytes_as_the_one_that_trained() {
    let bytes = |trainer: &Trainer| bincode::serde::encode_to_vec(trainer, bincode::config::standard()).unwrap();
    for optimiser in [OptimiserKind::Adagrad, OptimiserKind::Adam, OptimiserKind::RowAdagrad] {
        for tied in [true, false] {
            let settings = NetworkSettings { optimiser, tied, ..all_parts_enabled() };
            let [mut teacher, mut pupil] = [(); 2].map(|()| trainer_of_12_items(settings.clone()));
            // The pupil was restored from a checkpoint in between.
            for round in 0..4 {
                for trainer in [&mut teacher, &mut pupil] {
                    trainer.publish(round);
                }
                if round == 2 {
                    (pupil, _) =
                        bincode::serde::decode_from_slice(&bytes(&pupil), bincode::config::standard()).unwrap();
                }
                for trainer in [&mut teacher, &mut pupil] {
                    trainer.grow_items(ITEM_COUNT + round as usize);
                    trainer.count_target(1);
                }
                assert_eq!(teacher.fingerprint(), pupil.fingerprint());
                (0..3).for_each(|batch| {
                    teacher.train(&training_windows(), 10 * round + batch);
                });
                assert_ne!(teacher.fingerprint(), pupil.fingerprint());
                let changes = teacher.encode_changes();
                let before = bytes(&pupil);
                for damaged in [&changes[..changes.len() - 1], &changes[1..], &[], &[&changes[..], &[0]].concat()] {
                    assert_eq!(pupil.apply_changes(damaged), Err(TrainingChangesError));
                }
                assert!(bytes(&pupil) == before, "damaged changes change nothing");
                pupil.apply_changes(&changes).unwrap();
                assert!(bytes(&teacher) == bytes(&pupil), "{optimiser:?}, round {round}");
                let [of_teacher, of_pupil] =
                    [&mut teacher, &mut pupil].map(|trainer| trainer.publish(round).embedding(3).map(<[f32]>::to_vec));
                assert_eq!(of_teacher, of_pupil);
            }
        }
    }
    let other = trainer_of_12_items(NetworkSettings { hidden: 6, ..all_parts_enabled() });
    let mut trainer = trainer_of_12_items(all_parts_enabled());
    assert_eq!(trainer.apply_changes(&other.encode_changes()), Err(TrainingChangesError));
}
