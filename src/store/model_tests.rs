//! Model tests: execute random sequences of store operations, restarts and crashes, and compare the
//! store with a reference model that consists of plain maps.

use super::testing::{copy_files, named_event};
use super::*;
use crate::domain::{Entry, Offset, UserSequence};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::ops::ControlFlow;

/// An operation on the store.
#[derive(Debug, Clone)]
enum ModelTestOp {
    /// Commits requests. Each event consists of a user, an item, and optionally the number in its
    /// event id.
    Commit(Vec<Vec<(u8, u8, Option<u8>)>>),
    /// Stores the item names. `true` prepares a shutdown, which also stores the event ids.
    PersistIndexes(bool),
    /// Stores session records. Each consists of a user and the size of the hidden state.
    Put(Vec<(u8, u16)>),
    /// Removes the session records that contain none of the journal's last entries; the argument is
    /// the number of these entries.
    RemoveStale(u8),
    /// Quarantines an entry: `true` for the learner, `false` for the session.
    Quarantine(prop::sample::Index, bool),
    /// Writes a checkpoint at an offset of the journal; the second argument is the size of the
    /// payload.
    Checkpoint(prop::sample::Index, u16),
    /// Drops journal records that lie before an offset.
    Drop(prop::sample::Index),
    /// Compacts the database.
    Compact,
    /// Starts a compaction and then cancels it.
    CancelCompaction,
    /// Writes a backup (`true`: a file, `false`: a directory), restores it, and continues with the
    /// restored store.
    Restore(bool),
    /// Reopens the database through [`Store::reopen`].
    Reopen,
    /// Closes and opens the store.
    Close,
    /// Simulates a crash of the process.
    Crash,
}

fn arbitrary_operations() -> impl Strategy<Value = Vec<ModelTestOp>> {
    let event = (0..6_u8, 0..30_u8, proptest::option::of(0..80_u8));
    let operation = prop_oneof![
        8 => proptest::collection::vec(proptest::collection::vec(event, 0..6), 1..4).prop_map(ModelTestOp::Commit),
        2 => any::<bool>().prop_map(ModelTestOp::PersistIndexes),
        4 => proptest::collection::vec((0..9_u8, 0..9000_u16), 0..6).prop_map(ModelTestOp::Put),
        1 => (0..30_u8).prop_map(ModelTestOp::RemoveStale),
        1 => any::<(prop::sample::Index, bool)>().prop_map(|(offset, learner)| ModelTestOp::Quarantine(offset, learner)),
        2 => (any::<prop::sample::Index>(), 0..200_u16).prop_map(|(offset, length)| ModelTestOp::Checkpoint(offset, length)),
        1 => any::<prop::sample::Index>().prop_map(ModelTestOp::Drop),
        1 => Just(ModelTestOp::Compact),
        1 => Just(ModelTestOp::CancelCompaction),
        1 => any::<bool>().prop_map(ModelTestOp::Restore),
        1 => Just(ModelTestOp::Reopen),
        1 => Just(ModelTestOp::Close),
        2 => Just(ModelTestOp::Crash),
    ];
    proptest::collection::vec(operation, 1..24)
}

/// The derived state of a store. Writes to it become durable only with a later sync.
#[derive(Debug, Clone, Default, PartialEq)]
struct DerivedState {
    sessions: BTreeMap<String, SessionRecord>,
    sessions_through: Offset,
    names: Vec<String>,
    items_through: Offset,
}

/// One write to the derived state.
#[derive(Debug, Clone)]
enum DerivedStateChange {
    Session(String, Option<SessionRecord>),
    SessionsThrough(Offset),
    Names(Vec<String>),
    ItemsThrough(Offset),
}

impl DerivedState {
    fn apply(&mut self, change: DerivedStateChange) {
        match change {
            DerivedStateChange::Session(user, Some(record)) => drop(self.sessions.insert(user, record)),
            DerivedStateChange::Session(user, None) => drop(self.sessions.remove(&user)),
            DerivedStateChange::SessionsThrough(through) => self.sessions_through = through,
            DerivedStateChange::Names(names) => self.names = names,
            DerivedStateChange::ItemsThrough(through) => self.items_through = through,
        }
    }

    fn read_from_store(store: &Store) -> Self {
        let names = store.items().load().unwrap();
        Self {
            sessions: store.sessions().iter().unwrap().map(Result::unwrap).collect(),
            sessions_through: store.sessions().watermark().unwrap(),
            names: (0..names.len()).map(|number| names.name(number as u32).unwrap().to_string()).collect(),
            items_through: store.items().watermark().unwrap(),
        }
    }
}

