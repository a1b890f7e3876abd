//! Published weights: immutable, shared by every reader; and the hidden state that they advance.

use super::cow_rows::CowRows;
use super::input::StepInput;
use super::math::{add_product, inner_product, kernel, max_value, sum_of_exponentials};
use super::parameters::{LayerLayout, NetworkParameters};
use super::quantised_index::{QuantisedIndex, QuantisedQuery};
use super::settings::{CorruptNetworkError, NetworkSettings};
use super::value_scale::ValueScale;
use crate::domain::ItemIx;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A snapshot of the network. Anything asked about an item that it does not know yet has a harmless answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "StoredWeights", try_from = "StoredWeights")]
pub struct Weights {
    version: u64,
    parameters: NetworkParameters<CowRows>,
    values: ValueScale,
    scan: QuantisedIndex,
}

/// What of a snapshot is kept: the codes follow from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredWeights {
    version: u64,
    parameters: NetworkParameters<CowRows>,
    values: ValueScale,
}

impl From<Weights> for StoredWeights {
    fn from(weights: Weights) -> Self {
        Self { version: weights.version, parameters: weights.parameters, values: weights.values }
    }
}

impl TryFrom<StoredWeights> for Weights {
    type Error = CorruptNetworkError;

    fn try_from(stored: StoredWeights) -> Result<Self, CorruptNetworkError> {
        if !stored.parameters.is_consistent_snapshot() {
            return Err(CorruptNetworkError);
        }
        let scan = QuantisedIndex::from_table(stored.parameters.output_rows(), stored.parameters.settings.hidden);
        Ok(Self::new(stored.version, stored.parameters, stored.values, scan))
    }
}

/// What the network remembers of a session: the cell's state of every layer, the decayed memory m of earlier inputs and the last input x. It belongs to one version of the weights.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HiddenState {
    /// The version of the weights that it began with.
    pub version: u64,
    /// `(layers, state · hidden)`, then m and x, `(hidden)` each.
    values: Vec<f32>,
}

impl HiddenState {
    /// All that is remembered, in rows of the network's width: of every layer what its cell keeps (h, and with an LSTM c), then m and x.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// Room for one reader's computations, kept between them so that nothing is allocated.
#[derive(Debug, Clone, Default)]
pub struct NetworkScratch {
    gates: Vec<f32>,
    recurrent: Vec<f32>,
    next: Vec<f32>,
    coded: QuantisedQuery,
    scores: Vec<f32>,
    peaks: Vec<f32>,
    order: Vec<f32>,
    chosen: Vec<(f32, ItemIx)>,
}

impl NetworkScratch {
    /// The logit that [`Weights::top`], asked last with this room, gave an item by its code; `None` if it scored no such item.
    #[must_use]
    pub fn approximate_logit(&self, item: ItemIx) -> Option<f32> {
        self.scores.get(item as usize).copied()
    }
}

/// The best of the whole catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct TopItems {
    /// Items and logits, best first; of equals the smaller number first.
    pub items: Vec<(ItemIx, f32)>,
    /// `ln Σ exp(logit)` over all items: a logit less this is a log-probability. −∞ without items.
    pub log_partition: f32,
}

kernel! {
    /// Writes the largest score of every [`STRETCH`].
    fn find_peaks<'a>(scores: &'a [f32], peaks: &'a mut Vec<f32>) -> () {
        peaks.clear();
        peaks.extend(scores.chunks(STRETCH).map(max_value));
    }

    /// `ln Σ exp(x)`.
    fn log_sum_exp<'a>(scores: &'a [f32], peak: f32) -> f32 {
        peak + sum_of_exponentials(scores, peak).ln()
    }
}

/// Scores that are passed over together if none of them can be chosen.
const STRETCH: usize = 32;

/// Candidates beyond `k` that are scored exactly, so that the codes' error hardly ever costs a place.
const SPARE: usize = 16;

