//! Events: the interactions of users with items.

use super::{Attributes, EventKind, Timestamp};
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
    /// Fields that few events have; `None` if the event has none of them. The stored form is in
    /// `stored_entry`.
    #[serde(skip)]
    pub details: Option<Box<EventDetails>>,
}

/// The fields that store format 9 added to events. Of these, the model learns from the context, if
/// declared features read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventDetails {
    /// The id of the recommendation that the event responds to.
    pub recommendation_id: Option<String>,
    /// The currency of the value: three upper-case letters (ISO 4217).
    pub currency: Option<String>,
    /// The number of pieces.
    pub quantity: Option<u32>,
    /// The circumstances, such as the kind of device.
    pub context: Attributes,
}

impl EventDetails {
    /// Largest length of a recommendation id, in bytes.
    pub const MAX_RECOMMENDATION_ID_BYTES: usize = 128;
    /// Largest quantity.
    pub const MAX_QUANTITY: u32 = 1_000_000;

    /// The details behind a pointer; `None` if there are none.
    #[must_use]
    pub fn into_boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}
