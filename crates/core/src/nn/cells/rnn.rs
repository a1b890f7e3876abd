//! Plain (Elman) recurrent cell [Elman 1990].

use super::recurrent_cell::{RecurrentCell, SavedActivations};
use crate::nn::math::{kernel, tanh};

/// `h = tanh(A + R)`, with A and R as in [`RecurrentCell::forward`]. The cell has one gate block,
/// whose activated values are the state h.
pub(in crate::nn) struct Rnn;

impl RecurrentCell for Rnn {
    const GATE_BLOCKS: usize = 1;
    const STATE_BLOCKS: usize = 1;

    fn forward(_hidden: usize, gates: &mut [f32], recurrent: &[f32], _previous: &[f32], state: &mut [f32]) {
        forward(gates, recurrent, state);
    }

    fn backward(
        _hidden: usize,
        saved: &SavedActivations<'_>,
        carry: &mut [f32],
        d_gates: &mut [f32],
        d_recurrent: &mut [f32],
    ) {
        backward(saved.state, carry, d_gates);
        d_recurrent.copy_from_slice(d_gates);
    }
}

kernel! {
    fn forward<'a>(gates: &'a mut [f32], recurrent: &'a [f32], state: &'a mut [f32]) -> () {
        for ((gate, recurrent), state) in gates.iter_mut().zip(recurrent).zip(state) {
            *gate = tanh(*gate + recurrent);
            *state = *gate;
        }
    }

    fn backward<'a>(state: &'a [f32], carry: &'a mut [f32], d_gates: &'a mut [f32]) -> () {
        for ((carry, h), d_gate) in carry.iter_mut().zip(state).zip(d_gates) {
            *d_gate = *carry * (1.0 - h * h);
            *carry = 0.0;
        }
    }
}
