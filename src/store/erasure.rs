//! Taking out of the store what is left of users who were erased.

use std::collections::HashMap;

use super::{Durability, Store, StoreError};
use crate::domain::{Entry, ModelChange, ModelOperation, Offset, UserErasure};
use serde::{Deserialize, Serialize};

/// What went with a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedEntryCounts {
    /// Events.
    pub events: u64,
    /// Lists that were shown.
    pub impressions: u64,
    /// Merges with other ids, and changes of consent.
    pub others: u64,
}

/// The outcome of an erasure, for the parts that hold more state.
#[derive(Debug, Default)]
pub struct ErasureSummary {
    /// What went, by the id.
    pub removed_by_user: HashMap<String, ErasedEntryCounts>,
    /// The ids of the events.
    pub event_ids: Vec<String>,
}

impl ErasedEntryCounts {
    /// Adds what went with another id.
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.impressions += other.impressions;
        self.others += other.others;
    }
}

impl Store {
    /// Carries out erasures that are under way: of what the journal says of those users before it
    /// says that they are to be forgotten, and of that, only blanks are left. Everything that is
    /// folded from the journal must have passed the last of them, and nothing on the disk may have
    /// to be folded from before: states of earlier offsets are removed first. May be cut short
    /// anywhere; then it is to be done again.
    ///
    /// # Errors
    /// What reading or the disk says; they stay under way.
    pub fn erase_users(&self, due: &[(Offset, UserErasure)]) -> Result<ErasureSummary, StoreError> {
        let Some((last, _)) = due.last() else { return Ok(ErasureSummary::default()) };
        let until: HashMap<&str, Offset> = due.iter().map(|(offset, erasure)| (erasure.user_id.as_str(), *offset)).collect();
        for states in [self.checkpoints_read_only(), self.restore_points_read_only()] {
            states.drop_before(*last + 1)?;
        }
        let mut blanked = ErasureSummary::default();
        self.journal().replace_with_tombstones(*last + 1, &mut |offset, entry| {
            let of = |user: &str| until.get(user).is_some_and(|until| offset <= *until);
            let Some(user) = entry.users().find(|user| of(user)) else { return false };
            let gone = blanked.removed_by_user.entry(user.to_owned()).or_default();
            match entry {
                Entry::Event(event) | Entry::Private(event) => {
                    gone.events += 1;
                    blanked.event_ids.extend(event.event_id.clone());
                }
                Entry::Impression(_) => gone.impressions += 1,
                Entry::Erase(_) => {}
                _ => gone.others += 1,
            }
            true
        })?;
        self.sync(Durability::PowerLoss)?;
        self.erasures().finish(due)?;
        Ok(blanked)
    }
}

/// Where a journal's entries stand in a copy that has no blanks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetShift {
    /// Every entry before this offset is copied.
    next: Offset,
    /// The blanks among them.
    blanks: Vec<Offset>,
}

impl OffsetShift {
    /// Where an entry stands in the copy; for a blank, what comes after it.
    #[must_use]
    pub fn map_offset(&self, offset: Offset) -> Offset {
        offset - self.blanks.partition_point(|blank| *blank < offset) as Offset
    }

    /// Takes in that the copy reaches up to `end`, with entries among which there was no blank.
    pub fn advance_to(&mut self, end: Offset) {
        self.next += end.saturating_sub(self.map_offset(self.next));
    }
}

/// Entries that are copied as one record.
const STRETCH: usize = 1024;

