use super::super::testing::{copy_directory, event};
use super::super::{QuarantineReader, QuarantinedEntry, SessionRecord, StoreOptions};
use super::*;
use crate::domain::{Entry, UserSequence};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;

fn temp_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    (dir, store)
}

fn compact(store: &Store) -> CompactionSummary {
    store.compact(&mut |_, _| ControlFlow::Continue(())).unwrap().unwrap()
}

fn journal_entries(store: &Store) -> Vec<Entry> {
    store.journal().entries(store.journal().first_offset().unwrap()).unwrap().map(|entry| entry.unwrap().1).collect()
}

fn session_record(applied: u64, bytes: usize) -> SessionRecord {
    SessionRecord {
        applied_through: applied,
        sequence: UserSequence::default(),
        hidden_state: vec![applied as u8; bytes],
    }
}

fn database_directory_names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("store"));
    names.sort();
    names
}

/// Size of all keys and values. The function reads every pair to count it.
fn count_pair_bytes(store: &Store) -> u64 {
    let db = &store.engine().unwrap().db;
    let pairs = db.tree_names().into_iter().flat_map(|name| db.open_tree(name).unwrap().iter().map(Result::unwrap));
    pairs.map(|(key, value)| (key.len() + value.len()) as u64).sum()
}

#[test]
fn compaction_frees_disk_space_and_keeps_all_data() {
    let (dir, store) = temp_store();
    for round in 0..60 {
        store.journal().append(&[event(round)], Durability::ProcessCrash).unwrap();
        let records: Vec<_> = (0..200).map(|user| (format!("user-{user}"), session_record(round, 4000))).collect();
        store.sessions().put(records.iter().map(|(user, record)| (user.as_str(), record)), round).unwrap();
    }
    store
        .quarantine()
        .put(&QuarantinedEntry { offset: 3, reader: QuarantineReader::Learner, reason: "why".to_owned() })
        .unwrap();
    store.journal().drop_before(20).unwrap();
    let entries = journal_entries(&store);
    for number in 1..=3 {
        let CompactionSummary { bytes_before, bytes_after } = compact(&store);
        assert!(number > 1 || bytes_after * 2 < bytes_before, "{bytes_before} to {bytes_after}");
        assert_eq!(database_directory_names(dir.path()), [format!("store.{number}")]);
        assert_eq!(store.live_bytes().unwrap(), count_pair_bytes(&store));
        assert_eq!((journal_entries(&store), store.journal().first_offset().unwrap()), (entries.clone(), 20));
        store.reopen().unwrap();
    }
    store.close().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    assert_eq!(database_directory_names(dir.path()), ["store"]);
    assert_eq!((journal_entries(&store), store.quarantine().all().unwrap().len()), (entries, 1));
    assert_eq!(
        (store.sessions().iter().unwrap().count(), store.sessions().get("user-7").unwrap()),
        (200, Some(session_record(59, 4000)))
    );
    store.check_journal_end().unwrap();
}

#[test]
fn live_bytes_are_counted_once_and_then_tracked_on_every_write() {
    let (dir, store) = temp_store();
    store.sessions().put([("ann", &session_record(1, 100)), ("bob", &session_record(2, 100))], 2).unwrap();
    assert_eq!(store.cached_live_bytes(), None);
    assert_eq!(store.live_bytes().unwrap(), count_pair_bytes(&store));
    store.sessions().put([("ann", &session_record(1, 900)), ("cid", &session_record(2, 10))], 2).unwrap();
    store.sessions().remove_stale_records(1, None, 10).unwrap();
    for number in 0..30 {
        store.journal().append(&[event(number)], Durability::ProcessCrash).unwrap();
    }
    store.journal().drop_before(20).unwrap();
    assert_eq!(store.cached_live_bytes(), Some(count_pair_bytes(&store)));
    drop(store);
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    assert_eq!((store.cached_live_bytes(), store.live_bytes().unwrap()), (None, count_pair_bytes(&store)));
}

