//! Published weights: immutable, shared by every reader; and the hidden state that they advance.

use super::input::Input;
use super::math::{add_product, exp_and_sum, inner_product, kernel, largest};
use super::parameters::{LayerLayout, Parameters};
use super::settings::NetworkSettings;
use super::values::ValueScale;
use crate::domain::ItemIx;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A snapshot of the network. Anything asked about an item that it does not know yet has a harmless answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Weights {
    version: u64,
    parameters: Parameters,
    values: ValueScale,
}

/// What the network remembers of a session: the cell's state of every layer, the decayed memory m of earlier inputs and the last input x. It belongs to one version of the weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HiddenState {
    /// The version of the weights that it began with.
    pub version: u64,
    /// `(layers, state · hidden)`, then m and x, `(hidden)` each.
    values: Vec<f32>,
}

/// Room for one reader's computations, kept between them so that nothing is allocated.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    gates: Vec<f32>,
    recurrent: Vec<f32>,
    next: Vec<f32>,
    scores: Vec<f32>,
    order: Vec<ItemIx>,
    terms: Vec<f32>,
}

/// The best of the whole catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Top {
    /// Items and logits, best first; of equals the smaller number first.
    pub items: Vec<(ItemIx, f32)>,
    /// `ln Σ exp(logit)` over all items: a logit less this is a log-probability. −∞ without items.
    pub log_partition: f32,
}

kernel! {
    /// `ln Σ exp(x)`; what is in `scores` is lost.
    fn log_sum_exp<'a>(scores: &'a mut [f32]) -> f32 {
        let peak = largest(scores);
        peak + exp_and_sum(scores, peak).ln()
    }
}

impl Weights {
    pub(super) fn new(version: u64, parameters: Parameters, values: ValueScale) -> Self {
        Self { version, parameters, values }
    }

    /// The number that the publisher gave it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The settings of the network.
    #[must_use]
    pub fn settings(&self) -> &NetworkSettings {
        &self.parameters.settings
    }

    /// How many items it knows.
    #[must_use]
    pub fn items(&self) -> usize {
        self.parameters.items.len()
    }

    /// Width of a query and of an embedding.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.parameters.settings.hidden
    }

    fn state_len(&self) -> usize {
        let settings = self.settings();
        settings.hidden * (settings.layers * settings.cell.state() + 2)
    }

    /// The state before a session's first event.
    #[must_use]
    pub fn start(&self) -> HiddenState {
        HiddenState { version: self.version, values: vec![0.0; self.state_len()] }
    }

    fn dense(&self, range: &Range<usize>) -> &[f32] {
        self.parameters.dense.get(range.clone()).unwrap_or_default()
    }

    /// Advances a session by one event. A state of another shape begins anew.
    pub fn step(&self, state: &mut HiddenState, input: &Input, scratch: &mut Scratch) {
        let (hidden, cell) = (self.dimension(), self.settings().cell);
        if state.values.len() != self.state_len() {
            *state = self.start();
        }
        let width = hidden * cell.state();
        let (layers, rest) = state.values.split_at_mut(self.settings().layers * width);
        let (memory, x) = rest.split_at_mut(hidden);
        let decay = self.settings().memory_decay;
        memory.iter_mut().zip(&*x).for_each(|(m, x)| *m = m.mul_add(decay, *x));
        self.parameters.embed(input, x);
        let mut below: &[f32] = x;
        for (layer, place) in layers.chunks_exact_mut(width).zip(&self.parameters.layout.layers) {
            self.layer_step(layer, below, place, scratch);
            below = &layer[..hidden];
        }
    }

    fn layer_step(&self, layer: &mut [f32], below: &[f32], place: &LayerLayout, scratch: &mut Scratch) {
        let (hidden, cell) = (self.dimension(), self.settings().cell);
        let Scratch { gates, recurrent, next, .. } = scratch;
        gates.clear();
        gates.extend_from_slice(self.dense(&place.bias));
        recurrent.clear();
        recurrent.resize(gates.len(), 0.0);
        next.clear();
        next.resize(layer.len(), 0.0);
        add_product(gates, below, self.dense(&place.input));
        add_product(recurrent, &layer[..hidden], self.dense(&place.recurrent));
        cell.forward(hidden, gates, recurrent, layer, next);
        layer.copy_from_slice(next);
    }

    /// Writes o = h + W_s x + W_m m, what items are scored against, `(hidden)`.
    pub fn query(&self, state: &HiddenState, out: &mut Vec<f32>) {
        let hidden = self.dimension();
        let width = hidden * self.settings().cell.state();
        out.clear();
        if state.values.len() != self.state_len() {
            out.resize(hidden, 0.0);
            return;
        }
        let (layers, rest) = state.values.split_at(self.settings().layers * width);
        let (memory, x) = rest.split_at(hidden);
        out.extend(layers.chunks_exact(width).next_back().into_iter().flat_map(|layer| &layer[..hidden]));
        let layout = &self.parameters.layout;
        add_product(out, x, self.dense(&layout.input_to_output));
        add_product(out, memory, self.dense(&layout.input_memory));
    }

    /// The item's logit, bias included; −∞ for an item that is not known.
    #[must_use]
    pub fn score(&self, query: &[f32], item: ItemIx) -> f32 {
        let hidden = self.dimension();
        let row = self.parameters.output_rows().row(item as usize);
        row.map_or(f32::NEG_INFINITY, |row| inner_product(query, &row[..hidden]) + row[hidden])
    }

    /// The `k` best items of the whole catalogue.
    #[must_use]
    pub fn top(&self, query: &[f32], k: usize, scratch: &mut Scratch) -> Top {
        let Scratch { scores, order, terms, .. } = scratch;
        scores.clear();
        scores.extend((0..self.items()).map(|item| self.score(query, item as ItemIx)));
        terms.clear();
        terms.extend_from_slice(scores);
        let log_partition = log_sum_exp(terms);
        order.clear();
        order.extend(0..scores.len() as ItemIx);
        let by_score = |a: &ItemIx, b: &ItemIx| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
        if k < order.len() {
            order.select_nth_unstable_by(k, by_score);
            order.truncate(k);
        }
        order.sort_unstable_by(by_score);
        Top { items: order.iter().map(|item| (*item, scores[*item as usize])).collect(), log_partition }
    }

    /// The item's output embedding, without its bias, `(hidden)`.
    #[must_use]
    pub fn embedding(&self, item: ItemIx) -> Option<&[f32]> {
        self.parameters.output_rows().row(item as usize).and_then(|row| row.get(..self.dimension()))
    }

    /// Writes the interest head's image of a query, `(hidden)`: computed once for all items of a request. Empty if the head is off.
    pub fn interest_query(&self, query: &[f32], out: &mut Vec<f32>) {
        out.clear();
        if !self.parameters.layout.interest.is_empty() {
            out.resize(self.dimension(), 0.0);
            add_product(out, query, self.dense(&self.parameters.layout.interest));
        }
    }

    /// The predicted value of an item for the session that [`Weights::interest_query`] was asked about. `None` if the head is off or the item unknown.
    #[must_use]
    pub fn interest(&self, interest_query: &[f32], item: ItemIx) -> Option<f32> {
        let hidden = self.dimension();
        let bias = self.dense(&self.parameters.layout.interest_bias).first()?;
        let row = self.parameters.output_rows().row(item as usize)?;
        Some(self.values.restore(inner_product(interest_query, &row[..hidden]) + row[hidden + 1] + bias))
    }
}
