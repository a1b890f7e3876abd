//! Recomputation of a hidden state from the latest steps of a user.

use super::input::StepInput;
use super::math::add_vector_matrix_product;
use super::matmul::{MatrixView, matmul};
use super::network::{resize_without_clearing, resize_zeroed};
use super::weights::{HiddenState, NetworkScratch, Weights};

impl Weights {
    /// Computes the hidden state after `inputs`, which are given oldest first, starting from the
    /// initial state. Used to recompute a user's hidden state with newer weights.
    ///
    /// The input part of a layer does not depend on earlier steps. One matrix product computes it
    /// for all steps, so each weight is read once. Up to rounding, the result is that of repeated
    /// calls of [`Weights::advance`].
    #[must_use]
    pub fn hidden_state_after(&self, inputs: &[StepInput], scratch: &mut NetworkScratch) -> HiddenState {
        let NetworkScratch { below, gates, recurrent, next, .. } = scratch;
        let (settings, layout) = (self.settings(), &self.parameters.layout);
        let (hidden, cell, steps) = (settings.hidden, settings.cell, inputs.len());
        let (gate_width, state_width) = (hidden * cell.gate_blocks(), hidden * cell.state_blocks());
        let mut state = self.initial_state();
        let (layers, rest) = state.values.split_at_mut(settings.layers * state_width);
        let (memory, x) = rest.split_at_mut(hidden);
        resize_without_clearing(below, steps * hidden);
        for (input, row) in inputs.iter().zip(below.chunks_exact_mut(hidden)) {
            memory.iter_mut().zip(&*x).for_each(|(m, x)| *m = m.mul_add(settings.memory_decay, *x));
            self.parameters.embed_input(input, row);
            x.copy_from_slice(row);
        }
        for (layer, layout) in layers.chunks_exact_mut(state_width).zip(&layout.layers) {
            let bias = self.dense_parameters(&layout.bias);
            resize_without_clearing(gates, steps * gate_width);
            gates.chunks_exact_mut(gate_width).for_each(|row| row.copy_from_slice(bias));
            let weights = MatrixView::new(self.dense_parameters(&layout.input), hidden, gate_width);
            matmul(gates, gate_width, MatrixView::new(below, steps, hidden), weights, true);
            for (step, (gates, below)) in
                gates.chunks_exact_mut(gate_width).zip(below.chunks_exact_mut(hidden)).enumerate()
            {
                resize_zeroed(recurrent, gate_width);
                // The state before the first step is zero.
                if step > 0 {
                    let weights = self.dense_parameters(&layout.recurrent);
                    add_vector_matrix_product(recurrent, &layer[..hidden], weights);
                }
                resize_zeroed(next, state_width);
                cell.forward(hidden, gates, recurrent, layer, next);
                layer.copy_from_slice(next);
                below.copy_from_slice(&layer[..hidden]);
            }
        }
        state
    }
}
