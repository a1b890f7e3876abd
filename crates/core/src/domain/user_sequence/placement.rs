//! Where an event belongs in a sequence, and its insertion there.

use std::ops::Range;

use super::{EarlierSession, UserSequence};
use crate::domain::{Offset, Step, Timestamp};

/// Where an event belongs in a sequence, see [`UserSequence::place`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Whether the event is within the remembered steps. If it is older than all of them, the event
    /// is not added to the steps.
    pub is_kept: bool,
    /// Whether the event's session is the current session after the insertion.
    pub is_current: bool,
    /// Whether the event continues the session that was the current one.
    pub continues_current: bool,
    /// Whether the event follows the last step and the order of sessions does not change.
    pub is_appended: bool,
    /// The journal offset that identifies the event's session; `None` if the event starts a
    /// session, or if the offset is no longer known.
    pub session_start: Option<Offset>,
    /// The exclusive end of the event's session, as an index into the steps as they are after the
    /// insertion.
    pub session_end: usize,
    /// The session of the event, as a range of the steps as they are before the insertion; `None`
    /// if the event starts a session.
    session: Option<Range<usize>>,
    /// The event's index in the steps as they are before the insertion.
    index: usize,
}

impl Placement {
    /// Whether the event starts a session.
    #[must_use]
    pub fn starts_session(&self) -> bool {
        self.session.is_none()
    }

    /// The steps of the event's session that precede it. `sequence` is the sequence before the
    /// insertion.
    #[must_use]
    pub fn preceding<'s>(&self, sequence: &'s UserSequence) -> &'s [Step] {
        let start = self.session.as_ref().map_or(self.index, |session| session.start);
        sequence.steps.get(start..self.index).unwrap_or_default()
    }
}

impl UserSequence {
    /// Finds where an event belongs.
    ///
    /// - An event that is not older than the last step continues the current session. If the event
    ///   follows a gap of more than `idle_gap_ms`, it starts a session. If it has another
    ///   `session_id`, it continues the earlier session of that id, provided that session ended at
    ///   most `idle_gap_ms` ago; otherwise it starts a session.
    ///
    /// - A late event is older than the last step. It belongs to the latest session that spans its
    ///   time or is at most `idle_gap_ms` away from it. If the event has a `session_id`, only
    ///   sessions of that id are considered. If no session qualifies, the event starts one, which
    ///   is ordered among the earlier sessions by its time.
    ///
    /// - If the sequence holds its maximum number of steps, a late event older than all of them is
    ///   left out.
    #[must_use]
    pub fn place(&self, at: Timestamp, session_id: Option<&str>, idle_gap_ms: i64) -> Placement {
        match self.steps.last() {
            Some(last) if at < last.at => self.place_late(at, session_id, idle_gap_ms),
            _ => self.place_in_order(at, session_id, idle_gap_ms),
        }
    }

    /// Places an event that is not older than the last step.
    fn place_in_order(&self, at: Timestamp, session_id: Option<&str>, idle_gap_ms: i64) -> Placement {
        let len = self.steps.len();
        let start = Placement {
            is_kept: true,
            is_current: true,
            continues_current: false,
            is_appended: true,
            session_start: None,
            session_end: len.saturating_add(1).min(Self::MAX_STEPS),
            session: None,
            index: len,
        };
        let is_idle = self.steps.last().is_none_or(|last| at.saturating_sub(last.at) > idle_gap_ms);
        if !is_idle && (session_id.is_none() || session_id == self.session_id.as_deref()) {
            let session = Some(len - self.current_session().len()..len);
            return Placement { continues_current: true, session, session_start: Some(self.session_start), ..start };
        }
        match session_id.and_then(|id| self.resumable(at, id, idle_gap_ms)) {
            Some((earlier, session)) => Placement {
                is_appended: false,
                session_start: Some(earlier.session_start),
                index: session.end,
                session: Some(session),
                ..start
            },
            None => start,
        }
    }

    /// The latest earlier session of an id that ended at most an idle gap before `at`.
    fn resumable(&self, at: Timestamp, id: &str, idle_gap_ms: i64) -> Option<(&EarlierSession, Range<usize>)> {
        let of_id = || self.earlier_sessions.iter().filter(|earlier| earlier.session_id.as_deref() == Some(id));
        of_id().next()?;
        let sessions = self.sessions();
        of_id().find_map(|earlier| {
            let session = sessions.iter().rev().nth(earlier.sessions_after as usize)?;
            let (_, end) = self.span(session)?;
            (at.saturating_sub(end) <= idle_gap_ms).then(|| (earlier, session.clone()))
        })
    }

