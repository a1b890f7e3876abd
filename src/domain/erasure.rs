//! A user is forgotten.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// The erasure of a user: all earlier entries, sessions and individual records under this id are
/// removed. Later events under the id belong to a new user. Each id that was merged into the user
/// has an entry of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserErasure {
    /// The id.
    pub user_id: String,
    /// What was learned is to be learned anew without it.
    pub unlearn: bool,
    /// When it was asked.
    pub timestamp: Timestamp,
}
