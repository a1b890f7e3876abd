//! Trainable parameters: one flat vector of dense parameters, and embedding tables that grow with
//! the items.

use super::cow_rows::CowRows;
use super::embedding_table::EmbeddingTable;
use super::input::{GAP_BUCKETS, ItemAttributeLists, StepInput};
use super::math::{add_scaled_dispatched, dot_dispatched};
use super::settings::NetworkSettings;
use super::unit_vectors::scale_to_length;
use crate::domain::EventKinds;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Width of an item's row in the output table: the embedding, the bias, an unused value, and zero
/// padding to a multiple of 16. The unused value keeps the width of stored rows.
pub(super) const fn output_row_width(hidden: usize) -> usize {
    (hidden + 2).next_multiple_of(16)
}

/// Index ranges of one layer's parameters in the flat vector of dense parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LayerLayout {
    /// Input weights W, `(hidden, gates · hidden)`.
    pub(super) input: Range<usize>,
    /// Recurrent weights U, `(hidden, gates · hidden)`.
    pub(super) recurrent: Range<usize>,
    /// Bias b, `(gates · hidden)`.
    pub(super) bias: Range<usize>,
}

/// Index ranges of the dense parameters in their flat vector. The range of a disabled part is
/// empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ParameterLayout {
    pub(super) layers: Vec<LayerLayout>,
    /// `W_s`, the weights of the direct path from the input to the output, `(hidden, hidden)`.
    pub(super) input_to_output: Range<usize>,
    /// `W_m`, the weights of the direct path from the memory to the output, `(hidden, hidden)`.
    pub(super) input_memory: Range<usize>,
    /// Parameters of the former interest head, a matrix `(hidden, hidden)` and a bias. They are
    /// empty, except in a stored network that has the head
    /// ([`NetworkSettings::has_former_interest_head`]).
    unused_matrix: Range<usize>,
    unused_bias: Range<usize>,
    /// Embeddings of the event kinds, `(kinds, hidden)`.
    pub(super) kinds: Range<usize>,
    /// Embeddings of the gap buckets, `(GAP_BUCKETS, hidden)`.
    pub(super) gaps: Range<usize>,
    /// Embedding of a session start, `(hidden)`.
    pub(super) session_start: Range<usize>,
    /// Length of the flat vector.
    pub(super) len: usize,
}

impl ParameterLayout {
    pub(super) fn new(settings: &NetworkSettings, kinds: usize) -> Self {
        let mut len = 0;
        let mut take = |size: usize, enabled: bool| {
            let start = len;
            len += if enabled { size } else { 0 };
            start..len
        };
        let (hidden, gate_width) = (settings.hidden, settings.hidden * settings.cell.gate_blocks());
        let square = hidden * hidden;
        let former_head = settings.has_former_interest_head();
        let layers = (0..settings.layers)
            .map(|_| LayerLayout {
                input: take(hidden * gate_width, true),
                recurrent: take(hidden * gate_width, true),
                bias: take(gate_width, true),
            })
            .collect();
        Self {
            layers,
            input_to_output: take(square, settings.input_to_output),
            input_memory: take(square, settings.input_memory),
            unused_matrix: take(square, former_head),
            unused_bias: take(1, former_head),
            kinds: take(kinds.min(EventKinds::MAX_KINDS) * hidden, settings.kinds),
            gaps: take(GAP_BUCKETS * hidden, settings.gaps),
            session_start: take(hidden, true),
            len,
        }
    }
}