impl Store {
    /// Appends what stands in this journal before `to` and was not copied yet to that of a copy,
    /// but for blanks: as if what was erased had never been. What entries say of others' places is
    /// put right.
    ///
    /// # Errors
    /// What reading this journal or writing the other says.
    pub fn copy_without_tombstones(&self, copy: &Self, shift: &mut OffsetShift, to: Offset) -> Result<(), StoreError> {
        let mut batch = Vec::with_capacity(STRETCH);
        let mut entries = self.journal().entries(shift.next.max(self.journal().first_offset()?))?.peekable();
        while let Some(read) = entries.next() {
            let (offset, mut entry) = read?;
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
                batch.push(entry);
            }
            if batch.len() >= STRETCH || entries.peek().is_none() {
                copy.journal().append(&batch, Durability::ProcessCrash)?;
                batch.clear();
            }
        }
        copy.journal().append(&batch, Durability::ProcessCrash).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Committer, CommitterSettings, StoreOptions};
    use super::*;
    use crate::domain::{Event, UserMerge};

    fn by(user: &str, id: u64) -> Entry {
        let Entry::Event(like) = event(id) else { unreachable!() };
        Entry::Event(Event { user_id: user.to_owned(), event_id: Some(format!("{user}-{id}")), ..like })
    }

    fn holds(dir: &std::path::Path, wanted: &str) -> bool {
        let mut found = false;
        for entry in dir.read_dir().unwrap() {
            let path = entry.unwrap().path();
            found |= if path.is_dir() {
                holds(&path, wanted)
            } else {
                std::fs::read(&path).unwrap().windows(wanted.len()).any(|bytes| bytes == wanted.as_bytes())
            };
        }
        found
    }

    #[test]
    fn nothing_is_left_of_a_user_and_everything_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let store = open();
        let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        let merge = Entry::Merge(UserMerge { from: "anonymous-7".to_owned(), into: "ann@example.org".to_owned(), timestamp: 0 });
        let mut entries = vec![by("anonymous-7", 1), by("bob", 2), merge, by("anonymous-7", 3), by("ann@example.org", 4)];
        entries.extend((5..400).map(|id| by("bob", id)));
        committer.commit(vec![entries]).unwrap();
        let erase = |user: &str| Entry::Erase(UserErasure { user_id: user.to_owned(), unlearn: false, timestamp: 7 });
        let (receipts, committed) = committer.commit(vec![vec![erase("anonymous-7"), by("anonymous-7", 500)]]).unwrap();
        assert_eq!(receipts[0].accepted, 2);
        let erased: Vec<_> = committed
            .entries
            .iter()
            .filter_map(|one| if let Entry::Erase(one) = &one.entry { Some(one.user_id.as_str()) } else { None })
            .collect();
        assert_eq!(erased, ["ann@example.org", "anonymous-7"], "ids that were merged into the user are erased, too");
        let back = committed.entries.last().unwrap();
        assert_eq!(back.entry.as_event().unwrap().user_id, "anonymous-7", "a new user");

        // A start finds them, however it was stopped.
        drop(committer);
        let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        let due = store.erasures().in_progress().unwrap();
        assert_eq!(due.len(), 2);
        committer.persist_indexes().unwrap();
        let before: Vec<_> = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
        let blanked = store.erase_users(&due).unwrap();
        assert_eq!(blanked.removed_by_user["anonymous-7"], ErasedEntryCounts { events: 1, impressions: 0, others: 1 });
        assert_eq!(blanked.removed_by_user["ann@example.org"], ErasedEntryCounts { events: 2, impressions: 0, others: 0 });
        committer.forget_event_ids(blanked.event_ids.iter().map(String::as_str));
        let after: Vec<_> = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
        let blanks = [0, 2, 3, 4, 400, 401];
        for (place, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_eq!(after, if blanks.contains(&place) { &Entry::Tombstone } else { before }, "{place}");
        }
        assert_eq!(committer.commit(vec![vec![by("ann@example.org", 4)]]).unwrap().0[0].accepted, 1, "its id was forgotten");
        assert_eq!(store.erasures().in_progress().unwrap(), []);
        let due = committer.commit(vec![vec![erase("ann@example.org")]]).unwrap().1.first;
        assert_eq!(store.erasures().in_progress().unwrap()[0].0, due);
        committer.persist_indexes().unwrap();
        store.erase_users(&store.erasures().in_progress().unwrap()).unwrap();

        drop(committer);
        store.compact(&mut |_, _| std::ops::ControlFlow::Continue(())).unwrap().unwrap();
        store.close().unwrap();
        assert!(!holds(dir.path(), "ann@example.org"));
        assert!(holds(dir.path(), "bob"));
        let store = open();
        assert_eq!(Committer::open(store.clone(), CommitterSettings::default()).unwrap().aliases().len(), 0);
        assert_eq!(store.verify(&[], &mut |_| {}).0.damages, []);
    }
}
