use super::super::StoreOptions;
use super::super::testing::{event, named_event};
use super::*;
use crate::domain::{PlacementChange, PlacementConfig, PlacementOperation};
use proptest::prelude::*;
use std::collections::VecDeque;

fn open(dir: &std::path::Path, dedup_window: usize) -> Committer {
    let store = Store::open(dir, &StoreOptions::default()).unwrap();
    Committer::open(
        store,
        CommitterSettings { durability: Durability::ProcessCrash, dedup_window, ..Default::default() },
    )
    .unwrap()
}

/// A reference model of the committer.
#[derive(Default)]
struct Model {
    journal: Vec<Entry>,
    items: Vec<String>,
}

impl Model {
    fn commit(&mut self, requests: &[Vec<Entry>], window: usize) -> Vec<CommitReceipt> {
        let mut known: VecDeque<&str> = self.journal.iter().rev().take(window).filter_map(event_id_of_entry).collect();
        let mut accepted = Vec::new();
        let mut receipts = Vec::new();
        for request in requests {
            let mut duplicates = Vec::new();
            for (index, entry) in request.iter().enumerate() {
                match event_id_of_entry(entry) {
                    Some(id) if known.contains(&id) => duplicates.push(index),
                    id => {
                        known.extend(id);
                        accepted.push(entry.clone());
                    }
                }
            }
            let offset = (self.journal.len() + accepted.len()) as Offset;
            receipts.push(CommitReceipt {
                accepted: request.len() - duplicates.len(),
                duplicates,
                withheld: Vec::new(),
                rejected: Vec::new(),
                offset,
            });
        }
        for item in accepted.iter().filter_map(item_id_of_entry) {
            if !self.items.iter().any(|known| known == item) {
                self.items.push(item.to_owned());
            }
        }
        self.journal.extend(accepted);
        receipts
    }
}

/// An action that the test performs between two commits.
#[derive(Debug, Clone, Copy)]
enum ActionBetweenCommits {
    Nothing,
    Recover,
    PersistItems,
    PrepareForShutdown,
    Restart,
}

fn arbitrary_requests() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    let entry = (proptest::option::weighted(0.8, 0..40_u32), proptest::option::of(0..30_u32)).prop_map(|(id, item)| {
        named_event(id.map(|id| id.to_string()), "ann", item.map(|item| item.to_string()).as_deref())
    });
    proptest::collection::vec(proptest::collection::vec(entry, 0..6), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_committer_matches_the_reference_model(
        steps in proptest::collection::vec((arbitrary_requests(), prop_oneof![
            4 => Just(ActionBetweenCommits::Nothing), 1 => Just(ActionBetweenCommits::Recover), 1 => Just(ActionBetweenCommits::PersistItems), 1 => Just(ActionBetweenCommits::PrepareForShutdown),
            1 => Just(ActionBetweenCommits::Restart),
        ]), 1..20),
        window in 0_usize..30,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut committer = open(dir.path(), window);
        let mut model = Model::default();
        for (requests, action) in steps {
            let expected = model.commit(&requests, window);
            let first = committer.next_offset();
            let (receipts, committed) = committer.commit(requests).unwrap();
            prop_assert_eq!(receipts, expected);
            prop_assert_eq!(committed.first, first);
            prop_assert_eq!(committer.next_offset(), model.journal.len() as Offset);
            for (delivered, offset) in committed.entries.iter().zip(first..) {
                prop_assert_eq!(delivered.offset, offset);
                prop_assert_eq!(&delivered.entry, &model.journal[offset as usize]);
                let item_name = delivered.item.map(|item| model.items[item as usize].as_str());
                prop_assert_eq!(item_name, item_id_of_entry(&delivered.entry));
            }
            prop_assert_eq!(committed.entries.len() as Offset, committer.next_offset() - first);
            match action {
                ActionBetweenCommits::Nothing => {}
                ActionBetweenCommits::Recover => prop_assert_eq!(committer.recover().unwrap().entries, []),
                ActionBetweenCommits::PersistItems => committer.persist_indexes().unwrap(),
                // If a commit follows, the next start must not use the stored ids.
                ActionBetweenCommits::PrepareForShutdown => committer.prepare_for_shutdown().unwrap(),
                ActionBetweenCommits::Restart => {
                    drop(committer);
                    committer = open(dir.path(), window);
                }
            }
            let items = committer.dictionary();
            let names: Vec<_> = (0..items.len() as ItemIx).map(|item| items.name(item).unwrap().to_string()).collect();
            prop_assert_eq!(&names, &model.items);
        }
        let journal: Vec<_> = committer.store.journal().read_entries(0, usize::MAX).unwrap().into_iter().map(|(_, entry)| entry).collect();
        prop_assert_eq!(journal, model.journal);
    }
}