#[test]
fn writers_and_readers_continue_and_no_acknowledged_write_is_lost() {
    let (dir, store) = temp_store();
    let stop = AtomicBool::new(false);
    // Appends are faster than compactions, so this limit keeps the journal short.
    let append_limit = AtomicU64::new(1000);
    let (appended, put) = thread::scope(|scope| {
        let appender = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                if count < append_limit.load(Ordering::Relaxed) {
                    store.journal().append(&[event(count)], Durability::ProcessCrash).unwrap();
                    count += 1;
                } else {
                    thread::yield_now();
                }
            }
            count
        });
        let putter = scope.spawn(|| {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                round += 1;
                let records: Vec<_> =
                    (0..40).map(|user| (format!("user-{user}-{}", round % 50), session_record(round, 300))).collect();
                store
                    .sessions()
                    .put_if_generation(0, records.iter().map(|(user, record)| (user.as_str(), record)), round)
                    .unwrap();
                store.sessions().remove_stale_records(round.saturating_sub(40), None, 200).unwrap();
            }
            round
        });
        let reader = scope.spawn(|| {
            let mut previous = 0;
            while !stop.load(Ordering::Relaxed) {
                let entries = journal_entries(&store).len();
                assert!(entries >= previous, "{entries} entries after {previous}");
                previous = entries;
                store.sessions().iter().unwrap().for_each(|read| drop(read.unwrap()));
            }
        });
        for _ in 0..4 {
            let (before, mut observed) = (store.journal().next_offset().unwrap(), 0);
            store
                .compact(&mut |_, _| {
                    observed += 1;
                    append_limit.fetch_add(20, Ordering::Relaxed);
                    ControlFlow::Continue(())
                })
                .unwrap()
                .unwrap();
            append_limit.fetch_add(200, Ordering::Relaxed);
            // Waits until the writers have made progress, however slow the machine is.
            while store.journal().next_offset().unwrap() < before + 100 {
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        (appender.join().unwrap(), putter.join().unwrap())
    });
    let assert_complete = |store: &Store| {
        assert_eq!(journal_entries(store), (0..appended).map(event).collect::<Vec<_>>());
        assert_eq!(store.sessions().watermark().unwrap(), put);
        for read in store.sessions().iter().unwrap() {
            let (user, found) = read.unwrap();
            let number: u64 = user.rsplit('-').next().unwrap().parse().unwrap();
            let last = (0..=put).rev().find(|round| round % 50 == number).unwrap();
            assert_eq!(found, session_record(last, 300), "{user}");
        }
        for user in 0..40 {
            assert!(store.sessions().get(&format!("user-{user}-{}", put % 50)).unwrap().is_some(), "{user}");
        }
    };
    assert_complete(&store);
    store.sync(Durability::PowerLoss).unwrap();
    // A crash leaves the files as they are now, so a copy of the files stands for the state after a
    // crash.
    let copy = copy_directory(dir.path());
    assert_complete(&Store::open(copy.path(), &StoreOptions::default()).unwrap());
}

#[test]
fn an_open_reader_reads_the_old_database_to_its_end() {
    let (dir, store) = temp_store();
    let entries: Vec<_> = (0..2000).map(event).collect();
    for chunk in entries.chunks(10) {
        store.journal().append(chunk, Durability::ProcessCrash).unwrap();
    }
    let mut open_reader = store.journal().entries(0).unwrap();
    let first: Vec<_> = open_reader.by_ref().take(5).map(|entry| entry.unwrap().1).collect();
    compact(&store);
    store.journal().append(&[event(2000)], Durability::ProcessCrash).unwrap();
    assert_eq!(database_directory_names(dir.path()), ["store", "store.1"]);
    let rest: Vec<_> = open_reader.map(|entry| entry.unwrap().1).collect();
    assert_eq!([first, rest].concat(), entries);
    compact(&store);
    assert_eq!(journal_entries(&store).len(), 2001);
    // The next start removes the remaining database.
    store.close().unwrap();
    Store::open(dir.path(), &StoreOptions::default()).unwrap();
    assert_eq!(database_directory_names(dir.path()), ["store"]);
}

#[test]
fn a_cancelled_or_interrupted_compaction_changes_nothing() {
    let (dir, store) = temp_store();
    for first in (0..4000).step_by(4) {
        store.journal().append(&(first..first + 4).map(event).collect::<Vec<_>>(), Durability::ProcessCrash).unwrap();
    }
    let cancelled =
        store.compact(&mut |done, of| if done * 3 > of { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    assert_eq!(cancelled.unwrap(), None);
    assert_eq!(database_directory_names(dir.path()), ["store"]);

    let mut reopening = None;
    let old = Arc::downgrade(&store.engine().unwrap());
    let interrupted = store.compact(&mut |_, _| {
        if reopening.is_none() {
            let again = store.clone();
            reopening = Some(thread::spawn(move || again.reopen().unwrap()));
            // The thread that reopens the store closes the old database, and then waits for its
            // remaining readers.
            while !old.upgrade().unwrap().has_failed() {
                thread::yield_now();
            }
        }
        ControlFlow::Continue(())
    });
    assert!(
        matches!(interrupted, Err(StoreError::NeedsReopen { .. } | StoreError::Reopened { .. })),
        "{interrupted:?}"
    );
    reopening.unwrap().join().unwrap();
    assert_eq!(database_directory_names(dir.path()), ["store"]);
    assert_eq!((journal_entries(&store).len(), store.generation().unwrap()), (4000, 1));
    compact(&store);
    store.journal().append(&[event(1)], Durability::PowerLoss).unwrap();
}

#[test]
fn compaction_is_due_for_much_dead_data_and_after_a_compaction_only_after_growth() {
    let mebibyte = 1 << 20;
    let due = |disk: u64, live: u64, fresh: u64, ratio| {
        is_compaction_due(disk * mebibyte, live * mebibyte, fresh * mebibyte, ratio)
    };
    assert!(due(100, 30, 0, 3.0));
    assert!(!due(100, 34, 0, 3.0));
    assert!(!due(64, 1, 0, 3.0), "too small to be worth it");
    assert!(!due(1000, 1, 0, 0.0), "switched off");
    // If even a freshly compacted database exceeds the ratio, compacting it again would not help.
    assert!(!due(100, 60, 100, 1.5) && !due(149, 60, 100, 1.5) && due(151, 90, 100, 1.5));
}