/// The reference model of the store.
#[derive(Debug, Default)]
struct ReferenceStore {
    /// All appended entries, by offset.
    entries: Vec<Entry>,
    first_offset: Offset,
    /// All items, by number.
    items: Vec<String>,
    /// The deduplication window: event ids with their offsets.
    ids: VecDeque<(Offset, String)>,
    /// The derived state that a crash certainly preserves.
    durable: DerivedState,
    /// Later writes to the derived state, oldest first. A crash may lose the latest of them.
    pending: Vec<DerivedStateChange>,
    quarantined: BTreeMap<(Offset, QuarantineReader), String>,
    checkpoints: BTreeMap<Offset, Vec<u8>>,
}

impl ReferenceStore {
    fn end(&self) -> Offset {
        self.entries.len() as Offset
    }

    fn derived_state(&self) -> DerivedState {
        let mut derived_state = self.durable.clone();
        self.pending.iter().cloned().for_each(|change| derived_state.apply(change));
        derived_state
    }

    fn mark_synced(&mut self) {
        (self.durable, self.pending) = (self.derived_state(), Vec::new());
    }

    /// Restores the deduplication window from the retained journal entries, as a start does.
    fn restore_dedup_window(&mut self) {
        let first = self.end().saturating_sub(DEDUP_WINDOW_ENTRIES as Offset).max(self.first_offset);
        let id = |(offset, entry): (Offset, &Entry)| Some((offset, entry.as_event()?.event_id.clone()?));
        self.ids = (0..).zip(&self.entries).filter(|(offset, _)| *offset >= first).filter_map(id).collect();
    }
}

/// Deduplication window, in entries.
const DEDUP_WINDOW_ENTRIES: usize = 40;
/// Number of checkpoints to keep.
const KEPT_CHECKPOINTS: usize = 2;

/// A store and its reference model.
struct StoreAndReference {
    dir: tempfile::TempDir,
    /// Temporary directory for backups, outside the data directory.
    backups: tempfile::TempDir,
    data: PathBuf,
    store: Store,
    committer: Committer,
    model: ReferenceStore,
    copies: usize,
}

/// Creates a temporary directory, in memory if possible. These tests cannot observe whether data
/// was synced, and syncs to a disk would take most of their time.
fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(data: &Path) -> (Store, Committer) {
    let store = Store::open(data, &StoreOptions::default()).unwrap();
    let settings = CommitterSettings {
        durability: Durability::ProcessCrash,
        dedup_window: DEDUP_WINDOW_ENTRIES,
        ..CommitterSettings::default()
    };
    (store.clone(), Committer::open(store, settings).unwrap())
}

impl StoreAndReference {
    fn new() -> Self {
        let dir = temp_dir();
        let data = dir.path().join("data");
        let (store, committer) = open(&data);
        Self { dir, backups: temp_dir(), data, store, committer, model: ReferenceStore::default(), copies: 0 }
    }

    fn offset_at(&self, index: prop::sample::Index) -> Offset {
        index.index(self.model.entries.len() + 1) as Offset
    }

    /// Closes the store and continues with the data in `data`.
    fn reopen_at(self, data: PathBuf) -> Self {
        let Self { dir, backups, store, committer, mut model, copies, .. } = self;
        drop(committer);
        store.close().unwrap();
        let (store, committer) = open(&data);
        model.restore_dedup_window();
        Self { dir, backups, data, store, committer, model, copies }
    }