/// Random generator for the initial values of one row of a table. Every row has its own generator,
/// so the initial values do not depend on the order in which tables grow.
fn row_rng(seed: u64, table: u64, row: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed ^ (table << 56) ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Fills `values` uniformly from [−scale, scale).
fn fill_uniform(values: &mut [f32], scale: f32, rng: &mut Xoshiro256PlusPlus) {
    /// 2⁻²³, which scales 24 random bits to [0, 2).
    const SCALE_OF_24_BITS: f32 = 1.0 / 8_388_608.0;
    for value in values {
        *value = ((rng.next_u32() >> 8) as f32 * SCALE_OF_24_BITS - 1.0) * scale;
    }
}

/// Looks up rows in a table of embeddings: the trainer's mutable table or a published copy.
pub(super) trait EmbeddingLookup {
    /// The row with number `row`, or `None` beyond the end of the table.
    fn row(&self, row: usize) -> Option<&[f32]>;
}

impl EmbeddingLookup for EmbeddingTable {
    fn row(&self, row: usize) -> Option<&[f32]> {
        self.row(row)
    }
}

impl EmbeddingLookup for CowRows {
    fn row(&self, row: usize) -> Option<&[f32]> {
        self.row(row)
    }
}

/// All parameters that gradient descent trains. `T` is the type of the embedding tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NetworkParameters<T> {
    pub(super) settings: Arc<NetworkSettings>,
    pub(super) layout: Arc<ParameterLayout>,
    /// Seed of all initial values.
    seed: u64,
    pub(super) dense: Arc<Vec<f32>>,
    /// Input embeddings, `(items, hidden)`. With tied embeddings this is also the output table,
    /// `(items, output_row_width(hidden))`.
    pub(super) items: T,
    /// Output embeddings and biases, `(items, output_row_width(hidden))`; `None` with tied
    /// embeddings.
    pub(super) outputs: Option<T>,
    pub(super) attribute_rows: T,
    pub(super) attributes: ItemAttributeLists,
}

impl NetworkParameters<EmbeddingTable> {
    pub(super) fn new(settings: NetworkSettings, kinds: usize, seed: u64) -> Self {
        let layout = ParameterLayout::new(&settings, kinds);
        let hidden = settings.hidden;
        let mut dense = vec![0.0; layout.len];
        let mut rng = row_rng(seed, 1, 0);
        // Glorot uniform bound √(6 / (hidden + hidden)) of each square gate matrix [Glorot & Bengio
        // 2010].
        let glorot = (3.0 / hidden as f32).sqrt();
        let matrices =
            layout.layers.iter().flat_map(|layer| [&layer.input, &layer.recurrent]).map(|range| (range, glorot));
        let embeddings =
            [&layout.kinds, &layout.gaps, &layout.session_start].map(|range| (range, settings.initial_scale));
        for (range, scale) in matrices.chain(embeddings) {
            fill_uniform(&mut dense[range.clone()], scale, &mut rng);
        }
        for (range, diagonal) in [(&layout.input_to_output, 1.0), (&layout.input_memory, 0.2)] {
            dense[range.clone()].iter_mut().step_by(hidden + 1).for_each(|value| *value = diagonal);
        }
        let table = |width| EmbeddingTable::new(width, settings.optimiser.row_state());
        let (items, outputs) = if settings.tied {
            (table(output_row_width(hidden)), None)
        } else {
            (table(hidden), Some(table(output_row_width(hidden))))
        };
        Self {
            layout: Arc::new(layout),
            seed,
            dense: Arc::new(dense),
            items,
            outputs,
            attribute_rows: table(hidden),
            attributes: ItemAttributeLists::default(),
            settings: Arc::new(settings),
        }
    }

    /// Grows the item tables to `items` rows. The initial values of a row depend only on the seed
    /// and the item number.
    pub(super) fn grow_items(&mut self, items: usize) {
        let (seed, hidden, scale) = (self.seed, self.settings.hidden, self.settings.initial_scale);
        let fill = |table| {
            move |row: usize, values: &mut [f32]| {
                fill_uniform(&mut values[..hidden], scale, &mut row_rng(seed, table, row as u64))
            }
        };
        self.items.grow(items, fill(2));
        if let Some(outputs) = &mut self.outputs {
            outputs.grow(items, fill(3));
        }
    }

    /// Sets the input embedding and the output row of `item` to the mean of the input embeddings
    /// and the mean of the output rows of `others`.
    pub(super) fn set_rows_to_mean(&mut self, item: u32, others: &[u32]) {
        for table in [&mut self.items].into_iter().chain(&mut self.outputs) {
            let mut mean = vec![0.0; table.width()];
            for row in others.iter().filter_map(|other| table.row(*other as usize)) {
                add_scaled_dispatched(&mut mean, 1.0 / others.len() as f32, row);
            }
            table.overwrite_row(item, &mean);
        }
    }

