//! Merge of two users.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// The merge of user `from` into user `into`: all past and future entries of `from` belong to
/// `into`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMerge {
    /// The user id that becomes an alias of `into`, usually the id of an anonymous visitor.
    pub from: String,
    /// The id of the user that remains.
    pub into: String,
    /// The time of the merge.
    pub timestamp: Timestamp,
}
