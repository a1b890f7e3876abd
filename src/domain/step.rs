//! The steps of a user's sequence.

use super::{ItemIx, KindId, Timestamp};
use serde::{Deserialize, Serialize};

/// An event, reduced to the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The item; `None` for an event without an item.
    pub item: Option<ItemIx>,
    /// The event's kind.
    pub kind: KindId,
    /// Whether the step starts a session: it follows an idle gap or has a new `session_id`.
    pub starts_session: bool,
    /// The time of the event.
    pub at: Timestamp,
    /// The event's value, or the default value of its kind.
    pub value: f32,
}
