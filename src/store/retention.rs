//! Retention of the journal: removes the oldest entries, which all derived state contains.

use super::{Checkpoints, Store, StoreError};
use crate::domain::{Offset, Timestamp};

/// Which part of the journal must be kept. Retention removes an entry only if both rules allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalRetention {
    /// At least this many of the journal's last entries are kept.
    pub entries: u64,
    /// A period in milliseconds that ends at the last entry's timestamp. The first entry in this
    /// period and all later entries are kept.
    pub period_ms: Option<i64>,
}

impl Store {
    /// Removes entries that neither `keep` nor derived state needs. An entry is removed only if the
    /// session records, the item names and the oldest of the `checkpoints` contain it. The entry
    /// must also lie before `learned`, the learner's offset: the checkpoints may come from a run
    /// under other settings that was ahead of the learner. Returns the new first offset of the
    /// journal.
    ///
    /// # Errors
    /// Any read or write error.
    pub fn apply_retention(
        &self,
        checkpoints: &Checkpoints,
        keep: JournalRetention,
        learned: Offset,
    ) -> Result<Offset, StoreError> {
        let journal = self.journal();
        let learned = learned.min(checkpoints.offsets()?.first().copied().unwrap_or(0));
        let keep_from = journal.next_offset()?.saturating_sub(keep.entries);
        let floor = keep_from.min(learned).min(self.sessions().watermark()?).min(self.items().watermark()?);
        journal.drop_before(keep.period_ms.map_or(Ok(floor), |period| self.first_offset_within_period(period, floor))?)
    }

    /// Returns the offset of the first entry within the period, but at most `floor`. The call reads
    /// only the entries up to the returned offset, and the last entry.
    fn first_offset_within_period(&self, period_ms: i64, floor: Offset) -> Result<Offset, StoreError> {
        let (journal, end) = (self.journal(), self.journal().next_offset()?);
        let Some((_, last)) = journal.read_entries(end.saturating_sub(1), 1)?.pop() else { return Ok(floor) };
        let cutoff: Timestamp = last.timestamp().saturating_sub(period_ms);
        for read in journal.entries(journal.first_offset()?)? {
            let (offset, entry) = read?;
            if offset >= floor || entry.timestamp() >= cutoff {
                return Ok(offset.min(floor));
            }
        }
        Ok(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Committer, CommitterSettings, Durability, StoreOptions};
    use super::*;
    use crate::domain::{Entry, Event};
    use crate::registries::ItemDictionary;

    #[test]
    fn no_entry_is_dropped_that_derived_state_needs() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let store = open();
        let settings = CommitterSettings {
            durability: Durability::ProcessCrash,
            dedup_window: 20,
            ..CommitterSettings::default()
        };
        let mut committer = Committer::open(store.clone(), settings.clone()).unwrap();
        (0..100).for_each(|n| drop(committer.commit(vec![vec![event(n)]]).unwrap()));
        let checkpoints = store.checkpoints(2).unwrap();
        let only = |entries| JournalRetention { entries, period_ms: None };
        let apply = |keep| store.apply_retention(&checkpoints, only(keep), 100).unwrap();
        assert_eq!(apply(0), 0, "no derived state contains anything yet");
        committer.persist_indexes().unwrap();
        store.sessions().put([], 90).unwrap();
        assert_eq!(apply(0), 0, "there is no checkpoint");
        for offset in [70, 80] {
            checkpoints.write(offset, |_| Ok::<_, StoreError>(())).unwrap();
        }
        assert_eq!(
            store.apply_retention(&checkpoints, only(0), 40).unwrap(),
            40,
            "the current run has learned no further"
        );
        assert_eq!(apply(50), 50);
        assert_eq!(apply(0), 70, "the older checkpoint needs the rest");
        assert!(matches!(store.journal().read_entries(69, 1), Err(StoreError::MissingEntries { from: 69, until: 70 })));
        assert_eq!(store.journal().read_entries(70, 1).unwrap(), [(70, event(70))]);
        drop((committer, store, checkpoints));

        let store = open();
        assert_eq!((store.journal().first_offset().unwrap(), store.journal().next_offset().unwrap()), (70, 100));
        let mut committer = Committer::open(store.clone(), settings).unwrap();
        assert_eq!(committer.dictionary().len(), 11);
        assert_eq!(committer.commit(vec![vec![event(99)]]).unwrap().0[0].duplicates, [0]);
        assert_eq!(committer.commit(vec![vec![event(100)]]).unwrap().1.first, 100);
    }

    #[test]
    fn an_entry_is_dropped_once_it_is_old_and_neither_needed_nor_recent() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let at = |timestamp| match event(0) {
            Entry::Event(event) => Entry::Event(Event { timestamp, ..event }),
            other => other,
        };
        let append = |timestamp| store.journal().append(&[at(timestamp)], Durability::ProcessCrash).unwrap();
        // The test writes one entry per second. The entry at offset 30 has a much older timestamp.
        for second in 0..60 {
            append(if second == 30 { 0 } else { second * 1000 });
        }
        let checkpoints = store.checkpoints(2).unwrap();
        checkpoints.write(60, |_| Ok::<_, StoreError>(())).unwrap();
        store.sessions().put([], 60).unwrap();
        store.items().append(&ItemDictionary::default(), 0, 60).unwrap();
        let apply = |entries, seconds: i64| {
            let keep = JournalRetention { entries, period_ms: Some(seconds * 1000) };
            store.apply_retention(&checkpoints, keep, 60).unwrap()
        };
        assert_eq!(apply(0, 100), 0, "the last entry is that of second 59, and the first is younger than 100 s");
        assert_eq!(apply(0, 49), 10, "second 10 is 49 s before it");
        assert_eq!(apply(45, 5), 15, "the last 45 are kept, however old");
        assert_eq!(apply(0, 29), 31, "entry 30 has an old timestamp, and all entries before it are old");
        assert_eq!(
            store.apply_retention(&checkpoints, JournalRetention { entries: 0, period_ms: Some(0) }, 40).unwrap(),
            40
        );
        append(1_000_000);
        assert_eq!(apply(0, 5), 60, "the last record and entries without a checkpoint stay");
    }
}
