//! Benchmarks of the counting candidate sources and the ranker: time per request or per event, with
//! 42,000 and 1,000,000 items. The popularity of the items is proportional to 1/rank.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sequor::candidates::{CandidateSet, CandidateSettings, CandidateSources, QueryContext};
use sequor::domain::{EventKinds, ItemIx, Step};
use sequor::ranking::{Ranker, RankingWorkspace, SourceAffinity};
use std::hint::black_box;

/// Numbers of items, each with the number of events before the measurement.
const CATALOGS: [(u32, usize); 2] = [(42_000, 400_000), (1_000_000, 1_000_000)];
/// Number of candidates that a request ranks.
const CANDIDATES: usize = 128;

/// Generator of the synthetic event stream.
struct SyntheticStream {
    items: u32,
    random: Xoshiro256PlusPlus,
    steps: Vec<Step>,
    session: u32,
    now: u64,
}

impl SyntheticStream {
    fn next_step(&mut self) -> Step {
        if self.random.next_u64().is_multiple_of(6) {
            self.steps.clear();
            self.session += 1;
        }
        let draw = self.random.next_u64();
        // As in real sessions, consecutive items are often related: in seven of ten cases, the next
        // item has a number near the last item's number. Otherwise, the next item is drawn by
        // popularity.
        let by_popularity = (f64::from(self.items).powf((draw >> 11) as f64 / (1u64 << 53) as f64) - 1.0) as ItemIx;
        let item = match self.steps.last().and_then(|step| step.item) {
            Some(last) if draw % 10 < 7 => (last + (draw >> 8) as u32 % 20) % self.items,
            _ => by_popularity,
        };
        Step {
            item: Some(item),
            kind: 0,
            starts_session: self.steps.is_empty(),
            at: self.now as i64 * 1000,
            value: 1.0,
        }
    }

    fn query_context(&self) -> QueryContext<'_> {
        QueryContext {
            steps: &self.steps,
            session: self.session,
            session_start: u64::from(self.session),
            now: self.now,
            ..QueryContext::default()
        }
    }

    fn append(&mut self, step: Step) {
        self.steps.push(step);
        self.now += 1;
    }
}

fn bench_ranking(criterion: &mut Criterion) {
    for (items, events) in CATALOGS {
        bench_catalog(criterion, items, events);
    }
}

/// Runs the benchmarks with a catalog of `items` items after `events` events.
fn bench_catalog(criterion: &mut Criterion, items: u32, events: usize) {
    let id = |stage: &str| format!("ranking/{stage}/items={items}");
    let random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut stream = SyntheticStream { items, random, steps: Vec::new(), session: 0, now: 0 };
    let mut sources = CandidateSources::new(&CandidateSettings::default(), &EventKinds::default()).unwrap();
    for _ in 0..events {
        let step = stream.next_step();
        sources.learn(&stream.query_context(), &step);
        stream.append(step);
    }
    while stream.steps.len() < 5 {
        let step = stream.next_step();
        stream.append(step);
    }
    let (steps, affinity) = (stream.steps.clone(), SourceAffinity::default());
    let context = QueryContext {
        steps: &steps,
        session: stream.session,
        session_start: u64::from(stream.session),
        now: stream.now,
        ..QueryContext::default()
    };
    let mut candidates = CandidateSet::default();
    criterion.bench_function(&id("generate candidates"), |bench| {
        bench.iter(|| sources.generate(black_box(&context), &mut candidates))
    });
    criterion.bench_function(&id("keep top and add features"), |bench| {
        bench.iter(|| {
            candidates.keep_top_candidates(CANDIDATES, &context);
            sources.add_features(&context, &mut candidates);
        });
    });
    let (mut workspace, mut ranker) = (RankingWorkspace::new(CANDIDATES), Ranker::new(1));
    criterion.bench_function(&id("score candidates"), |bench| {
        bench.iter(|| workspace.score_candidates(&sources, &ranker, &context, &affinity, None, None))
    });
    let item = workspace.candidates().kept_items().nth(7).unwrap();
    criterion.bench_function(&id("rank of each source alone"), |bench| {
        bench.iter(|| workspace.candidates().source_ranks(black_box(item)))
    });
    criterion.bench_function(&id("score candidates and train"), |bench| {
        bench.iter(|| {
            workspace.score_candidates(&sources, &ranker, &context, &affinity, None, None);
            workspace.train_ranker(&mut ranker, item, 1.0)
        });
    });
    criterion.bench_function(&id("sources learn"), |bench| {
        bench.iter(|| {
            let step = stream.next_step();
            sources.learn(&stream.query_context(), &step);
            stream.append(step);
        });
    });
    let mut published = sources.clone();
    criterion.bench_function(&id("256 events learned and published"), |bench| {
        bench.iter(|| {
            for _ in 0..256 {
                let step = stream.next_step();
                sources.learn(&stream.query_context(), &step);
                stream.append(step);
            }
            published = sources.clone();
        });
    });
    black_box(published);
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = bench_ranking }
criterion_main!(benches);
