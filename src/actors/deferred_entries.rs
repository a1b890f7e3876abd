//! Entries that no request waits for, until the committer commits them.

use std::sync::{Mutex, PoisonError};

use super::admission::AdmissionPermit;
use crate::domain::Entry;

/// Queue of entries that may be committed a little later, so that many entries share one message to
/// the committer and one journal write. Admission control bounds the queue: each entry holds a
/// permit.
#[derive(Debug, Default)]
pub struct DeferredEntries(Mutex<Vec<(Entry, AdmissionPermit)>>);

impl DeferredEntries {
    /// Adds an entry. Returns whether the queue was empty, so that the caller must ask the
    /// committer for a commit.
    #[must_use]
    pub fn push(&self, entry: Entry, permit: AdmissionPermit) -> bool {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push((entry, permit));
        queue.len() == 1
    }

    /// Removes all entries, in the order in which they were added.
    #[must_use]
    pub fn take_all(&self) -> (Vec<Entry>, Vec<AdmissionPermit>) {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::admission::AdmissionControl;

    #[test]
    fn only_the_first_entry_asks_for_a_commit() {
        let (queue, admission) = (DeferredEntries::default(), AdmissionControl::new(3));
        let push = || queue.push(Entry::Tombstone, admission.try_admit(1).unwrap());
        assert!(push());
        assert!(!push());
        let (entries, permits) = queue.take_all();
        assert_eq!((entries.len(), admission.in_flight()), (2, 2));
        drop(permits);
        assert_eq!(admission.in_flight(), 0);
        assert!(push(), "the queue is empty again");
    }
}
