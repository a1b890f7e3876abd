//! A user's behaviour sequence.

use super::{Expired, ItemIx, KindId, Offset, Timestamp};
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

    /// Takes in the sequence of a user who turns out to be this one, as if all had been done by one: steps are put among one another by their time, those of each in the order that they had
    /// and the own ones first where times are the same. What began a session goes on doing so unless steps of the other now stand in the gap before it. The visit under way is that of the
    /// last step. A session that was joined from two is named as the one that began it or, where that is not remembered, as the earlier of the two under way.
    pub fn absorb(&mut self, other: &Self, idle_gap_ms: i64) {
        if other.steps.is_empty() {
            return;
        }
        let (mut own, mut others) = (self.marked(idle_gap_ms).peekable(), other.marked(idle_gap_ms).peekable());
        let (mut steps, mut joined) = (Vec::with_capacity(self.steps.len() + other.steps.len()), 0);
        // Which of the two began the present session, where that is remembered, and whose the last step is.
        let (mut begun, mut last) = (None, true);
        loop {
            let is_own = match (own.peek(), others.peek()) {
                (Some(step), Some(another)) => step.step.at <= another.step.at,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let Some(Marked { mut step, by_id, begins_last }) = (if is_own { own.next() } else { others.next() }) else { break };
            if step.boundary {
                let idle = steps.last().is_none_or(|before: &Step| step.at.saturating_sub(before.at) > idle_gap_ms);
                step.boundary = by_id || idle;
                if step.boundary {
                    begun = begins_last.then_some(is_own);
                } else {
                    joined += 1;
                }
            }
            last = is_own;
            steps.push(step);
        }
        let merged = Self {
            number: self.number.saturating_add(other.number).saturating_sub(joined),
            begun: match begun {
                Some(true) => self.begun,
                Some(false) => other.begun,
                None if self.steps.is_empty() => other.begun,
                None => self.begun.min(other.begun),
            },
            session_id: if last { self.session_id.clone() } else { other.session_id.clone() },
            steps: steps.split_off(steps.len().saturating_sub(Self::MAX_STEPS)),
        };
        drop((own, others));
        *self = merged;
    }

    /// Takes out what is not to be kept any longer. Whether anything went; of a user of whom no step is left nothing tells what visit it was.
    pub fn expire(&mut self, expired: &Expired) -> bool {
        let went = expired.prune(&mut self.steps);
        if self.steps.is_empty() {
            self.session_id = None;
        }
        went
    }

    /// The steps, each with whether a new `session_id` began a session there, and whether it begins the last one.
    fn marked(&self, idle_gap_ms: i64) -> impl Iterator<Item = Marked> {
        let last = self.steps.iter().rposition(|step| step.boundary);
        self.steps.iter().enumerate().map(move |(place, step)| {
            let before = place.checked_sub(1).and_then(|before| self.steps.get(before));
            let by_id = step.boundary && before.is_some_and(|before| step.at.saturating_sub(before.at) <= idle_gap_ms);
            Marked { step: *step, by_id, begins_last: last == Some(place) }
        })
    }

    /// The steps of the current session alone, oldest first.
    #[must_use]
    pub fn current(&self) -> &[Step] {
        let start = self.steps.iter().rposition(|step| step.boundary).unwrap_or(0);
        self.steps.get(start..).unwrap_or_default()
    }
}

/// A step of a sequence, and what its merging with another has to know.
struct Marked {
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

    /// A sequence as its events make it, in the order of their times.
    fn folded(events: &[(u64, i64)]) -> Session {
        let mut session = Session::default();
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
            merged.absorb(&folded(&of(&|own| !own)), 10);
            let one = folded(&of(&|_| true));
            prop_assert_eq!(&merged.steps, &one.steps);
            if events.len() <= Session::MAX_STEPS {
                prop_assert_eq!(merged.number, one.number);
            }
            let current = merged.current().len();
            if current < Session::MAX_STEPS {
                let names: Vec<_> = events.iter().rev().take(current).map(|(offset, ..)| *offset).collect();
                prop_assert!(names.is_empty() || names.contains(&merged.begun), "it is named by one of its events: {} of {:?}", merged.begun, names);
            }
        }
    }

    #[test]
    fn a_border_that_an_id_made_stays_and_the_visit_under_way_is_that_of_the_last_step() {
        let mut ann = Session::default();
        ann.push(0, step(0), Some("a"), 10);
        ann.push(1, step(5), Some("b"), 10);
        let mut anon = Session::default();
        anon.push(2, step(3), Some("c"), 10);
        anon.push(3, step(9), None, 10);
        ann.absorb(&anon, 10);
        assert_eq!(
            ann.steps.iter().map(|step| (step.at, step.boundary)).collect::<Vec<_>>(),
            [(0, true), (3, false), (5, true), (9, false)]
        );
        assert_eq!((ann.number, ann.begun, ann.session_id.as_deref()), (2, 1, Some("c")));
        let before = ann.clone();
        ann.absorb(&Session::default(), 10);
        assert_eq!(ann, before);
    }
}
