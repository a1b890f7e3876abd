use super::super::testing::{any_entries, copy_directory, event, flip_bit};
use super::super::{Store, StoreOptions};
use super::*;
use proptest::prelude::*;

fn temp_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    (dir, store)
}

/// Events that fill several pieces if `count` is large.
fn event_sequence(count: u64) -> Vec<Entry> {
    (0..count).map(event).collect()
}

fn with_offsets(entries: &[Entry], from: usize, count: usize) -> Vec<(Offset, Entry)> {
    (from as Offset..).zip(entries.iter().skip(from).take(count).cloned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_journal_matches_a_vector_and_survives_reopening(
        appends in proptest::collection::vec((any_entries(0..12), any::<bool>()), 0..12),
        from in 0_usize..100, count in 0_usize..100,
    ) {
        let (_dir, store) = temp_store();
        let journal = store.journal();
        let mut model = Vec::new();
        for (entries, reopen) in appends {
            prop_assert_eq!(journal.append(&entries, Durability::ProcessCrash).unwrap(), model.len() as Offset);
            model.extend(entries);
            if reopen {
                store.reopen().unwrap();
            }
            prop_assert_eq!(journal.next_offset().unwrap(), model.len() as Offset);
        }
        prop_assert_eq!(journal.read_entries(from as Offset, count).unwrap(), with_offsets(&model, from, count));
        prop_assert_eq!(journal.read_entries(0, usize::MAX).unwrap(), with_offsets(&model, 0, model.len()));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_record_is_an_error_that_names_it(index in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (_dir, store) = temp_store();
        let journal = store.journal();
        for entries in [event_sequence(3), event_sequence(400), event_sequence(3)] {
            journal.append(&entries, Durability::ProcessCrash).unwrap();
        }
        let tree = store.engine().unwrap().journal.clone();
        let pieces: Vec<_> = tree.range(PieceKey { first: 3, piece: 0 }.to_bytes()..PieceKey { first: 403, piece: 0 }.to_bytes()).map(Result::unwrap).collect();
        prop_assert!(pieces.len() > 2);
        let mut index = index.index(pieces.iter().map(|(_, piece)| piece.len()).sum());
        for (key, piece) in pieces {
            if index < piece.len() {
                let mut damaged = piece.to_vec();
                damaged[index] ^= 1 << bit;
                tree.insert(key, damaged).unwrap();
                break;
            }
            index -= piece.len();
        }
        let error = journal.read_entries(0, usize::MAX).unwrap_err();
        prop_assert!(matches!(error, StoreError::DamagedRecord { offset: 3, .. }), "{}", error);
        prop_assert!(error.to_string().contains("offset 3"));
        prop_assert_eq!(journal.read_entries(0, 3).unwrap(), with_offsets(&event_sequence(3), 0, 3));
        prop_assert_eq!(journal.read_entries(403, 9).unwrap().len(), 3);
    }
}

#[test]
fn an_acknowledged_append_survives_a_crash() {
    let (dir, store) = temp_store();
    for durability in [Durability::PowerLoss, Durability::ProcessCrash] {
        store.journal().append(&event_sequence(100), durability).unwrap();
        let copy = copy_directory(dir.path());
        let found = Store::open(copy.path(), &StoreOptions::default()).unwrap();
        assert_eq!(found.journal().next_offset().unwrap(), store.journal().next_offset().unwrap());
    }
}

#[test]
fn a_missing_piece_and_a_missing_record_are_errors() {
    let (_dir, store) = temp_store();
    let journal = store.journal();
    for _ in 0..3 {
        journal.append(&event_sequence(200), Durability::ProcessCrash).unwrap();
    }
    let tree = store.engine().unwrap().journal.clone();
    tree.remove(PieceKey { first: 200, piece: 1 }.to_bytes()).unwrap();
    assert!(matches!(journal.read_entries(0, 900), Err(StoreError::DamagedRecord { offset: 200, .. })));
    tree.remove(PieceKey { first: 200, piece: 0 }.to_bytes()).unwrap();
    assert!(matches!(journal.read_entries(0, 900), Err(StoreError::MissingEntries { from: 200, until: 400 })));
    assert!(matches!(journal.read_entries(300, 1), Err(StoreError::MissingEntries { .. })));
    assert_eq!(journal.read_entries(400, 900).unwrap().len(), 200);
    tree.remove(PieceKey { first: 400, piece: 0 }.to_bytes()).unwrap();
    assert!(matches!(journal.read_entries(400, 1), Err(StoreError::MissingEntries { from: 400, until: 600 })));
    tree.remove(PieceKey { first: 0, piece: 0 }.to_bytes()).unwrap();
    assert!(matches!(journal.read_entries(0, 1), Err(StoreError::MissingEntries { from: 0, .. })));
}

#[test]
fn a_record_under_the_key_of_another_offset_is_reported_as_damaged() {
    let (_dir, store) = temp_store();
    let journal = store.journal();
    for _ in 0..2 {
        journal.append(&event_sequence(1), Durability::ProcessCrash).unwrap();
    }
    let tree = store.engine().unwrap().journal.clone();
    let first = tree.get(PieceKey { first: 0, piece: 0 }.to_bytes()).unwrap().unwrap();
    tree.insert(PieceKey { first: 1, piece: 0 }.to_bytes(), first).unwrap();
    assert!(matches!(journal.read_entries(0, 9), Err(StoreError::DamagedRecord { offset: 1, .. })));
}

#[test]
fn opening_rejects_a_damaged_last_record() {
    let (dir, store) = temp_store();
    store.journal().append(&event_sequence(2), Durability::ProcessCrash).unwrap();
    store.journal().append(&event_sequence(2), Durability::ProcessCrash).unwrap();
    flip_bit(&store.engine().unwrap().journal, &PieceKey { first: 2, piece: 0 }.to_bytes(), 30);
    assert!(matches!(store.reopen(), Err(StoreError::DamagedRecord { offset: 2, .. })));
    assert!(store.has_failed());
    assert!(matches!(store.journal().read_entries(0, 1), Err(StoreError::NeedsReopen { .. })));
    drop(store);
    assert!(matches!(
        Store::open(dir.path(), &StoreOptions::default()),
        Err(StoreError::DamagedRecord { offset: 2, .. })
    ));
}

#[test]
fn leftovers_of_an_unfinished_append_are_ignored_and_removed() {
    let (_dir, store) = temp_store();
    let journal = store.journal();
    journal.append(&event_sequence(2), Durability::ProcessCrash).unwrap();
    let tree = store.engine().unwrap().journal.clone();
    for piece in 1..9 {
        tree.insert(PieceKey { first: 2, piece }.to_bytes(), "left over").unwrap();
    }
    drop(tree);
    store.reopen().unwrap();
    assert_eq!(journal.next_offset().unwrap(), 2);
    assert_eq!(journal.read_entries(0, 9).unwrap().len(), 2);
    journal.append(&event_sequence(200), Durability::ProcessCrash).unwrap();
    journal.append(&event_sequence(1), Durability::ProcessCrash).unwrap();
    assert_eq!(journal.read_entries(0, 900).unwrap().len(), 203);
    assert!(!store.engine().unwrap().journal.contains_key(PieceKey { first: 2, piece: 8 }.to_bytes()).unwrap());
}

#[test]
fn an_empty_append_writes_nothing() {
    let (_dir, store) = temp_store();
    assert_eq!(store.journal().append(&[], Durability::PowerLoss).unwrap(), 0);
    assert!(store.engine().unwrap().journal.is_empty());
    assert_eq!(store.journal().read_entries(0, 9).unwrap(), []);
    assert_eq!(store.journal().read_entries(Offset::MAX, 9).unwrap(), []);
}

#[test]
fn no_page_of_a_long_journal_becomes_an_overflow_file() {
    let (dir, store) = temp_store();
    for _ in 0..20 {
        store.journal().append(&event_sequence(2_000), Durability::ProcessCrash).unwrap();
    }
    assert_eq!(dir.path().join("store/blobs").read_dir().unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn tombstones_replace_unwanted_entries(appends in proptest::collection::vec(any_entries(1..300), 1..4), every in 1..5_u64, until in 0..600_u64) {
        let (_dir, store) = temp_store();
        let journal = store.journal();
        for entries in &appends {
            journal.append(entries, Durability::ProcessCrash).unwrap();
        }
        let all = appends.concat();
        let is_replaced = |offset: Offset| offset < until && offset.is_multiple_of(every);
        let expected: Vec<_> = (0..).zip(&all).map(|(offset, entry)| if is_replaced(offset) { Entry::Tombstone } else { entry.clone() }).collect();
        let replaced = journal.replace_with_tombstones(until, &mut |offset, _, _| offset.is_multiple_of(every)).unwrap();
        prop_assert_eq!(replaced, (0..).zip(&all).filter(|(offset, entry)| is_replaced(*offset) && **entry != Entry::Tombstone).count() as u64);
        prop_assert_eq!(journal.read_entries(0, usize::MAX).unwrap(), with_offsets(&expected, 0, expected.len()));
        store.reopen().unwrap();
        prop_assert_eq!(journal.read_entries(0, usize::MAX).unwrap(), with_offsets(&expected, 0, expected.len()));
        prop_assert_eq!(journal.replace_with_tombstones(until, &mut |offset, _, _| offset.is_multiple_of(every)).unwrap(), 0);
    }
}

#[test]
fn a_concurrent_reader_sees_complete_records() {
    let (_dir, store) = temp_store();
    for _ in 0..20 {
        store.journal().append(&event_sequence(400), Durability::ProcessCrash).unwrap();
    }
    let reader = std::thread::spawn({
        let journal = store.journal();
        move || {
            (0..40).for_each(|_| {
                let read: Vec<_> = journal.entries(0).unwrap().map(Result::unwrap).collect();
                assert_eq!(read.len(), 8000);
            });
        }
    });
    for round in 0..200 {
        store.journal().replace_with_tombstones(8000, &mut |offset, _, _| offset % 200 == round).unwrap();
    }
    reader.join().unwrap();
}
