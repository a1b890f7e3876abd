//! The network over a batch, forward and back: embeddings, recurrent layers, and the short paths from the input to the output.

use super::batch::{BatchStep, TrainingBatch};
use super::cells::SavedActivations;
use super::embedding_table::EmbeddingTable;
use super::math::{accumulate, add_rows, add_scaled, kernel, multiply};
use super::matmul::{MatrixView, matmul, transpose_copy};
use super::parameters::NetworkParameters;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use std::ops::Range;

/// What one layer remembers of a forward pass for the way back.
#[derive(Debug, Clone, Default)]
struct LayerPass {
    /// Activated gates, `(rows, gates · hidden)`.
    gates: Vec<f32>,
    /// The recurrence's share, `(rows, gates · hidden)`.
    recurrent: Vec<f32>,
    /// States, `(rows, state · hidden)`.
    states: Vec<f32>,
    /// The layer's output after dropout, `(rows, hidden)`.
    outputs: Vec<f32>,
    /// One dropout mask a window, `(windows, hidden)`; empty without dropout.
    mask: Vec<f32>,
}

/// A batch's activations and the room for their gradients, kept from batch to batch so that nothing is allocated.
#[derive(Debug, Clone, Default)]
pub(super) struct NetworkPass {
    /// x, `(rows, hidden)`, after dropout.
    inputs: Vec<f32>,
    input_mask: Vec<f32>,
    /// m, `(rows, hidden)`.
    memory: Vec<f32>,
    layers: Vec<LayerPass>,
    /// o, `(rows, hidden)`.
    pub(super) outputs: Vec<f32>,
    /// The gradient of o on the way in, of the uppermost layer's output then, `(rows, hidden)`.
    pub(super) d_outputs: Vec<f32>,
    /// The gradient of x, `(rows, hidden)`.
    pub(super) d_inputs: Vec<f32>,
    d_memory: Vec<f32>,
    /// The weights by which a gradient goes back, transposed.
    transposed: Vec<f32>,
    d_gates: Vec<f32>,
    d_recurrent: Vec<f32>,
    /// The gradient that one step hands to the step before, `(windows, state · hidden)`.
    carry: Vec<f32>,
    /// Every row's previous output, `(rows, hidden)`.
    shifted: Vec<f32>,
    /// The state before the first step, `(windows, state · hidden)`.
    start: Vec<f32>,
}

/// Makes `buffer` exactly `len` zeros.
pub(super) fn resize_zeroed(buffer: &mut Vec<f32>, len: usize) {
    buffer.clear();
    buffer.resize(len, 0.0);
}

/// Makes `buffer` exactly `len` long, whatever it holds: for what is written before it is read.
pub(super) fn resize_buffer(buffer: &mut Vec<f32>, len: usize) {
    buffer.resize(len, 0.0);
}

/// A dropout mask: 0 with probability `rate`, else what keeps the mean, `1 / (1 − rate)`. Empty if nothing is dropped.
fn draw_mask(mask: &mut Vec<f32>, len: usize, rate: f32, rng: &mut Xoshiro256PlusPlus) {
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
    /// One step of the decayed memory, `m = γ m' + x'`.
    fn remember<'a>(memory: &'a mut [f32], old: &'a [f32], inputs: &'a [f32], decay: f32) -> () {
        for ((m, old), x) in memory.iter_mut().zip(old).zip(inputs) {
            *m = old.mul_add(decay, *x);
        }
    }

    /// Adds to every row of the carried gradient, of `stride` values, the gradient of the output, of `hidden` values.
    fn add_output_gradient<'a>(carry: &'a mut [f32], stride: usize, d_outputs: &'a [f32], hidden: usize) -> () {
        for (carry, d_output) in carry.chunks_exact_mut(stride).zip(d_outputs.chunks_exact(hidden)) {
            add_scaled(&mut carry[..hidden], 1.0, d_output);
        }
    }
}

/// Part of a step's rows in a buffer of `width` values a row.
fn rows_of(first: usize, rows: usize, width: usize) -> Range<usize> {
    first * width..(first + rows) * width
}