    /// Moves the output embedding and the bias of an item to `predicted`, `(hidden + 1)`, by the
    /// share `share` of the way. The embedding gets the length of the predicted one.
    pub(super) fn move_output_row(&mut self, item: u32, predicted: &[f32], share: f32) {
        let table = self.outputs.as_mut().unwrap_or(&mut self.items);
        let Some(mut row) = table.row(item as usize).map(<[f32]>::to_vec) else { return };
        let hidden = self.settings.hidden;
        let (Some(predicted_embedding), Some(embedding)) = (predicted.get(..hidden), row.get_mut(..hidden)) else {
            return;
        };
        let length = dot_dispatched(predicted_embedding, predicted_embedding).sqrt();
        scale_to_length(embedding, length);
        for (value, predicted) in row.iter_mut().zip(predicted) {
            *value += share * (predicted - *value);
        }
        table.overwrite_row(item, &row);
    }

    /// Sets the attributes of an item and adds embedding rows for new attribute ids. Attribute ids
    /// at or above `attributes_max` are dropped.
    pub(super) fn set_attributes(&mut self, item: u32, attributes: &[u32]) {
        let (seed, scale, max) = (self.seed, self.settings.initial_scale, self.settings.attributes_max);
        let known: Vec<u32> = attributes.iter().copied().filter(|id| (*id as usize) < max).collect();
        if let Some(largest) = known.iter().max() {
            let rows = *largest as usize + 1;
            self.attribute_rows
                .grow(rows, |row, values| fill_uniform(values, scale, &mut row_rng(seed, 4, row as u64)));
        }
        self.attributes.set_attributes(item, &known);
    }

    /// Whether every part has the size that follows from the settings. Deserialisation checks this.
    pub(super) fn is_consistent(&self, kinds: usize) -> bool {
        let (hidden, row_state) = (self.settings.hidden, self.settings.optimiser.row_state());
        let items = if self.settings.tied { output_row_width(hidden) } else { hidden };
        let outputs = |table: &EmbeddingTable| {
            table.is_consistent(output_row_width(hidden), row_state) && table.len() == self.items.len()
        };
        self.settings.check().is_ok()
            && *self.layout == ParameterLayout::new(&self.settings, kinds)
            && self.dense.len() == self.layout.len
            && self.outputs.is_none() == self.settings.tied
            && self.outputs.as_ref().is_none_or(outputs)
            && self.items.is_consistent(items, row_state)
            && self.attribute_rows.is_consistent(hidden, row_state)
    }

    /// Allocates the lists of changed rows of all tables. The lists are not serialised, so this
    /// follows deserialisation.
    pub(super) fn allocate_change_tracking(&mut self) {
        [&mut self.items, &mut self.attribute_rows]
            .into_iter()
            .chain(&mut self.outputs)
            .for_each(EmbeddingTable::allocate_change_tracking);
    }

    /// Updates a published copy of the parameters and calls `on_change` with the changed rows of
    /// the output table. Copies the attributes only if `attributes_changed` is set.
    pub(super) fn publish_into(
        &mut self,
        copy: &mut NetworkParameters<CowRows>,
        attributes_changed: bool,
        on_change: impl FnMut(&CowRows, &[u32]),
    ) {
        copy.dense = Arc::clone(&self.dense);
        if attributes_changed {
            copy.attributes = self.attributes.clone();
        }
        self.attribute_rows.publish_into(&mut copy.attribute_rows, |_, _| {});
        match (&mut self.outputs, &mut copy.outputs) {
            (Some(outputs), Some(copy_of_outputs)) => {
                self.items.publish_into(&mut copy.items, |_, _| {});
                outputs.publish_into(copy_of_outputs, on_change);
            }
            _ => self.items.publish_into(&mut copy.items, on_change),
        }
    }

    /// An empty copy of the parameters, which [`NetworkParameters::publish_into`] then fills.
    pub(super) fn empty_snapshot(&self) -> NetworkParameters<CowRows> {
        NetworkParameters {
            settings: Arc::clone(&self.settings),
            layout: Arc::clone(&self.layout),
            seed: self.seed,
            dense: Arc::clone(&self.dense),
            items: CowRows::new(self.items.width()),
            outputs: self.outputs.as_ref().map(|table| CowRows::new(table.width())),
            attribute_rows: CowRows::new(self.attribute_rows.width()),
            attributes: self.attributes.clone(),
        }
    }
}

