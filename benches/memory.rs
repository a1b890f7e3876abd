//! Resident memory per item, per live session and of the database, with the allocator of the daemon.
//! Each run measures one of them:
//!
//! - `cargo bench --bench memory -- items 1000000`
//! - `cargo bench --bench memory -- sessions 1000000 50`: sessions of 50 steps
//! - `cargo bench --bench memory -- store 1000000 128`: item changes, and a cache of 128 MiB
#![allow(missing_docs, clippy::unwrap_used)]

use actix::{Actor, Addr};
use sequor::actors::flush_progress::FlushProgress;
use sequor::actors::session_subscribers::SessionSubscribers;
use sequor::actors::session_table::SessionTable;
use sequor::actors::shard::{GetUserSequence, ShardActor, ShardContext};
use sequor::domain::{Catalog, Entry, EventKinds, Item, ItemChange, ItemOperation, Step, UserSequence};
use sequor::learner::SequenceParams;
use sequor::metrics::Metrics;
use sequor::registries::ItemDictionary;
use sequor::store::{Committer, CommitterSettings, Durability, SessionRecord, Store, StoreOptions};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Entries that are committed at once.
const ENTRIES_PER_COMMIT: u32 = 500;
/// Users whose records are written at once.
const USERS_PER_WRITE: u32 = 1_000;

fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// Prints the growth of the resident memory since `before`, per piece.
fn report(name: &str, before: u64, pieces: u32) {
    let grown = resident_bytes().saturating_sub(before);
    println!("{name:<40} {:>8.0} bytes", grown as f64 / f64::from(pieces));
}

fn measure_items(count: u32) {
    let before = resident_bytes();
    let dictionary = ItemDictionary::default();
    for item in 0..count {
        dictionary.intern(&format!("category-{item}"));
    }
    report("item dictionary, per item", before, count);

    let before = resident_bytes();
    let mut catalog = Catalog::default();
    for item in 0..count {
        let new = Item {
            categories: vec![format!("category {}", item % 100)],
            brand: Some(format!("brand {}", item % 37)),
            price: Some(f64::from(item)),
            ..Item::default()
        };
        catalog.apply(item, &ItemOperation::Put(new));
    }
    report("catalog, per item", before, count);
    // Both live until here.
    assert_eq!((dictionary.len(), catalog.described_count()), (count as usize, count as usize));
}

/// Commits item changes as an import does. Prints the memory that the database and the item
/// dictionary then hold.
fn measure_store(count: u32, cache_bytes: u64) {
    let dir = tempfile::tempdir().unwrap();
    let before = resident_bytes();
    let store = Store::open(dir.path(), &StoreOptions { cache_bytes }).unwrap();
    let settings = CommitterSettings { durability: Durability::ProcessCrash, ..CommitterSettings::default() };
    let mut committer = Committer::open(store, settings).unwrap();
    for first in (0..count).step_by(ENTRIES_PER_COMMIT as usize) {
        let change = |number: u32| {
            let item = Item {
                categories: vec![format!("category {}", number % 100)],
                brand: Some(format!("brand {}", number % 37)),
                price: Some(f64::from(number)),
                ..Item::default()
            };
            let item_id = format!("category-{number}");
            Entry::Item(ItemChange { item_id, timestamp: 1_700_000_000_000, operation: ItemOperation::Put(item) })
        };
        committer.commit(vec![(first..count.min(first + ENTRIES_PER_COMMIT)).map(change).collect()]).unwrap();
    }
    report(&format!("store and dictionary, cache of {} MiB, per item", cache_bytes >> 20), before, count);
}

fn sequence_of(user: u32, steps: u32) -> UserSequence {
    let mut sequence = UserSequence::default();
    for number in 0..steps {
        let item = Some((user.wrapping_mul(7_919) ^ number.wrapping_mul(104_729)) % 1_000_000);
        let at = 1_700_000_000_000 + i64::from(number) * (30_000 + i64::from(user % 1_000));
        let step = Step { item, kind: 0, starts_session: false, at, value: 1.0 };
        sequence.push(u64::from(user) * 50 + u64::from(number), step, None, 1_800_000);
    }
    sequence
}

/// Stores the records of all users, so that the store's caches are full before the measurement.
fn store_sessions(store: &Store, users: u32, steps: u32) {
    for first in (0..users).step_by(USERS_PER_WRITE as usize) {
        let record = |user| {
            let sequence = sequence_of(user, steps);
            (format!("user-{user}"), SessionRecord { applied_through: 1, sequence, hidden_state: Vec::new() })
        };
        let records: Vec<_> = (first..users.min(first + USERS_PER_WRITE)).map(record).collect();
        store.sessions().put(records.iter().map(|(user, record)| (user.as_str(), record)), 0).unwrap();
    }
}

fn start_shard(store: &Store, users: u32) -> Addr<ShardActor> {
    let kinds = EventKinds::default();
    let context = ShardContext {
        number: (0, 1),
        store: store.clone(),
        metrics: Arc::new(Metrics::new(&kinds).unwrap()),
        session_table: Arc::new(SessionTable::new(1)),
        dictionary: Arc::default(),
        kinds,
        sequence_params: SequenceParams::default(),
        flush_progress: Arc::new(FlushProgress::new(1, 0)),
        subscribers: Arc::new(SessionSubscribers::default()),
        idle_timeout: Duration::MAX,
        max_live_sessions: users as usize,
    };
    ShardActor::new(context).start()
}

async fn measure_sessions(users: u32, steps: u32) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions { cache_bytes: 16 << 20 }).unwrap();
    store_sessions(&store, users, steps);
    let shard = start_shard(&store, users);
    let before = resident_bytes();
    for user in 0..users {
        let (reply, sequence) = oneshot::channel();
        shard.send(GetUserSequence { user: format!("user-{user}"), reply }).await.unwrap();
        assert_eq!(sequence.await.unwrap().steps.len(), steps as usize);
    }
    report(&format!("live session of {steps} steps, per session"), before, users);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let number = |index: usize| arguments.get(index).and_then(|argument| argument.parse::<u32>().ok());
    let count = number(1).unwrap_or(100_000);
    match arguments.first().map(String::as_str) {
        Some("store") => measure_store(count, u64::from(number(2).unwrap_or(128)) << 20),
        Some("sessions") => {
            let steps = number(2).unwrap_or(UserSequence::MAX_STEPS as u32);
            actix::System::new().block_on(measure_sessions(count, steps));
        }
        _ => measure_items(count),
    }
}