    /// Places an event that is older than the last step.
    fn place_late(&self, at: Timestamp, session_id: Option<&str>, idle_gap_ms: i64) -> Placement {
        let (sessions, is_full) = (self.sessions(), self.steps.len() >= Self::MAX_STEPS);
        let has_id = |after: usize| {
            let id = match after {
                0 => self.session_id.as_deref(),
                _ => self.earlier_session(after).and_then(|earlier| earlier.session_id.as_deref()),
            };
            session_id.is_none() || session_id == id
        };
        let is_near = |session: &Range<usize>| {
            self.span(session).is_some_and(|(first, last)| {
                first.saturating_sub(at) <= idle_gap_ms && at.saturating_sub(last) <= idle_gap_ms
            })
        };
        let found = sessions.iter().rev().enumerate().find(|(after, session)| has_id(*after) && is_near(session));
        let index = match found {
            Some((_, session)) => session
                .clone()
                .rev()
                .find(|index| self.step_is_at_or_before(*index, at))
                .map_or(session.start, |index| index + 1),
            // Before the first session that ended later.
            None => sessions
                .iter()
                .find(|session| self.span(session).is_some_and(|(_, end)| end > at))
                .map_or(0, |session| session.start),
        };
        let is_kept = !(is_full && index == 0);
        let found = found.filter(|_| is_kept);
        let session_start = match found {
            Some((0, _)) => Some(self.session_start),
            Some((after, _)) => self.earlier_session(after).map(|earlier| earlier.session_start),
            None => None,
        };
        let is_current = matches!(found, Some((0, _)));
        let end_before = found.map_or(index, |(_, session)| self.end_after_move(&sessions, session, index, at));
        Placement {
            is_kept,
            is_current,
            continues_current: is_current,
            is_appended: false,
            session_start,
            session_end: (end_before + 1).saturating_sub(usize::from(is_full)),
            session: found.map(|(_, session)| session.clone()),
            index,
        }
    }

    /// The end of an earlier session after a step at `at` was inserted at `index`. The inserted
    /// step itself does not count. If the inserted step is the session's new last step, the session
    /// moves behind the sessions that ended earlier.
    fn end_after_move(&self, sessions: &[Range<usize>], session: &Range<usize>, index: usize, at: Timestamp) -> usize {
        let ends_later = |other: &&Range<usize>| self.span(other).is_some_and(|(_, end)| end > at);
        let next = sessions.iter().filter(|other| other.start >= session.end).find(ends_later);
        if index == session.end { next.map_or(index, |next| next.start) } else { session.end }
    }

    /// Whether the step with this index exists and is not later than `at`.
    fn step_is_at_or_before(&self, index: usize, at: Timestamp) -> bool {
        self.steps.get(index).is_some_and(|step| step.at <= at)
    }

    /// Inserts the event with this journal offset at the position found by `place`.
    pub fn insert(
        &mut self,
        offset: Offset,
        mut step: Step,
        session_id: Option<&str>,
        idle_gap_ms: i64,
        placement: &Placement,
    ) {
        if !placement.is_kept {
            return self.keep_step(step);
        }
        step.starts_session = placement.starts_session();
        match &placement.session {
            None if placement.is_current => self.begin_current(offset, step, session_id, idle_gap_ms),
            None => self.begin_late(offset, step, session_id, placement.index, idle_gap_ms),
            Some(session) if placement.is_current && !placement.continues_current => self.resume(session, step),
            Some(_) if placement.index == self.steps.len() => self.add(self.steps.len(), step),
            Some(session) => self.insert_late(offset, step, session, placement, idle_gap_ms),
        }
    }

    /// Inserts a step. Drops the first step if there are too many.
    fn add(&mut self, mut index: usize, step: Step) {
        if self.steps.len() >= Self::MAX_STEPS {
            let removed = self.steps.remove(0);
            self.keep_step(removed);
            index = index.saturating_sub(1);
            if !self.earlier_sessions.is_empty() {
                let sessions = self.sessions().len();
                self.earlier_sessions.retain(|earlier| (earlier.sessions_after as usize) < sessions);
            }
        }
        self.steps.insert(index.min(self.steps.len()), step);
    }

    fn begin_current(&mut self, offset: Offset, step: Step, session_id: Option<&str>, idle_gap_ms: i64) {
        self.leave_current();
        self.session_number = self.session_number.saturating_add(1);
        self.session_start = offset;
        self.session_id = session_id.map(str::to_owned);
        self.add(self.steps.len(), step);
        self.prune_earlier_sessions(idle_gap_ms);
    }

    /// The current session becomes the one before the current.
    fn leave_current(&mut self) {
        for earlier in &mut self.earlier_sessions {
            earlier.sessions_after += 1;
        }
        if self.session_id.is_some() && !self.steps.is_empty() {
            let left = EarlierSession {
                sessions_after: 1,
                session_start: self.session_start,
                session_id: self.session_id.take(),
                is_late: false,
            };
            self.earlier_sessions.insert(0, left);
        }
    }