/// Writes the `count` largest scores with their places into `chosen`, in no order; of equals the smaller places. `peaks` holds the largest score of every [`STRETCH`].
fn select(scores: &[f32], peaks: &[f32], order: &mut Vec<f32>, count: usize, chosen: &mut Vec<(f32, ItemIx)>) {
    order.clear();
    order.extend_from_slice(peaks);
    let best_first = |a: &(f32, ItemIx), b: &(f32, ItemIx)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    // Every peak is a score: at least `count` scores reach the `count`-th peak.
    let bar = match count.checked_sub(1) {
        Some(place) if place < peaks.len() => *order.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1,
        _ => f32::NEG_INFINITY,
    };
    chosen.clear();
    for (stretch, (scores, peak)) in scores.chunks(STRETCH).zip(peaks).enumerate() {
        if *peak >= bar {
            let places = (stretch * STRETCH..).map(|place| place as ItemIx);
            chosen.extend(scores.iter().copied().zip(places).filter(|(score, _)| *score >= bar && *score > f32::NEG_INFINITY));
        }
    }
    if chosen.len() > count {
        chosen.select_nth_unstable_by(count, best_first);
        chosen.truncate(count);
    }
}

impl Weights {
    pub(super) fn new(version: u64, parameters: NetworkParameters<CowRows>, values: ValueScale, scan: QuantisedIndex) -> Self {
        Self { version, parameters, values, scan }
    }

    /// The number that the publisher gave it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same weights under another number.
    #[must_use]
    pub fn with_version(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    /// The settings of the network.
    #[must_use]
    pub fn settings(&self) -> &NetworkSettings {
        &self.parameters.settings
    }

    /// How many items it knows.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.parameters.items.len()
    }

    /// Width of a query and of an embedding.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.parameters.settings.hidden
    }

    fn state_len(&self) -> usize {
        let settings = self.settings();
        settings.hidden * (settings.layers * settings.cell.state_blocks() + 2)
    }

    /// The state before a session's first event.
    #[must_use]
    pub fn initial_state(&self) -> HiddenState {
        HiddenState { version: self.version, values: vec![0.0; self.state_len()] }
    }

    fn dense(&self, range: &Range<usize>) -> &[f32] {
        self.parameters.dense.get(range.clone()).unwrap_or_default()
    }

    /// Advances a session by one event. A state of another shape begins anew.
    pub fn advance(&self, state: &mut HiddenState, input: &StepInput, scratch: &mut NetworkScratch) {
        let (hidden, cell) = (self.dimension(), self.settings().cell);
        if state.values.len() != self.state_len() {
            *state = self.initial_state();
        }
        let width = hidden * cell.state_blocks();
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

    /// The state after a window of inputs, oldest first, beginning anew: how a session catches up with newer weights.
    #[must_use]
    pub fn replay(&self, inputs: &[StepInput], scratch: &mut NetworkScratch) -> HiddenState {
        let mut state = self.initial_state();
        inputs.iter().for_each(|input| self.advance(&mut state, input, scratch));
        state
    }

    fn layer_step(&self, layer: &mut [f32], below: &[f32], place: &LayerLayout, scratch: &mut NetworkScratch) {
        let (hidden, cell) = (self.dimension(), self.settings().cell);
        let NetworkScratch { gates, recurrent, next, .. } = scratch;
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
        let width = hidden * self.settings().cell.state_blocks();
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

    /// The `k` best items of the whole catalogue: the best few times `k` by their 8-bit codes, scored again exactly. The partition is that of the codes.
    #[must_use]
    pub fn top(&self, query: &[f32], k: usize, scratch: &mut NetworkScratch) -> TopItems {
        let NetworkScratch { coded, scores, peaks, order, chosen, .. } = scratch;
        coded.encode(query);
        self.scan.score(coded, scores);
        find_peaks(scores, peaks);
        select(scores, peaks, order, SPARE + k, chosen);
        let log_partition = log_sum_exp(scores, peaks.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let mut items: Vec<(ItemIx, f32)> = chosen.iter().map(|(_, item)| (*item, self.score(query, *item))).collect();
        items.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        items.truncate(k);
        TopItems { items, log_partition }
    }

    /// The `k` best of some items, scored exactly; the partition is over those items alone.
    #[must_use]
    pub fn top_among(&self, query: &[f32], items: impl Iterator<Item = ItemIx>, k: usize, scratch: &mut NetworkScratch) -> TopItems {
        let NetworkScratch { scores, order, .. } = scratch;
        scores.clear();
        let mut items: Vec<(ItemIx, f32)> =
            items.map(|item| (item, self.score(query, item))).filter(|(_, score)| score.is_finite()).collect();
        order.clear();
        order.extend(items.iter().map(|(_, score)| *score));
        let log_partition = log_sum_exp(order, order.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        items.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        items.truncate(k);
        TopItems { items, log_partition }
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
        Some(self.values.unstandardise(inner_product(interest_query, &row[..hidden]) + row[hidden + 1] + bias))
    }
}
