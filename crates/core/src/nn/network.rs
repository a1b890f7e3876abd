//! Forward and backward pass over a batch: the input embeddings, the recurrent layers, and the two
//! paths that bypass these layers.

use super::batch::{BatchStep, TrainingBatch};
use super::cells::SavedActivations;
use super::embedding_table::EmbeddingTable;
use super::math::{add_row_sum, add_scaled, add_scaled_dispatched, kernel, multiply_elementwise};
use super::matmul::{MatrixView, matmul, transpose_copy};
use super::parameters::NetworkParameters;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use std::ops::Range;

/// Activations of one layer, saved for the backward pass.
#[derive(Debug, Clone, Default)]
struct LayerPass {
    /// Activated gates, `(rows, gates · hidden)`.
    gates: Vec<f32>,
    /// Recurrent preactivations, `(rows, gates · hidden)`.
    recurrent: Vec<f32>,
    /// Cell states, `(rows, state · hidden)`.
    states: Vec<f32>,
    /// Layer output after dropout, `(rows, hidden)`.
    outputs: Vec<f32>,
    /// Dropout mask with one row per training window, `(windows, hidden)`; empty without dropout.
    mask: Vec<f32>,
}

/// Activations of a batch and buffers for their gradients. The buffers are reused, so a pass over a
/// later batch of the same size allocates nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct NetworkPass {
    /// Network inputs x after dropout, `(rows, hidden)`.
    inputs: Vec<f32>,
    input_mask: Vec<f32>,
    /// Decayed memory m of earlier inputs, `(rows, hidden)`.
    memory: Vec<f32>,
    layers: Vec<LayerPass>,
    /// Network outputs o, `(rows, hidden)`.
    pub(super) outputs: Vec<f32>,
    /// On entry to the backward pass, the gradient of o. During the backward pass, the gradient of
    /// the current layer's output. `(rows, hidden)`.
    pub(super) d_outputs: Vec<f32>,
    /// Gradient of the network inputs x, `(rows, hidden)`.
    pub(super) d_inputs: Vec<f32>,
    d_memory: Vec<f32>,
    /// Transposed copy of the weight matrix that the current product uses.
    transposed: Vec<f32>,
    d_gates: Vec<f32>,
    d_recurrent: Vec<f32>,
    /// Gradient of the cell state, which backpropagation passes from a time step to the preceding
    /// one, `(windows, state · hidden)`.
    carry: Vec<f32>,
    /// Layer output at the preceding time step of each row's window, `(rows, hidden)`.
    previous_outputs: Vec<f32>,
    /// Cell state before the first time step: zeros, `(windows, state · hidden)`.
    initial_states: Vec<f32>,
}

/// Resizes `buffer` to `len` values and sets all of them to zero.
pub(super) fn resize_zeroed(buffer: &mut Vec<f32>, len: usize) {
    buffer.clear();
    buffer.resize(len, 0.0);
}

/// Resizes `buffer` to `len` values without clearing the old values. The caller must write every
/// value before it reads the buffer.
pub(super) fn resize_without_clearing(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(len, 0.0);
}

/// Draws an inverted-dropout mask: a value is 0 with probability `rate`, else `1 / (1 − rate)`. The
/// mask is empty if `rate` is 0.
fn draw_dropout_mask(mask: &mut Vec<f32>, len: usize, rate: f32, rng: &mut Xoshiro256PlusPlus) {
    mask.clear();
    if rate <= 0.0 {
        return;
    }
    let (threshold, kept) = ((rate * 65_536.0) as u64, 1.0 / (1.0 - rate));
    while mask.len() < len {
        let bits = rng.next_u64();
        let values = (0..4).map(|part| if bits >> (16 * part) & 0xffff < threshold { 0.0 } else { kept });
        mask.extend(values.take(len - mask.len()));
    }
}

