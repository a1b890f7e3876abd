//! The sequence of a user's latest steps.

use super::{ExpiryCutoffs, Offset, Step, Timestamp};
use serde::{Deserialize, Serialize};

/// The last steps of one user, across sessions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UserSequence {
    /// Number of the user's current session, counted per user. A user's first session has number 1.
    pub session_number: u32,
    /// The journal offset of the current session's first event, which identifies the session across
    /// users.
    pub session_start: Offset,
    /// The site's own id of the current session.
    pub session_id: Option<String>,
    /// The steps, oldest first, at most [`UserSequence::MAX_STEPS`].
    pub steps: Vec<Step>,
}

impl UserSequence {
    /// Maximum number of steps.
    pub const MAX_STEPS: usize = 50;

    /// Whether an event would start a new session. It would if it is the user's first event, if it
    /// comes more than `idle_gap_ms` after the previous event, or if its `session_id` differs from
    /// that of the current session.
    #[must_use]
    pub fn starts_new_session(&self, at: Timestamp, session_id: Option<&str>, idle_gap_ms: i64) -> bool {
        let idle = self.steps.last().is_none_or(|last| at.saturating_sub(last.at) > idle_gap_ms);
        idle || (session_id.is_some() && session_id != self.session_id.as_deref())
    }

    /// Appends the step of the event at journal offset `offset`. Returns whether the step starts a
    /// new session, see [`UserSequence::starts_new_session`].
    pub fn push(&mut self, offset: Offset, mut step: Step, session_id: Option<&str>, idle_gap_ms: i64) -> bool {
        step.starts_session = self.starts_new_session(step.at, session_id, idle_gap_ms);
        if step.starts_session {
            self.session_number = self.session_number.saturating_add(1);
            self.session_start = offset;
            self.session_id = session_id.map(str::to_owned);
        }
        if self.steps.len() >= Self::MAX_STEPS {
            self.steps.remove(0);
        }
        self.steps.push(step);
        step.starts_session
    }

    /// Merges the sequence of another user into this one, as if one user had produced both.
    ///
    /// - Steps are interleaved by time. Each sequence keeps its order, and this user's steps come
    ///   first at equal times.
    ///
    /// - A step that started a session still starts one, unless it did so only because of an idle
    ///   gap and steps of the other sequence now fill that gap.
    ///
    /// - The new `session_id` is that of the sequence with the last step.
    ///
    /// - The new `session_start` is that of the sequence whose step starts the merged current
    ///   session. If no stored step starts that session, it is the smaller of the two.
    pub fn merge(&mut self, other: &Self, idle_gap_ms: i64) {
        if other.steps.is_empty() {
            return;
        }
        let (mut own, mut others) = (
            self.steps_with_session_marks(idle_gap_ms).peekable(),
            other.steps_with_session_marks(idle_gap_ms).peekable(),
        );
        let (mut steps, mut joined) = (Vec::with_capacity(self.steps.len() + other.steps.len()), 0);
        // `current_from_own` tells whether this sequence started the current session, if the start
        // is stored. `last_from_own` tells whether this sequence has the last step.
        let (mut current_from_own, mut last_from_own) = (None, true);
        loop {
            let is_own = match (own.peek(), others.peek()) {
                (Some(step), Some(another)) => step.step.at <= another.step.at,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let Some(MarkedStep { mut step, started_by_session_id, starts_current }) =
                (if is_own { own.next() } else { others.next() })
            else {
                break;
            };
            if step.starts_session {
                let idle = steps.last().is_none_or(|before: &Step| step.at.saturating_sub(before.at) > idle_gap_ms);
                step.starts_session = started_by_session_id || idle;
                if step.starts_session {
                    current_from_own = starts_current.then_some(is_own);
                } else {
                    joined += 1;
                }
            }
            last_from_own = is_own;
            steps.push(step);
        }
        let merged = Self {
            session_number: self.session_number.saturating_add(other.session_number).saturating_sub(joined),
            session_start: match current_from_own {
                Some(true) => self.session_start,
                Some(false) => other.session_start,
                None if self.steps.is_empty() => other.session_start,
                None => self.session_start.min(other.session_start),
            },
            session_id: if last_from_own { self.session_id.clone() } else { other.session_id.clone() },
            steps: steps.split_off(steps.len().saturating_sub(Self::MAX_STEPS)),
        };
        drop((own, others));
        *self = merged;
    }

    /// Removes expired steps, and the session id if no step is left. Returns whether any step was
    /// removed.
    pub fn expire(&mut self, cutoffs: &ExpiryCutoffs) -> bool {
        let removed = cutoffs.remove_expired(&mut self.steps);
        if self.steps.is_empty() {
            self.session_id = None;
        }
        removed
    }

    /// The steps with the additional information that [`UserSequence::merge`] needs.
    fn steps_with_session_marks(&self, idle_gap_ms: i64) -> impl Iterator<Item = MarkedStep> {
        let last = self.steps.iter().rposition(|step| step.starts_session);
        self.steps.iter().enumerate().map(move |(index, step)| {
            let before = index.checked_sub(1).and_then(|before| self.steps.get(before));
            let started_by_session_id =
                step.starts_session && before.is_some_and(|before| step.at.saturating_sub(before.at) <= idle_gap_ms);
            MarkedStep { step: *step, started_by_session_id, starts_current: last == Some(index) }
        })
    }

    /// The steps of the current session, oldest first.
    #[must_use]
    pub fn current_session(&self) -> &[Step] {
        let start = self.steps.iter().rposition(|step| step.starts_session).unwrap_or(0);
        self.steps.get(start..).unwrap_or_default()
    }
}

/// A step with the additional information that [`UserSequence::merge`] needs.
struct MarkedStep {
    step: Step,
    /// Whether the step starts a session because of a new `session_id`, not because of an idle gap.
    started_by_session_id: bool,
    /// Whether the step starts the current session.
    starts_current: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step_at(at: Timestamp) -> Step {
        Step { item: Some(1), kind: 0, starts_session: false, at, value: 1.0 }
    }

