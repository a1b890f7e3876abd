//! One step of a user's sequence.

use super::{ItemIx, KindId, Timestamp};
use serde::{Deserialize, Serialize};

/// An event, reduced to what the model learns from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The item; `None` for an event that names none.
    pub item: Option<ItemIx>,
    /// The kind of event.
    pub kind: KindId,
    /// The step starts a session: it follows an idle gap or has a new `session_id`.
    pub starts_session: bool,
    /// The time of the event.
    pub at: Timestamp,
    /// The event's value, or the default value of its kind.
    pub value: f32,
}
