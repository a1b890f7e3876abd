//! A user's behaviour sequence.

mod kept_steps;
mod merge;
mod packed;
mod placement;
#[cfg(test)]
mod tests;

pub use packed::PackedSequence;
pub use placement::Placement;

use super::{ExpiryCutoffs, ItemIx, Offset, Step, Timestamp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The last steps of one user, across sessions.
///
/// The steps of one session follow each other in the order of their times. The sessions follow each
/// other in the order of their last steps. So the last step is the latest one, and its session is
/// the current one. Sessions of several `session_id`s may overlap in time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UserSequence {
    /// Number of sessions of this user so far.
    pub session_number: u32,
    /// The journal offset of the current session's first event, which identifies the session across
    /// users.
    pub session_start: Offset,
    /// The site's own id of the current session.
    pub session_id: Option<String>,
    /// The steps, at most [`UserSequence::MAX_STEPS`].
    pub steps: Vec<Step>,
    /// Earlier sessions that later events may belong to by their id, and those that late events
    /// started; most recent first. Encoded apart from the other fields, whose encoding has no room
    /// for more fields.
    #[serde(skip)]
    pub earlier_sessions: Vec<EarlierSession>,
    /// The latest dismissals and purchases that are older than `steps`, oldest first, at most
    /// [`UserSequence::MAX_KEPT_STEPS`]. Encoded apart, like the earlier sessions.
    #[serde(skip)]
    pub kept_steps: Vec<Step>,
}

/// A session before the current one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierSession {
    /// Number of sessions after this one in the steps.
    pub sessions_after: u32,
    /// The journal offset that identifies the session, see [`UserSequence::session_start`].
    pub session_start: Offset,
    /// The site's own id of the session.
    pub session_id: Option<String>,
    /// Whether a late event caused this entry.
    pub is_late: bool,
}

impl UserSequence {
    /// Maximum number of steps.
    pub const MAX_STEPS: usize = 50;
    /// Maximum number of dismissals and purchases that are kept beyond the steps.
    pub const MAX_KEPT_STEPS: usize = 100;
    /// Maximum number of earlier sessions whose ids and offsets are remembered.
    pub const MAX_EARLIER_SESSIONS: usize = 8;

    /// Inserts the event that has this journal offset, at the place that [`UserSequence::place`]
    /// finds. Returns the place.
    pub fn push(&mut self, offset: Offset, step: Step, session_id: Option<&str>, idle_gap_ms: i64) -> Placement {
        let placement = self.place(step.at, session_id, idle_gap_ms);
        self.insert(offset, step, session_id, idle_gap_ms, &placement);
        placement
    }

    /// Removes expired steps and returns whether any were removed. If no step is left, the session
    /// id is removed too.
    pub fn expire(&mut self, cutoffs: &ExpiryCutoffs) -> bool {
        self.renumber_earlier_sessions(|step| !cutoffs.is_expired(step.kind, step.at));
        let removed = cutoffs.remove_expired(&mut self.steps) | cutoffs.remove_expired(&mut self.kept_steps);
        if self.steps.is_empty() {
            self.session_id = None;
        }
        removed
    }

    /// The item of the latest step with an item.
    #[must_use]
    pub fn last_item(&self) -> Option<ItemIx> {
        self.steps.iter().rev().find_map(|step| step.item)
    }

    /// The steps of the current session alone, oldest first.
    #[must_use]
    pub fn current_session(&self) -> &[Step] {
        let start = self.steps.iter().rposition(|step| step.starts_session).unwrap_or(0);
        self.steps.get(start..).unwrap_or_default()
    }

    /// The ranges of the sessions in the steps, in their order.
    fn sessions(&self) -> Vec<Range<usize>> {
        let starts = self.steps.iter().enumerate().filter(|(index, step)| *index == 0 || step.starts_session);
        let starts: Vec<usize> = starts.map(|(index, _)| index).collect();
        let ends = starts.iter().skip(1).copied().chain([self.steps.len()]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }

    /// The time of the first and the last step of a session.
    fn span(&self, session: &Range<usize>) -> Option<(Timestamp, Timestamp)> {
        let steps = self.steps.get(session.clone())?;
        Some((steps.first()?.at, steps.last()?.at))
    }

    /// The earlier session with `sessions_after` sessions after it, if it is remembered.
    fn earlier_session(&self, sessions_after: usize) -> Option<&EarlierSession> {
        self.earlier_sessions.iter().find(|earlier| earlier.sessions_after as usize == sessions_after)
    }

    /// Renumbers the earlier sessions, before the steps for which `is_kept` is false are removed.
    /// Forgets sessions of which no step remains.
    fn renumber_earlier_sessions(&mut self, is_kept: impl Fn(&Step) -> bool) {
        if self.earlier_sessions.is_empty() {
            return;
        }
        let has_kept = |session: Range<usize>| self.steps.get(session).is_some_and(|steps| steps.iter().any(&is_kept));
        // Whether each session stays. The index is the number of sessions after it.
        let stays: Vec<bool> = self.sessions().into_iter().rev().map(has_kept).collect();
        let renumbered = |mut earlier: EarlierSession| {
            let position = earlier.sessions_after as usize;
            let after = stays.get(..position)?.iter().filter(|stays| **stays).count();
            earlier.sessions_after = u32::try_from(after).ok()?;
            (after > 0 && *stays.get(position)?).then_some(earlier)
        };
        self.earlier_sessions = std::mem::take(&mut self.earlier_sessions).into_iter().filter_map(renumbered).collect();
    }

    /// Forgets the earlier sessions without a step. Also forgets those that ended more than an idle
    /// gap before the last step, except entries that a late event caused. Of the rest, keeps the
    /// latest [`Self::MAX_EARLIER_SESSIONS`].
    fn prune_earlier_sessions(&mut self, idle_gap_ms: i64) {
        if self.earlier_sessions.is_empty() {
            return;
        }
        let now = self.steps.last().map_or(Timestamp::MIN, |last| last.at);
        let ends: Vec<Timestamp> =
            self.sessions().iter().rev().filter_map(|session| Some(self.span(session)?.1)).collect();
        self.earlier_sessions.retain(|earlier| {
            ends.get(earlier.sessions_after as usize)
                .is_some_and(|end| earlier.is_late || now.saturating_sub(*end) <= idle_gap_ms)
        });
        self.earlier_sessions.sort_by_key(|earlier| earlier.sessions_after);
        self.earlier_sessions.truncate(Self::MAX_EARLIER_SESSIONS);
    }
}
