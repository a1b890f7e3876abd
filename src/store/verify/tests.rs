use super::super::testing::{event, flip_bit};
use super::super::{Committer, CommitterSettings, Durability, SessionRecord, StoreOptions};
use super::*;
use crate::domain::Step;
use std::io::Write;
use std::path::Path;

/// A store with twenty events, their items, two sessions and a checkpoint.
fn temp_store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
    for first in [0, 10] {
        committer.commit(vec![(first..first + 10).map(event).collect()]).unwrap();
    }
    committer.persist_indexes().unwrap();
    let step = Step { item: Some(3), kind: 0, starts_session: true, at: 1, value: 1.0 };
    let record = |applied| SessionRecord {
        applied_through: applied,
        sequence: UserSequence { steps: vec![step], ..UserSequence::default() },
        hidden_state: vec![1, 2],
    };
    store.sessions().put([("ann", &record(3)), ("bob", &record(20))], 20).unwrap();
    write_checkpoint_at(&store, 20);
    // Empties the commit log. Otherwise the next opening would repair damage to these records.
    store.sync(Durability::PowerLoss).unwrap();
    (dir, store)
}

fn write_checkpoint_at(store: &Store, offset: Offset) {
    let write = |file: &mut super::super::CheckpointWriter| {
        file.write_all(b"learned").map_err(StoreError::io("writing", Path::new("")))
    };
    store.checkpoints(9).unwrap().write::<StoreError>(offset, write).unwrap();
}

/// Verifies a store in which exactly one thing is damaged, and returns the finding.
fn only_damage(store: &Store) -> DamageFinding {
    let mut damages = store.verify(&[], &mut |_| {}).0.damages;
    assert_eq!(damages.len(), 1, "{damages:?}");
    damages.remove(0)
}

#[test]
fn verifying_an_intact_store_counts_its_content() {
    let (_dir, store) = temp_store();
    let mut progress = 0;
    let findings = store.verify(&[], &mut |entries| progress = entries).0;
    assert_eq!(findings.damages, []);
    let expected = StoreCounts {
        records: 2,
        entries: 20,
        events: 20,
        items: 11,
        sessions: 2,
        checkpoints: 1,
        ..StoreCounts::default()
    };
    assert_eq!((findings.counts, progress), (expected, 20));
}

#[test]
fn damage_in_the_journal_is_located_and_later_records_are_read() {
    let (_dir, store) = temp_store();
    let tree = store.engine().unwrap().journal.clone();
    let key = |first| keys::PieceKey { first, piece: 0 }.to_bytes();
    flip_bit(&tree, &key(0), 40);
    let damage = only_damage(&store);
    assert_eq!((damage.location.as_str(), damage.remedy), ("journal, offset 0", DamageRemedy::Restore));
    assert!(damage.reason.contains("checksum"), "{damage:?}");
    assert_eq!(store.verify(&[], &mut |_| {}).0.counts.entries, 10, "the second record is intact");
    tree.remove(key(0)).unwrap();
    assert!(only_damage(&store).reason.contains("from offset 0 to 10"));
}

#[test]
fn a_store_with_a_damaged_last_record_can_be_opened_for_inspection() {
    let (dir, store) = temp_store();
    flip_bit(&store.engine().unwrap().journal, &keys::PieceKey { first: 10, piece: 0 }.to_bytes(), 40);
    store.close().unwrap();
    assert!(matches!(
        Store::open(dir.path(), &StoreOptions::default()),
        Err(StoreError::DamagedRecord { offset: 10, .. })
    ));
    let store = Store::open_for_inspection(dir.path(), &StoreOptions::default()).unwrap();
    let findings = store.verify(&[], &mut |_| {}).0;
    assert!(findings.damages[0].location == "journal, offset 10" && !findings.can_rebuild_fully(), "{findings:?}");
}

#[test]
fn a_truncated_journal_is_reported() {
    let (dir, store) = temp_store();
    store.engine().unwrap().journal.remove(keys::PieceKey { first: 10, piece: 0 }.to_bytes()).unwrap();
    store.sessions().put([], 10).unwrap();
    store.close().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let damages = store.verify(&[], &mut |_| {}).0.damages;
    assert!(
        damages[0].reason.contains("20 entries were in it") && damages[0].remedy == DamageRemedy::Restore,
        "{damages:?}"
    );
    assert!(matches!(store.check_journal_end(), Err(StoreError::JournalTruncated { end: 10, known: 20, .. })));
}

