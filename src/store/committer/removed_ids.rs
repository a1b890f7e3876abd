//! Finds the event ids that erasures, purges and expiries remove from the deduplication window.
//!
//! The removal jobs of the nodes of a cluster replace entries with tombstones at different times. So
//! the nodes remove the ids of these entries at the journal entry that requests the removal. Then
//! all nodes recognise the same duplicates.

use super::event_id_of_entry;
use crate::domain::{Entry, Expiry, Offset, Origin, Purge};
use crate::store::purge_tree::is_removed_by;
use crate::store::{Store, StoreError};
use rustc_hash::FxHashMap;

/// The erasures, purges and expiries in a part of the journal.
#[derive(Debug, Default)]
pub(super) struct RemovalRequests {
    /// The last erasure of each user.
    erasures: FxHashMap<String, Offset>,
    purges: Vec<(Offset, Purge)>,
    expiries: Vec<(Offset, Expiry)>,
}

impl RemovalRequests {
    /// The requests among the entries.
    pub(super) fn of_entries<'e>(entries: impl Iterator<Item = (Offset, &'e Entry)>) -> Self {
        let mut requests = Self::default();
        entries.for_each(|(offset, entry)| requests.add_entry(offset, entry));
        requests
    }

    fn add_entry(&mut self, offset: Offset, entry: &Entry) {
        match entry {
            Entry::Erase(erasure) => drop(self.erasures.insert(erasure.user_id.clone(), offset)),
            Entry::Purge(purge) => self.purges.push((offset, purge.clone())),
            Entry::Expire(expiry) => self.expiries.push((offset, expiry.clone())),
            _ => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.erasures.is_empty() && self.purges.is_empty() && self.expiries.is_empty()
    }

    /// Whether one of the requests removes an earlier entry.
    pub(super) fn removes(&self, offset: Offset, entry: &Entry, origin: Option<Origin>) -> bool {
        entry.user_ids().any(|user| self.erasures.get(user).is_some_and(|until| offset <= *until))
            || self.purges.iter().any(|(until, purge)| offset < *until && is_removed_by(purge, entry, origin))
            || self.expiries.iter().any(|(until, expiry)| offset < *until && entry.is_expired_by(expiry))
    }

    /// The requests in the journal from offset `from` on.
    ///
    /// # Errors
    /// Any read error.
    pub(super) fn in_journal(store: &Store, from: Offset) -> Result<Self, StoreError> {
        let mut requests = Self::default();
        for read in store.journal().entries(from)? {
            let (offset, entry) = read?;
            requests.add_entry(offset, &entry);
        }
        Ok(requests)
    }

    /// The ids of the events from offset `from` on that the requests remove.
    ///
    /// # Errors
    /// Any read error.
    pub(super) fn removed_ids(&self, store: &Store, from: Offset) -> Result<Vec<String>, StoreError> {
        let mut ids = Vec::new();
        for read in store.journal().entries(from)?.with_origins() {
            let (offset, entry, origin) = read?;
            if let Some(id) = event_id_of_entry(&entry)
                && self.removes(offset, &entry, origin)
            {
                ids.push(id.to_owned());
            }
        }
        Ok(ids)
    }
}
