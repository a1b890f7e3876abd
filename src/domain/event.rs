//! Events: the interactions of users with items.

use super::{EventKind, Timestamp};
use serde::{Deserialize, Serialize};

/// One validated interaction of a user. The `ingest` module enforces all limits before it creates
/// an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The id that the client gave the event, for deduplication.
    pub event_id: Option<String>,
    /// The user id: the id of a registered user, or a generated id of an anonymous visitor.
    pub user_id: String,
    /// The site's own session id, if the site sends one. A new id starts a new session.
    pub session_id: Option<String>,
    /// The kind of the interaction.
    pub kind: EventKind,
    /// The item of the event; `None` only for a search that names no item.
    pub item_id: Option<String>,
    /// The value of the event (rating, seconds played, price, …). If `None`, the value that the
    /// settings give to the kind applies.
    pub value: Option<f32>,
    /// The time of the interaction.
    pub timestamp: Timestamp,
    /// Additional properties from the client, as a JSON object; `None` if there are none.
    pub properties: Option<String>,
}
