//! Gated recurrent unit [Cho et al. 2014].
//!
//! The reset gate is applied after the recurrent product, not before. One product `H' · U` can
//! therefore compute the recurrent part of all three gates.

use super::recurrent_cell::{RecurrentCell, SavedActivations};
use crate::nn::math::{kernel, sigmoid, tanh};

/// `r = σ(A_r + R_r)`, `z = σ(A_z + R_z)`, `n = tanh(A_n + r R_n)`, `h = (1 − z) n + z h'`.
///
/// The gate blocks are stored in the order r, z, n. The state is h.
pub(in crate::nn) struct Gru;

impl RecurrentCell for Gru {
    const GATE_BLOCKS: usize = 3;
    const STATE_BLOCKS: usize = 1;

    fn forward(hidden: usize, gates: &mut [f32], recurrent: &[f32], previous: &[f32], state: &mut [f32]) {
        forward(hidden, gates, recurrent, previous, state);
    }

    fn backward(
        hidden: usize,
        saved: &SavedActivations<'_>,
        carry: &mut [f32],
        d_gates: &mut [f32],
        d_recurrent: &mut [f32],
    ) {
        backward(hidden, saved, carry, d_gates, d_recurrent);
    }
}

kernel! {
    fn forward<'a>(hidden: usize, gates: &'a mut [f32], recurrent: &'a [f32], previous: &'a [f32], state: &'a mut [f32]) -> () {
        let width = 3 * hidden;
        let rows = gates.chunks_exact_mut(width).zip(recurrent.chunks_exact(width));
        let states = previous.chunks_exact(hidden).zip(state.chunks_exact_mut(hidden));
        for ((gates, recurrent), (previous, state)) in rows.zip(states) {
            let (reset_update, new) = gates.split_at_mut(2 * hidden);
            let (recurrent_gates, recurrent_new) = recurrent.split_at(2 * hidden);
            for (gate, recurrent) in reset_update.iter_mut().zip(recurrent_gates) {
                *gate = sigmoid(*gate + recurrent);
            }
            let (reset, update) = reset_update.split_at(hidden);
            for ((new, reset), recurrent) in new.iter_mut().zip(reset).zip(recurrent_new) {
                *new = tanh(*new + reset * recurrent);
            }
            for (((state, previous), update), new) in state.iter_mut().zip(previous).zip(update).zip(&*new) {
                *state = new + update * (previous - new);
            }
        }
    }

    fn backward<'a>(hidden: usize, saved: &'a SavedActivations<'a>, carry: &'a mut [f32], d_gates: &'a mut [f32], d_recurrent: &'a mut [f32]) -> () {
        let width = 3 * hidden;
        let reads = saved.gates.chunks_exact(width).zip(saved.recurrent.chunks_exact(width)).zip(saved.previous.chunks_exact(hidden));
        let writes = carry.chunks_exact_mut(hidden).zip(d_gates.chunks_exact_mut(width)).zip(d_recurrent.chunks_exact_mut(width));
        for (((gates, recurrent), previous), ((carry, d_gates), d_recurrent)) in reads.zip(writes) {
            let (reset, rest) = gates.split_at(hidden);
            let (update, new) = rest.split_at(hidden);
            let recurrent_new = &recurrent[2 * hidden..];
            let (d_reset, rest) = d_gates.split_at_mut(hidden);
            let (d_update, d_new) = rest.split_at_mut(hidden);
            let (d_recurrent_gates, d_recurrent_new) = d_recurrent.split_at_mut(2 * hidden);
            for i in 0..hidden {
                let (r, z, n) = (reset[i], update[i], new[i]);
                let d_preactivation = carry[i] * (1.0 - z) * (1.0 - n * n);
                d_new[i] = d_preactivation;
                d_recurrent_new[i] = d_preactivation * r;
                d_reset[i] = d_preactivation * recurrent_new[i] * r * (1.0 - r);
                d_update[i] = carry[i] * (previous[i] - n) * z * (1.0 - z);
                carry[i] *= z;
            }
            let (d_recurrent_reset, d_recurrent_update) = d_recurrent_gates.split_at_mut(hidden);
            d_recurrent_reset.copy_from_slice(d_reset);
            d_recurrent_update.copy_from_slice(d_update);
        }
    }
}
