//! A user's behaviour sequence.

use super::{ExpiryCutoffs, Offset, Step, Timestamp};
use serde::{Deserialize, Serialize};

/// The last steps of one user, across session borders.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UserSequence {
    /// Counts this user's sessions: 1 in the first.
    pub session_number: u32,
    /// The journal offset of the current session's first event: what tells sessions apart across
    /// users.
    pub session_start: Offset,
    /// The site's own id of the current visit.
    pub session_id: Option<String>,
    /// Oldest first, at most [`UserSequence::MAX_STEPS`].
    pub steps: Vec<Step>,
}

impl UserSequence {
    /// How many steps are remembered.
    pub const MAX_STEPS: usize = 50;

    /// Whether an event would begin a new session: the first ever, one after more than
    /// `idle_gap_ms` without an event, or one with another `session_id`.
    #[must_use]
    pub fn starts_new_session(&self, at: Timestamp, session_id: Option<&str>, idle_gap_ms: i64) -> bool {
        let idle = self.steps.last().is_none_or(|last| at.saturating_sub(last.at) > idle_gap_ms);
        idle || (session_id.is_some() && session_id != self.session_id.as_deref())
    }

    /// Appends the event at a journal offset and says whether it began a new session, see
    /// [`UserSequence::starts_new_session`].
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

    /// Takes in the sequence of a user who turns out to be this one, as if all had been done by
    /// one: steps are put among one another by their time, those of each in the order that they had
    /// and the own ones first where times are the same. What began a session goes on doing so
    /// unless steps of the other now stand in the gap before it. The visit under way is that of the
    /// last step. A session that was joined from two is named as the one that began it or, where
    /// that is not remembered, as the earlier of the two under way.
    pub fn merge(&mut self, other: &Self, idle_gap_ms: i64) {
        if other.steps.is_empty() {
            return;
        }
        let (mut own, mut others) = (self.marked(idle_gap_ms).peekable(), other.marked(idle_gap_ms).peekable());
        let (mut steps, mut joined) = (Vec::with_capacity(self.steps.len() + other.steps.len()), 0);
        // Which of the two began the present session, where that is remembered, and whose the last
        // step is.
        let (mut begun, mut last) = (None, true);
        loop {
            let is_own = match (own.peek(), others.peek()) {
                (Some(step), Some(another)) => step.step.at <= another.step.at,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let Some(MarkedStep { mut step, by_id, begins_last }) = (if is_own { own.next() } else { others.next() }) else { break };
            if step.starts_session {
                let idle = steps.last().is_none_or(|before: &Step| step.at.saturating_sub(before.at) > idle_gap_ms);
                step.starts_session = by_id || idle;
                if step.starts_session {
                    begun = begins_last.then_some(is_own);
                } else {
                    joined += 1;
                }
            }
            last = is_own;
            steps.push(step);
        }
        let merged = Self {
            session_number: self.session_number.saturating_add(other.session_number).saturating_sub(joined),
            session_start: match begun {
                Some(true) => self.session_start,
                Some(false) => other.session_start,
                None if self.steps.is_empty() => other.session_start,
                None => self.session_start.min(other.session_start),
            },
            session_id: if last { self.session_id.clone() } else { other.session_id.clone() },
            steps: steps.split_off(steps.len().saturating_sub(Self::MAX_STEPS)),
        };
        drop((own, others));
        *self = merged;
    }

    /// Removes expired steps and returns whether any were removed. If no step is left, the session
    /// id is removed too.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) -> bool {
        let went = expired.prune(&mut self.steps);
        if self.steps.is_empty() {
            self.session_id = None;
        }
        went
    }

    /// The steps, each with whether a new `session_id` began a session there, and whether it begins
    /// the last one.
    fn marked(&self, idle_gap_ms: i64) -> impl Iterator<Item = MarkedStep> {
        let last = self.steps.iter().rposition(|step| step.starts_session);
        self.steps.iter().enumerate().map(move |(place, step)| {
            let before = place.checked_sub(1).and_then(|before| self.steps.get(before));
            let by_id = step.starts_session && before.is_some_and(|before| step.at.saturating_sub(before.at) <= idle_gap_ms);
            MarkedStep { step: *step, by_id, begins_last: last == Some(place) }
        })
    }

