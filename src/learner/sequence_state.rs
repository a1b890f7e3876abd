//! A user as the network follows it: the sequence and the hidden state.

use crate::domain::{ExpiryCutoffs, Offset, Step, UserSequence};
use crate::nn::{HiddenState, NetworkScratch, Weights};
use serde::{Deserialize, Serialize};

use super::training_window::step_input;

/// The sequence of a user and the hidden state that it has led to. Session actors and the fold keep
/// the same one, each its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceState {
    /// The last steps.
    pub sequence: UserSequence,
    /// The state after the last step; `None` until it is needed, or once forgotten to save memory.
    hidden: Option<HiddenState>,
}

/// How a follower moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceParams {
    /// Milliseconds without an event after which a new session begins.
    pub idle_gap_ms: i64,
    /// Steps from which a hidden state is computed afresh.
    pub window: usize,
    /// Weight versions after which it is.
    pub refresh_after: u64,
}

impl Default for SequenceParams {
    fn default() -> Self {
        Self { idle_gap_ms: 30 * 60 * 1000, window: 20, refresh_after: 8 }
    }
}

impl SequenceState {
    /// Takes the step at a journal offset: appends it to the sequence and advances the hidden state
    /// by it. Says whether it began a new session.
    pub fn advance(
        &mut self,
        offset: Offset,
        step: Step,
        session_id: Option<&str>,
        pace: &SequenceParams,
        weights: Option<&Weights>,
        scratch: &mut NetworkScratch,
    ) -> bool {
        let border = self.sequence.push(offset, step, session_id, pace.idle_gap_ms);
        let last = self.sequence.steps.len() - 1;
        match (weights, &mut self.hidden) {
            (Some(weights), Some(hidden)) if fresh(hidden, weights, pace) => {
                if let Some(input) = step_input(&self.sequence.steps, last) {
                    weights.advance(hidden, &input, scratch);
                }
            }
            (_, hidden) => *hidden = None,
        }
        border
    }

    /// The hidden state after the last step, on weights not too old: kept if it is, else computed
    /// afresh from the window.
    pub fn hidden(&mut self, pace: &SequenceParams, weights: &Weights, scratch: &mut NetworkScratch) -> &HiddenState {
        if !self.hidden.as_ref().is_some_and(|hidden| fresh(hidden, weights, pace)) {
            self.hidden = None;
        }
        let steps = &self.sequence.steps;
        self.hidden.get_or_insert_with(|| {
            let mut state = weights.initial_state();
            for place in steps.len().saturating_sub(pace.window)..steps.len() {
                if let Some(input) = step_input(steps, place) {
                    weights.advance(&mut state, &input, scratch);
                }
            }
            state
        })
    }

    /// Takes in the sequence of a user who turns out to be this one, see [`UserSequence::merge`].
    pub fn merge(&mut self, other: &UserSequence, pace: &SequenceParams) {
        self.sequence.merge(other, pace.idle_gap_ms);
        self.hidden = None;
    }

    /// Takes out what is not to be kept any longer, see [`UserSequence::expire`]. Whether anything
    /// went.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) -> bool {
        let went = self.sequence.expire(expired);
        if went {
            self.hidden = None;
        }
        went
    }

    /// A follower as it was stored.
    #[must_use]
    pub fn restore(session: UserSequence, hidden: Option<HiddenState>) -> Self {
        Self { sequence: session, hidden }
    }

    /// The hidden state as it stands.
    #[must_use]
    pub fn cached_hidden(&self) -> Option<&HiddenState> {
        self.hidden.as_ref()
    }

    /// Puts back a hidden state that was known before.
    pub fn set_hidden(&mut self, hidden: Option<HiddenState>) {
        self.hidden = hidden;
    }

    /// Lets the hidden state go; it is computed afresh when it is next needed.
    pub fn forget_hidden(&mut self) {
        self.hidden = None;
    }
}

/// Whether a state was begun on weights young enough to go on with. A state of newer weights (a
/// reader may briefly hold an older snapshot) is not.
fn fresh(hidden: &HiddenState, weights: &Weights, pace: &SequenceParams) -> bool {
    weights.version().checked_sub(hidden.version).is_some_and(|age| age < pace.refresh_after)
}
