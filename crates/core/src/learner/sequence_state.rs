//! The sequence state of a user: the latest steps, and the network's hidden state after them.

use crate::domain::{ExpiryCutoffs, Offset, Placement, Step, UserSequence};
use crate::nn::{HiddenState, NetworkScratch, Weights};
use serde::{Deserialize, Serialize};

use super::training_window::step_input;

/// Sequence state of a user: the latest steps, and a cached hidden state (the memory of the
/// recurrent network after the last step).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceState {
    /// The latest steps.
    pub sequence: UserSequence,
    /// The hidden state after the last step. `None` if it was never needed or was dropped to save
    /// memory.
    hidden: Option<HiddenState>,
}

/// Parameters of a [`SequenceState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceParams {
    /// An event starts a new session if the user had no event for more than this many milliseconds.
    pub idle_gap_ms: i64,
    /// Number of latest steps from which a hidden state is recomputed.
    pub window: usize,
    /// A hidden state is recomputed if it began with weights that are at least this many versions
    /// old.
    pub refresh_after: u64,
}

impl Default for SequenceParams {
    fn default() -> Self {
        Self { idle_gap_ms: 30 * 60 * 1000, window: 20, refresh_after: 8 }
    }
}

impl SequenceState {
    /// Inserts the step of the event at journal offset `offset` at its place, see
    /// [`UserSequence::place`], and advances the hidden state. Returns the place.
    pub fn advance(
        &mut self,
        offset: Offset,
        step: Step,
        session_id: Option<&str>,
        params: &SequenceParams,
        weights: Option<&Weights>,
        scratch: &mut NetworkScratch,
    ) -> Placement {
        let placement = self.sequence.push(offset, step, session_id, params.idle_gap_ms);
        // The learner does not need the kept steps, because it hides no items.
        self.sequence.kept_steps.clear();
        let last = self.sequence.steps.len().saturating_sub(1);
        match (weights, &mut self.hidden) {
            _ if !placement.is_kept => {}
            (Some(weights), Some(hidden))
                if placement.is_appended && is_hidden_state_fresh(hidden, weights, params) =>
            {
                if let Some(input) = step_input(&self.sequence.steps, last) {
                    weights.advance(hidden, &input, scratch);
                }
            }
            (_, hidden) => *hidden = None,
        }
        placement
    }

    /// Returns the hidden state after the last step. If the state is missing or its weights are too
    /// old, recomputes it from the last steps.
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
            let recent = steps.len().saturating_sub(params.window)..steps.len();
            let inputs: Vec<_> = recent.filter_map(|index| step_input(steps, index)).collect();
            weights.hidden_state_after(&inputs, scratch)
        })
    }

    /// Adds the sequence of a user who has been merged into this user, see [`UserSequence::merge`].
    pub fn merge(&mut self, other: &UserSequence, params: &SequenceParams) {
        self.sequence.merge(other, params.idle_gap_ms);
        self.hidden = None;
    }

    /// Removes expired steps, see [`UserSequence::expire`]. Returns whether any step was removed.
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

    /// The cached hidden state, whose weights may be too old.
    #[must_use]
    pub fn cached_hidden_state(&self) -> Option<&HiddenState> {
        self.hidden.as_ref()
    }

    /// Replaces the cached hidden state.
    pub fn set_hidden_state(&mut self, hidden: Option<HiddenState>) {
        self.hidden = hidden;
    }

    /// Drops the hidden state. The next call of [`SequenceState::fresh_hidden_state`] recomputes
    /// it.
    pub fn drop_hidden_state(&mut self) {
        self.hidden = None;
    }
}

/// Whether a hidden state can be continued with `weights`. The version of the weights with which
/// the state began must be recent enough. It must also not be newer than `weights`, which can
/// happen in a reader that still has an older snapshot.
fn is_hidden_state_fresh(hidden: &HiddenState, weights: &Weights, params: &SequenceParams) -> bool {
    weights.version().checked_sub(hidden.version).is_some_and(|age| age < params.refresh_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{NetworkSettings, Trainer};

    #[test]
    fn a_hidden_state_is_recomputed_before_its_weights_are_too_old() {
        let mut trainer = Trainer::new(NetworkSettings { hidden: 4, ..NetworkSettings::default() }, 1, 5).unwrap();
        trainer.grow_items(4);
        let params = SequenceParams { refresh_after: 3, ..SequenceParams::default() };
        let (mut state, mut scratch) = (SequenceState::default(), NetworkScratch::default());
        let mut ages = Vec::new();
        for version in 0..30 {
            let weights = trainer.publish(version);
            let step = Step { item: Some(1), kind: 0, starts_session: false, at: version as i64, value: 1.0 };
            state.advance(version, step, None, &params, Some(&weights), &mut scratch);
            let hidden = state.fresh_hidden_state(&params, &weights, &mut scratch);
            ages.push(version - hidden.version);
        }
        assert!(ages.iter().all(|age| *age < params.refresh_after) && ages.contains(&2), "{ages:?}");
        // A reader with an older snapshot cannot use a state of newer weights.
        let older = trainer.publish(5);
        assert_eq!(state.fresh_hidden_state(&params, &older, &mut scratch).version, 5);
    }
}