    #[test]
    fn an_idle_gap_or_a_new_session_id_starts_a_session() {
        let mut sequence = UserSequence::default();
        assert!(sequence.push(0, step_at(0), Some("a"), 10));
        assert!(!sequence.push(1, step_at(10), Some("a"), 10), "a gap of exactly the limit does not start a session");
        assert!(sequence.push(2, step_at(21), Some("a"), 10));
        assert!(sequence.push(3, step_at(22), Some("b"), 10));
        assert!(!sequence.push(4, step_at(23), None, 10), "an event without an id belongs to the current session");
        assert_eq!((sequence.session_number, sequence.session_start), (3, 3));
        assert_eq!(sequence.current_session().len(), 2);
    }

    #[test]
    fn only_the_last_steps_are_kept() {
        let mut sequence = UserSequence::default();
        for at in 0..200 {
            sequence.push(at as u64, step_at(at), None, 10);
        }
        assert_eq!(sequence.steps.len(), UserSequence::MAX_STEPS);
        assert_eq!(sequence.steps[0].at, 150);
        assert_eq!(
            sequence.current_session().len(),
            UserSequence::MAX_STEPS,
            "the session start itself has left the window"
        );
    }

    /// Builds a sequence from events in time order.
    fn sequence_of(events: &[(u64, i64)]) -> UserSequence {
        let mut sequence = UserSequence::default();
        for (offset, at) in events {
            sequence.push(*offset, step_at(*at), None, 10);
        }
        sequence
    }

    proptest! {
        #[test]
        fn merged_users_equal_one_user_with_all_events(gaps in proptest::collection::vec((0_i64..16, any::<bool>()), 0..120)) {
            let mut at = 0;
            // All times differ, so the order of the events is unique.
            let events: Vec<_> = (0_u64..).zip(gaps).map(|(offset, (gap, own))| { at += gap + 1; (offset, at, own) }).collect();
            let of = |wanted: &dyn Fn(bool) -> bool| -> Vec<_> {
                events.iter().filter(|(_, _, own)| wanted(*own)).map(|(offset, at, _)| (*offset, *at)).collect()
            };
            let mut merged = sequence_of(&of(&|own| own));
            merged.merge(&sequence_of(&of(&|own| !own)), 10);
            let one = sequence_of(&of(&|_| true));
            prop_assert_eq!(&merged.steps, &one.steps);
            if events.len() <= UserSequence::MAX_STEPS {
                prop_assert_eq!(merged.session_number, one.session_number);
            }
            let current = merged.current_session().len();
            if current < UserSequence::MAX_STEPS {
                let names: Vec<_> = events.iter().rev().take(current).map(|(offset, ..)| *offset).collect();
                prop_assert!(names.is_empty() || names.contains(&merged.session_start), "the session start is one of its events: {} of {:?}", merged.session_start, names);
            }
        }
    }

    #[test]
    fn merging_keeps_a_session_start_by_session_id_and_the_session_id_of_the_last_step() {
        let mut ann = UserSequence::default();
        ann.push(0, step_at(0), Some("a"), 10);
        ann.push(1, step_at(5), Some("b"), 10);
        let mut anon = UserSequence::default();
        anon.push(2, step_at(3), Some("c"), 10);
        anon.push(3, step_at(9), None, 10);
        ann.merge(&anon, 10);
        assert_eq!(
            ann.steps.iter().map(|step| (step.at, step.starts_session)).collect::<Vec<_>>(),
            [(0, true), (3, false), (5, true), (9, false)]
        );
        assert_eq!((ann.session_number, ann.session_start, ann.session_id.as_deref()), (2, 1, Some("c")));
        let before = ann.clone();
        ann.merge(&UserSequence::default(), 10);
        assert_eq!(ann, before);
    }
}