kernel! {
    /// Computes one time step of the decayed memory, `m_t = γ m_{t-1} + x_{t-1}`.
    fn memory_step<'a>(memory: &'a mut [f32], previous: &'a [f32], inputs: &'a [f32], decay: f32) -> () {
        for ((m, previous), x) in memory.iter_mut().zip(previous).zip(inputs) {
            *m = previous.mul_add(decay, *x);
        }
    }

    /// Adds the gradient of the layer output (`hidden` values per row) to the gradient of the cell
    /// state (`stride` values per row), of which the output is the first part.
    fn add_output_gradient<'a>(carry: &'a mut [f32], stride: usize, d_outputs: &'a [f32], hidden: usize) -> () {
        for (carry, d_output) in carry.chunks_exact_mut(stride).zip(d_outputs.chunks_exact(hidden)) {
            add_scaled(&mut carry[..hidden], 1.0, d_output);
        }
    }
}

/// Index range of `rows` rows, starting at row `first`, in a buffer with `width` values per row.
fn row_range(first: usize, rows: usize, width: usize) -> Range<usize> {
    first * width..(first + rows) * width
}

impl NetworkPass {
    /// Computes the output o of every row. The initial states are zero, and `rng` draws the dropout
    /// masks.
    ///
    /// All time steps of a training window share one dropout mask per layer (variational dropout,
    /// Gal & Ghahramani 2016).
    pub(super) fn forward(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        rng: &mut Xoshiro256PlusPlus,
    ) {
        let settings = &*parameters.settings;
        let (hidden, rows, windows) = (settings.hidden, batch.row_count(), batch.window_count());
        let square_matrix = |range: &Range<usize>| MatrixView::new(&parameters.dense[range.clone()], hidden, hidden);
        self.layers.resize_with(settings.layers, LayerPass::default);
        self.draw_dropout_masks(parameters, windows, rng);
        resize_without_clearing(&mut self.inputs, rows * hidden);
        for (input, x) in batch.inputs.iter().zip(self.inputs.chunks_exact_mut(hidden)) {
            parameters.embed_input(input, x);
        }
        if !self.input_mask.is_empty() {
            batch.time_steps().for_each(|BatchStep { first, rows, .. }| {
                multiply_elementwise(&mut self.inputs[row_range(first, rows, hidden)], &self.input_mask)
            });
        }
        resize_zeroed(&mut self.initial_states, windows * hidden * settings.cell.state_blocks());
        for layer in 0..settings.layers {
            self.layer_forward(parameters, batch, layer);
        }
        self.outputs.clear();
        self.outputs.extend(self.layers.last().into_iter().flat_map(|layer| &layer.outputs));
        if settings.input_to_output {
            let x = MatrixView::new(&self.inputs, rows, hidden);
            matmul(&mut self.outputs, hidden, x, square_matrix(&parameters.layout.input_to_output), true);
        }
        if settings.input_memory {
            resize_zeroed(&mut self.memory, rows * hidden);
            for BatchStep { previous_first, first, rows } in batch.time_steps() {
                let Some(previous_first) = previous_first else { continue };
                let (earlier, current) = self.memory.split_at_mut(first * hidden);
                let previous_rows = row_range(previous_first, rows, hidden);
                memory_step(
                    current,
                    &earlier[previous_rows.clone()],
                    &self.inputs[previous_rows],
                    settings.memory_decay,
                );
            }
            let m = MatrixView::new(&self.memory, rows, hidden);
            matmul(&mut self.outputs, hidden, m, square_matrix(&parameters.layout.input_memory), true);
        }
    }

    fn draw_dropout_masks(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        windows: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) {
        let settings = &*parameters.settings;
        let len = windows * settings.hidden;
        draw_dropout_mask(&mut self.input_mask, len, settings.input_dropout, rng);
        self.layers.iter_mut().for_each(|layer| draw_dropout_mask(&mut layer.mask, len, settings.hidden_dropout, rng));
    }

