//! Erases users by replacing their journal entries with tombstones. Also copies a journal without
//! the tombstones.

use std::collections::HashMap;

use super::journal_batch::JournalBatch;
use super::{Durability, Store, StoreError};
use crate::domain::{Entry, ModelChange, ModelOperation, Offset, UserErasure};
use serde::{Deserialize, Serialize};

/// Numbers of the erased entries of one user, by kind of entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedEntryCounts {
    /// Erased events.
    pub events: u64,
    /// Erased impressions.
    pub impressions: u64,
    /// Erased merges, and changes of consent and attributes.
    pub others: u64,
}

/// The outcome of an erasure. Other components use it to remove the data that they hold of the
/// erased users.
#[derive(Debug, Default)]
pub struct ErasureSummary {
    /// Numbers of erased entries by user id.
    pub removed_by_user: HashMap<String, ErasedEntryCounts>,
    /// The ids of the erased events.
    pub event_ids: Vec<String>,
}

impl ErasedEntryCounts {
    /// Adds the numbers of entries that were erased under another id of the same user.
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.impressions += other.impressions;
        self.others += other.others;
    }
}

impl Store {
    /// Executes the erasures in `due`: replaces these users' journal entries, up to and including
    /// their erasures, with tombstones. All derived state must already contain the last of these
    /// erasures, so that no restart has to read earlier entries. The call first removes the
    /// checkpoints and restore points of earlier offsets, because they still contain the users'
    /// data. If the call is interrupted, the caller must repeat it.
    ///
    /// # Errors
    /// Any read or write error; the erasures stay in progress.
    pub fn erase_users(&self, due: &[(Offset, UserErasure)]) -> Result<ErasureSummary, StoreError> {
        let Some((last, _)) = due.last() else { return Ok(ErasureSummary::default()) };
        let until: HashMap<&str, Offset> =
            due.iter().map(|(offset, erasure)| (erasure.user_id.as_str(), *offset)).collect();
        self.drop_learned_states_before(*last + 1)?;
        let mut summary = ErasureSummary::default();
        self.journal().replace_with_tombstones(*last + 1, &mut |offset, entry, _| {
            let is_erased = |user: &str| until.get(user).is_some_and(|until| offset <= *until);
            let Some(user) = entry.user_ids().find(|user| is_erased(user)) else { return false };
            let counts = summary.removed_by_user.entry(user.to_owned()).or_default();
            match entry {
                Entry::Event(event) | Entry::Private(event) => {
                    counts.events += 1;
                    summary.event_ids.extend(event.event_id.clone());
                }
                Entry::Impression(_) => counts.impressions += 1,
                Entry::Erase(_) => {}
                _ => counts.others += 1,
            }
            true
        })?;
        self.sync(Durability::PowerLoss)?;
        self.erasures().record_finished(due)?;
        Ok(summary)
    }
}

/// Maps the offsets of a journal to the offsets of a copy without tombstones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetShift {
    /// The next offset of the original journal to copy.
    next: Offset,
    /// The offsets of the tombstones among the copied entries. The copy omits these tombstones.
    blanks: Vec<Offset>,
}

impl OffsetShift {
    /// The offset in the copy of an entry of the original journal. For a tombstone, returns the
    /// offset of the next copied entry.
    #[must_use]
    pub fn map_offset(&self, offset: Offset) -> Offset {
        offset - self.blanks.partition_point(|tombstone| *tombstone < offset) as Offset
    }

    /// Records that the entries up to offset `end` were copied and contain no tombstone.
    pub fn advance_to(&mut self, end: Offset) {
        self.next += end.saturating_sub(self.map_offset(self.next));
    }
}

/// Number of entries that are copied as one journal record.
const ENTRIES_PER_RECORD: usize = 1024;

impl Store {
    /// Appends the entries before `to` that are not copied yet to the journal of `copy`, without
    /// tombstones. If an entry refers to an offset, the copied entry refers to the corresponding
    /// offset of the copy.
    ///
    /// # Errors
    /// Any error of reading this journal or writing the copy.
    pub fn copy_without_tombstones(&self, copy: &Self, shift: &mut OffsetShift, to: Offset) -> Result<(), StoreError> {
        let mut batch = JournalBatch::with_capacity(ENTRIES_PER_RECORD);
        let entries = self.journal().entries(shift.next.max(self.journal().first_offset()?))?;
        let mut entries = entries.with_origins().peekable();
        while let Some(read) = entries.next() {
            let (offset, mut entry, origin) = read?;
            if offset >= to {
                break;
            }
            shift.next = offset + 1;
            if let Entry::Model(ModelChange { operation: ModelOperation::Rollback { to }, .. }) = &mut entry {
                *to = shift.map_offset(*to);
            }
            if entry == Entry::Tombstone {
                shift.blanks.push(offset);
            } else {
                batch.push(entry, origin);
            }
            if batch.entries.len() >= ENTRIES_PER_RECORD || entries.peek().is_none() {
                copy.journal().append_batch(&batch, Durability::ProcessCrash)?;
                batch.clear();
            }
        }
        copy.journal().append_batch(&batch, Durability::ProcessCrash).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Committer, CommitterSettings, StoreOptions};
    use super::*;
    use crate::domain::{Event, UserMerge};

