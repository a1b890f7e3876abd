//! The weights themselves: one flat vector of dense parameters and the growing tables of embeddings.

use super::cow_rows::CowRows;
use super::embedding_table::EmbeddingTable;
use super::input::{GAP_BUCKETS, ItemAttributeLists, StepInput};
use super::math::accumulate;
use super::settings::NetworkSettings;
use crate::domain::EventKinds;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Values of an item's output row: its embedding, the bias of the next-item head, that of the interest head, and zeros up to whole vectors.
pub(super) const fn row_width(hidden: usize) -> usize {
    (hidden + 2).next_multiple_of(16)
}

/// Where one layer's parameters lie in the flat vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LayerLayout {
    /// W, `(hidden, gates · hidden)`.
    pub(super) input: Range<usize>,
    /// U, `(hidden, gates · hidden)`.
    pub(super) recurrent: Range<usize>,
    /// b, `(gates · hidden)`.
    pub(super) bias: Range<usize>,
}

/// Where every dense parameter lies in the flat vector. What is switched off has an empty range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ParameterLayout {
    pub(super) layers: Vec<LayerLayout>,
    /// `W_s`, `(hidden, hidden)`.
    pub(super) input_to_output: Range<usize>,
    /// `W_m`, `(hidden, hidden)`.
    pub(super) input_memory: Range<usize>,
    /// The interest head's matrix, `(hidden, hidden)`.
    pub(super) interest: Range<usize>,
    /// The interest head's common bias, one value.
    pub(super) interest_bias: Range<usize>,
    /// Embeddings of the event kinds, `(kinds, hidden)`.
    pub(super) kinds: Range<usize>,
    /// Embeddings of the gap buckets, `(GAP_BUCKETS, hidden)`.
    pub(super) gaps: Range<usize>,
    /// The input that tells of a session's border, `(hidden)`.
    pub(super) session_start: Range<usize>,
    /// All of them.
    pub(super) len: usize,
}

impl ParameterLayout {
    pub(super) fn new(settings: &NetworkSettings, kinds: usize) -> Self {
        let mut len = 0;
        let mut take = |size: usize, wanted: bool| {
            let start = len;
            len += if wanted { size } else { 0 };
            start..len
        };
        let (hidden, wide) = (settings.hidden, settings.hidden * settings.cell.gate_blocks());
        let square = hidden * hidden;
        let interest = settings.interest_weight > 0.0;
        let layers = (0..settings.layers)
            .map(|_| LayerLayout { input: take(hidden * wide, true), recurrent: take(hidden * wide, true), bias: take(wide, true) })
            .collect();
        Self {
            layers,
            input_to_output: take(square, settings.input_to_output),
            input_memory: take(square, settings.input_memory),
            interest: take(square, interest),
            interest_bias: take(1, interest),
            kinds: take(kinds.min(EventKinds::MAX) * hidden, settings.kinds),
            gaps: take(GAP_BUCKETS * hidden, settings.gaps),
            session_start: take(hidden, true),
            len,
        }
    }
}