#[test]
fn a_repeated_batch_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut committer = open(dir.path(), 100);
    let batch: Vec<_> = (0..5).map(event).collect();
    committer.commit(vec![batch.clone()]).unwrap();
    let (receipts, committed) = committer.commit(vec![batch]).unwrap();
    assert_eq!(
        receipts,
        [CommitReceipt { accepted: 0, duplicates: vec![0, 1, 2, 3, 4], withheld: vec![], rejected: vec![], offset: 5 }]
    );
    assert_eq!(committed, CommittedBatch { first: 5, entries: Vec::new() });
}

#[test]
fn recovery_finds_the_entries_of_a_failed_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut committer = open(dir.path(), 100);
    committer.commit(vec![vec![event(0)]]).unwrap();
    // Simulates a commit that wrote its record and then failed to sync it. The record is in the
    // journal, but the committer does not know it.
    committer.store.journal().append(&[event(1), event(12)], Durability::PowerLoss).unwrap();
    let recovered = committer.recover().unwrap();
    assert_eq!(recovered.entries.iter().map(|delivered| delivered.item).collect::<Vec<_>>(), [Some(1), Some(1)]);
    assert_eq!((recovered.first, committer.next_offset()), (1, 3));
    let (receipts, _) = committer.commit(vec![vec![event(12), event(3)]]).unwrap();
    assert_eq!(
        receipts,
        [CommitReceipt { accepted: 1, duplicates: vec![0], withheld: vec![], rejected: vec![], offset: 4 }]
    );
}

#[test]
fn a_journal_behind_its_derived_state_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let mut committer = open(dir.path(), 100);
    committer.commit(vec![vec![event(0)]]).unwrap();
    let store = committer.store.clone();
    store.sessions().put([], 3).unwrap();
    let error = Committer::open(store, CommitterSettings::default()).unwrap_err();
    assert!(matches!(error, StoreError::JournalTruncated { end: 1, known: 3, .. }), "{error}");
}

#[test]
fn event_ids_are_evicted_exactly_at_the_end_of_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let mut committer = open(dir.path(), 3);
    for number in 0..4 {
        committer.commit(vec![vec![event(number)]]).unwrap();
    }
    let (receipts, _) = committer.commit(vec![vec![event(1), event(0)]]).unwrap();
    assert_eq!(
        receipts[0].duplicates,
        [0],
        "the id of offset 1 is the oldest of three in the window, and that of offset 0 is evicted"
    );
}

#[test]
fn digests_of_different_ids_differ_in_both_halves() {
    let (a, b) = (dedup::digest_event_id("a"), dedup::digest_event_id("b"));
    assert!(a >> 64 != b >> 64 && a as u64 != b as u64 && (a >> 64) as u64 != a as u64);
    assert_eq!(a, dedup::digest_event_id("a"));
}

#[test]
fn readers_up_to_the_watermark_know_every_item() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let mut committer = Committer::open(
        store.clone(),
        CommitterSettings { durability: Durability::ProcessCrash, ..Default::default() },
    )
    .unwrap();
    let dictionary = committer.dictionary();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..400 {
                let items = (0..5).map(|item| named_event(None, "u", Some(&format!("i{number}-{item}")))).collect();
                committer.commit(vec![items]).unwrap();
            }
        });
        let mut next = 0;
        while next < 2_000 {
            let through = dictionary.watermark();
            for (offset, entry) in store.journal().read_entries(next, (through - next) as usize).unwrap() {
                let item = entry.as_event().unwrap().item_id.as_deref().unwrap();
                assert_eq!(dictionary.get(item), Some(offset as u32), "{item}");
            }
            next = through;
        }
    });
}

#[test]
fn entries_of_a_merged_user_are_rewritten_to_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let event_of = |user: &str| named_event(None, user, Some("tea"));
    let merge = |from: &str, into: &str| {
        Entry::Merge(crate::domain::UserMerge { from: from.to_owned(), into: into.to_owned(), timestamp: 0 })
    };
    let mut committer = open(dir.path(), 0);
    let (receipts, _) = committer
        .commit(vec![vec![event_of("anon"), merge("anon", "ann")], vec![event_of("anon"), merge("anon", "bob")]])
        .unwrap();
    assert_eq!((receipts[0].accepted, &receipts[1].duplicates), (2, &vec![1]));
    committer.persist_indexes().unwrap();
    committer.commit(vec![vec![merge("phone", "anon")]]).unwrap();
    drop(committer);
    // One alias is stored, and one is in the journal's tail.
    let mut committer = open(dir.path(), 0);
    assert_eq!(committer.aliases().len(), 2);
    committer.commit(vec![vec![event_of("phone"), merge("phone", "bob")]]).unwrap();
    let journal: Vec<_> = committer.store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
    assert_eq!(
        journal,
        [event_of("anon"), merge("anon", "ann"), event_of("ann"), merge("phone", "ann"), event_of("ann")]
    );
}