    fn layer_forward(&mut self, parameters: &NetworkParameters<EmbeddingTable>, batch: &TrainingBatch, index: usize) {
        let settings = &*parameters.settings;
        let (cell, hidden, rows) = (settings.cell, settings.hidden, batch.row_count());
        let (gate_width, state_width) = (hidden * cell.gate_blocks(), hidden * cell.state_blocks());
        let layout = &parameters.layout.layers[index];
        let (lower, upper) = self.layers.split_at_mut(index);
        let layer = &mut upper[0];
        let below = lower.last().map_or(&self.inputs, |layer| &layer.outputs);
        let bias = &parameters.dense[layout.bias.clone()];
        resize_without_clearing(&mut layer.gates, rows * gate_width);
        layer.gates.chunks_exact_mut(gate_width).for_each(|row| row.copy_from_slice(bias));
        let input = MatrixView::new(&parameters.dense[layout.input.clone()], hidden, gate_width);
        matmul(&mut layer.gates, gate_width, MatrixView::new(below, rows, hidden), input, true);
        let weights = MatrixView::new(&parameters.dense[layout.recurrent.clone()], hidden, gate_width);
        resize_without_clearing(&mut layer.states, rows * state_width);
        resize_without_clearing(&mut layer.outputs, rows * hidden);
        resize_without_clearing(&mut layer.recurrent, rows * gate_width);
        for BatchStep { previous_first, first, rows } in batch.time_steps() {
            let recurrent = &mut layer.recurrent[row_range(first, rows, gate_width)];
            let (earlier, current) = layer.states.split_at_mut(first * state_width);
            let previous = match previous_first {
                Some(previous_first) => {
                    let h = MatrixView::new(&layer.outputs[row_range(previous_first, rows, hidden)], rows, hidden);
                    matmul(recurrent, gate_width, h, weights, false);
                    &earlier[row_range(previous_first, rows, state_width)]
                }
                None => {
                    recurrent.fill(0.0);
                    &self.initial_states[..rows * state_width]
                }
            };
            let current = &mut current[..rows * state_width];
            cell.forward(hidden, &mut layer.gates[row_range(first, rows, gate_width)], recurrent, previous, current);
            let outputs = &mut layer.outputs[row_range(first, rows, hidden)];
            for (output, state) in outputs.chunks_exact_mut(hidden).zip(current.chunks_exact(state_width)) {
                output.copy_from_slice(&state[..hidden]);
            }
            multiply_elementwise(outputs, &layer.mask);
        }
    }

    /// Backpropagates `d_outputs` through the network and through time over each training window.
    ///
    /// Writes the gradient of the dense parameters to `gradient`, which must be zero on entry.
    /// Writes the gradient of the input x of each row, before dropout, to `d_inputs`.
    pub(super) fn backward(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        gradient: &mut [f32],
    ) {
        let settings = &*parameters.settings;
        let (hidden, rows) = (settings.hidden, batch.row_count());
        let layout = &*parameters.layout;
        resize_zeroed(&mut self.d_inputs, rows * hidden);
        let d_outputs = MatrixView::new(&self.d_outputs, rows, hidden);
        let square_matrix = |range: &Range<usize>| MatrixView::new(&parameters.dense[range.clone()], hidden, hidden);
        if settings.input_to_output {
            let x = MatrixView::new(&self.inputs, rows, hidden);
            matmul(&mut gradient[layout.input_to_output.clone()], hidden, x.transposed(), d_outputs, false);
            let weights = transpose_copy(&mut self.transposed, square_matrix(&layout.input_to_output), hidden);
            matmul(&mut self.d_inputs, hidden, d_outputs, weights, false);
        }
        if settings.input_memory {
            let m = MatrixView::new(&self.memory, rows, hidden);
            matmul(&mut gradient[layout.input_memory.clone()], hidden, m.transposed(), d_outputs, false);
            resize_without_clearing(&mut self.d_memory, rows * hidden);
            let weights = transpose_copy(&mut self.transposed, square_matrix(&layout.input_memory), hidden);
            matmul(&mut self.d_memory, hidden, d_outputs, weights, false);
            for BatchStep { previous_first, first, rows } in batch.time_steps().rev() {
                let Some(previous_first) = previous_first else { continue };
                let (earlier, current) = self.d_memory.split_at_mut(first * hidden);
                let (earlier, current) =
                    (&mut earlier[row_range(previous_first, rows, hidden)], &current[..rows * hidden]);
                let d_x = &mut self.d_inputs[row_range(previous_first, rows, hidden)];
                add_scaled_dispatched(earlier, settings.memory_decay, current);
                add_scaled_dispatched(d_x, 1.0, current);
            }
        }
        for layer in (0..settings.layers).rev() {
            self.layer_steps_backward(parameters, batch, layer);
            self.layer_weights_backward(parameters, batch, layer, gradient);
        }
        if !self.input_mask.is_empty() {
            batch.time_steps().for_each(|BatchStep { first, rows, .. }| {
                multiply_elementwise(&mut self.d_inputs[row_range(first, rows, hidden)], &self.input_mask)
            });
        }
    }

