//! Two users turn out to be one.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// From here on there is one user where there were two: what `from` did was done by `into`, and so
/// is what comes from `from` later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMerge {
    /// Who is forgotten, commonly an anonymous visitor.
    pub from: String,
    /// Who goes on.
    pub into: String,
    /// When.
    pub timestamp: Timestamp,
}
