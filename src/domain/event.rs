//! One interaction: who, what, which item, when, how much.

use super::{EventKind, Timestamp};
use serde::{Deserialize, Serialize};

/// One validated interaction of a user. What reaches this type has passed every limit of `capture`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The sender's id of this event; its repetition is a duplicate.
    pub event_id: Option<String>,
    /// Who acted: a known user or a generated anonymous id.
    pub user_id: String,
    /// The visit, if the site bounds visits itself; a new one begins a new session.
    pub session_id: Option<String>,
    /// What was done.
    pub kind: EventKind,
    /// On which item; `None` for a search that names none.
    pub item_id: Option<String>,
    /// How much (rating, seconds played, price, …); `None` takes the kind's configured value.
    pub value: Option<f32>,
    /// When.
    pub timestamp: Timestamp,
    /// Whatever else the sender told, as a JSON object; `None` if nothing.
    pub properties: Option<String>,
}
