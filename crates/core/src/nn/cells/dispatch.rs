//! Calls the cell implementation that a [`CellKind`] stands for.

use super::gru::Gru;
use super::lstm::Lstm;
use super::recurrent_cell::{RecurrentCell, SavedActivations};
use super::rnn::Rnn;
use crate::nn::settings::CellKind;

impl CellKind {
    /// Number of gate blocks in the cell's preactivations. Each block has one value per hidden
    /// unit.
    pub(in crate::nn) fn gate_blocks(self) -> usize {
        match self {
            Self::Rnn => Rnn::GATE_BLOCKS,
            Self::Lstm => Lstm::GATE_BLOCKS,
            Self::Gru => Gru::GATE_BLOCKS,
        }
    }

    /// Number of blocks in the cell's state. Each block has one value per hidden unit.
    pub fn state_blocks(self) -> usize {
        match self {
            Self::Rnn => Rnn::STATE_BLOCKS,
            Self::Lstm => Lstm::STATE_BLOCKS,
            Self::Gru => Gru::STATE_BLOCKS,
        }
    }

    /// Calls [`RecurrentCell::forward`] of the cell implementation.
    pub(in crate::nn) fn forward(
        self,
        hidden: usize,
        gates: &mut [f32],
        recurrent: &[f32],
        previous: &[f32],
        state: &mut [f32],
    ) {
        match self {
            Self::Rnn => Rnn::forward(hidden, gates, recurrent, previous, state),
            Self::Lstm => Lstm::forward(hidden, gates, recurrent, previous, state),
            Self::Gru => Gru::forward(hidden, gates, recurrent, previous, state),
        }
    }

    /// Calls [`RecurrentCell::backward`] of the cell implementation.
    pub(in crate::nn) fn backward(
        self,
        hidden: usize,
        saved: &SavedActivations<'_>,
        carry: &mut [f32],
        d_gates: &mut [f32],
        d_recurrent: &mut [f32],
    ) {
        match self {
            Self::Rnn => Rnn::backward(hidden, saved, carry, d_gates, d_recurrent),
            Self::Lstm => Lstm::backward(hidden, saved, carry, d_gates, d_recurrent),
            Self::Gru => Gru::backward(hidden, saved, carry, d_gates, d_recurrent),
        }
    }
}
