use super::testing::event;
use super::*;

#[test]
fn a_locked_directory_is_rejected_until_it_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let error = Store::open(dir.path(), &StoreOptions::default()).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    drop(store);
    Store::open(dir.path(), &StoreOptions::default()).unwrap();
}

#[test]
fn opening_a_newer_store_fails_with_an_error_that_names_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path(), &StoreOptions::default()).unwrap().close().unwrap();
    let db = sled::open(dir.path().join("store")).unwrap();
    db.insert("format", &(STORE_FORMAT + 1).to_le_bytes()).unwrap();
    drop(db);
    let error = Store::open(dir.path(), &StoreOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("format {}", STORE_FORMAT + 1)) && error.contains(&format!("up to {STORE_FORMAT}")),
        "{error}"
    );
}

#[test]
fn opening_a_file_as_data_directory_fails_with_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Store::open(&file, &StoreOptions::default()).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
    assert!(!error.is_disk_full());
}

#[test]
fn a_reopened_store_keeps_its_data_and_accepts_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let journal = store.journal();
    journal.append(&[event(1)], Durability::PowerLoss).unwrap();
    store.reopen().unwrap();
    journal.append(&[event(2)], Durability::ProcessCrash).unwrap();
    assert_eq!(journal.read_entries(0, 9).unwrap(), [(0, event(1)), (1, event(2))]);
    assert!(store.size_on_disk().unwrap() > 0);
    let disk = store.disk_space().unwrap();
    assert!(0 < disk.free && disk.free <= disk.size, "{disk:?}");
}

#[test]
fn a_failed_store_is_read_only_until_it_is_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    store.journal().append(&[event(1)], Durability::PowerLoss).unwrap();
    store.engine().unwrap().mark_failed();
    assert!(store.has_failed());
    assert!(matches!(store.journal().append(&[event(2)], Durability::PowerLoss), Err(StoreError::NeedsReopen { .. })));
    assert!(matches!(store.sessions().put([], 1), Err(StoreError::NeedsReopen { .. })));
    assert!(matches!(store.sync(Durability::PowerLoss), Err(StoreError::NeedsReopen { .. })));
    assert_eq!(store.journal().read_entries(0, 9).unwrap().len(), 1);
    // If the disk rejects writes, the reopening fails and the database stays open.
    std::fs::create_dir(dir.path().join("probe")).unwrap();
    let ann = SessionRecord {
        applied_through: 1,
        sequence: crate::domain::UserSequence::default(),
        hidden_state: Vec::new(),
    };
    let put = |opening| store.sessions().put_if_generation(opening, [("ann", &ann)], 1);
    assert!(matches!(store.reopen(), Err(StoreError::Io { .. })));
    assert_eq!(store.journal().read_entries(0, 9).unwrap().len(), 1);
    std::fs::remove_dir(dir.path().join("probe")).unwrap();
    assert_eq!(store.generation().unwrap(), 0);
    store.reopen().unwrap();
    assert!(!store.has_failed());
    // A writer may rely on writes that it made before the reopening. These may be lost, so it gets
    // an error.
    assert!(matches!(put(0), Err(StoreError::Reopened { .. })));
    assert_eq!((store.sessions().get("ann").unwrap(), store.sessions().watermark().unwrap()), (None, 0));
    put(store.generation().unwrap()).unwrap();
    store.journal().append(&[event(2)], Durability::PowerLoss).unwrap();
}

#[test]
fn a_store_can_be_cloned_and_shared_between_threads() {
    fn assert_clone_send_sync<T: Clone + Send + Sync>() {}
    assert_clone_send_sync::<Store>();
    assert_clone_send_sync::<Journal>();
}

/// Regression test: a daemon was killed while the database wrote a snapshot of its log. The next
/// opening wrote a shorter snapshot over the file, and the following opening failed with a wrong
/// checksum.
#[test]
fn an_unfinished_log_snapshot_does_not_damage_the_next_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    store.journal().append(&[event(1)], Durability::PowerLoss).unwrap();
    // The copied files are the state after the process is killed.
    let killed = super::testing::copy_directory(dir.path());
    let again = super::testing::copy_directory(killed.path());
    Store::open(again.path(), &StoreOptions::default()).unwrap().close().unwrap();
    let names =
        again.path().join("store").read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let snapshot = names.filter(|name| name.starts_with("snap.")).max().unwrap();
    std::fs::write(killed.path().join("store").join(format!("{snapshot}.generating")), [7; 4096]).unwrap();
    for _ in 0..2 {
        let store = Store::open(killed.path(), &StoreOptions::default()).unwrap();
        assert_eq!(store.journal().read_entries(0, 9).unwrap(), [(0, event(1))]);
        store.close().unwrap();
    }
}
