//! The query context: what a source sees when it generates or learns.

use crate::domain::{ItemIx, Offset, Step};

/// Dense session number. It increases by one at every step that starts a session.
pub type SessionIx = u32;

/// A user's history before the next event.
#[derive(Debug, Clone, Copy)]
pub struct QueryContext<'a> {
    /// The user's steps, oldest first, across session boundaries.
    pub steps: &'a [Step],
    /// Number of the current session, or of the session that the next event starts. Only learning
    /// uses it.
    pub session: SessionIx,
    /// Journal offset of the session's first event. A reader does not know the session number; it
    /// uses this offset to exclude the session from its own neighbours.
    pub session_start: Offset,
    /// Journal offset of the next event. All decay and age is measured in journal entries.
    pub now: u64,
}

impl<'a> QueryContext<'a> {
    /// Items of the steps, latest first, without dismissals.
    pub fn recent_items(&self) -> impl Iterator<Item = ItemIx> + use<'a> {
        self.steps.iter().rev().filter(|step| !step.is_dismissal()).filter_map(|step| step.item)
    }

    /// Dismissed items without a later step on the same item that is not a dismissal.
    pub fn dismissed_items(&self) -> impl Iterator<Item = ItemIx> + use<'a> {
        let steps = self.steps;
        let dismissed = steps.iter().enumerate().filter(|(_, step)| step.is_dismissal());
        dismissed.filter_map(|(position, step)| step.item.map(|item| (position, item))).filter_map(
            move |(position, item)| {
                let selected_again =
                    steps.iter().skip(position + 1).any(|later| later.item == Some(item) && !later.is_dismissal());
                (!selected_again).then_some(item)
            },
        )
    }
}