#[test]
fn consents_survive_any_restart() {
    let dir = tempfile::tempdir().unwrap();
    let consent_change = |user: &str, consent| {
        Entry::Consent(crate::domain::ConsentChange { user_id: user.to_owned(), consent, timestamp: 0 })
    };
    let event_of = |id: &str, user: &str| named_event(Some(id.to_owned()), user, Some("tea"));
    let mut committer = open(dir.path(), 100);
    let sent = vec![
        consent_change("ann", Consent::Session),
        event_of("1", "ann"),
        consent_change("bob", Consent::None),
        event_of("2", "bob"),
        consent_change("bob", Consent::None),
    ];
    let (receipts, committed) = committer.commit(vec![sent]).unwrap();
    assert_eq!((receipts[0].accepted, &receipts[0].withheld, &receipts[0].duplicates), (3, &vec![3], &vec![4]));
    assert!(matches!(committed.entries[1].entry, Entry::Private(_)));
    drop(committer);
    // Consents come from the journal's tail, then from the store, then from both.
    for change in [None, Some(Consent::Full), None] {
        let mut committer = open(dir.path(), 100);
        let consents = committer.consents();
        assert_eq!((consents.get("bob"), consents.len()), (Some(Consent::None), 2));
        let (receipts, _) = committer.commit(vec![vec![event_of("2", "bob")]]).unwrap();
        assert_eq!(receipts[0].withheld, [0]);
        committer.persist_indexes().unwrap();
        if let Some(consent) = change {
            committer.commit(vec![vec![consent_change("ann", consent)]]).unwrap();
        }
    }
    let mut committer = open(dir.path(), 100);
    assert_eq!(committer.consents().get("ann"), Some(Consent::Full));
    // A withheld event is accepted again after the user consents.
    let (receipts, _) = committer
        .commit(vec![vec![consent_change("bob", Consent::Full), event_of("2", "bob"), event_of("2", "bob")]])
        .unwrap();
    assert_eq!((receipts[0].accepted, &receipts[0].duplicates), (2, &vec![2]));
}

#[test]
fn placements_and_rules_survive_any_restart() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, limit| {
        let config = PlacementConfig { limit: Some(limit), ..PlacementConfig::default() };
        placement_change(name, PlacementOperation::Put(config))
    };
    let delete = |name: &str| placement_change(name, PlacementOperation::Delete);
    let limits = |committer: &Committer| -> Vec<(String, Option<usize>)> {
        committer.placements().load().placements().iter().map(|(name, config)| (name.clone(), config.limit)).collect()
    };
    let mut committer = open(dir.path(), 0);
    let (receipts, _) = committer.commit(vec![vec![put("home", 5), put("cart", 4), put("home", 6)]]).unwrap();
    assert_eq!(receipts[0].accepted, 3);
    let expected = vec![("cart".to_owned(), Some(4)), ("home".to_owned(), Some(6))];
    assert_eq!(limits(&committer), expected);
    drop(committer);
    // They come from the journal's tail, then from the store, then from both.
    let mut committer = open(dir.path(), 0);
    assert_eq!(limits(&committer), expected);
    committer.persist_indexes().unwrap();
    drop(committer);
    let mut committer = open(dir.path(), 0);
    assert_eq!(limits(&committer), expected);
    committer.commit(vec![vec![delete("cart"), put("mail", 3)]]).unwrap();
    drop(committer);
    let mut committer = open(dir.path(), 0);
    let expected = vec![("home".to_owned(), Some(6)), ("mail".to_owned(), Some(3))];
    assert_eq!(limits(&committer), expected);
    committer.persist_indexes().unwrap();
    assert_eq!(committer.store.placements().load().unwrap().len(), 2, "a deleted placement is not stored");
}

fn placement_change(name: &str, operation: PlacementOperation) -> Entry {
    Entry::Placement(PlacementChange { name: name.to_owned(), timestamp: 0, operation })
}