    fn apply(mut self, operation: ModelTestOp) -> Self {
        match operation {
            ModelTestOp::Commit(requests) => self.commit(requests),
            ModelTestOp::PersistIndexes(prepare_for_shutdown) => {
                if prepare_for_shutdown {
                    self.committer.prepare_for_shutdown()
                } else {
                    self.committer.persist_indexes()
                }
                .unwrap();
                let (names, end) = (self.model.items.clone(), self.model.end());
                self.model.pending.extend([DerivedStateChange::Names(names), DerivedStateChange::ItemsThrough(end)]);
            }
            ModelTestOp::Put(users) => {
                let through = self.model.end();
                let record = |length: u16| SessionRecord {
                    applied_through: through,
                    sequence: UserSequence::default(),
                    // The hidden state has at least one byte, because the store removes empty
                    // records.
                    hidden_state: vec![length as u8; usize::from(length).max(1)],
                };
                let records: Vec<_> =
                    users.into_iter().map(|(user, length)| (format!("user-{user}"), record(length))).collect();
                self.store
                    .sessions()
                    .put(records.iter().map(|(user, record)| (user.as_str(), record)), through)
                    .unwrap();
                self.model
                    .pending
                    .extend(records.into_iter().map(|(user, record)| DerivedStateChange::Session(user, Some(record))));
                self.model.pending.push(DerivedStateChange::SessionsThrough(through));
            }
            ModelTestOp::RemoveStale(last) => {
                let before = self.model.end().saturating_sub(last.into());
                assert_eq!(
                    self.store.sessions().remove_stale_records(before, None, 100).unwrap().is_some(),
                    !self.model.derived_state().sessions.is_empty()
                );
                let removed = self
                    .model
                    .derived_state()
                    .sessions
                    .into_iter()
                    .filter(|(_, record)| record.applied_through <= before);
                self.model.pending.extend(removed.map(|(user, _)| DerivedStateChange::Session(user, None)));
            }
            ModelTestOp::Quarantine(index, learner) => {
                let (offset, reader) = (
                    self.offset_at(index),
                    if learner { QuarantineReader::Learner } else { QuarantineReader::Session },
                );
                let reason = format!("noted when there were {} entries", self.model.end());
                self.store.quarantine().put(&QuarantinedEntry { offset, reader, reason: reason.clone() }).unwrap();
                self.model.quarantined.insert((offset, reader), reason);
                self.model.mark_synced();
            }
            ModelTestOp::Checkpoint(index, length) => {
                let (offset, payload) = (self.offset_at(index), vec![length as u8; length.into()]);
                let fill = |file: &mut CheckpointWriter| {
                    file.write_all(&payload).map_err(StoreError::io("writing", Path::new("")))
                };
                self.store.checkpoints(KEPT_CHECKPOINTS).unwrap().write(offset, fill).unwrap();
                self.model.checkpoints.insert(offset, payload);
                let mut checkpoints = std::mem::take(&mut self.model.checkpoints);
                let later = checkpoints.split_off(&(offset + 1));
                let newest =
                    |checkpoints: BTreeMap<Offset, Vec<u8>>| checkpoints.into_iter().rev().take(KEPT_CHECKPOINTS);
                self.model.checkpoints = newest(checkpoints).chain(newest(later)).collect();
            }
            ModelTestOp::Drop(index) => {
                // A start reads the entries after the watermark of the item names, so only earlier
                // entries may be dropped.
                let floor = self.offset_at(index).min(self.model.derived_state().items_through);
                let first_offset = self.store.journal().drop_before(floor).unwrap();
                assert!(
                    first_offset >= self.model.first_offset && first_offset <= floor.max(self.model.first_offset),
                    "{floor}: {first_offset}"
                );
                if first_offset > self.model.first_offset {
                    self.model.mark_synced();
                }
                self.model.first_offset = first_offset;
            }
            ModelTestOp::Compact => {
                self.store.compact(&mut |_, _| ControlFlow::Continue(())).unwrap().unwrap();
                self.model.mark_synced();
            }
            ModelTestOp::CancelCompaction => {
                // A small store may be copied completely before `observe` is called for the first
                // time. The compaction then succeeds.
                if self.store.compact(&mut |_, _| ControlFlow::Break(())).unwrap().is_some() {
                    self.model.mark_synced();
                }
            }
            ModelTestOp::Restore(as_file) => {
                self.copies += 1;
                let backup = self.backups.path().join(format!("backup-{}", self.copies));
                let restored = self.dir.path().join(format!("restored-{}", self.copies));
                let backup = if as_file { backup.with_extension("tar.gz") } else { backup };
                self.store.backup(&backup, &mut |_, _| {}).unwrap();
                restore::<_, StoreError>(&backup, &restored, &StoreOptions::default(), |_| Ok(())).unwrap();
                self.model.mark_synced();
                // A backup contains only the newest checkpoint.
                let older = self.model.checkpoints.len().saturating_sub(1);
                self.model.checkpoints = std::mem::take(&mut self.model.checkpoints).into_iter().skip(older).collect();
                let mut restored = self.reopen_at(restored);
                restored.compare_with_model();
                return restored;
            }
            ModelTestOp::Reopen => {
                self.store.reopen().unwrap();
                self.model.mark_synced();
                self.compare_with_model();
            }
            ModelTestOp::Close => {
                self.model.mark_synced();
                let data = self.data.clone();
                let mut closed = self.reopen_at(data);
                closed.compare_with_model();
                return closed;
            }
            ModelTestOp::Crash => {
                // A crash leaves the files as they are now, so a copy of the files stands for the
                // state after a crash.
                let files = temp_dir();
                copy_files(&self.data, files.path());
                let data = files.path().to_owned();
                let mut crashed = self.reopen_at(data);
                crashed.dir = files;
                crashed.match_surviving_writes();
                crashed.compare_with_model();
                return crashed;
            }
        }
        self
    }

