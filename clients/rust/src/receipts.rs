//! What the daemon acknowledges.

use serde::{Deserialize, Serialize};

use crate::error::SequorError;
use crate::lists::Recommendations;

/// An invalid record of a request, or a warning about a valid one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The index of the record in the call, from 0.
    pub index: usize,
    /// The reason as a code, such as `empty`.
    pub code: String,
    /// The reason in words.
    pub reason: String,
    /// The invalid field.
    pub field: Option<String>,
}

/// The outcome of events or item changes. Accepted records are on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Number of stored records.
    pub accepted: u64,
    /// Number of events that were stored already.
    pub duplicates: u64,
    /// Number of events that were not stored, because their users have not given consent.
    #[serde(default)]
    pub withheld: u64,
    /// The invalid records.
    #[serde(default)]
    pub rejected: Vec<Rejection>,
    /// Probable mistakes in valid records.
    #[serde(default)]
    pub warnings: Vec<Rejection>,
    /// The position of the journal after the records; `None` if nothing was stored.
    pub offset: Option<u64>,
    /// The list that the call asked for.
    #[serde(default)]
    pub recommendations: Option<Recommendations>,
}

impl Receipt {
    /// The receipt, if every record is valid.
    ///
    /// # Errors
    /// [`SequorError::Rejected`] if the daemon rejected a record.
    pub fn ok(self) -> Result<Self, SequorError> {
        if self.rejected.is_empty() { Ok(self) } else { Err(SequorError::Rejected(self.rejected)) }
    }

    /// Adds the receipt of a later request of the same call. `first_index` is the index of the
    /// request's first record.
    pub(crate) fn merge(&mut self, later: Self, first_index: usize) {
        let shifted = |entries: Vec<Rejection>| {
            entries.into_iter().map(move |entry| Rejection { index: entry.index + first_index, ..entry })
        };
        self.accepted += later.accepted;
        self.duplicates += later.duplicates;
        self.withheld += later.withheld;
        self.rejected.extend(shifted(later.rejected));
        self.warnings.extend(shifted(later.warnings));
        self.offset = self.offset.max(later.offset);
        self.recommendations = later.recommendations.or(self.recommendations.take());
    }
}

/// The receipt of a change of a placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReceipt {
    /// The position of the journal after the change; `None` if nothing changed.
    pub offset: Option<u64>,
    /// Probable mistakes, in words.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The receipt of a reported list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpressionReceipt {
    /// The id of the list. Events that respond to the list name it.
    pub recommendation_id: String,
    /// Number of stored items.
    pub accepted: u64,
    /// Number of items that were stored already.
    pub duplicates: u64,
    /// Number of items that were not stored, because the user has not given consent.
    #[serde(default)]
    pub withheld: u64,
    /// The position of the journal after the list; `None` if nothing was stored.
    pub offset: Option<u64>,
}

/// The journal entries that a list must include: those of a receipt, or those before an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After(pub(crate) Option<u64>);

impl From<u64> for After {
    fn from(offset: u64) -> Self {
        Self(Some(offset))
    }
}

impl From<&Receipt> for After {
    fn from(receipt: &Receipt) -> Self {
        Self(receipt.offset)
    }
}

impl From<&ChangeReceipt> for After {
    fn from(receipt: &ChangeReceipt) -> Self {
        Self(receipt.offset)
    }
}

impl From<&ImpressionReceipt> for After {
    fn from(receipt: &ImpressionReceipt) -> Self {
        Self(receipt.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(index: usize) -> Rejection {
        Rejection { index, code: "empty".to_owned(), reason: "it is empty".to_owned(), field: None }
    }

    #[test]
    fn merged_receipts_count_over_all_requests() {
        let mut merged = Receipt { accepted: 2, rejected: vec![rejection(0)], offset: Some(9), ..Receipt::default() };
        let later =
            Receipt { accepted: 1, duplicates: 3, rejected: vec![rejection(1)], offset: None, ..Receipt::default() };
        merged.merge(later, 10);
        assert_eq!((merged.accepted, merged.duplicates, merged.offset), (3, 3, Some(9)));
        assert_eq!(merged.rejected, [rejection(0), rejection(11)]);
        assert_eq!(merged.ok().unwrap_err().to_string(), "2 records rejected; record 0: it is empty");
    }
}
