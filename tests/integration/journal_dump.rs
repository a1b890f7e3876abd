//! What a data directory holds, read as a start would read it, and held against what must always
//! hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use sequor::actors::session::{SessionOp, SessionUpdate};
use sequor::domain::{Entry, Event, EventKinds, Item, ItemChange, ItemDictionary, ItemOperation, UserSequence};
use sequor::learner::SequenceParams;
use sequor::store::{Durability, Store, StoreOptions};

/// Copies a directory, with all that is in it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The journal of a data directory.
pub(crate) struct JournalDump {
    pub(crate) entries: Vec<Entry>,
}

impl JournalDump {
    /// Reads what a daemon would find that started on this directory now, without touching it; and
    /// asserts that every stored session is a fold of the journal.
    pub(crate) fn read(data: &Path) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for entry in data.read_dir().unwrap() {
            let entry = entry.unwrap();
            // One that took the place of another while that was being read, or was about to, stands
            // beside it.
            if entry.file_name().to_string_lossy().starts_with("store") {
                copy_dir(&entry.path(), &copy.path().join(entry.file_name()));
            }
        }
        let store = Store::open(copy.path(), &StoreOptions::default()).unwrap();
        let entries = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
        let ledger = Self { entries };
        ledger.assert_sessions_are_folds(&store);
        ledger
    }

    /// Every record is the fold of its user's events before the offset that it names, and nobody's
    /// record ends before the offset that all are said to reach.
    fn assert_sessions_are_folds(&self, store: &Store) {
        let through = store.sessions().watermark().unwrap();
        assert!(through <= self.entries.len() as u64, "the sessions reach {through}, the journal {}", self.entries.len());
        let mut records: HashMap<_, _> = store.sessions().iter().unwrap().map(Result::unwrap).collect();
        // Of each user what the record reaches, and all.
        let mut folds: BTreeMap<String, [UserSequence; 2]> = BTreeMap::new();
        let (mut merged, mut behind) = (HashSet::new(), Vec::new());
        for (user, SessionUpdate { offset, op: act }) in self.happened() {
            let reached = offset < records.get(&user).map_or(0, |record| record.applied_through);
            if !reached && offset < through {
                behind.push((user.clone(), offset));
            }
            let gone = match &act {
                SessionOp::Merge { from, .. } => {
                    merged.insert(from.clone());
                    folds.get(from).map(|[_, whole]| whole.clone()).unwrap_or_default()
                }
                SessionOp::Step { .. } | SessionOp::Forget => UserSequence::default(),
            };
            for session in folds.entry(user).or_default().iter_mut().skip(usize::from(!reached)) {
                let idle_gap_ms = SequenceParams::default().idle_gap_ms;
                match &act {
                    SessionOp::Step { step, session_id } => drop(session.push(offset, *step, session_id.as_deref(), idle_gap_ms)),
                    SessionOp::Merge { .. } => session.merge(&gone, idle_gap_ms),
                    SessionOp::Forget => *session = UserSequence::default(),
                }
            }
        }
        behind.retain(|(user, _)| !merged.contains(user));
        assert!(behind.is_empty(), "the sessions are said to reach {through}, but not these: {behind:?}");
        for (user, [session, _]) in folds {
            let record = records.remove(&user);
            // Of a user who was merged a record may be left or not.
            if record.is_some() || !merged.contains(&user) {
                assert_eq!(record.map(|record| record.sequence).unwrap_or_default(), session, "{user}");
            }
        }
        assert!(records.is_empty(), "of users whom the journal does not know: {records:?}");
    }

    /// What sessions take, with whose, in the order of the journal.
    fn happened(&self) -> Vec<(String, SessionUpdate)> {
        let (dictionary, kinds) = (ItemDictionary::default(), EventKinds::default());
        let mut all = Vec::new();
        for (offset, entry) in (0..).zip(&self.entries) {
            if let Entry::Event(Event { item_id: Some(item), .. }) | Entry::Item(ItemChange { item_id: item, .. }) = entry {
                dictionary.intern(item);
            }
            all.extend(SessionUpdate::from_entry(offset, entry.clone(), &dictionary, &kinds));
        }
        all
    }

    /// How often each event id stands in the journal.
    pub(crate) fn event_ids(&self) -> HashMap<&str, usize> {
        let ids = self.entries.iter().filter_map(|entry| match entry {
            Entry::Event(event) => event.event_id.as_deref(),
            _ => None,
        });
        let mut counts = HashMap::new();
        ids.for_each(|id| *counts.entry(id).or_default() += 1);
        counts
    }

    /// The prices that items were given, in order.
    pub(crate) fn prices(&self) -> Vec<f64> {
        let price = |entry: &Entry| match entry {
            Entry::Item(ItemChange { operation: ItemOperation::Put(Item { price, .. }), .. }) => *price,
            _ => None,
        };
        self.entries.iter().filter_map(price).collect()
    }

    /// Writes the journal, and nothing else, into an empty data directory: all that a start there
    /// knows it folds from these entries.
    pub(crate) fn write_to(&self, data: &Path) {
        let store = Store::open(data, &StoreOptions::default()).unwrap();
        for entries in self.entries.chunks(100) {
            store.journal().append(entries, Durability::ProcessCrash).unwrap();
        }
    }
}
