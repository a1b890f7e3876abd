//! The query context: the user's recent history, from which a source generates candidates or learns
//! what followed it.

use super::clusters::Clusters;
use super::user_profile::UserProfile;
use crate::domain::{ItemIx, Offset, Step};

/// Session number. Every step that starts a session gets the next number.
pub type SessionIx = u32;

/// A user's recent history before the next event.
#[derive(Debug, Clone, Copy, Default)]
pub struct QueryContext<'a> {
    /// The user's steps, oldest first, across session boundaries.
    pub steps: &'a [Step],
    /// Number of the current session. If the next event starts a session, the number of that
    /// session. Only learning uses the number.
    pub session: SessionIx,
    /// Journal offset of the session's first event. Readers do not know the session number, so they
    /// use this offset to exclude the current session from the neighbouring sessions.
    pub session_start: Offset,
    /// The time of the sources, in journal entries. It stands still while learning is paused. All ages
    /// and half-lives are measured in this time.
    pub now: u64,
    /// The user's long-term profile; `None` if the user has no earlier session.
    pub profile: Option<&'a UserProfile>,
    /// Clusters of the items, for the profile; `None` before the first clustering.
    pub clusters: Option<&'a Clusters>,
    /// Whether the next event begins a session. The steps are then those of the session before.
    pub begins_session: bool,
}

impl<'a> QueryContext<'a> {
    /// Items of the steps that are not dismissals, latest first.
    pub fn recent_items(&self) -> impl Iterator<Item = ItemIx> + use<'a> {
        self.steps.iter().rev().filter(|step| !step.is_dismissal()).filter_map(|step| step.item)
    }

    /// Items that the user dismissed and did not select again later.
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
