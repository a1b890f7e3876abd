//! Stores purges, and removes purged journal entries. A purge is a journal entry that removes the
//! earlier events and merges of an origin.

use rustc_hash::FxHashSet;

use super::erasure_tree::PendingTask;
use super::removal_records::removal_key;
use super::{Durability, Store, StoreError, envelope};
use crate::domain::{Entry, Offset, Origin, Purge};

/// Key prefix of a purge in progress. The offset of the purge's journal entry follows, big-endian.
const IN_PROGRESS_PREFIX: u8 = b'p';
/// Key of the number of finished purges.
const FINISHED_COUNT_KEY: &[u8] = b"n";

/// The purges of a store, in the same tree as the erasures: `p ‖ offset → envelope(purge)` for
/// purges in progress, and `n → envelope(count: u64)` for the number of finished purges whose
/// entries the derived state still contains.
#[derive(Debug, Clone)]
pub struct PurgeTree {
    store: Store,
}

/// Numbers of the entries that a purge removes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgedEntryCounts {
    /// Events.
    pub events: u64,
    /// Merges.
    pub merges: u64,
    /// Users of these events and merges.
    pub users: u64,
}

/// The outcome of a purge.
#[derive(Debug, Default)]
pub struct PurgeSummary {
    /// Numbers of removed entries.
    pub removed: PurgedEntryCounts,
    /// The ids of the removed events.
    pub event_ids: Vec<String>,
}

impl PurgeTree {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Records that the purge whose journal entry has the offset `offset` is in progress. The write
    /// becomes durable with the next commit or [`Store::sync`].
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn record_begun(&self, offset: Offset, purge: &Purge) -> Result<(), StoreError> {
        self.store.put_removal(IN_PROGRESS_PREFIX, offset, purge)
    }

    /// The purges in progress with the offsets of their journal entries, in journal order.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn in_progress(&self) -> Result<Vec<(Offset, Purge)>, StoreError> {
        self.store.removals_in_progress(IN_PROGRESS_PREFIX)
    }

    /// Number of finished purges since the derived state was last computed from the journal. If it
    /// is above 0, sessions and the learned state contain entries that the journal lacks.
    ///
    /// # Errors
    /// [`StoreError::DamagedValue`] for a damaged value, or any database error.
    pub fn finished_count(&self) -> Result<u64, StoreError> {
        let engine = self.store.engine()?;
        let stored = engine.get(&engine.erasures, FINISHED_COUNT_KEY)?;
        stored.map_or(Ok(0), |value| envelope::open_offset("erasures", FINISHED_COUNT_KEY, &value))
    }

    /// Sets the number of finished purges. A copy of a store gets it from the original.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub(super) fn set_finished_count(&self, count: u64) -> Result<(), StoreError> {
        let engine = self.store.lock_for_writing()?;
        engine.insert(&engine.erasures, FINISHED_COUNT_KEY, envelope::seal_offset(FINISHED_COUNT_KEY, count))
    }

    /// Durably records that purges are finished. Also marks a compaction and unlearning as pending:
    /// the database's files and the learned state still contain the removed entries.
    ///
    /// # Errors
    /// Any I/O or database error.
    pub fn record_finished(&self, done: &[(Offset, Purge)]) -> Result<(), StoreError> {
        self.set_finished_count(self.finished_count()? + done.len() as u64)?;
        let engine = self.store.lock_for_writing()?;
        for task in [PendingTask::Compaction, PendingTask::Unlearning] {
            engine.insert(&engine.erasures, task.task_key(), &[])?;
        }
        done.iter()
            .try_for_each(|(offset, _)| engine.remove(&engine.erasures, &removal_key(IN_PROGRESS_PREFIX, *offset)))?;
        engine.sync(Durability::PowerLoss)
    }
}

/// Whether `purge` removes an entry with this origin.
pub(super) fn is_removed_by(purge: &Purge, entry: &Entry, origin: Option<Origin>) -> bool {
    entry.can_have_origin() && origin.is_some_and(|origin| purge.selects(origin))
}

/// Counts entries and their users.
#[derive(Debug, Default)]
struct PurgeCounter {
    counts: PurgedEntryCounts,
    users: FxHashSet<String>,
}

impl PurgeCounter {
    fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Merge(_) => self.counts.merges += 1,
            _ => self.counts.events += 1,
        }
        for user in entry.user_ids().filter(|user| !self.users.contains(*user)).collect::<Vec<_>>() {
            self.users.insert(user.to_owned());
        }
    }

    fn finish(self) -> PurgedEntryCounts {
        PurgedEntryCounts { users: self.users.len() as u64, ..self.counts }
    }
}

impl Store {
    /// Counts the entries that `purge` would remove. The call reads the whole journal.
    ///
    /// # Errors
    /// Any read error.
    pub fn count_purged_entries(&self, purge: &Purge) -> Result<PurgedEntryCounts, StoreError> {
        let mut counter = PurgeCounter::default();
        for read in self.journal().entries(self.journal().first_offset()?)?.with_origins() {
            let (_, entry, origin) = read?;
            if is_removed_by(purge, &entry, origin) {
                counter.add(&entry);
            }
        }
        Ok(counter.finish())
    }