impl NetworkPass {
    /// Computes o for every row, `(rows, hidden)`, from hidden states that begin at zero, with dropout masks drawn from `rng`.
    pub(super) fn forward(&mut self, parameters: &NetworkParameters<EmbeddingTable>, batch: &TrainingBatch, rng: &mut Xoshiro256PlusPlus) {
        let settings = &*parameters.settings;
        let (hidden, rows, windows) = (settings.hidden, batch.row_count(), batch.window_count());
        let square = |range: &Range<usize>| MatrixView::new(&parameters.dense[range.clone()], hidden, hidden);
        self.layers.resize_with(settings.layers, LayerPass::default);
        self.draw_masks(parameters, windows, rng);
        resize_buffer(&mut self.inputs, rows * hidden);
        for (input, x) in batch.inputs.iter().zip(self.inputs.chunks_exact_mut(hidden)) {
            parameters.embed(input, x);
        }
        if !self.input_mask.is_empty() {
            batch
                .steps()
                .for_each(|BatchStep { first, rows, .. }| multiply(&mut self.inputs[rows_of(first, rows, hidden)], &self.input_mask));
        }
        resize_zeroed(&mut self.start, windows * hidden * settings.cell.state_blocks());
        for layer in 0..settings.layers {
            self.layer_forward(parameters, batch, layer);
        }
        self.outputs.clear();
        self.outputs.extend(self.layers.last().into_iter().flat_map(|layer| &layer.outputs));
        if settings.input_to_output {
            let x = MatrixView::new(&self.inputs, rows, hidden);
            matmul(&mut self.outputs, hidden, x, square(&parameters.layout.input_to_output), true);
        }
        if settings.input_memory {
            resize_zeroed(&mut self.memory, rows * hidden);
            for BatchStep { before, first, rows } in batch.steps() {
                let Some(before) = before else { continue };
                let (past, now) = self.memory.split_at_mut(first * hidden);
                let before = rows_of(before, rows, hidden);
                remember(now, &past[before.clone()], &self.inputs[before], settings.memory_decay);
            }
            let m = MatrixView::new(&self.memory, rows, hidden);
            matmul(&mut self.outputs, hidden, m, square(&parameters.layout.input_memory), true);
        }
    }

    fn draw_masks(&mut self, parameters: &NetworkParameters<EmbeddingTable>, windows: usize, rng: &mut Xoshiro256PlusPlus) {
        let settings = &*parameters.settings;
        let len = windows * settings.hidden;
        draw_mask(&mut self.input_mask, len, settings.input_dropout, rng);
        self.layers.iter_mut().for_each(|layer| draw_mask(&mut layer.mask, len, settings.hidden_dropout, rng));
    }

    fn layer_forward(&mut self, parameters: &NetworkParameters<EmbeddingTable>, batch: &TrainingBatch, index: usize) {
        let settings = &*parameters.settings;
        let (cell, hidden, rows) = (settings.cell, settings.hidden, batch.row_count());
        let (wide, state) = (hidden * cell.gate_blocks(), hidden * cell.state_blocks());
        let place = &parameters.layout.layers[index];
        let (lower, upper) = self.layers.split_at_mut(index);
        let layer = &mut upper[0];
        let below = lower.last().map_or(&self.inputs, |layer| &layer.outputs);
        let bias = &parameters.dense[place.bias.clone()];
        resize_buffer(&mut layer.gates, rows * wide);
        layer.gates.chunks_exact_mut(wide).for_each(|row| row.copy_from_slice(bias));
        let input = MatrixView::new(&parameters.dense[place.input.clone()], hidden, wide);
        matmul(&mut layer.gates, wide, MatrixView::new(below, rows, hidden), input, true);
        let weights = MatrixView::new(&parameters.dense[place.recurrent.clone()], hidden, wide);
        resize_buffer(&mut layer.states, rows * state);
        resize_buffer(&mut layer.outputs, rows * hidden);
        resize_buffer(&mut layer.recurrent, rows * wide);
        for BatchStep { before, first, rows } in batch.steps() {
            let recurrent = &mut layer.recurrent[rows_of(first, rows, wide)];
            let (past, now) = layer.states.split_at_mut(first * state);
            let previous = match before {
                Some(before) => {
                    let h = MatrixView::new(&layer.outputs[rows_of(before, rows, hidden)], rows, hidden);
                    matmul(recurrent, wide, h, weights, false);
                    &past[rows_of(before, rows, state)]
                }
                None => {
                    recurrent.fill(0.0);
                    &self.start[..rows * state]
                }
            };
            let now = &mut now[..rows * state];
            cell.forward(hidden, &mut layer.gates[rows_of(first, rows, wide)], recurrent, previous, now);
            let outputs = &mut layer.outputs[rows_of(first, rows, hidden)];
            for (output, state) in outputs.chunks_exact_mut(hidden).zip(now.chunks_exact(state)) {
                output.copy_from_slice(&state[..hidden]);
            }
            multiply(outputs, &layer.mask);
        }
    }

