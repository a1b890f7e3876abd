//! Benchmarks of the network: advancing the hidden state by one step, training on a batch, scoring
//! the catalog, and publishing the weights as a snapshot. The id of a benchmark contains the
//! sizes of the network and the catalog. Throughput, if any, counts floating-point operations.

#![allow(clippy::expect_used, reason = "a benchmark whose setup fails must stop")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sequor::nn::{
    CellKind, NetworkScratch, NetworkSettings, RowOrder, StepInput, Trainer, TrainingPosition, TrainingWindow,
};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const CELLS_WITH_GATE_COUNT: [(CellKind, &str, u64); 3] =
    [(CellKind::Rnn, "rnn", 1), (CellKind::Lstm, "lstm", 4), (CellKind::Gru, "gru", 3)];

/// Returns a pseudo-random item, which depends only on `draw`. Items with small numbers are more
/// frequent.
fn skewed_item(draw: u64, items: u64) -> u32 {
    let mixed = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let share = mixed as f64 / (1_u64 << 31) as f64;
    (share * share * share * items as f64) as u32
}

fn new_trainer(settings: NetworkSettings, items: u64) -> Trainer {
    let mut trainer = Trainer::new(settings, 12, 1).expect("the settings are within their ranges");
    trainer.grow_items(items as usize);
    (0..200_000).for_each(|draw| trainer.count_target(skewed_item(draw, items)));
    trainer
}

/// Builds the training windows of mini-batch `number`, with four positions each.
fn windows_of_batch(number: u64, positions: u64, items: u64) -> Vec<TrainingWindow> {
    let position = |index: u64| TrainingPosition {
        input: StepInput { item: Some(skewed_item(2 * index, items)), ..Default::default() },
        target: Some(skewed_item(2 * index + 1, items)),
        weight: 1.0,
    };
    let window = |window: u64| TrainingWindow {
        session: window,
        positions: (4 * window..4 * window + 4).map(position).collect(),
    };
    (number * positions / 4..(number + 1) * positions / 4).map(window).collect()
}

/// Number of floating-point operations of a step. A step computes two matrix products per gate, and
/// one for each of the two paths that bypass the recurrent layers. A product takes one
/// multiplication and one addition per matrix element.
fn flops_per_step(gates: u64, hidden: u64) -> u64 {
    2 * hidden * hidden * (2 * gates + 2)
}

fn bench_session_step(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session_step");
    for (cell, name, gates) in CELLS_WITH_GATE_COUNT {
        for hidden in [64, 100] {
            let settings = NetworkSettings { cell, hidden: hidden as usize, ..Default::default() };
            let weights = new_trainer(settings, 10_000).publish(1);
            let (mut state, mut scratch, mut query, mut draw) =
                (weights.initial_state(), NetworkScratch::default(), Vec::new(), 0);
            group.throughput(Throughput::Elements(flops_per_step(gates, hidden)));
            group.bench_function(BenchmarkId::new(name, format!("hidden={hidden}")), |bencher| {
                bencher.iter(|| {
                    draw += 1;
                    let input = StepInput { item: Some(skewed_item(draw, 10_000)), ..Default::default() };
                    weights.advance(&mut state, &input, &mut scratch);
                    weights.compute_query(&state, &mut query);
                    black_box(query.first().copied())
                });
            });
        }
    }
    group.finish();
}

fn bench_training_batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("training_batch");
    for (cell, name, gates) in CELLS_WITH_GATE_COUNT {
        for (hidden, positions, negatives, items) in [
            (64, 128, 512, 100_000),
            (100, 32, 2048, 3_000),
            (100, 128, 2048, 3_000),
            (100, 32, 2048, 42_000),
            (100, 128, 2048, 42_000),
            (100, 256, 2048, 42_000),
        ] {
            let settings =
                NetworkSettings { cell, hidden: hidden as usize, negatives: negatives as usize, ..Default::default() };
            let mut trainer = new_trainer(settings, items);
            let batches: Vec<Vec<TrainingWindow>> =
                (0..64).map(|number| windows_of_batch(number, positions, items)).collect();
            // Count one product in the forward pass and two in the backward pass. The true number
            // of operations is smaller, because an item that is drawn twice is scored only once.
            let flops = 3 * positions * (flops_per_step(gates, hidden) + 2 * (hidden + 1) * (negatives + positions));
            group.throughput(Throughput::Elements(flops));
            let id = format!("hidden={hidden},positions={positions},negatives={negatives},items={items}");
            let mut number = 0;
            group.bench_function(BenchmarkId::new(name, id), |bencher| {
                bencher.iter(|| {
                    number += 1;
                    black_box(trainer.train(&batches[number % batches.len()], number as u64))
                });
            });
        }
    }
    group.finish();
}

/// Scores the whole catalog, and the items of 64 of √items clusters.
fn bench_top_items(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("top_items");
    for items in [10_000, 42_000, 100_000, 1_000_000_u64] {
        let clusters = items.isqrt() as u32;
        let members: Vec<Vec<u32>> =
            (0..clusters).map(|cluster| (cluster..items as u32).step_by(clusters as usize).collect()).collect();
        let weights = new_trainer(NetworkSettings::default(), items)
            .publish(1)
            .with_row_order(Some(Arc::new(RowOrder::new(members.iter().map(Vec::as_slice)))));
        let query: Vec<f32> = (0..weights.dimension()).map(|dimension| (dimension % 7) as f32 / 3.0 - 1.0).collect();
        let mut scratch = NetworkScratch::default();
        let mut first = 0;
        group.bench_function(BenchmarkId::new("whole catalog", format!("items={items}")), |bencher| {
            bencher.iter(|| black_box(weights.top_items(&query, 40, None, &mut scratch)));
        });
        group.bench_function(BenchmarkId::new("64 clusters", format!("items={items}")), |bencher| {
            bencher.iter(|| {
                // Other clusters in every iteration, so that their rows are not in the nearest cache.
                first += 64;
                let probed: Vec<usize> = (first..first + 64).map(|number| number % clusters as usize).collect();
                black_box(weights.top_items(&query, 40, Some(&probed), &mut scratch))
            });
        });
    }
    group.finish();
}

fn bench_publication(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publication");
    let mut trainer = new_trainer(NetworkSettings::default(), 100_000);
    let mut published = trainer.publish(0);
    let mut number = 0;
    group.bench_function(BenchmarkId::new("after_one_batch", "hidden=64,negatives=512,items=100000"), |bencher| {
        bencher.iter_custom(|rounds| {
            (0..rounds)
                .map(|_| {
                    number += 1;
                    trainer.train(&windows_of_batch(number, 128, 100_000), number);
                    let start = std::time::Instant::now();
                    published = trainer.publish(number);
                    start.elapsed()
                })
                .sum()
        });
    });
    black_box(published.version());
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = bench_session_step, bench_training_batch, bench_top_items, bench_publication
}
criterion_main!(benches);
