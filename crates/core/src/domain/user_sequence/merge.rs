//! Merging the sequences of two users.

use super::{EarlierSession, UserSequence};
use crate::domain::{Step, Timestamp};

/// A step, with the data about its session that a merge needs.
struct MarkedStep {
    step: Step,
    /// Whether a new `session_id`, not an idle gap, started a session here.
    by_id: bool,
    /// Whether the step starts the current session.
    starts_current: bool,
    /// The session that the step starts, if later events may belong to it.
    session: Option<EarlierSession>,
}

/// A session as a whole.
struct WholeSession<'s> {
    steps: &'s [Step],
    session: Option<EarlierSession>,
    is_own: bool,
}

impl UserSequence {
    /// Merges the sequence of another user into this one, as if one user had produced both.
    ///
    /// - Steps are interleaved by time. This user's steps come first at equal times.
    ///
    /// - A step that starts a session still does so after the merge, unless steps of the other
    ///   sequence fill the idle gap before it.
    ///
    /// - If either user has sessions that overlap in time, steps are not interleaved: every session
    ///   stays whole.
    ///
    /// - The current `session_id` is that of the last step.
    ///
    /// - If two sessions are joined, the result keeps the offset of the session that started first.
    ///   If that start is no longer stored, the result keeps the smaller offset of the two current
    ///   sessions.
    pub fn merge(&mut self, other: &Self, idle_gap_ms: i64) {
        if other.steps.is_empty() {
            return self.merge_kept_steps(&other.kept_steps);
        }
        let mut merged = if self.is_in_order() && other.is_in_order() {
            self.interleaved(other, idle_gap_ms)
        } else {
            self.with_sessions_of(other)
        };
        let surplus = merged.steps.len().saturating_sub(Self::MAX_STEPS);
        merged.kept_steps = std::mem::take(&mut self.kept_steps);
        merged.merge_kept_steps(&other.kept_steps);
        let removed: Vec<Step> = merged.steps.drain(..surplus).collect();
        merged.merge_kept_steps(&removed);
        merged.prune_earlier_sessions(idle_gap_ms);
        *self = merged;
    }

    /// Whether the steps of all sessions together are in the order of their times.
    fn is_in_order(&self) -> bool {
        self.steps.is_sorted_by_key(|step| step.at)
    }

    fn interleaved(&self, other: &Self, idle_gap_ms: i64) -> Self {
        let (mut own, mut others) = (self.marked(idle_gap_ms).peekable(), other.marked(idle_gap_ms).peekable());
        let (mut steps, mut joined) = (Vec::with_capacity(self.steps.len() + other.steps.len()), 0);
        // `current_from_own`: which sequence started the current session, if that is stored.
        // `last_from_own`: which sequence has the last step.
        let (mut current_from_own, mut last_from_own) = (None, true);
        let mut earlier_sessions: Vec<EarlierSession> = Vec::new();
        loop {
            let is_own = match (own.peek(), others.peek()) {
                (Some(step), Some(another)) => step.step.at <= another.step.at,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let Some(MarkedStep { mut step, by_id, starts_current, session }) =
                (if is_own { own.next() } else { others.next() })
            else {
                break;
            };
            if step.starts_session {
                let idle = steps.last().is_none_or(|before: &Step| step.at.saturating_sub(before.at) > idle_gap_ms);
                step.starts_session = by_id || idle;
                if step.starts_session {
                    current_from_own = starts_current.then_some(is_own);
                    earlier_sessions.iter_mut().for_each(|earlier| earlier.sessions_after += 1);
                    earlier_sessions.extend(session.map(|session| EarlierSession { sessions_after: 0, ..session }));
                } else {
                    joined += 1;
                }
            }
            last_from_own = is_own;
            steps.push(step);
        }
        earlier_sessions.retain(|earlier| earlier.sessions_after > 0);
        Self {
            session_number: self.session_number.saturating_add(other.session_number).saturating_sub(joined),
            session_start: match current_from_own {
                Some(true) => self.session_start,
                Some(false) => other.session_start,
                None if self.steps.is_empty() => other.session_start,
                None => self.session_start.min(other.session_start),
            },
            session_id: if last_from_own { self.session_id.clone() } else { other.session_id.clone() },
            steps,
            earlier_sessions,
            kept_steps: Vec::new(),
        }
    }

    /// The sessions of both users, each as a whole, in the order of their last steps.
    fn with_sessions_of(&self, other: &Self) -> Self {
        let mut sessions: Vec<WholeSession<'_>> =
            self.whole_sessions(true).chain(other.whole_sessions(false)).collect();
        let end = |session: &WholeSession<'_>| session.steps.last().map_or(Timestamp::MIN, |last| last.at);
        sessions.sort_by_key(end);
        let current = if sessions.last().is_none_or(|last| last.is_own) { self } else { other };
        let (mut steps, mut earlier_sessions) = (Vec::with_capacity(self.steps.len() + other.steps.len()), Vec::new());
        for (after, WholeSession { steps: of_session, session, .. }) in (0..sessions.len()).rev().zip(sessions) {
            let begin = steps.len();
            steps.extend_from_slice(of_session);
            if let Some(first) = steps.get_mut(begin).filter(|_| begin > 0) {
                first.starts_session = true;
            }
            let sessions_after = u32::try_from(after).unwrap_or(u32::MAX);
            earlier_sessions
                .extend(session.filter(|_| after > 0).map(|session| EarlierSession { sessions_after, ..session }));
        }
        Self {
            session_number: self.session_number.saturating_add(other.session_number),
            session_start: current.session_start,
            session_id: current.session_id.clone(),
            steps,
            earlier_sessions,
            kept_steps: Vec::new(),
        }
    }

    fn whole_sessions(&self, is_own: bool) -> impl Iterator<Item = WholeSession<'_>> {
        let sessions = self.sessions();
        let count = sessions.len();
        sessions.into_iter().enumerate().map(move |(index, session)| WholeSession {
            steps: self.steps.get(session).unwrap_or_default(),
            session: self.identified(count - 1 - index),
            is_own,
        })
    }

    /// The session with `after` sessions after it, if later events may belong to it.
    fn identified(&self, after: usize) -> Option<EarlierSession> {
        if after > 0 {
            return self.earlier_session(after).cloned();
        }
        let session_id = self.session_id.clone();
        session_id.is_some().then_some(EarlierSession {
            sessions_after: 0,
            session_start: self.session_start,
            session_id,
            is_late: false,
        })
    }

    /// The steps, each with two facts: whether a new `session_id` started a session at the step,
    /// and which session the step starts.
    fn marked(&self, idle_gap_ms: i64) -> impl Iterator<Item = MarkedStep> {
        let last = self.steps.iter().rposition(|step| step.starts_session);
        let mut after = self.steps.iter().filter(|step| step.starts_session).count();
        self.steps.iter().enumerate().map(move |(index, step)| {
            let before = index.checked_sub(1).and_then(|before| self.steps.get(before));
            let by_id =
                step.starts_session && before.is_some_and(|before| step.at.saturating_sub(before.at) <= idle_gap_ms);
            after -= usize::from(step.starts_session);
            let session = step.starts_session.then(|| self.identified(after)).flatten();
            MarkedStep { step: *step, by_id, starts_current: last == Some(index), session }
        })
    }
}
