//! The whole store against plain maps: sequences of everything that can be done to it, in any
//! order, with ends of every kind in between.

use super::testing::{copy_files, named_event};
use super::*;
use crate::domain::{Entry, Offset, UserSequence};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::ops::ControlFlow;

/// Something done to the store.
#[derive(Debug, Clone)]
enum ModelTestOp {
    /// Requests of events: user, item, and the number of their id if they have one.
    Commit(Vec<Vec<(u8, u8, Option<u8>)>>),
    /// Item names are stored, and the event ids too if it is to rest.
    Name(bool),
    /// Records of users are stored, with so large a hidden state.
    Put(Vec<(u8, u16)>),
    /// Users are forgotten who have nothing in the last so many entries.
    Forget(u8),
    /// An entry is passed over.
    Quarantine(prop::sample::Index, bool),
    /// A checkpoint of an offset is written.
    Checkpoint(prop::sample::Index, u16),
    /// The journal's head is dropped, at most up to an offset.
    Drop(prop::sample::Index),
    /// Disk is given back.
    Compact,
    /// A compaction is begun and broken off.
    BreakOff,
    /// A backup is made, as one file or not, and gone on with where it is restored.
    Restore(bool),
    /// The database is closed and opened again by the store itself.
    Reopen,
    /// The store is closed and opened.
    Close,
    /// The process dies.
    Die,
}

fn acts() -> impl Strategy<Value = Vec<ModelTestOp>> {
    let event = (0..6_u8, 0..30_u8, proptest::option::of(0..80_u8));
    let act = prop_oneof![
        8 => proptest::collection::vec(proptest::collection::vec(event, 0..6), 1..4).prop_map(ModelTestOp::Commit),
        2 => any::<bool>().prop_map(ModelTestOp::Name),
        4 => proptest::collection::vec((0..9_u8, 0..9000_u16), 0..6).prop_map(ModelTestOp::Put),
        1 => (0..30_u8).prop_map(ModelTestOp::Forget),
        1 => any::<(prop::sample::Index, bool)>().prop_map(|(offset, learner)| ModelTestOp::Quarantine(offset, learner)),
        2 => (any::<prop::sample::Index>(), 0..200_u16).prop_map(|(offset, length)| ModelTestOp::Checkpoint(offset, length)),
        1 => any::<prop::sample::Index>().prop_map(ModelTestOp::Drop),
        1 => Just(ModelTestOp::Compact),
        1 => Just(ModelTestOp::BreakOff),
        1 => any::<bool>().prop_map(ModelTestOp::Restore),
        1 => Just(ModelTestOp::Reopen),
        1 => Just(ModelTestOp::Close),
        2 => Just(ModelTestOp::Die),
    ];
    proptest::collection::vec(act, 1..24)
}

/// What is derived from the journal and not synced by itself.
#[derive(Debug, Clone, Default, PartialEq)]
struct ModelTestFolds {
    sessions: BTreeMap<String, SessionRecord>,
    sessions_through: Offset,
    names: Vec<String>,
    items_through: Offset,
}

/// One write to it.
#[derive(Debug, Clone)]
enum ModelTestChange {
    Session(String, Option<SessionRecord>),
    SessionsThrough(Offset),
    Names(Vec<String>),
    ItemsThrough(Offset),
}

impl ModelTestFolds {
    fn apply(&mut self, change: ModelTestChange) {
        match change {
            ModelTestChange::Session(user, Some(record)) => drop(self.sessions.insert(user, record)),
            ModelTestChange::Session(user, None) => drop(self.sessions.remove(&user)),
            ModelTestChange::SessionsThrough(through) => self.sessions_through = through,
            ModelTestChange::Names(names) => self.names = names,
            ModelTestChange::ItemsThrough(through) => self.items_through = through,
        }
    }

