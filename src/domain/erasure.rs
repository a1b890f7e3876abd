//! Erasure of a user.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// The erasure of a user: all earlier entries, sessions and individual records under this id are
/// removed. Later events under the id belong to a new user. An erasure of a user with merged ids
/// has one journal entry for each of the ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserErasure {
    /// The erased user id.
    pub user_id: String,
    /// Whether to train the model again without the user's entries.
    pub unlearn: bool,
    /// The time of the request.
    pub timestamp: Timestamp,
}
