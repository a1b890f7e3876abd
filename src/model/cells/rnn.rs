//! The plain recurrent cell [Elman 1990].

use super::{Cell, Past};
use crate::model::math::{dispatch, tanh};

/// `h = tanh(A + R)`.
pub(in crate::model) struct Rnn;

impl Cell for Rnn {
    const GATES: usize = 1;
    const STATE: usize = 1;

    fn forward(_hidden: usize, gates: &mut [f32], recurrent: &[f32], _previous: &[f32], state: &mut [f32]) {
        dispatch(|| {
            for ((gate, recurrent), state) in gates.iter_mut().zip(recurrent).zip(state) {
                *gate = tanh(*gate + recurrent);
                *state = *gate;
            }
        });
    }

    fn backward(_hidden: usize, past: &Past<'_>, carry: &mut [f32], d_gates: &mut [f32], d_recurrent: &mut [f32]) {
        dispatch(|| {
            for (((carry, h), d_gate), d_recurrent) in carry.iter_mut().zip(past.state).zip(d_gates).zip(d_recurrent) {
                *d_gate = *carry * (1.0 - h * h);
                *d_recurrent = *d_gate;
                *carry = 0.0;
            }
        });
    }
}
