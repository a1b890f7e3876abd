//! Published weights: immutable snapshots of the network for all readers. Also the hidden state of
//! a user, which readers compute with them.

use super::cow_rows::CowRows;
use super::input::StepInput;
use super::math::{add_vector_matrix_product, kernel, max_value, sum_of_exponentials};
use super::parameters::{LayerLayout, NetworkParameters};
use super::quantised_index::{BlockScores, QuantisedIndex, QuantisedQuery};
use super::row_order::RowOrder;
use super::settings::{CorruptNetworkError, NetworkSettings};
use super::unit_vectors::{row_product, scale_to_length};
use crate::domain::ItemIx;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// An immutable snapshot of the network. An unknown item has logit −∞ and no embedding.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "StoredWeights", try_from = "StoredWeights")]
pub struct Weights {
    version: u64,
    pub(super) parameters: NetworkParameters<CowRows>,
    index: QuantisedIndex,
}

/// Serialised form of [`Weights`]. Deserialisation rebuilds the quantised index from the
/// parameters.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredWeights {
    version: u64,
    parameters: NetworkParameters<CowRows>,
    /// Scale of event values that a former part of the network learned. It is part of the encoding.
    unused_scale: [f64; 3],
}

impl From<Weights> for StoredWeights {
    fn from(weights: Weights) -> Self {
        Self { version: weights.version, parameters: weights.parameters, unused_scale: Default::default() }
    }
}

impl TryFrom<StoredWeights> for Weights {
    type Error = CorruptNetworkError;

    fn try_from(stored: StoredWeights) -> Result<Self, CorruptNetworkError> {
        if !stored.parameters.is_consistent_snapshot() {
            return Err(CorruptNetworkError);
        }
        let index = QuantisedIndex::from_table(stored.parameters.output_table(), &stored.parameters.settings, None);
        Ok(Self::new(stored.version, stored.parameters, index))
    }
}

/// Hidden state of a user after the last step: the state of every layer, the decayed memory m and
/// the last input x.
///
/// Its values make sense only together with weights of a similar version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HiddenState {
    /// Version of the weights with which the computation of this hidden state began.
    pub version: u64,
    /// The layer states, `(layers, state · hidden)`, then m and x, `(hidden)` each.
    pub(super) values: Vec<f32>,
}

impl HiddenState {
    /// The values of the state, in vectors of `hidden` values: the cell state of each layer (h, and
    /// c for an LSTM), then m and x.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

/// Buffers for inference, one per reader. Calls reuse the buffers, so later calls allocate nothing.
#[derive(Debug, Clone, Default)]
pub struct NetworkScratch {
    /// Input of the current layer at every step, `(steps, hidden)`.
    pub(super) below: Vec<f32>,
    /// Preactivations of the current layer at every step, `(steps, gates · hidden)`.
    pub(super) gates: Vec<f32>,
    /// Recurrent preactivations of one step, `(gates · hidden)`.
    pub(super) recurrent: Vec<f32>,
    /// Layer state after one step, `(state · hidden)`.
    pub(super) next: Vec<f32>,
    quantised_query: QuantisedQuery,
    scores: BlockScores,
    chunk_maxima: Vec<f32>,
    order: Vec<f32>,
    selected: Vec<(f32, ItemIx)>,
}

/// The k items with the largest logits.
#[derive(Debug, Clone, PartialEq)]
pub struct TopItems {
    /// Items with their logits, the largest logit first. Among equal logits, the smaller item
    /// number comes first.
    pub items: Vec<(ItemIx, f32)>,
    /// Logarithm of the softmax denominator, `ln Σ exp(logit)` over the scored items. `logit −
    /// log_partition` is the log-probability of an item. −∞ if no items were scored.
    pub log_partition: f32,
}

kernel! {
    /// Writes the largest score of each chunk of [`SCORES_PER_CHUNK`] scores to `chunk_maxima`.
    fn find_chunk_maxima<'a>(scores: &'a [f32], chunk_maxima: &'a mut Vec<f32>) -> () {
        chunk_maxima.clear();
        chunk_maxima.extend(scores.chunks(SCORES_PER_CHUNK).map(max_value));
    }

    /// Computes `ln Σ exp(x)`, shifted by the maximum for numerical stability.
    fn log_sum_exp<'a>(scores: &'a [f32], maximum: f32) -> f32 {
        maximum + sum_of_exponentials(scores, maximum).ln()
    }
}

/// Number of scores per chunk. [`select_top`] skips a chunk if its largest score is too small for
/// the top `count`.
const SCORES_PER_CHUNK: usize = 32;

