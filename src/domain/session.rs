//! A user's behaviour sequence.

use super::{ItemIx, KindId, Offset, Timestamp};
use serde::{Deserialize, Serialize};

/// One step of a sequence: an event, reduced to what is learned from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// On which item; `None` for an event that names none.
    pub item: Option<ItemIx>,
    /// What was done.
    pub kind: KindId,
    /// Begins a session: an idle gap or a new `session_id` stands before it.
    pub boundary: bool,
    /// When.
    pub at: Timestamp,
    /// How much: the event's value, or its kind's.
    pub value: f32,
}

/// The last steps of one user, across session borders.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Counts this user's sessions: 1 in the first.
    pub number: u32,
    /// The journal offset of the current session's first event: what tells sessions apart across users.
    pub begun: Offset,
    /// The site's own id of the current visit.
    pub session_id: Option<String>,
    /// Oldest first, at most [`Session::MAX_STEPS`].
    pub steps: Vec<Step>,
}

impl Session {
    /// How many steps are remembered.
    pub const MAX_STEPS: usize = 50;

    /// Whether an event would begin a new session: the first ever, one after more than `idle_gap_ms` without an event, or one with another `session_id`.
    #[must_use]
    pub fn ends_before(&self, at: Timestamp, session_id: Option<&str>, idle_gap_ms: i64) -> bool {
        let idle = self.steps.last().is_none_or(|last| at.saturating_sub(last.at) > idle_gap_ms);
        idle || (session_id.is_some() && session_id != self.session_id.as_deref())
    }

    /// Appends the event at a journal offset and says whether it began a new session, see [`Session::ends_before`].
    pub fn push(&mut self, offset: Offset, mut step: Step, session_id: Option<&str>, idle_gap_ms: i64) -> bool {
        step.boundary = self.ends_before(step.at, session_id, idle_gap_ms);
        if step.boundary {
            self.number = self.number.saturating_add(1);
            self.begun = offset;
            self.session_id = session_id.map(str::to_owned);
        }
        if self.steps.len() >= Self::MAX_STEPS {
            self.steps.remove(0);
        }
        self.steps.push(step);
        step.boundary
    }

    /// The steps of the current session alone, oldest first.
    #[must_use]
    pub fn current(&self) -> &[Step] {
        let start = self.steps.iter().rposition(|step| step.boundary).unwrap_or(0);
        self.steps.get(start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: Timestamp) -> Step {
        Step { item: Some(1), kind: 0, boundary: false, at, value: 1.0 }
    }

    #[test]
    fn an_idle_gap_or_a_new_id_begins_a_session() {
        let mut session = Session::default();
        assert!(session.push(0, step(0), Some("a"), 10));
        assert!(!session.push(1, step(10), Some("a"), 10), "a gap of exactly the limit is no border");
        assert!(session.push(2, step(21), Some("a"), 10));
        assert!(session.push(3, step(22), Some("b"), 10));
        assert!(!session.push(4, step(23), None, 10), "an event without an id belongs to the visit under way");
        assert_eq!((session.number, session.begun), (3, 3));
        assert_eq!(session.current().len(), 2);
    }

    #[test]
    fn only_the_last_steps_are_kept() {
        let mut session = Session::default();
        for at in 0..200 {
            session.push(at as u64, step(at), None, 10);
        }
        assert_eq!(session.steps.len(), Session::MAX_STEPS);
        assert_eq!(session.steps[0].at, 150);
        assert_eq!(session.current().len(), Session::MAX_STEPS, "the border itself has left the window");
    }
}
