//! Long short-term memory [Hochreiter & Schmidhuber 1997] with a forget gate [Gers et al. 2000].

use super::recurrent_cell::{RecurrentCell, SavedActivations};
use crate::nn::math::{kernel, sigmoid, tanh};

/// `i, f, o = σ(A + R)`, `g = tanh(A_g + R_g)`, `c = f c' + i g`, `h = o tanh(c)`.
///
/// The gate blocks are stored in the order i, f, o, g. The state is h, then c.
pub(in crate::nn) struct Lstm;

impl RecurrentCell for Lstm {
    const GATE_BLOCKS: usize = 4;
    const STATE_BLOCKS: usize = 2;

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
        let (width, state_width) = (4 * hidden, 2 * hidden);
        let rows = gates.chunks_exact_mut(width).zip(recurrent.chunks_exact(width));
        let states = previous.chunks_exact(state_width).zip(state.chunks_exact_mut(state_width));
        for ((gates, recurrent), (previous, state)) in rows.zip(states) {
            let (sigmoids, candidate) = gates.split_at_mut(3 * hidden);
            let (recurrent_sigmoids, recurrent_candidate) = recurrent.split_at(3 * hidden);
            for (gate, recurrent) in sigmoids.iter_mut().zip(recurrent_sigmoids) {
                *gate = sigmoid(*gate + recurrent);
            }
            for (gate, recurrent) in candidate.iter_mut().zip(recurrent_candidate) {
                *gate = tanh(*gate + recurrent);
            }
            let (input, rest) = sigmoids.split_at(hidden);
            let (forget, output) = rest.split_at(hidden);
            let (h, c) = state.split_at_mut(hidden);
            let previous_c = &previous[hidden..state_width];
            for ((((c, previous_c), forget), input), candidate) in c.iter_mut().zip(previous_c).zip(forget).zip(input).zip(&*candidate) {
                *c = forget * previous_c + input * candidate;
            }
            for ((h, c), output) in h.iter_mut().zip(&*c).zip(output) {
                *h = output * tanh(*c);
            }
        }
    }

    fn backward<'a>(hidden: usize, saved: &'a SavedActivations<'a>, carry: &'a mut [f32], d_gates: &'a mut [f32], d_recurrent: &'a mut [f32]) -> () {
        let (width, state_width) = (4 * hidden, 2 * hidden);
        let states = saved.previous.chunks_exact(state_width).zip(saved.state.chunks_exact(state_width));
        let reads = saved.gates.chunks_exact(width).zip(states);
        let writes = carry.chunks_exact_mut(state_width).zip(d_gates.chunks_exact_mut(width));
        for ((gates, (previous, state)), (carry, d_gates)) in reads.zip(writes) {
            let (input, rest) = gates.split_at(hidden);
            let (forget, rest) = rest.split_at(hidden);
            let (output, candidate) = rest.split_at(hidden);
            let (previous_c, c) = (&previous[hidden..state_width], &state[hidden..state_width]);
            let (d_h, d_c) = carry.split_at_mut(hidden);
            let (d_input, rest) = d_gates.split_at_mut(hidden);
            let (d_forget, rest) = rest.split_at_mut(hidden);
            let (d_output, d_candidate) = rest.split_at_mut(hidden);
            for j in 0..hidden {
                let (i, f, o, g) = (input[j], forget[j], output[j], candidate[j]);
                let tanh_c = tanh(c[j]);
                let d_cell = d_c[j] + d_h[j] * o * (1.0 - tanh_c * tanh_c);
                d_output[j] = d_h[j] * tanh_c * o * (1.0 - o);
                d_input[j] = d_cell * g * i * (1.0 - i);
                d_forget[j] = d_cell * previous_c[j] * f * (1.0 - f);
                d_candidate[j] = d_cell * i * (1.0 - g * g);
                d_c[j] = d_cell * f;
                d_h[j] = 0.0;
            }
        }
        d_recurrent.copy_from_slice(d_gates);
    }
}