    /// The steps of the current session alone, oldest first.
    #[must_use]
    pub fn current_session(&self) -> &[Step] {
        let start = self.steps.iter().rposition(|step| step.starts_session).unwrap_or(0);
        self.steps.get(start..).unwrap_or_default()
    }
}

/// A step of a sequence, and what its merging with another has to know.
struct MarkedStep {
    step: Step,
    /// A new `session_id` began a session here, and no gap.
    by_id: bool,
    /// It begins the session under way.
    begins_last: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(at: Timestamp) -> Step {
        Step { item: Some(1), kind: 0, starts_session: false, at, value: 1.0 }
    }

    #[test]
    fn an_idle_gap_or_a_new_id_begins_a_session() {
        let mut session = UserSequence::default();
        assert!(session.push(0, step(0), Some("a"), 10));
        assert!(!session.push(1, step(10), Some("a"), 10), "a gap of exactly the limit is no border");
        assert!(session.push(2, step(21), Some("a"), 10));
        assert!(session.push(3, step(22), Some("b"), 10));
        assert!(!session.push(4, step(23), None, 10), "an event without an id belongs to the visit under way");
        assert_eq!((session.session_number, session.session_start), (3, 3));
        assert_eq!(session.current_session().len(), 2);
    }

    #[test]
    fn only_the_last_steps_are_kept() {
        let mut session = UserSequence::default();
        for at in 0..200 {
            session.push(at as u64, step(at), None, 10);
        }
        assert_eq!(session.steps.len(), UserSequence::MAX_STEPS);
        assert_eq!(session.steps[0].at, 150);
        assert_eq!(session.current_session().len(), UserSequence::MAX_STEPS, "the border itself has left the window");
    }

    /// A sequence as its events make it, in the order of their times.
    fn folded(events: &[(u64, i64)]) -> UserSequence {
        let mut session = UserSequence::default();
        for (offset, at) in events {
            session.push(*offset, step(*at), None, 10);
        }
        session
    }

    proptest! {
        #[test]
        fn two_users_merged_are_as_one_who_did_it_all(gaps in proptest::collection::vec((0_i64..16, any::<bool>()), 0..120)) {
            let mut at = 0;
            // No two at once, so that the order is one.
            let events: Vec<_> = (0_u64..).zip(gaps).map(|(offset, (gap, own))| { at += gap + 1; (offset, at, own) }).collect();
            let of = |wanted: &dyn Fn(bool) -> bool| -> Vec<_> {
                events.iter().filter(|(_, _, own)| wanted(*own)).map(|(offset, at, _)| (*offset, *at)).collect()
            };
            let mut merged = folded(&of(&|own| own));
            merged.merge(&folded(&of(&|own| !own)), 10);
            let one = folded(&of(&|_| true));
            prop_assert_eq!(&merged.steps, &one.steps);
            if events.len() <= UserSequence::MAX_STEPS {
                prop_assert_eq!(merged.session_number, one.session_number);
            }
            let current = merged.current_session().len();
            if current < UserSequence::MAX_STEPS {
                let names: Vec<_> = events.iter().rev().take(current).map(|(offset, ..)| *offset).collect();
                prop_assert!(names.is_empty() || names.contains(&merged.session_start), "it is named by one of its events: {} of {:?}", merged.session_start, names);
            }
        }
    }

    #[test]
    fn a_border_that_an_id_made_stays_and_the_visit_under_way_is_that_of_the_last_step() {
        let mut ann = UserSequence::default();
        ann.push(0, step(0), Some("a"), 10);
        ann.push(1, step(5), Some("b"), 10);
        let mut anon = UserSequence::default();
        anon.push(2, step(3), Some("c"), 10);
        anon.push(3, step(9), None, 10);
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
