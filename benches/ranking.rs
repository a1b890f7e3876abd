//! What the counting sources and the ranker cost an event, on a made-up stream of 20,000 items with
//! popularity like 1/rank.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{Criterion, criterion_group, criterion_main};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sequor::candidates::{CandidateSet, CandidateSettings, CandidateSources, QueryContext};
use sequor::domain::{EventKinds, ItemIx, Step};
use sequor::ranking::{Ranker, RankingWorkspace, SourceAffinity};
use std::hint::black_box;

struct Stream {
    random: Xoshiro256PlusPlus,
    steps: Vec<Step>,
    session: u32,
    now: u64,
}

impl Stream {
    fn next(&mut self) -> Step {
        if self.random.next_u64().is_multiple_of(6) {
            self.steps.clear();
            self.session += 1;
        }
        let draw = self.random.next_u64();
        // Mostly near the last item, as sessions are; else any, the popular first.
        let anywhere = (20_000f64.powf((draw >> 11) as f64 / (1u64 << 53) as f64) - 1.0) as ItemIx;
        let item = match self.steps.last().and_then(|step| step.item) {
            Some(last) if draw % 10 < 7 => (last + (draw >> 8) as u32 % 20) % 20_000,
            _ => anywhere,
        };
        Step { item: Some(item), kind: 0, starts_session: self.steps.is_empty(), at: self.now as i64 * 1000, value: 1.0 }
    }

    fn query_context(&self) -> QueryContext<'_> {
        QueryContext { steps: &self.steps, session: self.session, session_start: u64::from(self.session), now: self.now }
    }

    fn push(&mut self, step: Step) {
        self.steps.push(step);
        self.now += 1;
    }
}

fn ranking(criterion: &mut Criterion) {
    let mut stream = Stream { random: Xoshiro256PlusPlus::seed_from_u64(1), steps: Vec::new(), session: 0, now: 0 };
    let mut sources = CandidateSources::new(&CandidateSettings::default(), &EventKinds::default()).unwrap();
    for _ in 0..200_000 {
        let step = stream.next();
        sources.learn(&stream.query_context(), &step);
        stream.push(step);
    }
    while stream.steps.len() < 5 {
        let step = stream.next();
        stream.push(step);
    }
    let (steps, mood) = (stream.steps.clone(), SourceAffinity::default());
    let moment = QueryContext { steps: &steps, session: stream.session, session_start: u64::from(stream.session), now: stream.now };
    let mut slate = CandidateSet::default();
    criterion.bench_function("ranking/gather", |bench| bench.iter(|| sources.generate(black_box(&moment), &mut slate)));
    criterion.bench_function("ranking/cut and describe", |bench| {
        bench.iter(|| {
            slate.keep_top(256, &moment);
            sources.add_features(&moment, &mut slate);
        });
    });
    let (mut desk, mut ranker) = (RankingWorkspace::new(256), Ranker::new(1));
    criterion
        .bench_function("ranking/consider", |bench| bench.iter(|| desk.score_candidates(&sources, &ranker, &moment, &mood, None, &[])));
    let item = desk.candidates().items().nth(7).unwrap();
    criterion.bench_function("ranking/rank of each source alone", |bench| bench.iter(|| desk.candidates().source_ranks(black_box(item))));
    criterion.bench_function("ranking/consider and teach", |bench| {
        bench.iter(|| {
            desk.score_candidates(&sources, &ranker, &moment, &mood, None, &[]);
            desk.train(&mut ranker, item)
        });
    });
    criterion.bench_function("ranking/sources learn", |bench| {
        bench.iter(|| {
            let step = stream.next();
            sources.learn(&stream.query_context(), &step);
            stream.push(step);
        });
    });
    let mut published = sources.clone();
    criterion.bench_function("ranking/256 events learned and published", |bench| {
        bench.iter(|| {
            for _ in 0..256 {
                let step = stream.next();
                sources.learn(&stream.query_context(), &step);
                stream.push(step);
            }
            published = sources.clone();
        });
    });
    black_box(published);
}

criterion_group! { name = benches; config = Criterion::default().sample_size(20); targets = ranking }
criterion_main!(benches);