    /// Makes an earlier session the current one and appends the step to it.
    fn resume(&mut self, session: &Range<usize>, step: Step) {
        self.move_back(session, self.steps.len());
        let is_resumed = |earlier: &EarlierSession| earlier.sessions_after == 0;
        let Some(position) = self.earlier_sessions.iter().position(is_resumed) else { return };
        let resumed = self.earlier_sessions.remove(position);
        // `leave_current` counts the resumed session.
        self.earlier_sessions.iter_mut().for_each(|earlier| earlier.sessions_after -= 1);
        self.leave_current();
        (self.session_start, self.session_id) = (resumed.session_start, resumed.session_id);
        self.add(self.steps.len(), step);
    }

    /// Moves a session behind the sessions that end at `end`. Returns the number of sessions after
    /// it.
    fn move_back(&mut self, session: &Range<usize>, end: usize) -> usize {
        let (from, to) = (self.sessions_after(session), self.sessions_after(&(end..end)));
        if end == session.end {
            return from;
        }
        for earlier in &mut self.earlier_sessions {
            let after = earlier.sessions_after as usize;
            if after == from {
                earlier.sessions_after = u32::try_from(to).unwrap_or(u32::MAX);
            } else if (to..from).contains(&after) {
                earlier.sessions_after += 1;
            }
        }
        // The step that started the first session may have been dropped.
        if let Some(first) = self.steps.get_mut(session.start) {
            first.starts_session = true;
        }
        if let Some(moved) = self.steps.get_mut(session.start..end) {
            moved.rotate_left(session.len());
        }
        to
    }

    /// Number of sessions after this one.
    fn sessions_after(&self, session: &Range<usize>) -> usize {
        self.steps.get(session.end..).unwrap_or_default().iter().filter(|step| step.starts_session).count()
    }

    /// Starts a session before the session that begins at `index`.
    fn begin_late(&mut self, offset: Offset, step: Step, session_id: Option<&str>, index: usize, idle_gap_ms: i64) {
        if let Some(next) = self.steps.get_mut(index) {
            next.starts_session = true;
        }
        let after = self.sessions_after(&(index..index));
        for earlier in self.earlier_sessions.iter_mut().filter(|earlier| earlier.sessions_after as usize >= after) {
            earlier.sessions_after += 1;
        }
        self.session_number = self.session_number.saturating_add(1);
        self.remember(after, offset, session_id);
        self.add(index, step);
        self.prune_earlier_sessions(idle_gap_ms);
    }

    /// Remembers an earlier session that received a late event.
    fn remember(&mut self, after: usize, session_start: Offset, session_id: Option<&str>) {
        let sessions_after = u32::try_from(after).unwrap_or(u32::MAX);
        let session_id = session_id.map(str::to_owned);
        self.earlier_sessions.push(EarlierSession { sessions_after, session_start, session_id, is_late: true });
    }

    fn insert_late(
        &mut self,
        offset: Offset,
        mut step: Step,
        session: &Range<usize>,
        placement: &Placement,
        idle_gap_ms: i64,
    ) {
        let mut after = self.sessions_after(session);
        let mut index = placement.index;
        if index == session.end {
            let end = self.end_after_move(&self.sessions(), session, index, step.at);
            (after, index) = (self.move_back(session, end), end);
        }
        if after > 0 && placement.session_start.is_none() {
            self.remember(after, offset, None);
        }
        if index == session.start {
            self.take_over_start(&mut step, index, after, idle_gap_ms);
        }
        self.add(index, step);
        self.prune_earlier_sessions(idle_gap_ms);
    }

    /// The step becomes the first of the session that begins at `index`. If the step fills the idle
    /// gap before that session, the session is joined with the preceding session.
    fn take_over_start(&mut self, step: &mut Step, index: usize, after: usize, idle_gap_ms: i64) {
        let before = index.checked_sub(1).and_then(|before| self.steps.get(before)).map(|before| before.at);
        let Some(first) = self.steps.get_mut(index) else { return };
        let was_idle = before.is_some_and(|before| first.at.saturating_sub(before) > idle_gap_ms);
        let is_idle = before.is_none_or(|before| step.at.saturating_sub(before) > idle_gap_ms);
        step.starts_session = first.starts_session;
        first.starts_session = false;
        if !was_idle || is_idle {
            return;
        }
        step.starts_session = false;
        self.session_number = self.session_number.saturating_sub(1);
        // The joined session keeps the identity of the preceding session, if that is known.
        let of = |sessions: usize| move |earlier: &EarlierSession| earlier.sessions_after as usize == sessions;
        let joined =
            self.earlier_sessions.iter().position(of(after + 1)).map(|position| self.earlier_sessions.remove(position));
        for earlier in self.earlier_sessions.iter_mut().filter(|earlier| earlier.sessions_after as usize > after) {
            earlier.sessions_after -= 1;
        }
        let Some(joined) = joined else { return };
        if after == 0 {
            self.session_start = joined.session_start;
        } else {
            self.earlier_sessions.retain(|earlier| earlier.sessions_after as usize != after);
            self.earlier_sessions.push(EarlierSession { sessions_after: joined.sessions_after - 1, ..joined });
        }
    }
}