    fn event_of_user(user: &str, id: u64) -> Entry {
        let Entry::Event(like) = event(id) else { unreachable!() };
        Entry::Event(Event { user_id: user.to_owned(), event_id: Some(format!("{user}-{id}")), ..like })
    }

    fn files_contain(dir: &std::path::Path, wanted: &str) -> bool {
        let mut found = false;
        for entry in dir.read_dir().unwrap() {
            let path = entry.unwrap().path();
            found |= if path.is_dir() {
                files_contain(&path, wanted)
            } else {
                std::fs::read(&path).unwrap().windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes())
            };
        }
        found
    }

    #[test]
    fn an_erased_user_leaves_no_bytes_and_others_are_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let store = open();
        let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        let merge = Entry::Merge(UserMerge {
            from: "anonymous-7".to_owned(),
            into: "ann@example.org".to_owned(),
            timestamp: 0,
        });
        let mut entries = vec![
            event_of_user("anonymous-7", 1),
            event_of_user("bob", 2),
            merge,
            event_of_user("anonymous-7", 3),
            event_of_user("ann@example.org", 4),
        ];
        entries.extend((5..400).map(|id| event_of_user("bob", id)));
        committer.commit(vec![entries]).unwrap();
        let erase = |user: &str| Entry::Erase(UserErasure { user_id: user.to_owned(), unlearn: false, timestamp: 7 });
        let (receipts, committed) =
            committer.commit(vec![vec![erase("anonymous-7"), event_of_user("anonymous-7", 500)]]).unwrap();
        assert_eq!(receipts[0].accepted, 2);
        let erased: Vec<_> = committed
            .entries
            .iter()
            .filter_map(|one| if let Entry::Erase(one) = &one.entry { Some(one.user_id.as_str()) } else { None })
            .collect();
        assert_eq!(erased, ["ann@example.org", "anonymous-7"], "ids that were merged into the user are erased, too");
        let returned = committed.entries.last().unwrap();
        assert_eq!(returned.entry.as_event().unwrap().user_id, "anonymous-7", "a new user");

        // However the daemon stopped, the next start finds the pending erasures.
        drop(committer);
        let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        let due = store.erasures().in_progress().unwrap();
        assert_eq!(due.len(), 2);
        committer.persist_indexes().unwrap();
        let before: Vec<_> = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
        let summary = store.erase_users(&due).unwrap();
        assert_eq!(summary.removed_by_user["anonymous-7"], ErasedEntryCounts { events: 1, impressions: 0, others: 1 });
        assert_eq!(
            summary.removed_by_user["ann@example.org"],
            ErasedEntryCounts { events: 2, impressions: 0, others: 0 }
        );
        committer.remove_event_ids(summary.event_ids.iter().map(String::as_str));
        let after: Vec<_> = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
        let tombstones = [0, 2, 3, 4, 400, 401];
        for (index, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_eq!(after, if tombstones.contains(&index) { &Entry::Tombstone } else { before }, "{index}");
        }
        assert_eq!(
            committer.commit(vec![vec![event_of_user("ann@example.org", 4)]]).unwrap().0[0].accepted,
            1,
            "its event id was removed from the window"
        );
        assert_eq!(store.erasures().in_progress().unwrap(), []);
        let due = committer.commit(vec![vec![erase("ann@example.org")]]).unwrap().1.first;
        assert_eq!(store.erasures().in_progress().unwrap()[0].0, due);
        committer.persist_indexes().unwrap();
        store.erase_users(&store.erasures().in_progress().unwrap()).unwrap();

        drop(committer);
        store.compact(&mut |_, _| std::ops::ControlFlow::Continue(())).unwrap().unwrap();
        store.close().unwrap();
        assert!(!files_contain(dir.path(), "ann@example.org"));
        assert!(files_contain(dir.path(), "bob"));
        let store = open();
        assert_eq!(Committer::open(store.clone(), CommitterSettings::default()).unwrap().aliases().len(), 0);
        assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
    }
}