impl NetworkParameters<CowRows> {
    /// Shares the memory of all rows that equal those of `trained`. Changes no value.
    pub(super) fn share_equal_rows(&mut self, trained: &NetworkParameters<EmbeddingTable>) {
        self.items.share_equal_blocks(trained.items.weights());
        self.attribute_rows.share_equal_blocks(trained.attribute_rows.weights());
        if let (Some(outputs), Some(trained)) = (&mut self.outputs, &trained.outputs) {
            outputs.share_equal_blocks(trained.weights());
        }
    }

    /// Same check as [`NetworkParameters::is_consistent`], but derives the number of event kinds
    /// from the layout.
    pub(super) fn is_consistent_snapshot(&self) -> bool {
        let hidden = self.settings.hidden;
        let items = if self.settings.tied { output_row_width(hidden) } else { hidden };
        let kinds = self.layout.kinds.len() / hidden.max(1);
        let outputs = |rows: &CowRows| rows.is_consistent(output_row_width(hidden)) && rows.len() == self.items.len();
        self.settings.check().is_ok()
            && *self.layout == ParameterLayout::new(&self.settings, kinds)
            && self.dense.len() == self.layout.len
            && self.outputs.is_none() == self.settings.tied
            && self.outputs.as_ref().is_none_or(outputs)
            && self.items.is_consistent(items)
            && self.attribute_rows.is_consistent(hidden)
    }
}

impl<T: EmbeddingLookup> NetworkParameters<T> {
    /// The table of output rows: embeddings and biases by item.
    pub(super) fn output_table(&self) -> &T {
        self.outputs.as_ref().unwrap_or(&self.items)
    }

    /// The attributes whose embeddings are part of the input of an item; empty if `attributes` is
    /// disabled.
    pub(super) fn attributes_of(&self, item: u32) -> &[u32] {
        if self.settings.attributes { self.attributes.attributes_of(item) } else { &[] }
    }

    /// Index range of the embedding of an event kind in the flat vector; `None` if the kind has no
    /// embedding.
    pub(super) fn kind_embedding_range(&self, kind: u8) -> Option<Range<usize>> {
        self.range_in_flat_vector(&self.layout.kinds, kind)
    }

    /// Index range of the embedding of a gap bucket in the flat vector; `None` if the bucket has no
    /// embedding.
    pub(super) fn gap_embedding_range(&self, gap: u8) -> Option<Range<usize>> {
        self.range_in_flat_vector(&self.layout.gaps, gap)
    }

    fn range_in_flat_vector(&self, table: &Range<usize>, row: u8) -> Option<Range<usize>> {
        let start = table.start + usize::from(row) * self.settings.hidden;
        let end = start + self.settings.hidden;
        (end <= table.end).then_some(start..end)
    }

    /// Writes the network input x of a step, `(hidden)`: the sum of the embeddings of its parts. A
    /// part without an embedding adds nothing.
    pub(super) fn embed_input(&self, input: &StepInput, out: &mut [f32]) {
        let dense = |range: Range<usize>| self.dense.get(range);
        let boundary = if input.starts_session { dense(self.layout.session_start.clone()) } else { None };
        let parts = [
            self.kind_embedding_range(input.kind).and_then(dense),
            self.gap_embedding_range(input.gap_bucket).and_then(dense),
            boundary,
        ];
        let item = input.item.and_then(|item| self.items.row(item as usize));
        let attributes = input.item.map_or(&[][..], |item| self.attributes_of(item));
        let attributes = attributes.iter().filter_map(|id| self.attribute_rows.row(*id as usize));
        match item {
            Some(row) => {
                out.copy_from_slice(&row[..out.len()]);
                if self.settings.query_length().is_some() {
                    scale_to_length(out, 1.0);
                }
            }
            None => out.fill(0.0),
        }
        for part in parts.into_iter().flatten().chain(attributes) {
            add_scaled_dispatched(out, 1.0, part);
        }
    }
}