#[test]
fn leftover_pieces_of_an_unfinished_append_are_not_damage() {
    let (_dir, store) = temp_store();
    store.engine().unwrap().journal.insert(keys::PieceKey { first: 20, piece: 1 }.to_bytes(), b"half").unwrap();
    assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
}

#[test]
fn item_names_must_match_the_journal() {
    let (_dir, store) = temp_store();
    let tree = store.engine().unwrap().items.clone();
    flip_bit(&tree, &0_u32.to_be_bytes(), 9);
    let damages = store.verify(&[], &mut |_| {}).0.damages;
    assert!(damages[0].location == "items, from number 0" && damages[0].remedy == DamageRemedy::Rebuild, "{damages:?}");
    // The stored names are undamaged, but have another order than in the journal.
    let other = ItemDictionary::default();
    other.intern("item-1");
    for number in 0..11 {
        other.intern(&format!("item-{number}"));
    }
    store.items().append(&other, 0, 20).unwrap();
    assert!(only_damage(&store).reason.contains("number 0 is `item-1`, but in the journal it is `item-0`"));
    // The items of the pretrained state precede the items of the journal.
    let first: Vec<Arc<str>> = vec!["item-1".into()];
    assert_eq!(store.verify(&first, &mut |_| {}).0.damages, []);
    tree.remove(0_u32.to_be_bytes()).unwrap();
    let reason = store.verify(&first, &mut |_| {}).0.damages.remove(0).reason;
    assert!(reason.contains("there are 0 names, but the journal has 11"), "{reason}");
}

#[test]
fn sessions_must_refer_to_existing_items_and_offsets() {
    let (_dir, store) = temp_store();
    let step = |item| Step { item: Some(item), kind: 0, starts_session: true, at: 1, value: 1.0 };
    let record = |applied, item| SessionRecord {
        applied_through: applied,
        sequence: UserSequence { steps: vec![step(item)], ..UserSequence::default() },
        hidden_state: vec![],
    };
    store.sessions().put([("ann", &record(21, 3))], 20).unwrap();
    assert!(only_damage(&store).reason.contains("offset 21, but the journal ends at 20"));
    store.sessions().put([("ann", &record(20, 11))], 20).unwrap();
    assert!(only_damage(&store).reason.contains("item number 11, but there are 11 items"));
    flip_bit(&store.engine().unwrap().sessions, &keys::user_key("ann"), 20);
    assert_eq!(only_damage(&store).location, format!("sessions, {}", keys::redacted_user_name("ann")));
    store.sessions().put([("ann", &record(20, 1))], 21).unwrap();
    assert!(only_damage(&store).reason.contains("they reach offset 21"));
}

#[test]
fn checkpoints_and_the_pretrained_state_are_verified() {
    let (dir, store) = temp_store();
    write_checkpoint_at(&store, 21);
    assert!(only_damage(&store).reason.contains("ahead of the journal"));
    let file = |offset: u64| dir.path().join(format!("checkpoints/{offset:020}.checkpoint"));
    std::fs::rename(file(21), file(5)).unwrap();
    assert!(only_damage(&store).reason.contains("the checkpoint of offset 21"));
    std::fs::write(file(5), "no checkpoint").unwrap();
    let damage = only_damage(&store);
    assert!(damage.location.contains("00005.checkpoint") && damage.remedy == DamageRemedy::Delete, "{damage:?}");
    std::fs::remove_file(file(5)).unwrap();
    std::fs::write(dir.path().join("origin"), "nothing").unwrap();
    assert_eq!((only_damage(&store).location.as_str(), only_damage(&store).remedy), ("origin", DamageRemedy::Backup));
}

#[test]
fn a_damaged_end_marker_is_reported_and_rewritten() {
    let (dir, store) = temp_store();
    store.close().unwrap();
    std::fs::write(dir.path().join("end"), "7").unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    assert_eq!(only_damage(&store).remedy, DamageRemedy::SelfRepairing);
    store.check_journal_end().unwrap();
    store.journal().append(&[event(20)], Durability::PowerLoss).unwrap();
    store.close().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
}

#[test]
fn a_damaged_alias_is_reported() {
    let (_dir, store) = temp_store();
    let alias = crate::registries::UserAlias { offset: 7, from: "visitor".into(), into: "ann".into() };
    store.aliases().put(&[alias], &[]).unwrap();
    assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
    flip_bit(&store.engine().unwrap().aliases, &7_u64.to_be_bytes(), 9);
    let damage = only_damage(&store);
    assert_eq!((damage.location.as_str(), damage.remedy), ("links", DamageRemedy::Rebuild));
}
