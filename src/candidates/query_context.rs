//! What a source may know when it is asked, or taught.

use crate::domain::{ItemIx, Offset, Step};

/// A session's number: dense, growing, a new one wherever a step is marked as a boundary.
pub type SessionIx = u32;

/// A session at the moment before its next event.
#[derive(Debug, Clone, Copy)]
pub struct QueryContext<'a> {
    /// The user's steps, oldest first, across session borders.
    pub steps: &'a [Step],
    /// The session under way, or the one that the next event begins; only learning asks for it.
    pub session: SessionIx,
    /// The journal offset at which it began: by this a reader, who does not know the number, tells the session from its neighbours.
    pub session_start: Offset,
    /// The number of the next event in the journal; all decay and age is measured in these.
    pub now: u64,
}

impl<'a> QueryContext<'a> {
    /// The items of the steps, latest first, without what was waved away.
    pub fn recent_items(&self) -> impl Iterator<Item = ItemIx> + use<'a> {
        self.steps.iter().rev().filter(|step| !is_dismissal(step)).filter_map(|step| step.item)
    }

    /// The items whose latest step waved them away.
    pub fn dismissed_items(&self) -> impl Iterator<Item = ItemIx> + use<'a> {
        let steps = self.steps;
        let dismissed = steps.iter().enumerate().filter(|(_, step)| is_dismissal(step));
        dismissed.filter_map(|(place, step)| step.item.map(|item| (place, item))).filter_map(move |(place, item)| {
            let chosen_again = steps.iter().skip(place + 1).any(|later| later.item == Some(item) && !is_dismissal(later));
            (!chosen_again).then_some(item)
        })
    }
}

/// An event of negative value waves its item away.
#[must_use]
pub fn is_dismissal(step: &Step) -> bool {
    step.value < 0.0
}
