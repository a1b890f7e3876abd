//! How an item relates to a user's hidden state: the numbers that the ranker uses of the network.

use super::math::{add_vector_matrix_product, dot_dispatched, kernel};
use super::unit_vectors::{row_factor, scaled_dot, scaled_length};
use super::weights::{HiddenState, Weights};
use crate::domain::ItemIx;

/// The vectors of a user with which [`Weights::relate_items`] multiplies item embeddings. Later
/// queries reuse the buffers.
#[derive(Debug, Clone, Default)]
pub struct RelationQuery {
    /// The query o, see [`Weights::compute_query`].
    output: Vec<f32>,
    /// The part of the query from `W_s x`, which depends on the last event only.
    from_input: Vec<f32>,
    /// The embedding of the last item, scaled to length 1; empty without such an embedding.
    last_item: Vec<f32>,
}

impl RelationQuery {
    /// The query o, `(hidden)`.
    #[must_use]
    pub fn output(&self) -> &[f32] {
        &self.output
    }
}

/// How an item relates to a user's hidden state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemRelation {
    /// The exact logit; −∞ for an item that the network does not know.
    pub logit: f32,
    /// The part of the logit that depends on the last event only, `x·W_s·e`.
    pub input_logit: f32,
    /// The bias in the logit.
    pub bias: f32,
    /// Cosine of the angle between the embeddings of the item and the last item, −1 to 1; 0 without a
    /// last item.
    pub last_item_similarity: f32,
}

impl ItemRelation {
    const UNKNOWN: Self = Self { logit: f32::NEG_INFINITY, input_logit: 0.0, bias: 0.0, last_item_similarity: 0.0 };
}

/// Items whose embeddings are read together.
const ITEMS_PER_BLOCK: usize = 16;
/// Number of values in a cache line.
const VALUES_PER_CACHE_LINE: usize = 16;

kernel! {
    /// Appends the relation of each row to `out`. If `is_scaled` is set, embeddings are scaled to
    /// length 1.
    fn relate_rows<'a>(query: &'a RelationQuery, rows: &'a [Option<&'a [f32]>], is_scaled: bool, out: &'a mut Vec<ItemRelation>) -> () {
        let hidden = query.output.len();
        for row in rows {
            let Some((embedding, bias)) = row.and_then(|row| Some((row.get(..hidden)?, *row.get(hidden)?))) else {
                out.push(ItemRelation::UNKNOWN);
                continue;
            };
            let factor = row_factor(embedding, is_scaled);
            let length = scaled_length(embedding, factor).max(f32::MIN_POSITIVE);
            out.push(ItemRelation {
                logit: scaled_dot(&query.output, embedding, factor) + bias,
                input_logit: scaled_dot(&query.from_input, embedding, factor),
                bias,
                last_item_similarity: if query.last_item.is_empty() { 0.0 } else { scaled_dot(&query.last_item, embedding, factor) / length },
            });
        }
    }
}

impl Weights {
    /// Computes the vectors of a user whose last item is `last_item`, for [`Weights::relate_items`].
    pub fn compute_relation_query(&self, state: &HiddenState, last_item: Option<ItemIx>, out: &mut RelationQuery) {
        let RelationQuery { output, from_input, last_item: last } = out;
        let scale = self.compute_query(state, output);
        from_input.clear();
        from_input.resize(output.len(), 0.0);
        if let Some(input) = self.last_input(state) {
            add_vector_matrix_product(from_input, input, self.input_to_output());
            from_input.iter_mut().for_each(|value| *value *= scale);
        }
        last.clear();
        if let Some(item) = last_item.filter(|item| self.embedding(*item).is_some()) {
            last.resize(self.dimension(), 0.0);
            self.copy_embedding(item, last);
        }
        let scale = 1.0 / dot_dispatched(last, last).sqrt().max(f32::MIN_POSITIVE);
        last.iter_mut().for_each(|value| *value *= scale);
    }

    /// Writes the relation of each item to `out`.
    pub fn relate_items(&self, query: &RelationQuery, items: &[ItemIx], out: &mut Vec<ItemRelation>) {
        let (table, is_scaled) = (self.parameters.output_table(), self.has_scaled_rows());
        out.clear();
        for items in items.chunks(ITEMS_PER_BLOCK) {
            let (mut rows, mut touched) = ([None; ITEMS_PER_BLOCK], 0.0);
            for (item, row) in items.iter().zip(&mut rows) {
                *row = table.row(*item as usize);
            }
            // Read a value of each cache line of the block first, so that the cache misses overlap.
            for row in rows.iter().flatten() {
                touched += row.iter().step_by(VALUES_PER_CACHE_LINE).sum::<f32>();
            }
            std::hint::black_box(touched);
            relate_rows(query, rows.get(..items.len()).unwrap_or_default(), is_scaled, out);
        }
    }
}
