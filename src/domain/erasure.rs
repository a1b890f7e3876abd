//! A user is forgotten.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// What was done under this id before is to be forgotten: entries, sessions, and what is remembered
/// of them one by one. Who comes under it afterwards is a new user. Whoever was merged into the
/// user has an entry like this, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserErasure {
    /// The id.
    pub user_id: String,
    /// What was learned is to be learned anew without it.
    pub unlearn: bool,
    /// When it was asked.
    pub timestamp: Timestamp,
}
