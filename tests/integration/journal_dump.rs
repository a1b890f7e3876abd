//! Reads a data directory as a starting daemon would, and checks its invariants.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use sequor::actors::session::{SessionOp, SessionUpdate};
use sequor::domain::{
    AttributeValue, AttributesPatch, Entry, Event, EventKinds, Item, ItemChange, ItemOperation, UserAttributesChange,
    UserSequence,
};
use sequor::learner::SequenceParams;
use sequor::registries::ItemDictionary;
use sequor::store::{Durability, Store, StoreOptions};

/// Copies a directory recursively.
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
    /// Reads the journal that a daemon started on this directory would find, from a copy. Asserts
    /// that every stored session agrees with the journal.
    pub(crate) fn read_from_copy(data: &Path) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for entry in data.read_dir().unwrap() {
            let entry = entry.unwrap();
            // During a compaction there can be more than one database directory.
            if entry.file_name().to_string_lossy().starts_with("store") {
                copy_dir(&entry.path(), &copy.path().join(entry.file_name()));
            }
        }
        let store = Store::open(copy.path(), &StoreOptions::default()).unwrap();
        let entries = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
        let dump = Self { entries };
        dump.assert_sessions_match_journal(&store);
        dump
    }

    /// Asserts that every record equals the user's events before its offset, applied in order, and
    /// that no record ends before the watermark.
    fn assert_sessions_match_journal(&self, store: &Store) {
        let watermark = store.sessions().watermark().unwrap();
        assert!(
            watermark <= self.entries.len() as u64,
            "the sessions reach {watermark}, the journal {}",
            self.entries.len()
        );
        let mut records: HashMap<_, _> = store.sessions().iter().unwrap().map(Result::unwrap).collect();
        // For each user: the sequence up to the offset of the user's record, and the whole
        // sequence.
        let mut sequences: BTreeMap<String, [UserSequence; 2]> = BTreeMap::new();
        let (mut merged, mut missing) = (HashSet::new(), Vec::new());
        for (user, SessionUpdate { offset, op }) in self.session_updates() {
            let is_applied = offset < records.get(&user).map_or(0, |record| record.applied_through);
            if !is_applied && offset < watermark {
                missing.push((user.clone(), offset));
            }
            let source = match &op {
                SessionOp::Merge { from, .. } => {
                    merged.insert(from.clone());
                    sequences.get(from).map(|[_, whole]| whole.clone()).unwrap_or_default()
                }
                SessionOp::Step { .. } | SessionOp::Forget => UserSequence::default(),
            };
            for session in sequences.entry(user).or_default().iter_mut().skip(usize::from(!is_applied)) {
                let idle_gap_ms = SequenceParams::default().idle_gap_ms;
                match &op {
                    SessionOp::Step { step, session_id } => {
                        session.push(offset, *step, session_id.as_deref(), idle_gap_ms);
                    }
                    SessionOp::Merge { .. } => session.merge(&source, idle_gap_ms),
                    SessionOp::Forget => *session = UserSequence::default(),
                }
            }
        }
        missing.retain(|(user, _)| !merged.contains(user));
        assert!(missing.is_empty(), "the watermark is {watermark}, but these updates are missing: {missing:?}");
        for (user, [session, _]) in sequences {
            let record = records.remove(&user);
            // A merged user's record may or may not remain.
            if record.is_some() || !merged.contains(&user) {
                assert_eq!(record.map(|record| record.sequence).unwrap_or_default(), session, "{user}");
            }
        }
        assert!(records.is_empty(), "records of unknown users: {records:?}");
    }

    /// The session updates by user, in journal order.
    fn session_updates(&self) -> Vec<(String, SessionUpdate)> {
        let (dictionary, kinds) = (ItemDictionary::default(), EventKinds::default());
        let mut all = Vec::new();
        for (offset, entry) in (0..).zip(&self.entries) {
            if let Entry::Event(Event { item_id: Some(item), .. })
            | Entry::Private(Event { item_id: Some(item), .. })
            | Entry::Item(ItemChange { item_id: item, .. }) = entry
            {
                dictionary.intern(item);
            }
            all.extend(SessionUpdate::from_entry(offset, entry.clone(), &dictionary, &kinds));
        }
        all
    }

    /// The number of occurrences of each event id in the journal.
    pub(crate) fn event_ids(&self) -> HashMap<&str, usize> {
        let ids = self.entries.iter().filter_map(|entry| match entry {
            Entry::Event(event) => event.event_id.as_deref(),
            _ => None,
        });
        let mut counts = HashMap::new();
        ids.for_each(|id| *counts.entry(id).or_default() += 1);
        counts
    }

    /// The prices of item puts, in order.
    pub(crate) fn item_prices(&self) -> Vec<f64> {
        let price = |entry: &Entry| match entry {
            Entry::Item(ItemChange { operation: ItemOperation::Put(Item { price, .. }), .. }) => *price,
            _ => None,
        };
        self.entries.iter().filter_map(price).collect()
    }

    /// The values of the attribute `number` in the changes of users, in order.
    pub(crate) fn user_numbers(&self) -> Vec<f64> {
        let changes = self.entries.iter().filter_map(|entry| match entry {
            Entry::UserAttributes(UserAttributesChange { patch: AttributesPatch::Change(changes), .. }) => {
                Some(changes)
            }
            _ => None,
        });
        let number = |(name, value): &(Arc<str>, Option<AttributeValue>)| match value {
            Some(AttributeValue::Number(number)) if &**name == "number" => Some(*number),
            _ => None,
        };
        changes.flatten().filter_map(number).collect()
    }

    /// Writes only the journal into an empty data directory, so that a daemon there rebuilds
    /// everything else from it.
    pub(crate) fn write_journal_to(&self, data: &Path) {
        let store = Store::open(data, &StoreOptions::default()).unwrap();
        for entries in self.entries.chunks(100) {
            store.journal().append(entries, Durability::ProcessCrash).unwrap();
        }
    }
}