    fn of(store: &Store) -> Self {
        let names = store.items().load().unwrap();
        Self {
            sessions: store.sessions().iter().unwrap().map(Result::unwrap).collect(),
            sessions_through: store.sessions().watermark().unwrap(),
            names: (0..names.len()).map(|number| names.name(number as u32).unwrap().to_string()).collect(),
            items_through: store.items().watermark().unwrap(),
        }
    }
}

/// What the store should be.
#[derive(Debug, Default)]
struct ReferenceStore {
    /// All that was ever appended, by offset.
    entries: Vec<Entry>,
    begin: Offset,
    /// Every item, by number.
    items: Vec<String>,
    /// The ids that are remembered, with their offsets.
    ids: VecDeque<(Offset, String)>,
    /// What a death leaves for certain.
    durable: ModelTestFolds,
    /// What was written since, of which a death leaves the first few.
    pending: Vec<ModelTestChange>,
    quarantined: BTreeMap<(Offset, QuarantineReader), String>,
    checkpoints: BTreeMap<Offset, Vec<u8>>,
}

impl ReferenceStore {
    fn end(&self) -> Offset {
        self.entries.len() as Offset
    }

    fn folds(&self) -> ModelTestFolds {
        let mut folds = self.durable.clone();
        self.pending.iter().cloned().for_each(|change| folds.apply(change));
        folds
    }

    fn synced(&mut self) {
        (self.durable, self.pending) = (self.folds(), Vec::new());
    }

    /// A start recalls the ids of the window, as far as the journal still has them.
    fn recall_ids(&mut self) {
        let first = self.end().saturating_sub(WINDOW as Offset).max(self.begin);
        let id = |(offset, entry): (Offset, &Entry)| Some((offset, entry.as_event()?.event_id.clone()?));
        self.ids = (0..).zip(&self.entries).filter(|(offset, _)| *offset >= first).filter_map(id).collect();
    }
}

/// For how many entries an event id is remembered.
const WINDOW: usize = 40;
/// How many checkpoints are kept.
const KEPT: usize = 2;

/// A store and what it should be.
struct StoreAndReference {
    dir: tempfile::TempDir,
    data: PathBuf,
    store: Store,
    committer: Committer,
    model: ReferenceStore,
    copies: usize,
}

/// Where there is one, in memory: what a sync brings to a disk is not seen here, and waiting for it
/// takes ten times as long as all the rest.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn open(data: &Path) -> (Store, Committer) {
    let store = Store::open(data, &StoreOptions::default()).unwrap();
    let settings = CommitterSettings { durability: Durability::ProcessCrash, dedup_window: WINDOW, ..CommitterSettings::default() };
    (store.clone(), Committer::open(store, settings).unwrap())
}

impl StoreAndReference {
    fn new() -> Self {
        let dir = folder();
        let data = dir.path().join("data");
        let (store, committer) = open(&data);
        Self { dir, data, store, committer, model: ReferenceStore::default(), copies: 0 }
    }

    fn at(&self, place: prop::sample::Index) -> Offset {
        place.index(self.model.entries.len() + 1) as Offset
    }

    /// Ends this process's hold on the store and goes on with what stands in `data`.
    fn go_on(self, data: PathBuf) -> Self {
        let Self { dir, store, committer, mut model, copies, .. } = self;
        drop(committer);
        store.close().unwrap();
        let (store, committer) = open(&data);
        model.recall_ids();
        Self { dir, data, store, committer, model, copies }
    }

