//! The recurrent cells, elementwise: what happens between the matrix products.
//!
//! A layer of `hidden` units computes, for every step, the input's share `A = X · W + b` (for all steps at once) and the recurrence's share `R = H' · U` (H' the layer's previous
//! output), both `(rows, GATES · hidden)`. A [`RecurrentCell`] turns them and the previous state into the next one, and carries gradients back the same way.

mod gru;
mod lstm;
mod rnn;

pub(super) use gru::Gru;
pub(super) use lstm::Lstm;
pub(super) use rnn::Rnn;

use super::settings::CellKind;

/// What a cell's backward step reads: one step's rows of what its forward step wrote and read.
pub(super) struct SavedActivations<'a> {
    /// The activated gates, `(rows, GATES · hidden)`.
    pub(super) gates: &'a [f32],
    /// The recurrence's share, `(rows, GATES · hidden)`.
    pub(super) recurrent: &'a [f32],
    /// The state before, `(rows, STATE · hidden)`.
    pub(super) previous: &'a [f32],
    /// The state after, `(rows, STATE · hidden)`.
    pub(super) state: &'a [f32],
}

/// A recurrent cell. Its output is the first `hidden` values of its state.
pub(super) trait RecurrentCell {
    /// Blocks of `hidden` in the preactivations.
    const GATES: usize;
    /// Blocks of `hidden` in the state.
    const STATE: usize;

    /// One step: `gates` comes as the input's share and leaves activated; `state` is written.
    fn forward(hidden: usize, gates: &mut [f32], recurrent: &[f32], previous: &[f32], state: &mut [f32]);

    /// One step back: `carry` comes as the gradient of the state after and leaves as that of the state before, less what flows through the recurrent product;
    /// `d_gates` and `d_recurrent` are written as the gradients of the two shares.
    fn backward(hidden: usize, past: &SavedActivations<'_>, carry: &mut [f32], d_gates: &mut [f32], d_recurrent: &mut [f32]);
}

impl CellKind {
    /// Blocks of `hidden` in the cell's preactivations.
    pub(super) fn gate_blocks(self) -> usize {
        match self {
            Self::Rnn => Rnn::GATES,
            Self::Lstm => Lstm::GATES,
            Self::Gru => Gru::GATES,
        }
    }

    /// Blocks of `hidden` in the cell's state.
    pub fn state_blocks(self) -> usize {
        match self {
            Self::Rnn => Rnn::STATE,
            Self::Lstm => Lstm::STATE,
            Self::Gru => Gru::STATE,
        }
    }

    /// [`RecurrentCell::forward`] of this kind.
    pub(super) fn forward(self, hidden: usize, gates: &mut [f32], recurrent: &[f32], previous: &[f32], state: &mut [f32]) {
        match self {
            Self::Rnn => Rnn::forward(hidden, gates, recurrent, previous, state),
            Self::Lstm => Lstm::forward(hidden, gates, recurrent, previous, state),
            Self::Gru => Gru::forward(hidden, gates, recurrent, previous, state),
        }
    }

    /// [`RecurrentCell::backward`] of this kind.
    pub(super) fn backward(
        self,
        hidden: usize,
        past: &SavedActivations<'_>,
        carry: &mut [f32],
        d_gates: &mut [f32],
        d_recurrent: &mut [f32],
    ) {
        match self {
            Self::Rnn => Rnn::backward(hidden, past, carry, d_gates, d_recurrent),
            Self::Lstm => Lstm::backward(hidden, past, carry, d_gates, d_recurrent),
            Self::Gru => Gru::backward(hidden, past, carry, d_gates, d_recurrent),
        }
    }
}
