//! A user's sequence and hidden state.

use crate::domain::{ExpiryCutoffs, Offset, Step, UserSequence};
use crate::nn::{HiddenState, NetworkScratch, Weights};
use serde::{Deserialize, Serialize};

use super::training_window::step_input;

/// A user's sequence and the hidden state after it. Session actors and the learner each keep their
/// own copy, and the copies agree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceState {
    /// The latest steps.
    pub sequence: UserSequence,
    /// The hidden state after the last step; `None` until it is needed, or after it was dropped to
    /// save memory.
    hidden: Option<HiddenState>,
}

/// Parameters of the sequence state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceParams {
    /// Milliseconds without an event after which a new session begins.
    pub idle_gap_ms: i64,
    /// Number of steps from which a hidden state is recomputed.
    pub window: usize,
    /// A hidden state is recomputed after this many weight versions.
    pub refresh_after: u64,
}

impl Default for SequenceParams {
    fn default() -> Self {
        Self { idle_gap_ms: 30 * 60 * 1000, window: 20, refresh_after: 8 }
    }
}

impl SequenceState {
    /// Appends the step at a journal offset to the sequence and advances the hidden state. Returns
    /// whether the step began a new session.
    pub fn advance(
        &mut self,
        offset: Offset,
        step: Step,
        session_id: Option<&str>,
        params: &SequenceParams,
        weights: Option<&Weights>,
        scratch: &mut NetworkScratch,
    ) -> bool {
        let starts_session = self.sequence.push(offset, step, session_id, params.idle_gap_ms);
        let last = self.sequence.steps.len() - 1;
        match (weights, &mut self.hidden) {
            (Some(weights), Some(hidden)) if is_hidden_state_fresh(hidden, weights, params) => {
                if let Some(input) = step_input(&self.sequence.steps, last) {
                    weights.advance(hidden, &input, scratch);
                }
            }
            (_, hidden) => *hidden = None,
        }
        starts_session
    }

    /// Returns the hidden state after the last step. Recomputes it from the window if it was
    /// started on weights that are too old.
    pub fn fresh_hidden_state(
        &mut self,
        params: &SequenceParams,
        weights: &Weights,
        scratch: &mut NetworkScratch,
    ) -> &HiddenState {
        if !self.hidden.as_ref().is_some_and(|hidden| is_hidden_state_fresh(hidden, weights, params)) {
            self.hidden = None;
        }
        let steps = &self.sequence.steps;
        self.hidden.get_or_insert_with(|| {
            let mut state = weights.initial_state();
            for index in steps.len().saturating_sub(params.window)..steps.len() {
                if let Some(input) = step_input(steps, index) {
                    weights.advance(&mut state, &input, scratch);
                }
            }
            state
        })
    }

    /// Adds the sequence of a user who has been merged into this one, see [`UserSequence::merge`].
    pub fn merge(&mut self, other: &UserSequence, params: &SequenceParams) {
        self.sequence.merge(other, params.idle_gap_ms);
        self.hidden = None;
    }

    /// Removes expired steps, see [`UserSequence::expire`]. Returns whether anything was removed.
    pub fn expire(&mut self, expired: &ExpiryCutoffs) -> bool {
        let changed = self.sequence.expire(expired);
        if changed {
            self.hidden = None;
        }
        changed
    }

    /// Restores a stored sequence state.
    #[must_use]
    pub fn restore(sequence: UserSequence, hidden: Option<HiddenState>) -> Self {
        Self { sequence, hidden }
    }

    /// The cached hidden state, which may be outdated.
    #[must_use]
    pub fn cached_hidden_state(&self) -> Option<&HiddenState> {
        self.hidden.as_ref()
    }

    /// Replaces the cached hidden state.
    pub fn set_hidden_state(&mut self, hidden: Option<HiddenState>) {
        self.hidden = hidden;
    }

    /// Drops the hidden state. It is recomputed when it is next needed.
    pub fn drop_hidden_state(&mut self) {
        self.hidden = None;
    }
}

/// Whether a hidden state was started on weights recent enough to continue. A state from newer
/// weights is not fresh; a reader may briefly hold an older snapshot.
fn is_hidden_state_fresh(hidden: &HiddenState, weights: &Weights, params: &SequenceParams) -> bool {
    weights.version().checked_sub(hidden.version).is_some_and(|age| age < params.refresh_after)
}
