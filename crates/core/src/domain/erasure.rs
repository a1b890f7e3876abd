//! Erasure of a user.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// The erasure of a user id: all earlier entries, sessions and other per-user records under this id
/// are removed. Later events under the id belong to a new user. If ids of the user were merged, the
/// erasure has one journal entry for each id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserErasure {
    /// The erased user id.
    pub user_id: String,
    /// Whether the model is to be trained again from the journal, without the user's entries.
    pub unlearn: bool,
    /// The time of the request.
    pub timestamp: Timestamp,
}