    /// Carries `d_outputs` back through everything: writes the gradient of the dense parameters into `gradient` (which comes as zeros) and that of every row's x, before
    /// dropout, into `d_inputs`.
    pub(super) fn backward(&mut self, parameters: &NetworkParameters<EmbeddingTable>, batch: &TrainingBatch, gradient: &mut [f32]) {
        let settings = &*parameters.settings;
        let (hidden, rows) = (settings.hidden, batch.row_count());
        let layout = &*parameters.layout;
        resize_zeroed(&mut self.d_inputs, rows * hidden);
        let d_outputs = MatrixView::new(&self.d_outputs, rows, hidden);
        let square = |range: &Range<usize>| MatrixView::new(&parameters.dense[range.clone()], hidden, hidden);
        if settings.input_to_output {
            let x = MatrixView::new(&self.inputs, rows, hidden);
            matmul(&mut gradient[layout.input_to_output.clone()], hidden, x.t(), d_outputs, false);
            let weights = transpose_copy(&mut self.transposed, square(&layout.input_to_output), hidden);
            matmul(&mut self.d_inputs, hidden, d_outputs, weights, false);
        }
        if settings.input_memory {
            let m = MatrixView::new(&self.memory, rows, hidden);
            matmul(&mut gradient[layout.input_memory.clone()], hidden, m.t(), d_outputs, false);
            resize_buffer(&mut self.d_memory, rows * hidden);
            let weights = transpose_copy(&mut self.transposed, square(&layout.input_memory), hidden);
            matmul(&mut self.d_memory, hidden, d_outputs, weights, false);
            for BatchStep { before, first, rows } in batch.steps().rev() {
                let Some(before) = before else { continue };
                let (past, now) = self.d_memory.split_at_mut(first * hidden);
                let (past, now) = (&mut past[rows_of(before, rows, hidden)], &now[..rows * hidden]);
                let d_x = &mut self.d_inputs[rows_of(before, rows, hidden)];
                accumulate(past, settings.memory_decay, now);
                accumulate(d_x, 1.0, now);
            }
        }
        for layer in (0..settings.layers).rev() {
            self.layer_backward(parameters, batch, layer, gradient);
        }
        if !self.input_mask.is_empty() {
            batch
                .steps()
                .for_each(|BatchStep { first, rows, .. }| multiply(&mut self.d_inputs[rows_of(first, rows, hidden)], &self.input_mask));
        }
    }

    fn layer_backward(
        &mut self,
        parameters: &NetworkParameters<EmbeddingTable>,
        batch: &TrainingBatch,
        index: usize,
        gradient: &mut [f32],
    ) {
        let settings = &*parameters.settings;
        let (cell, hidden, rows) = (settings.cell, settings.hidden, batch.row_count());
        let (wide, state) = (hidden * cell.gate_blocks(), hidden * cell.state_blocks());
        let place = &parameters.layout.layers[index];
        let (lower, upper) = self.layers.split_at_mut(index);
        let layer = &mut upper[0];
        let weights = MatrixView::new(&parameters.dense[place.recurrent.clone()], hidden, wide);
        let weights = transpose_copy(&mut self.transposed, weights, hidden);
        resize_buffer(&mut self.d_gates, rows * wide);
        resize_buffer(&mut self.d_recurrent, rows * wide);
        resize_zeroed(&mut self.carry, batch.window_count() * state);
        for BatchStep { before, first, rows } in batch.steps().rev() {
            let carry = &mut self.carry[..rows * state];
            let d_now = &mut self.d_outputs[rows_of(first, rows, hidden)];
            multiply(d_now, &layer.mask);
            add_output_gradient(carry, state, d_now, hidden);
            let past = SavedActivations {
                gates: &layer.gates[rows_of(first, rows, wide)],
                recurrent: &layer.recurrent[rows_of(first, rows, wide)],
                previous: before.map_or(&self.start[..rows * state], |before| &layer.states[rows_of(before, rows, state)]),
                state: &layer.states[rows_of(first, rows, state)],
            };
            let d_recurrent = &mut self.d_recurrent[rows_of(first, rows, wide)];
            cell.backward(hidden, &past, carry, &mut self.d_gates[rows_of(first, rows, wide)], d_recurrent);
            if let Some(before) = before {
                let d_previous = &mut self.d_outputs[rows_of(before, rows, hidden)];
                matmul(d_previous, hidden, MatrixView::new(d_recurrent, rows, wide), weights, true);
            }
        }
        resize_zeroed(&mut self.shifted, rows * hidden);
        for BatchStep { before, first, rows } in batch.steps() {
            let Some(before) = before else { continue };
            self.shifted[rows_of(first, rows, hidden)].copy_from_slice(&layer.outputs[rows_of(before, rows, hidden)]);
        }
        let below = lower.last().map_or(&self.inputs, |layer| &layer.outputs);
        let (d_gates, d_recurrent) = (MatrixView::new(&self.d_gates, rows, wide), MatrixView::new(&self.d_recurrent, rows, wide));
        matmul(&mut gradient[place.input.clone()], wide, MatrixView::new(below, rows, hidden).t(), d_gates, false);
        matmul(&mut gradient[place.recurrent.clone()], wide, MatrixView::new(&self.shifted, rows, hidden).t(), d_recurrent, false);
        add_rows(&mut gradient[place.bias.clone()], &self.d_gates);
        let weights = transpose_copy(&mut self.transposed, MatrixView::new(&parameters.dense[place.input.clone()], hidden, wide), hidden);
        if index == 0 {
            matmul(&mut self.d_inputs, hidden, d_gates, weights, true);
        } else {
            matmul(&mut self.d_outputs, hidden, d_gates, weights, false);
        }
    }
}
