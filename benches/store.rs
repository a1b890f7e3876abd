//! Benchmarks of the store: committing groups of entries, reading the journal, encoding and
//! decoding entries, and session records.
#![allow(missing_docs, clippy::unwrap_used)]

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sequor::domain::{Entry, Event, EventKind, Step, UserSequence};
use sequor::store::{Committer, CommitterSettings, Durability, SessionRecord, Store, StoreOptions, codec};
use std::time::Duration;

fn event_entry(number: u64) -> Entry {
    Entry::Event(Event {
        event_id: Some(format!("01890a5d-ac96-774b-bcce-{number:012x}")),
        user_id: format!("user-{}", number % 1_000),
        session_id: None,
        kind: EventKind::View,
        item_id: Some(format!("item-{}", number * 7 % 5_000)),
        value: None,
        timestamp: 1_700_000_000_000 + number as i64,
        properties: None,
        details: None,
    })
}

fn event_entries(first: u64, count: u64) -> Vec<Entry> {
    (first..first + count).map(event_entry).collect()
}

fn open_committer(dir: &tempfile::TempDir, durability: Durability) -> Committer {
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    Committer::open(store, CommitterSettings { durability, ..Default::default() }).unwrap()
}

fn bench_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    for (name, durability) in [("process_crash", Durability::ProcessCrash), ("power_loss", Durability::PowerLoss)] {
        for count in [1, 64, 512] {
            let dir = tempfile::tempdir().unwrap();
            let mut committer = open_committer(&dir, durability);
            let mut next = 0;
            group.throughput(Throughput::Elements(count));
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter_batched(
                    || {
                        next += count;
                        vec![event_entries(next, count)]
                    },
                    |requests| committer.commit(requests).unwrap(),
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

fn bench_journal_reads(criterion: &mut Criterion) {
    const ENTRY_COUNT: u64 = 50_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let journal = store.journal();
    for first in (0..ENTRY_COUNT).step_by(500) {
        journal.append(&event_entries(first, 500), Durability::ProcessCrash).unwrap();
    }
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(ENTRY_COUNT));
    group.bench_function("entries", |bencher| {
        bencher.iter(|| journal.entries(0).unwrap().map(|entry| entry.unwrap().0).sum::<u64>())
    });
    group.throughput(Throughput::Elements(64));
    group.bench_function("read 64 from the middle", |bencher| {
        bencher.iter(|| journal.read_entries(ENTRY_COUNT / 2 + 200, 64).unwrap())
    });
    group.finish();
}

fn bench_codec(criterion: &mut Criterion) {
    let events = event_entries(0, 512);
    let bytes = codec::encode(&events).unwrap();
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(512));
    group.bench_function("encode", |bencher| bencher.iter(|| codec::encode(&events).unwrap()));
    group.bench_function("decode", |bencher| bencher.iter(|| codec::decode::<Vec<Entry>>(&bytes).unwrap()));
    group.finish();
}

fn bench_session_records(criterion: &mut Criterion) {
    let step = |at| Step { item: Some(7), kind: 0, starts_session: false, at, value: 1.0 };
    let sequence = UserSequence {
        session_number: 1,
        session_start: 0,
        session_id: None,
        steps: (0..50).map(step).collect(),
        earlier_sessions: Vec::new(),
        kept_steps: Vec::new(),
    };
    let record = SessionRecord { applied_through: 9, sequence, hidden_state: vec![1; 4 * 64 * 4] };
    let users: Vec<_> = (0..256).map(|user| format!("user-{user}")).collect();
    let dir = tempfile::tempdir().unwrap();
    let sessions = Store::open(dir.path(), &StoreOptions::default()).unwrap().sessions();
    let mut group = criterion.benchmark_group("sessions");
    group.throughput(Throughput::Elements(256));
    group.bench_function("put", |bencher| {
        bencher.iter(|| sessions.put(users.iter().map(|user| (user.as_str(), &record)), 9).unwrap());
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("get", |bencher| bencher.iter(|| sessions.get("user-77").unwrap()));
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = bench_commit, bench_journal_reads, bench_codec, bench_session_records
}
criterion_main!(benches);