/// In addition to the top `k` by quantised logits, this many items are scored exactly, so that the
/// quantisation error rarely changes the top `k`.
const EXTRA_ITEMS_TO_RESCORE: usize = 16;

/// Writes the `count` largest scores with their positions to `selected`, unordered. Among equal
/// scores, the smaller position has priority.
///
/// `chunk_maxima` holds the largest score of each chunk of [`SCORES_PER_CHUNK`] scores.
fn select_top(
    scores: &[f32],
    chunk_maxima: &[f32],
    order: &mut Vec<f32>,
    count: usize,
    selected: &mut Vec<(f32, ItemIx)>,
) {
    order.clear();
    order.extend_from_slice(chunk_maxima);
    let best_first = |a: &(f32, ItemIx), b: &(f32, ItemIx)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    // Every chunk maximum is a score. At least `count` scores are therefore at or above the
    // `count`-th largest chunk maximum.
    let threshold = match count.checked_sub(1) {
        Some(position) if position < chunk_maxima.len() => {
            *order.select_nth_unstable_by(position, |a, b| b.total_cmp(a)).1
        }
        _ => f32::NEG_INFINITY,
    };
    selected.clear();
    for (chunk, (scores, maximum)) in scores.chunks(SCORES_PER_CHUNK).zip(chunk_maxima).enumerate() {
        if *maximum >= threshold {
            let positions = (chunk * SCORES_PER_CHUNK..).map(|position| position as ItemIx);
            selected.extend(
                scores
                    .iter()
                    .copied()
                    .zip(positions)
                    .filter(|(score, _)| *score >= threshold && *score > f32::NEG_INFINITY),
            );
        }
    }
    if selected.len() > count {
        selected.select_nth_unstable_by(count, best_first);
        selected.truncate(count);
    }
}

/// Sorts items by their logits, the largest first. Among equal logits, the smaller item number comes
/// first.
fn sort_best_first(items: &mut [(ItemIx, f32)]) {
    items.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
}

impl Weights {
    pub(super) fn new(version: u64, parameters: NetworkParameters<CowRows>, index: QuantisedIndex) -> Self {
        Self { version, parameters, index }
    }

    /// The version number that these weights got when they were published or restored.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same weights with another version.
    #[must_use]
    pub fn with_version(&self, version: u64) -> Self {
        Self { version, ..self.clone() }
    }

    /// The network settings.
    #[must_use]
    pub fn settings(&self) -> &NetworkSettings {
        &self.parameters.settings
    }