    /// Executes the purges in `due`: replaces the journal entries of their origins, and the purges'
    /// own entries, with tombstones. All derived state must already contain the last of these
    /// purges, so that no restart has to read earlier entries. The call first removes the
    /// checkpoints and restore points of earlier offsets. If the call is interrupted, the caller
    /// must repeat it.
    ///
    /// # Errors
    /// Any read or write error; the purges stay in progress.
    pub fn purge_entries(&self, due: &[(Offset, Purge)]) -> Result<PurgeSummary, StoreError> {
        let Some((last, _)) = due.last() else { return Ok(PurgeSummary::default()) };
        self.drop_learned_states_before(*last + 1)?;
        let (mut counter, mut event_ids) = (PurgeCounter::default(), Vec::new());
        let is_purged = |offset: Offset, entry: &Entry, origin: Option<Origin>| {
            due.iter().any(|(until, purge)| offset < *until && is_removed_by(purge, entry, origin))
        };
        self.journal().replace_with_tombstones(*last + 1, &mut |offset, entry, origin| {
            if matches!(entry, Entry::Purge(_)) && due.iter().any(|(purge, _)| *purge == offset) {
                return true;
            }
            let is_purged = is_purged(offset, entry, origin);
            if is_purged {
                counter.add(entry);
                event_ids.extend(entry.as_event().and_then(|event| event.event_id.clone()));
            }
            is_purged
        })?;
        self.sync(Durability::PowerLoss)?;
        self.purges().record_finished(due)?;
        Ok(PurgeSummary { removed: counter.finish(), event_ids })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{CommitRequest, Committer, CommitterSettings, StoreOptions};
    use super::*;
    use crate::domain::{Event, OriginHash, UserMerge};

    fn origin_of_key(key: u64) -> Option<Origin> {
        Some(Origin { key: OriginHash::new(key), address: OriginHash::new(9), minute: 7 })
    }

    fn event_with_id(number: u64, user: &str) -> Entry {
        let Entry::Event(like) = event(number) else { unreachable!() };
        Entry::Event(Event { user_id: user.to_owned(), event_id: Some(format!("id{number}")), ..like })
    }

    /// A crash directly after the commit of a purge loses the record that the purge is in progress.
    #[test]
    fn a_purge_that_only_the_journal_contains_is_in_progress_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let purge = Purge { key: OriginHash::new(1), address: None, since: 0, until: i64::MAX, timestamp: 10 };
        store.journal().append(&[event(0), Entry::Purge(purge.clone())], Durability::PowerLoss).unwrap();
        assert_eq!(store.purges().in_progress().unwrap(), []);
        Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        assert_eq!(store.purges().in_progress().unwrap(), [(1, purge)]);
    }

    #[test]
    fn purged_entries_become_tombstones_and_a_restart_continues_the_purge() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let open = || Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        let mut committer = open();
        let merge = Entry::Merge(UserMerge { from: "fake1".to_owned(), into: "ann".to_owned(), timestamp: 0 });
        let request = |origin, entries| CommitRequest { entries, origin, condition: None };
        let commit = |committer: &mut Committer, requests| {
            committer.commit_with_watcher(requests, &mut |sync| sync()).unwrap();
        };
        let requests = vec![
            request(origin_of_key(1), vec![event_with_id(0, "fake1"), event_with_id(1, "fake2"), merge]),
            request(origin_of_key(2), vec![event_with_id(3, "ann")]),
            request(None, vec![event_with_id(4, "bob")]),
        ];
        commit(&mut committer, requests);
        let purge = Purge { key: OriginHash::new(1), address: None, since: 0, until: i64::MAX, timestamp: 10 };
        let counts = PurgedEntryCounts { events: 2, merges: 1, users: 3 };
        assert_eq!(store.count_purged_entries(&purge).unwrap(), counts);
        let other = Purge { key: OriginHash::new(3), ..purge.clone() };
        assert_eq!(store.count_purged_entries(&other).unwrap(), PurgedEntryCounts::default());
        commit(&mut committer, vec![vec![Entry::Purge(purge.clone())].into()]);
        commit(&mut committer, vec![request(origin_of_key(1), vec![event_with_id(6, "fake3")])]);
        drop(committer);

        let mut committer = open();
        let due = store.purges().in_progress().unwrap();
        assert_eq!(due, [(5, purge)]);
        committer.persist_indexes().unwrap();
        let summary = store.purge_entries(&due).unwrap();
        assert_eq!((summary.removed, summary.event_ids.len()), (counts, 2));
        let kept: Vec<_> = store.journal().entries(0).unwrap().with_origins().map(Result::unwrap).collect();
        let tombstones: Vec<_> =
            kept.iter().filter(|(_, entry, _)| *entry == Entry::Tombstone).map(|(offset, ..)| *offset).collect();
        assert_eq!(tombstones, [0, 1, 2, 5], "events after the purge stay");
        assert_eq!([kept[3].2, kept[4].2, kept[6].2], [origin_of_key(2), None, origin_of_key(1)]);
        assert_eq!(store.purge_entries(&due).unwrap().removed, PurgedEntryCounts::default(), "a repetition");
        assert_eq!(store.purges().in_progress().unwrap(), []);
        assert!(store.erasures().is_pending(PendingTask::Unlearning).unwrap());

        let copies = tempfile::tempdir().unwrap();
        store.copy_to(&copies.path().join("copy"), &mut |_, _| {}).unwrap();
        let copy = Store::open_existing(copies.path().join("copy"), &StoreOptions::default()).unwrap();
        assert!(copy.erasures().is_pending(PendingTask::Unlearning).unwrap(), "a backup unlearns as well");
        assert_eq!(copy.purges().finished_count().unwrap(), 2);
        assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
    }
}
