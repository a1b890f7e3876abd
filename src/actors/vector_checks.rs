//! Refuses item changes whose vectors do not fit those of other items, before they are committed.

use std::sync::Arc;

use crate::domain::{Catalog, Entry, VectorError};
use crate::store::CommitReceipt;

/// Checks the vectors of the item changes of one commit.
#[derive(Debug)]
pub struct VectorChecks {
    catalog: Arc<Catalog>,
    /// Names and dimensions of vectors that the commit adds to the catalog.
    admitted: Vec<(String, usize)>,
}

impl VectorChecks {
    /// Creates checks against a catalog, which contains all committed changes.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog, admitted: Vec::new() }
    }

    /// Removes the refused item changes from the entries of a request.
    pub fn split_rejected(&mut self, entries: Vec<Entry>) -> (Vec<Entry>, RejectedChanges) {
        let mut rejected = RejectedChanges::default();
        let check = |(index, entry): (usize, Entry)| {
            let outcome = match &entry {
                Entry::Item(change) => {
                    self.catalog.vectors().check_change(&change.item_id, &change.operation, &mut self.admitted)
                }
                _ => Ok(()),
            };
            outcome.map_err(|error| rejected.0.push((index, error))).ok().map(|()| entry)
        };
        // Without a refused change, this collects in place.
        let kept = entries.into_iter().enumerate().filter_map(check).collect();
        (kept, rejected)
    }
}

/// The refused item changes of a request, each with its position.
#[derive(Debug, Default)]
pub struct RejectedChanges(Vec<(usize, VectorError)>);

impl RejectedChanges {
    /// Adds the refused changes to the receipt of the other entries of the request.
    #[must_use]
    pub fn add_to(self, mut receipt: CommitReceipt) -> CommitReceipt {
        for position in receipt.duplicates.iter_mut().chain(&mut receipt.withheld) {
            // The refused changes are in ascending order.
            for (rejected, _) in &self.0 {
                *position += usize::from(rejected <= position);
            }
        }
        receipt.rejected = self.0;
        receipt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Item, ItemChange, ItemOperation, ItemVector};

    #[test]
    fn positions_count_the_refused_changes() {
        let entry = |length| {
            let vector = ItemVector { name: "text".to_owned(), values: vec![1.0; length] };
            let operation = ItemOperation::PutWithVectors(Item::default(), vec![vector]);
            Entry::Item(ItemChange { item_id: format!("of {length}"), timestamp: 0, operation })
        };
        let mut checks = VectorChecks::new(Arc::default());
        let (kept, rejected) = checks.split_rejected(vec![entry(2), entry(3), entry(2), entry(1), entry(2), entry(2)]);
        assert_eq!(kept.len(), 4);
        let receipt =
            CommitReceipt { accepted: 1, duplicates: vec![1, 3], withheld: vec![2], rejected: vec![], offset: 9 };
        let receipt = rejected.add_to(receipt);
        assert_eq!((receipt.duplicates, receipt.withheld), (vec![2, 5], vec![4]));
        let positions: Vec<_> = receipt.rejected.iter().map(|(position, _)| *position).collect();
        assert_eq!(positions, [1, 3]);
        assert!(checks.split_rejected(vec![entry(3)]).0.is_empty(), "the first request fixed the dimension");
    }
}