    fn commit(&mut self, requests: Vec<Vec<(u8, u8, Option<u8>)>>) {
        let event = |&(user, item, id): &(u8, u8, Option<u8>)| {
            named_event(id.map(|id| format!("id-{id}")), &format!("user-{user}"), Some(&format!("item-{item}")))
        };
        let requests: Vec<Vec<_>> = requests.iter().map(|request| request.iter().map(event).collect()).collect();
        let (receipts, committed) = self.committer.commit(requests.clone()).unwrap();
        let (model, mut new_ids) = (&mut self.model, Vec::new());
        assert_eq!(committed.first, model.end());
        for (request, receipt) in requests.into_iter().zip(receipts) {
            let mut expected = CommitReceipt {
                accepted: 0,
                duplicates: Vec::new(),
                withheld: Vec::new(),
                rejected: Vec::new(),
                offset: 0,
            };
            for (index, entry) in request.into_iter().enumerate() {
                let Entry::Event(event) = &entry else { unreachable!("only events are committed") };
                if let Some(id) = &event.event_id {
                    if model.ids.iter().chain(&new_ids).any(|(_, seen)| seen == id) {
                        expected.duplicates.push(index);
                        continue;
                    }
                    new_ids.push((model.entries.len() as Offset, id.clone()));
                }
                let item = event.item_id.clone().unwrap();
                if !model.items.contains(&item) {
                    model.items.push(item);
                }
                expected.accepted += 1;
                model.entries.push(entry);
            }
            expected.offset = model.end();
            assert_eq!(receipt, expected);
        }
        model.ids.extend(new_ids);
        let end = model.end();
        model.ids.retain(|(offset, _)| *offset >= end.saturating_sub(DEDUP_WINDOW_ENTRIES as Offset));
    }

    /// Finds out how many of the unsynced writes survived a crash. A crash may lose the latest
    /// writes, but no write between two surviving ones.
    fn match_surviving_writes(&mut self) {
        let found = DerivedState::read_from_store(&self.store);
        let mut expected = self.model.durable.clone();
        let mut pending = std::mem::take(&mut self.model.pending).into_iter();
        while expected != found {
            let Some(change) = pending.next() else {
                panic!("{found:?}\nis not the synced state {:?} plus a prefix of the later writes", self.model.durable)
            };
            expected.apply(change);
        }
        self.model.durable = found;
    }

    /// Compares everything that the store returns with the model.
    fn compare_with_model(&mut self) {
        let (store, model) = (&self.store, &self.model);
        assert_eq!(
            (store.journal().first_offset().unwrap(), store.journal().next_offset().unwrap()),
            (model.first_offset, model.end())
        );
        let entries: Vec<_> = store.journal().entries(model.first_offset).unwrap().map(Result::unwrap).collect();
        let expected: Vec<_> = (0..).zip(model.entries.iter().cloned()).skip(model.first_offset as usize).collect();
        assert_eq!(entries, expected);
        assert_eq!(DerivedState::read_from_store(store), model.derived_state());
        let quarantined = store.quarantine().all().unwrap();
        let quarantined: BTreeMap<_, _> = quarantined
            .into_iter()
            .map(|quarantined| ((quarantined.offset, quarantined.reader), quarantined.reason))
            .collect();
        assert_eq!(quarantined, model.quarantined);
        let checkpoints = store.checkpoints(KEPT_CHECKPOINTS).unwrap();
        let read = |offset: Offset| {
            let (mut payload, mut reader) = (Vec::new(), checkpoints.open_newest(offset).unwrap().unwrap());
            reader.read_to_end(&mut payload).unwrap();
            (reader.offset(), payload)
        };
        let found: BTreeMap<_, _> = checkpoints.offsets().unwrap().into_iter().map(read).collect();
        assert_eq!(found, model.checkpoints);
        let dictionary = self.committer.dictionary();
        let items: Vec<_> =
            (0..dictionary.len()).map(|number| dictionary.name(number as u32).unwrap().to_string()).collect();
        assert_eq!(items, model.items);
        store.check_journal_end().unwrap();
    }
}

fn run_operations(operations: Vec<ModelTestOp>) {
    let mut pair = StoreAndReference::new();
    for operation in operations.into_iter().chain([ModelTestOp::Crash, ModelTestOp::Close]) {
        pair = pair.apply(operation);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_operations_matches_the_model(operations in arbitrary_operations()) {
        run_operations(operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    #[ignore = "takes minutes"]
    fn many_sequences_of_operations_match_the_model(operations in arbitrary_operations()) {
        run_operations(operations);
    }
}