    fn act(mut self, act: ModelTestOp) -> Self {
        match act {
            ModelTestOp::Commit(requests) => self.commit(requests),
            ModelTestOp::Name(rests) => {
                if rests { self.committer.prepare_for_shutdown() } else { self.committer.persist_indexes() }.unwrap();
                let (names, end) = (self.model.items.clone(), self.model.end());
                self.model.pending.extend([ModelTestChange::Names(names), ModelTestChange::ItemsThrough(end)]);
            }
            ModelTestOp::Put(users) => {
                let through = self.model.end();
                let record = |length: u16| SessionRecord {
                    applied_through: through,
                    sequence: UserSequence::default(),
                    // A record of nothing at all is removed.
                    hidden_state: vec![length as u8; usize::from(length).max(1)],
                };
                let records: Vec<_> = users.into_iter().map(|(user, length)| (format!("user-{user}"), record(length))).collect();
                self.store.sessions().put(records.iter().map(|(user, record)| (user.as_str(), record)), through).unwrap();
                self.model.pending.extend(records.into_iter().map(|(user, record)| ModelTestChange::Session(user, Some(record))));
                self.model.pending.push(ModelTestChange::SessionsThrough(through));
            }
            ModelTestOp::Forget(last) => {
                let before = self.model.end().saturating_sub(last.into());
                assert_eq!(
                    self.store.sessions().remove_stale(before, None, 100).unwrap().is_some(),
                    !self.model.folds().sessions.is_empty()
                );
                let gone = self.model.folds().sessions.into_iter().filter(|(_, record)| record.applied_through <= before);
                self.model.pending.extend(gone.map(|(user, _)| ModelTestChange::Session(user, None)));
            }
            ModelTestOp::Quarantine(place, learner) => {
                let (offset, reader) = (self.at(place), if learner { QuarantineReader::Learner } else { QuarantineReader::Session });
                let reason = format!("noted when there were {} entries", self.model.end());
                self.store.quarantine().put(&QuarantinedEntry { offset, reader, reason: reason.clone() }).unwrap();
                self.model.quarantined.insert((offset, reader), reason);
                self.model.synced();
            }
            ModelTestOp::Checkpoint(place, length) => {
                let (offset, payload) = (self.at(place), vec![length as u8; length.into()]);
                let fill = |file: &mut CheckpointWriter| file.write_all(&payload).map_err(StoreError::io("writing", Path::new("")));
                self.store.checkpoints(KEPT).unwrap().write(offset, fill).unwrap();
                self.model.checkpoints.insert(offset, payload);
                let mut checkpoints = std::mem::take(&mut self.model.checkpoints);
                let others = checkpoints.split_off(&(offset + 1));
                let newest = |checkpoints: BTreeMap<Offset, Vec<u8>>| checkpoints.into_iter().rev().take(KEPT);
                self.model.checkpoints = newest(checkpoints).chain(newest(others)).collect();
            }
            ModelTestOp::Drop(place) => {
                // Never beyond what a start still has to fold.
                let floor = self.at(place).min(self.model.folds().items_through);
                let begin = self.store.journal().drop_before(floor).unwrap();
                assert!(begin >= self.model.begin && begin <= floor.max(self.model.begin), "{floor}: {begin}");
                if begin > self.model.begin {
                    self.model.synced();
                }
                self.model.begin = begin;
            }
            ModelTestOp::Compact => {
                self.store.compact(&mut |_, _| ControlFlow::Continue(())).unwrap().unwrap();
                self.model.synced();
            }
            ModelTestOp::BreakOff => {
                // So small a store may be copied before anybody asks.
                if self.store.compact(&mut |_, _| ControlFlow::Break(())).unwrap().is_some() {
                    self.model.synced();
                }
            }
            ModelTestOp::Restore(as_file) => {
                self.copies += 1;
                let [backup, restored] = ["backup", "restored"].map(|name| self.dir.path().join(format!("{name}-{}", self.copies)));
                let backup = if as_file { backup.with_extension("tar.gz") } else { backup };
                self.store.backup(&backup, &mut |_, _| {}).unwrap();
                restore::<_, StoreError>(&backup, &restored, &StoreOptions::default(), |_| Ok(())).unwrap();
                self.model.synced();
                // The newest is all that a backup needs.
                let older = self.model.checkpoints.len().saturating_sub(1);
                self.model.checkpoints = std::mem::take(&mut self.model.checkpoints).into_iter().skip(older).collect();
                let mut restored = self.go_on(restored);
                restored.check();
                return restored;
            }
            ModelTestOp::Reopen => {
                self.store.reopen().unwrap();
                self.model.synced();
                self.check();
            }
            ModelTestOp::Close => {
                self.model.synced();
                let data = self.data.clone();
                let mut closed = self.go_on(data);
                closed.check();
                return closed;
            }
            ModelTestOp::Die => {
                // A copy of the files is what a process that died now would leave.
                let left = folder();
                copy_files(&self.data, left.path());
                let data = left.path().to_owned();
                let mut died = self.go_on(data);
                died.dir = left;
                died.find_what_was_left();
                died.check();
                return died;
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
        let before = model.entries.len();
        for (request, receipt) in requests.into_iter().zip(receipts) {
            let mut expected = CommitReceipt { accepted: 0, duplicates: Vec::new(), withheld: Vec::new(), offset: 0 };
            for (place, entry) in request.into_iter().enumerate() {
                let Entry::Event(event) = &entry else { unreachable!("only events are committed") };
                if let Some(id) = &event.event_id {
                    if model.ids.iter().chain(&new_ids).any(|(_, seen)| seen == id) {
                        expected.duplicates.push(place);
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
        model.ids.retain(|(offset, _)| *offset >= end.saturating_sub(WINDOW as Offset));
        if model.entries.len() > before {
            model.synced();
        }
    }

    /// Of the writes that no sync had covered, a death leaves the first few, without any hole.
    fn find_what_was_left(&mut self) {
        let found = ModelTestFolds::of(&self.store);
        let mut expected = self.model.durable.clone();
        let mut pending = std::mem::take(&mut self.model.pending).into_iter();
        while expected != found {
            let Some(change) = pending.next() else {
                panic!("{found:?}\nis not what was synced, {:?}, and some writes", self.model.durable)
            };
            expected.apply(change);
        }
        self.model.durable = found;
    }

    /// Everything reads as it should.
    fn check(&mut self) {
        let (store, model) = (&self.store, &self.model);
        assert_eq!((store.journal().first_offset().unwrap(), store.journal().next_offset().unwrap()), (model.begin, model.end()));
        let entries: Vec<_> = store.journal().entries(model.begin).unwrap().map(Result::unwrap).collect();
        let expected: Vec<_> = (0..).zip(model.entries.iter().cloned()).skip(model.begin as usize).collect();
        assert_eq!(entries, expected);
        assert_eq!(ModelTestFolds::of(store), model.folds());
        let noted = store.quarantine().all().unwrap();
        let noted: BTreeMap<_, _> = noted.into_iter().map(|noted| ((noted.offset, noted.reader), noted.reason)).collect();
        assert_eq!(noted, model.quarantined);
        let checkpoints = store.checkpoints(KEPT).unwrap();
        let read = |offset: Offset| {
            let (mut payload, mut reader) = (Vec::new(), checkpoints.newest(offset).unwrap().unwrap());
            reader.read_to_end(&mut payload).unwrap();
            (reader.offset(), payload)
        };
        let found: BTreeMap<_, _> = checkpoints.offsets().unwrap().into_iter().map(read).collect();
        assert_eq!(found, model.checkpoints);
        let dictionary = self.committer.dictionary();
        let items: Vec<_> = (0..dictionary.len()).map(|number| dictionary.name(number as u32).unwrap().to_string()).collect();
        assert_eq!(items, model.items);
        store.check_journal_end().unwrap();
    }
}

fn hold(acts: Vec<ModelTestOp>) {
    let mut pair = StoreAndReference::new();
    for act in acts.into_iter().chain([ModelTestOp::Die, ModelTestOp::Close]) {
        pair = pair.act(act);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_done_in_whatever_order_it_is_what_maps_are(acts in acts()) {
        hold(acts);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 400, ..ProptestConfig::default() })]
    #[test]
    #[ignore = "takes minutes"]
    fn whatever_is_done_for_long_it_is_what_maps_are(acts in acts()) {
        hold(acts);
    }
}