/// The generator of one item's (or attribute's, or the dense parameters') initial values.
fn generator(seed: u64, table: u64, row: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed ^ (table << 56) ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Uniform in ± scale.
fn fill_uniform(values: &mut [f32], scale: f32, rng: &mut Xoshiro256PlusPlus) {
    /// 2⁻²³: 24 random bits span [0, 2).
    const STEP: f32 = 1.0 / 8_388_608.0;
    for value in values {
        *value = ((rng.next_u32() >> 8) as f32 * STEP - 1.0) * scale;
    }
}

/// Where embeddings are looked up: in the trainer's tables or in published ones.
pub(super) trait EmbeddingLookup {
    /// A row, if there is one.
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

/// Everything that is learned by gradients, its embeddings in tables of type `T`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NetworkParameters<T> {
    pub(super) settings: Arc<NetworkSettings>,
    pub(super) layout: Arc<ParameterLayout>,
    /// Mixed with an item's number it gives the item's initial values.
    seed: u64,
    pub(super) dense: Arc<Vec<f32>>,
    /// Input embeddings, `(items, hidden)`; tied, they are the output rows as well, `(items, row_width(hidden))`.
    pub(super) items: T,
    /// Output embeddings and biases, `(items, row_width(hidden))`, unless tied.
    pub(super) outputs: Option<T>,
    pub(super) attribute_rows: T,
    pub(super) attributes: ItemAttributeLists,
}

impl NetworkParameters<EmbeddingTable> {
    pub(super) fn new(settings: NetworkSettings, kinds: usize, seed: u64) -> Self {
        let layout = ParameterLayout::new(&settings, kinds);
        let hidden = settings.hidden;
        let mut dense = vec![0.0; layout.len];
        let mut rng = generator(seed, 1, 0);
        // Glorot's bound of each gate's own square matrix [Glorot & Bengio 2010].
        let glorot = (3.0 / hidden as f32).sqrt();
        let matrices = layout.layers.iter().flat_map(|layer| [&layer.input, &layer.recurrent]).map(|range| (range, glorot));
        let embeddings = [&layout.kinds, &layout.gaps, &layout.session_start].map(|range| (range, settings.initial_scale));
        for (range, scale) in matrices.chain(embeddings) {
            fill_uniform(&mut dense[range.clone()], scale, &mut rng);
        }
        for (range, diagonal) in [(&layout.input_to_output, 1.0), (&layout.input_memory, 0.2)] {
            dense[range.clone()].iter_mut().step_by(hidden + 1).for_each(|value| *value = diagonal);
        }
        let table = |width| EmbeddingTable::new(width, settings.optimiser.state_per_parameter());
        let (items, outputs) =
            if settings.tied { (table(row_width(hidden)), None) } else { (table(hidden), Some(table(row_width(hidden)))) };
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

    /// Rows for items up to `items`, the initial values of each a function of the seed and its number.
    pub(super) fn grow(&mut self, items: usize) {
        let (seed, hidden, scale) = (self.seed, self.settings.hidden, self.settings.initial_scale);
        let fill = |table| {
            move |row: usize, values: &mut [f32]| fill_uniform(&mut values[..hidden], scale, &mut generator(seed, table, row as u64))
        };
        self.items.grow(items, fill(2));
        if let Some(outputs) = &mut self.outputs {
            outputs.grow(items, fill(3));
        }
    }

    /// Gives an item the mean of the rows of others, for input and output alike.
    pub(super) fn set_to_mean(&mut self, item: u32, others: &[u32]) {
        for table in [&mut self.items].into_iter().chain(&mut self.outputs) {
            let mut mean = vec![0.0; table.width()];
            for row in others.iter().filter_map(|other| table.row(*other as usize)) {
                accumulate(&mut mean, 1.0 / others.len() as f32, row);
            }
            table.overwrite(item, &mean);
        }
    }

    /// Sets an item's attributes, with rows for those never named before.
    pub(super) fn set_attributes(&mut self, item: u32, attributes: &[u32]) {
        let (seed, scale, max) = (self.seed, self.settings.initial_scale, self.settings.attributes_max);
        let known: Vec<u32> = attributes.iter().copied().filter(|id| (*id as usize) < max).collect();
        if let Some(largest) = known.iter().max() {
            let rows = *largest as usize + 1;
            self.attribute_rows.grow(rows, |row, values| fill_uniform(values, scale, &mut generator(seed, 4, row as u64)));
        }
        self.attributes.set(item, &known);
    }

    /// Whether every part has the size that the settings give it, as after reading them from bytes.
    pub(super) fn is_consistent(&self, kinds: usize) -> bool {
        let (hidden, memories) = (self.settings.hidden, self.settings.optimiser.state_per_parameter());
        let items = if self.settings.tied { row_width(hidden) } else { hidden };
        let outputs = |table: &EmbeddingTable| table.is_consistent(row_width(hidden), memories) && table.len() == self.items.len();
        self.settings.check().is_ok()
            && *self.layout == ParameterLayout::new(&self.settings, kinds)
            && self.dense.len() == self.layout.len
            && self.outputs.is_none() == self.settings.tied
            && self.outputs.as_ref().is_none_or(outputs)
            && self.items.is_consistent(items, memories)
            && self.attribute_rows.is_consistent(hidden, memories)
    }

    /// Makes room that is not kept in bytes.
    pub(super) fn rebuild_transient(&mut self) {
        [&mut self.items, &mut self.attribute_rows].into_iter().chain(&mut self.outputs).for_each(EmbeddingTable::rebuild_transient);
    }

    /// Brings a published copy up to date and hands the output table's changed rows to `changed`. Attributes are copied if `attributes` says that they changed.
    pub(super) fn publish(&mut self, copy: &mut NetworkParameters<CowRows>, attributes: bool, changed: impl FnMut(&CowRows, &[u32])) {
        copy.dense = Arc::clone(&self.dense);
        if attributes {
            copy.attributes = self.attributes.clone();
        }
        self.attribute_rows.publish(&mut copy.attribute_rows, |_, _| {});
        match (&mut self.outputs, &mut copy.outputs) {
            (Some(outputs), Some(copy_of_outputs)) => {
                self.items.publish(&mut copy.items, |_, _| {});
                outputs.publish(copy_of_outputs, changed);
            }
            _ => self.items.publish(&mut copy.items, changed),
        }
    }

    /// A copy to publish, without rows yet.
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
    /// As [`NetworkParameters::is_sound`] of a trainer's, with the number of kinds taken as stored.
    pub(super) fn is_consistent_snapshot(&self) -> bool {
        let hidden = self.settings.hidden;
        let items = if self.settings.tied { row_width(hidden) } else { hidden };
        let kinds = self.layout.kinds.len() / hidden.max(1);
        let outputs = |rows: &CowRows| rows.is_consistent(row_width(hidden)) && rows.len() == self.items.len();
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
    /// The table of output rows.
    pub(super) fn output_rows(&self) -> &T {
        self.outputs.as_ref().unwrap_or(&self.items)
    }

    /// The item's attributes that the input sees.
    pub(super) fn attributes_of(&self, item: u32) -> &[u32] {
        if self.settings.attributes { self.attributes.get(item) } else { &[] }
    }

    /// The place of a kind's embedding in the flat vector, if there is one.
    pub(super) fn kind_range(&self, kind: u8) -> Option<Range<usize>> {
        self.embedding_range(&self.layout.kinds, kind)
    }

    /// The place of a gap bucket's embedding in the flat vector, if there is one.
    pub(super) fn gap_range(&self, gap: u8) -> Option<Range<usize>> {
        self.embedding_range(&self.layout.gaps, gap)
    }

    fn embedding_range(&self, table: &Range<usize>, row: u8) -> Option<Range<usize>> {
        let start = table.start + usize::from(row) * self.settings.hidden;
        let end = start + self.settings.hidden;
        (end <= table.end).then_some(start..end)
    }

    /// Writes x, the sum of the step's embeddings, `(hidden)`. What is unknown adds nothing.
    pub(super) fn embed(&self, input: &StepInput, out: &mut [f32]) {
        let dense = |range: Range<usize>| self.dense.get(range);
        let boundary = if input.starts_session { dense(self.layout.session_start.clone()) } else { None };
        let parts = [self.kind_range(input.kind).and_then(dense), self.gap_range(input.gap_bucket).and_then(dense), boundary];
        let item = input.item.and_then(|item| self.items.row(item as usize));
        let attributes = input.item.map_or(&[][..], |item| self.attributes_of(item));
        let attributes = attributes.iter().filter_map(|id| self.attribute_rows.row(*id as usize));
        match item {
            Some(row) => out.copy_from_slice(&row[..out.len()]),
            None => out.fill(0.0),
        }
        for part in parts.into_iter().flatten().chain(attributes) {
            accumulate(out, 1.0, part);
        }
    }
}
