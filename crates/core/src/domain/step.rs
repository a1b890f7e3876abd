//! A step: an event in a user's sequence, reduced to the part that the model uses.

use super::{EventKinds, ItemIx, KindId, Timestamp};
use serde::{Deserialize, Serialize};

/// A step of a user's sequence: the part of an event that the model uses.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The item; `None` for an event without an item.
    pub item: Option<ItemIx>,
    /// The event's kind.
    pub kind: KindId,
    /// Whether the step starts a session. A step starts a session if it follows an idle gap or has
    /// a new `session_id`.
    pub starts_session: bool,
    /// The time of the event.
    pub at: Timestamp,
    /// The event's value, or the default value of its kind. Negative for a dismissal, see
    /// [`EventKinds::step_value`].
    pub value: f32,
}

impl Step {
    /// Whether the step is a dismissal: an event of any kind whose value is negative or below the
    /// midpoint of the kind.
    #[must_use]
    pub fn is_dismissal(&self) -> bool {
        self.value < 0.0
    }

    /// The target item of the step: the item that the model should have predicted and that the
    /// candidate sources count. `None` if the step has no item, if its kind is not a target kind,
    /// or if it is a dismissal.
    #[must_use]
    pub fn target_item(&self, kinds: &EventKinds) -> Option<ItemIx> {
        self.item.filter(|_| kinds.rule_of(self.kind).target && !self.is_dismissal())
    }
}
