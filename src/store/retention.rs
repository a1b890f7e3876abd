//! Dropping the head of the journal, once everything that is folded from it has passed it.

use super::{Checkpoints, Store, StoreError};
use crate::domain::Offset;

impl Store {
    /// Lets the journal go but for its last `keep` entries and what is still needed: every entry that is in the session records, the item names and the oldest of the
    /// `checkpoints` is in everything that is derived from the journal. None goes that is not `learned`: the checkpoints may be those of a fold under other settings, which was further. Returns where the journal begins now.
    ///
    /// # Errors
    /// What the disk says.
    pub fn retain(&self, checkpoints: &Checkpoints, keep: u64, learned: Offset) -> Result<Offset, StoreError> {
        let journal = self.journal();
        let learned = learned.min(checkpoints.offsets()?.first().copied().unwrap_or(0));
        let wanted = journal.next_offset()?.saturating_sub(keep);
        let floor = wanted.min(learned).min(self.sessions().through()?).min(self.items().through()?);
        journal.drop_before(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::super::{Committer, CommitterSettings, Durability, StoreOptions};
    use super::*;

    #[test]
    fn nothing_goes_that_anything_may_still_read() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let store = open();
        let settings = CommitterSettings { durability: Durability::ProcessCrash, dedup_window: 20 };
        let mut committer = Committer::open(store.clone(), settings.clone()).unwrap();
        (0..100).for_each(|n| drop(committer.commit(vec![vec![event(n)]]).unwrap()));
        let checkpoints = store.checkpoints(2).unwrap();
        let begin = |keep| store.retain(&checkpoints, keep, 100).unwrap();
        assert_eq!(begin(0), 0, "nobody has folded anything yet");
        committer.persist_items().unwrap();
        store.sessions().put([], 90).unwrap();
        assert_eq!(begin(0), 0, "nothing is learned");
        for offset in [70, 80] {
            checkpoints.write(offset, |_| Ok::<_, StoreError>(())).unwrap();
        }
        assert_eq!(store.retain(&checkpoints, 0, 40).unwrap(), 40, "a fold under other settings has come no further");
        assert_eq!(begin(50), 50);
        assert_eq!(begin(0), 70, "the older checkpoint needs the rest");
        assert!(matches!(store.journal().read(69, 1), Err(StoreError::Gap { from: 69, until: 70 })));
        assert_eq!(store.journal().read(70, 1).unwrap(), [(70, event(70))]);
        drop((committer, store, checkpoints));

        let store = open();
        assert_eq!((store.journal().begin().unwrap(), store.journal().next_offset().unwrap()), (70, 100));
        let mut committer = Committer::open(store.clone(), settings).unwrap();
        assert_eq!(committer.dictionary().len(), 11);
        assert_eq!(committer.commit(vec![vec![event(99)]]).unwrap().0[0].duplicates, [0]);
        assert_eq!(committer.commit(vec![vec![event(100)]]).unwrap().1.first, 100);
    }
}