    /// Backpropagates through the time steps of one layer. Writes the gradients of the input and
    /// the recurrent preactivations to `d_gates` and `d_recurrent`.
    fn layer_steps_backward(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        index: usize,
    ) {
        let settings = &*parameters.settings;
        let (cell, hidden, rows) = (settings.cell, settings.hidden, batch.row_count());
        let (gate_width, state_width) = (hidden * cell.gate_blocks(), hidden * cell.state_blocks());
        let layout = &parameters.layout.layers[index];
        let layer = &self.layers[index];
        let weights = MatrixView::new(&parameters.dense[layout.recurrent.clone()], hidden, gate_width);
        let weights = transpose_copy(&mut self.transposed, weights, hidden);
        resize_without_clearing(&mut self.d_gates, rows * gate_width);
        resize_without_clearing(&mut self.d_recurrent, rows * gate_width);
        resize_zeroed(&mut self.carry, batch.window_count() * state_width);
        for BatchStep { previous_first, first, rows } in batch.time_steps().rev() {
            let carry = &mut self.carry[..rows * state_width];
            let d_current = &mut self.d_outputs[row_range(first, rows, hidden)];
            multiply_elementwise(d_current, &layer.mask);
            add_output_gradient(carry, state_width, d_current, hidden);
            let saved = SavedActivations {
                gates: &layer.gates[row_range(first, rows, gate_width)],
                recurrent: &layer.recurrent[row_range(first, rows, gate_width)],
                previous: previous_first.map_or(&self.initial_states[..rows * state_width], |previous_first| {
                    &layer.states[row_range(previous_first, rows, state_width)]
                }),
                state: &layer.states[row_range(first, rows, state_width)],
            };
            let d_recurrent = &mut self.d_recurrent[row_range(first, rows, gate_width)];
            cell.backward(hidden, &saved, carry, &mut self.d_gates[row_range(first, rows, gate_width)], d_recurrent);
            if let Some(previous_first) = previous_first {
                let d_previous = &mut self.d_outputs[row_range(previous_first, rows, hidden)];
                matmul(d_previous, hidden, MatrixView::new(d_recurrent, rows, gate_width), weights, true);
            }
        }
    }

    /// Computes the gradients of the weights and of the input of one layer, from the preactivation
    /// gradients that [`Self::layer_steps_backward`] has written.
    fn layer_weights_backward(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        index: usize,
        gradient: &mut [f32],
    ) {
        let settings = &*parameters.settings;
        let (hidden, rows) = (settings.hidden, batch.row_count());
        let gate_width = hidden * settings.cell.gate_blocks();
        let layout = &parameters.layout.layers[index];
        let (lower, upper) = self.layers.split_at(index);
        let layer = &upper[0];
        resize_zeroed(&mut self.previous_outputs, rows * hidden);
        for BatchStep { previous_first, first, rows } in batch.time_steps() {
            let Some(previous_first) = previous_first else { continue };
            self.previous_outputs[row_range(first, rows, hidden)]
                .copy_from_slice(&layer.outputs[row_range(previous_first, rows, hidden)]);
        }
        let below = lower.last().map_or(&self.inputs, |layer| &layer.outputs);
        let (d_gates, d_recurrent) =
            (MatrixView::new(&self.d_gates, rows, gate_width), MatrixView::new(&self.d_recurrent, rows, gate_width));
        matmul(
            &mut gradient[layout.input.clone()],
            gate_width,
            MatrixView::new(below, rows, hidden).transposed(),
            d_gates,
            false,
        );
        matmul(
            &mut gradient[layout.recurrent.clone()],
            gate_width,
            MatrixView::new(&self.previous_outputs, rows, hidden).transposed(),
            d_recurrent,
            false,
        );
        add_row_sum(&mut gradient[layout.bias.clone()], &self.d_gates);
        let weights = transpose_copy(
            &mut self.transposed,
            MatrixView::new(&parameters.dense[layout.input.clone()], hidden, gate_width),
            hidden,
        );
        if index == 0 {
            matmul(&mut self.d_inputs, hidden, d_gates, weights, true);
        } else {
            matmul(&mut self.d_outputs, hidden, d_gates, weights, false);
        }
    }
}