    /// Number of items that have embeddings.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.parameters.items.len()
    }

    /// Order of the items in the quantised index. `None`: in the order of their numbers.
    #[must_use]
    pub fn row_order(&self) -> Option<&Arc<RowOrder>> {
        self.index.order()
    }

    /// The same weights with another order of the items in the quantised index. Quantises all items
    /// again.
    #[must_use]
    pub fn with_row_order(&self, order: Option<Arc<RowOrder>>) -> Self {
        let index = QuantisedIndex::from_table(self.parameters.output_table(), self.settings(), order);
        Self { index, ..self.clone() }
    }

    /// The same weights with the order of the items of `ordered`, earlier or later weights of the
    /// same network. Quantises only the items again that have changed between the two.
    #[must_use]
    pub fn with_row_order_of(&self, ordered: Self) -> Self {
        Self { index: ordered.into_index_of(self.parameters.output_table()), ..self.clone() }
    }

    /// The quantised index of these weights, changed into the index of `table`.
    pub(super) fn into_index_of(self, table: &CowRows) -> QuantisedIndex {
        let Self { parameters, mut index, .. } = self;
        let known = parameters.output_table();
        if known.len() > table.len() {
            return QuantisedIndex::from_table(table, &parameters.settings, index.order().cloned());
        }
        index.encode_rows(table, &table.rows_not_shared_with(known));
        index
    }

    /// Dimension of queries and embeddings.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.parameters.settings.hidden
    }

    fn state_len(&self) -> usize {
        let settings = self.settings();
        settings.hidden * (settings.layers * settings.cell.state_blocks() + 2)
    }

    /// Hidden state before the first event.
    #[must_use]
    pub fn initial_state(&self) -> HiddenState {
        HiddenState { version: self.version, values: vec![0.0; self.state_len()] }
    }

    pub(super) fn dense_parameters(&self, range: &Range<usize>) -> &[f32] {
        self.parameters.dense.get(range.clone()).unwrap_or_default()
    }

    /// Advances the hidden state by one event. If the state was computed by a network of another
    /// size, it is first replaced by [`Weights::initial_state`].
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
        self.parameters.embed_input(input, x);
        let mut below: &[f32] = x;
        for (layer, layout) in layers.chunks_exact_mut(width).zip(&self.parameters.layout.layers) {
            self.advance_layer(layer, below, layout, scratch);
            below = &layer[..hidden];
        }
    }

    fn advance_layer(&self, layer: &mut [f32], below: &[f32], layout: &LayerLayout, scratch: &mut NetworkScratch) {
        let (hidden, cell) = (self.dimension(), self.settings().cell);
        let NetworkScratch { gates, recurrent, next, .. } = scratch;
        gates.clear();
        gates.extend_from_slice(self.dense_parameters(&layout.bias));
        recurrent.clear();
        recurrent.resize(gates.len(), 0.0);
        next.clear();
        next.resize(layer.len(), 0.0);
        add_vector_matrix_product(gates, below, self.dense_parameters(&layout.input));
        add_vector_matrix_product(recurrent, &layer[..hidden], self.dense_parameters(&layout.recurrent));
        cell.forward(hidden, gates, recurrent, layer, next);
        layer.copy_from_slice(next);
    }

    /// Writes the query `o = h + W_s x + W_m m`, `(hidden)`: the vector whose inner product with an
    /// item embedding gives the logit. If the state was computed by a network of another size, the
    /// query is zero. With the normalised softmax, the query is scaled to a fixed length. Returns
    /// the factor of the scaling.
    pub fn compute_query(&self, state: &HiddenState, out: &mut Vec<f32>) -> f32 {
        let hidden = self.dimension();
        let width = hidden * self.settings().cell.state_blocks();
        out.clear();
        if state.values.len() != self.state_len() {
            out.resize(hidden, 0.0);
            return 1.0;
        }
        let (layers, rest) = state.values.split_at(self.settings().layers * width);
        let (memory, x) = rest.split_at(hidden);
        out.extend(layers.chunks_exact(width).next_back().into_iter().flat_map(|layer| &layer[..hidden]));
        let layout = &self.parameters.layout;
        add_vector_matrix_product(out, x, self.dense_parameters(&layout.input_to_output));
        add_vector_matrix_product(out, memory, self.dense_parameters(&layout.input_memory));
        self.settings().query_length().map_or(1.0, |length| scale_to_length(out, length))
    }

    /// The last input x of a hidden state; `None` if the state was computed by a network of another
    /// size.
    pub(super) fn last_input<'s>(&self, state: &'s HiddenState) -> Option<&'s [f32]> {
        let start = self.state_len().checked_sub(self.dimension())?;
        state.values.get(start..).filter(|_| state.values.len() == self.state_len())
    }

    /// The matrix W_s from the last input to the query, `(hidden, hidden)`.
    pub(super) fn input_to_output(&self) -> &[f32] {
        self.dense_parameters(&self.parameters.layout.input_to_output)
    }

    /// Exact logit of an item, including the bias; −∞ for an unknown item.
    #[must_use]
    pub fn logit(&self, query: &[f32], item: ItemIx) -> f32 {
        let hidden = self.dimension();
        let row = self.parameters.output_table().row(item as usize);
        row.map_or(f32::NEG_INFINITY, |row| row_product(query, &row[..hidden], self.has_scaled_rows()) + row[hidden])
    }

    /// Finds the `k` items with the largest logits among the items of `clusters` and the items newer
    /// than the clusters. Cluster numbers refer to [`Weights::row_order`]. If `clusters` is `None`,
    /// finds the top items of the whole catalog.
    ///
    /// Selects `k` + 16 items by their quantised logits, then computes the exact logits of these
    /// items. [`TopItems::log_partition`] is computed from the quantised logits of all scored items.
    #[must_use]
    pub fn top_items(
        &self,
        query: &[f32],
        k: usize,
        clusters: Option<&[usize]>,
        scratch: &mut NetworkScratch,
    ) -> TopItems {
        let approximate = self.approximate_top_items(query, k + EXTRA_ITEMS_TO_RESCORE, clusters, scratch);
        let mut items: Vec<_> =
            approximate.items.into_iter().map(|(item, _)| (item, self.logit(query, item))).collect();
        sort_best_first(&mut items);
        items.truncate(k);
        TopItems { items, log_partition: approximate.log_partition }
    }

    /// Finds the `k` items with the largest quantised logits, with these logits. Otherwise like
    /// [`Weights::top_items`].
    #[must_use]
    pub fn approximate_top_items(
        &self,
        query: &[f32],
        k: usize,
        clusters: Option<&[usize]>,
        scratch: &mut NetworkScratch,
    ) -> TopItems {
        let NetworkScratch { quantised_query, scores, chunk_maxima, order, selected, .. } = scratch;
        quantised_query.quantise(query);
        self.index.score_rows(quantised_query, clusters, scores);
        find_chunk_maxima(&scores.logits, chunk_maxima);
        select_top(&scores.logits, chunk_maxima, order, k, selected);
        let maximum = chunk_maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_partition = log_sum_exp(&scores.logits, maximum);
        let with_item =
            |(logit, position): &(f32, ItemIx)| Some((self.index.item_at(*position as usize, scores)?, *logit));
        let mut items: Vec<(ItemIx, f32)> = selected.iter().filter_map(with_item).collect();
        sort_best_first(&mut items);
        TopItems { items, log_partition }
    }

    /// Writes the logits of `items` to `out`: the approximate logit if the last
    /// [`Weights::top_items`] call with this scratch scored the item, else the exact logit.
    ///
    /// The embeddings of a block of items are read before they are multiplied, so that their cache
    /// misses overlap.
    pub fn logits_of(&self, query: &[f32], items: &[ItemIx], scratch: &NetworkScratch, out: &mut Vec<f32>) {
        const ITEMS_PER_BLOCK: usize = 16;
        const VALUES_PER_CACHE_LINE: usize = 16;
        let (hidden, table) = (self.dimension(), self.parameters.output_table());
        let is_scaled = self.has_scaled_rows();
        out.clear();
        for items in items.chunks(ITEMS_PER_BLOCK) {
            let (mut rows, mut touched, first) = ([None; ITEMS_PER_BLOCK], 0.0, out.len());
            for (item, row) in items.iter().zip(&mut rows) {
                out.push(self.approximate_logit(*item, scratch).unwrap_or_else(|| {
                    *row = table.row(*item as usize);
                    f32::NEG_INFINITY
                }));
            }
            for row in rows.iter().flatten() {
                touched += row.iter().step_by(VALUES_PER_CACHE_LINE).sum::<f32>();
            }
            std::hint::black_box(touched);
            for (row, logit) in rows.iter().zip(out.iter_mut().skip(first)) {
                if let Some(row) = row {
                    *logit = row_product(query, &row[..hidden], is_scaled) + row[hidden];
                }
            }
        }
    }

    /// The approximate logit of an item from the last [`Weights::top_items`] call with this scratch;
    /// `None` if that call did not score the item.
    #[must_use]
    #[inline]
    pub fn approximate_logit(&self, item: ItemIx, scratch: &NetworkScratch) -> Option<f32> {
        self.index.score_of(item, &scratch.scores)
    }

    /// Whether logits use the output embeddings scaled to length 1, as the normalised softmax does.
    pub(super) fn has_scaled_rows(&self) -> bool {
        self.settings().query_length().is_some()
    }

    /// Copies the output embedding of an item, without the biases, to `out`, `(hidden)`. With the
    /// normalised softmax, the copy is scaled to length 1. Writes zeros for an unknown item.
    pub fn copy_embedding(&self, item: ItemIx, out: &mut [f32]) {
        match self.embedding(item).filter(|embedding| embedding.len() == out.len()) {
            Some(embedding) => out.copy_from_slice(embedding),
            None => return out.fill(0.0),
        }
        if self.has_scaled_rows() {
            scale_to_length(out, 1.0);
        }
    }

    /// Output embedding of an item, without the biases, `(hidden)`; of length 1 with the normalised
    /// softmax. `None` for an unknown item.
    #[must_use]
    pub fn scaled_embedding(&self, item: ItemIx) -> Option<Vec<f32>> {
        let mut embedding = self.embedding(item)?.to_vec();
        if self.has_scaled_rows() {
            scale_to_length(&mut embedding, 1.0);
        }
        Some(embedding)
    }

    /// Output embedding of an item as trained, without the biases, `(hidden)`. With the normalised
    /// softmax, only its direction counts. `None` for an unknown item.
    #[must_use]
    pub fn embedding(&self, item: ItemIx) -> Option<&[f32]> {
        self.parameters.output_table().row(item as usize).and_then(|row| row.get(..self.dimension()))
    }

    /// Output embedding of an item as trained, `(hidden)`, and its bias. `None` for an unknown item.
    #[must_use]
    pub fn embedding_and_bias(&self, item: ItemIx) -> Option<(&[f32], f32)> {
        let (embedding, rest) =
            self.parameters.output_table().row(item as usize)?.split_at_checked(self.dimension())?;
        Some((embedding, *rest.first()?))
    }

    /// An item embedding as a query for similar items: with the length of queries.
    #[must_use]
    pub fn to_query(&self, embedding: &[f32]) -> Vec<f32> {
        let mut query = embedding.to_vec();
        if let Some(length) = self.settings().query_length() {
            scale_to_length(&mut query, length);
        }
        query
    }
}
