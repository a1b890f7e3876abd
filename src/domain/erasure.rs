//! A user is forgotten.

use super::Timestamp;
use serde::{Deserialize, Serialize};

/// What these ids did before is to be forgotten: entries, sessions, and what is remembered of them one by one. Who comes under one of them afterwards is a new user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// The ids of one person: a user and whoever was merged into it.
    pub users: Vec<String>,
    /// What was learned is to be learned anew without them.
    pub unlearn: bool,
    /// When it was asked.
    pub timestamp: Timestamp,
}
