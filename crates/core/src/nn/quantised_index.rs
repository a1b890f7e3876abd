//! Approximate scoring of items with output embeddings quantised to 8 bits, with one scale per item.
//!
//! In a large catalog, only the items of a few clusters are scored. For this, the index stores the
//! items of each cluster in contiguous rows.
//!
//! The codes of sixteen rows are interleaved: one vector register holds four dimensions of eight
//! rows. A dot product therefore never sums values within a register, which would be slow.

use super::cow_rows::CowRows;
use super::math::kernel;
use super::row_order::{ROWS_PER_BLOCK, RowOrder};
use super::settings::NetworkSettings;
use super::unit_vectors::row_factor;
use crate::domain::{ItemIx, PagedVec};
use std::ops::Range;
use std::sync::Arc;

/// Number of rows whose codes are interleaved and that are scored together. Divides
/// [`ROWS_PER_BLOCK`].
const ROWS_PER_GROUP: usize = 16;
/// Rows per half of a group. One vector register holds the running sums of this many rows.
const ROWS_PER_HALF: usize = ROWS_PER_GROUP / 2;

/// A block of quantised rows. The logit of an item is about `bias + scale · Σ code · query`.
#[derive(Debug, Clone)]
struct QuantisedBlock {
    /// Row codes, `(groups, quads of dimensions, 2 halves, 8 rows · 4 dimensions)`.
    codes: Vec<[[i8; ROWS_PER_HALF * 4]; 2]>,
    /// Sum of the codes of each row. Query codes are relative to the query's minimum; scoring adds
    /// the minimum times this sum.
    sums: [f32; ROWS_PER_BLOCK],
    scales: [f32; ROWS_PER_BLOCK],
    /// Next-item bias of each row; −∞ for rows beyond the last item.
    biases: [f32; ROWS_PER_BLOCK],
}

/// Quantised copy of the output table. Clones share unchanged blocks.
#[derive(Debug, Clone)]
pub(super) struct QuantisedIndex {
    blocks: PagedVec<Arc<QuantisedBlock>, 16>,
    /// Dimension of the embeddings.
    hidden: usize,
    /// Whether embeddings are scaled to length 1 before they are quantised.
    is_scaled: bool,
    /// Order of the rows. `None`: the row of an item is its number.
    order: Option<Arc<RowOrder>>,
}

/// Approximate logits of the scored blocks of an index.
#[derive(Debug, Clone, Default)]
pub(super) struct BlockScores {
    /// Ranges of the scored blocks, in the order of their scores.
    ranges: Vec<Range<usize>>,
    /// Block of each [`ROWS_PER_BLOCK`] logits.
    blocks: Vec<u32>,
    /// For each block of the index, its position in `blocks`; [`u32::MAX`] if it was not scored.
    positions: Vec<u32>,
    /// Logit of each row of the scored blocks; −∞ for a row without an item.
    pub(super) logits: Vec<f32>,
}

impl BlockScores {
    /// Prepares buffers for the logits of the blocks in `self.ranges`.
    fn allocate(&mut self, block_count: usize) {
        self.blocks.clear();
        self.positions.clear();
        self.positions.resize(block_count, u32::MAX);
        for block in self.ranges.iter().cloned().flatten() {
            if let Some(position) = self.positions.get_mut(block) {
                *position = self.blocks.len() as u32;
                self.blocks.push(block as u32);
            }
        }
        self.logits.resize(self.blocks.len() * ROWS_PER_BLOCK, 0.0);
    }
}

kernel! {
    /// Quantises one row of a block to symmetric 8-bit codes with the scale `max |x| / 127`. If
    /// `is_scaled` is set, the embedding is first scaled to length 1.
    fn encode_row<'a>(block: &'a mut QuantisedBlock, row: usize, embedding: &'a [f32], bias: f32, is_scaled: bool) -> () {
        let unit = row_factor(embedding, is_scaled);
        let mut largest = 0.0_f32;
        for value in embedding {
            largest = largest.max((unit * value).abs());
        }
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let (group, half, offset) = (row / ROWS_PER_GROUP, row % ROWS_PER_GROUP / ROWS_PER_HALF, row % ROWS_PER_HALF * 4);
        let quads = embedding.len().div_ceil(4);
        let mut sum = 0;
        for (codes, values) in block.codes[group * quads..].iter_mut().zip(embedding.chunks(4)) {
            for (code, value) in codes[half][offset..].iter_mut().zip(values) {
                *code = (unit * value * factor).round_ties_even() as i8;
                sum += i32::from(*code);
            }
        }
        (block.sums[row], block.scales[row], block.biases[row]) = (sum as f32, largest / 127.0, bias);
    }
}

/// A query quantised to unsigned 7-bit codes. A query value is about `min + step · code`.
#[derive(Debug, Clone, Default)]
pub(super) struct QuantisedQuery {
    /// Codes of the query values, in groups of four dimensions. A code is at most
    /// [`QuantisedQuery::MAX_QUERY_CODE`].
    quads: Vec<[u8; 4]>,
    min: f32,
    step: f32,
}

impl QuantisedQuery {
    /// Largest code of a query value. Row codes are at most 127, so the sum of two products fits
    /// into the 16-bit lanes of `maddubs`.
    const MAX_QUERY_CODE: f32 = 127.0;

    pub(super) fn quantise(&mut self, query: &[f32]) {
        let (min, largest) =
            query.iter().fold((0.0_f32, 0.0_f32), |(min, largest), value| (min.min(*value), largest.max(*value)));
        let range = largest - min;
        let factor = if range > 0.0 { Self::MAX_QUERY_CODE / range } else { 0.0 };
        (self.min, self.step) = (min, range / Self::MAX_QUERY_CODE);
        self.quads.clear();
        let code = |value: Option<&f32>| value.map_or(0, |value| ((value - min) * factor).round_ties_even() as u8);
        self.quads.extend(query.chunks(4).map(|quad| [0, 1, 2, 3].map(|offset| code(quad.get(offset)))));
    }
}

impl QuantisedBlock {
    /// Creates a block without items.
    fn new(hidden: usize) -> Self {
        Self {
            codes: vec![[[0; ROWS_PER_HALF * 4]; 2]; ROWS_PER_BLOCK / ROWS_PER_GROUP * hidden.div_ceil(4)],
            sums: [0.0; ROWS_PER_BLOCK],
            scales: [0.0; ROWS_PER_BLOCK],
            biases: [f32::NEG_INFINITY; ROWS_PER_BLOCK],
        }
    }

    /// Writes the approximate logits of all rows of the block. `products` is called per group and
    /// computes Σ row code · query code for each row.
    #[inline(always)]
    fn write_logits(
        &self,
        query: &QuantisedQuery,
        out: &mut [f32],
        products: impl Fn(&[[[i8; ROWS_PER_HALF * 4]; 2]]) -> [i32; ROWS_PER_GROUP],
    ) {
        let mut sums = [0; ROWS_PER_BLOCK];
        for (sums, codes) in sums.as_chunks_mut().0.iter_mut().zip(self.codes.chunks_exact(query.quads.len().max(1))) {
            *sums = products(codes);
        }
        let rows = self.sums.iter().zip(&self.scales).zip(&self.biases);
        for ((out, product), ((sum, scale), bias)) in out.iter_mut().zip(&sums).zip(rows) {
            *out = (*product as f32).mul_add(query.step, sum * query.min).mul_add(*scale, *bias);
        }
    }
}

kernel! {
    /// Writes the approximate logits of all rows of `blocks`. This version runs on every CPU.
    fn score_portable<'a>(blocks: &'a [Arc<QuantisedBlock>], query: &'a QuantisedQuery, out: &'a mut [f32]) -> () {
        for (block, out) in blocks.iter().zip(out.chunks_exact_mut(ROWS_PER_BLOCK)) {
            block.write_logits(query, out, |codes| {
                let mut sums = [0_i32; ROWS_PER_GROUP];
                for (codes, quad) in codes.iter().zip(&query.quads) {
                    let quad = quad.map(i32::from);
                    for (sum, codes) in sums.iter_mut().zip(codes.as_flattened().as_chunks::<4>().0) {
                        *sum += codes.iter().zip(quad).map(|(code, query)| i32::from(*code) * query).sum::<i32>();
                    }
                }
                sums
            });
        }
    }
}

/// AVX2 version of [`score_portable`], with the instructions `maddubs` and `madd`. Both versions
/// compute the same integer sums.
#[cfg(target_arch = "x86_64")]
struct Avx2ScoreKernel<'a> {
    simd: pulp::x86::V3,
    blocks: &'a [Arc<QuantisedBlock>],
    query: &'a QuantisedQuery,
    out: &'a mut [f32],
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for Avx2ScoreKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, blocks, query, out } = self;
        let ones = simd.avx._mm256_set1_epi16(1);
        for (block, out) in blocks.iter().zip(out.chunks_exact_mut(ROWS_PER_BLOCK)) {
            block.write_logits(
                query,
                out,
                #[inline(always)]
                |codes| {
                    let mut sums = [simd.avx._mm256_setzero_si256(); 2];
                    for (codes, quad) in codes.iter().zip(&query.quads) {
                        let quad = simd.avx._mm256_set1_epi32(pulp::cast(*quad));
                        for (sum, codes) in sums.iter_mut().zip(codes) {
                            let pairs = simd.avx2._mm256_maddubs_epi16(quad, pulp::cast(*codes));
                            *sum = simd.avx2._mm256_add_epi32(*sum, simd.avx2._mm256_madd_epi16(pairs, ones));
                        }
                    }
                    pulp::cast(sums)
                },
            );
        }
    }
}

/// Writes the approximate logits of all rows of `blocks` with the fastest version that the CPU
/// supports.
fn score_blocks(blocks: &[Arc<QuantisedBlock>], query: &QuantisedQuery, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = crate::simd::avx2() {
        return simd.vectorize(Avx2ScoreKernel { simd, blocks, query, out });
    }
    score_portable(blocks, query, out);
}

impl QuantisedIndex {
    /// Creates an index without items.
    pub(super) fn new(settings: &NetworkSettings, order: Option<Arc<RowOrder>>) -> Self {
        let is_scaled = settings.query_length().is_some();
        Self { blocks: PagedVec::default(), hidden: settings.hidden, is_scaled, order }
    }

    /// Quantises the listed rows of `table` again. The first `hidden` values of a row are the
    /// embedding; the bias follows.
    pub(super) fn encode_rows(&mut self, table: &CowRows, rows: &[u32]) {
        let (hidden, is_scaled) = (self.hidden, self.is_scaled);
        let row_count = self.order.as_ref().map_or(table.len(), |order| order.row_count(table.len()));
        self.blocks.grow(row_count.div_ceil(ROWS_PER_BLOCK), || Arc::new(QuantisedBlock::new(hidden)));
        for &item in rows {
            let row = self.row_of(item);
            if let (Some(values), Some(block)) = (table.row(item as usize), self.blocks.get_mut(row / ROWS_PER_BLOCK)) {
                let block = Arc::make_mut(block);
                encode_row(block, row % ROWS_PER_BLOCK, &values[..hidden], values[hidden], is_scaled);
            }
        }
    }

    /// Quantises all rows of a table.
    pub(super) fn from_table(table: &CowRows, settings: &NetworkSettings, order: Option<Arc<RowOrder>>) -> Self {
        let mut index = Self::new(settings, order);
        index.encode_rows(table, &(0..table.len() as u32).collect::<Vec<_>>());
        index
    }

    /// Order of the rows. `None`: the row of an item is its number.
    pub(super) fn order(&self) -> Option<&Arc<RowOrder>> {
        self.order.as_ref()
    }

    fn row_of(&self, item: ItemIx) -> usize {
        self.order.as_ref().map_or(item as usize, |order| order.row_of(item))
    }

    /// Computes the approximate logits of the items of the given clusters and of the items newer
    /// than the clusters. If `clusters` is `None` or the index has no [`RowOrder`], computes the
    /// logits of all items.
    pub(super) fn score_rows(&self, query: &QuantisedQuery, clusters: Option<&[usize]>, scores: &mut BlockScores) {
        scores.ranges.clear();
        match (&self.order, clusters) {
            (Some(order), Some(clusters)) => {
                scores.ranges.extend(clusters.iter().map(|cluster| order.blocks_of_cluster(*cluster)));
                scores.ranges.push(order.first_block_of_newer_items()..self.blocks.len());
            }
            _ => scores.ranges.push(0..self.blocks.len()),
        }
        scores.allocate(self.blocks.len());
        let mut rest = scores.logits.as_mut_slice();
        for range in &scores.ranges {
            for blocks in self.blocks.slices(range.clone()) {
                let (current, later) = rest.split_at_mut((blocks.len() * ROWS_PER_BLOCK).min(rest.len()));
                score_blocks(blocks, query, current);
                rest = later;
            }
        }
    }

    /// The approximate logit of an item from the last [`QuantisedIndex::score_rows`] call; `None` if
    /// that call did not score the item.
    #[inline]
    pub(super) fn score_of(&self, item: ItemIx, scores: &BlockScores) -> Option<f32> {
        let row = self.row_of(item);
        let position = *scores.positions.get(row / ROWS_PER_BLOCK)?;
        scores.logits.get(position as usize * ROWS_PER_BLOCK + row % ROWS_PER_BLOCK).copied()
    }

    /// The item of the logit at `position` in the logits of `scores`.
    pub(super) fn item_at(&self, position: usize, scores: &BlockScores) -> Option<ItemIx> {
        let block = *scores.blocks.get(position / ROWS_PER_BLOCK)?;
        let row = block as usize * ROWS_PER_BLOCK + position % ROWS_PER_BLOCK;
        Some(self.order.as_ref().map_or(row as ItemIx, |order| order.item_at(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::LossKind;

    #[test]
    fn quantised_logits_approximate_the_exact_logits() {
        for hidden in [1, 7, 100] {
            let mut table = CowRows::new(hidden + 2);
            table.grow(37, |row, values| {
                values
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, value)| *value = ((row * 31 + i * 17) % 41) as f32 / 20.0 - 1.0)
            });
            let query: Vec<f32> = (0..hidden).map(|i| (i % 5) as f32 - 2.0).collect();
            let (mut quantised_query, mut scores) = (QuantisedQuery::default(), BlockScores::default());
            quantised_query.quantise(&query);
            let settings = NetworkSettings { hidden, loss: LossKind::CrossEntropy, ..NetworkSettings::default() };
            let index = QuantisedIndex::from_table(&table, &settings, None);
            index.score_rows(&quantised_query, None, &mut scores);
            let scores = scores.logits;
            assert_eq!(scores.len(), ROWS_PER_BLOCK);
            let mut portable = vec![0.0; ROWS_PER_BLOCK];
            index.blocks.pages().for_each(|page| score_portable(page, &quantised_query, &mut portable));
            assert_eq!(scores, portable, "the portable and the vector version agree");
            for (row, score) in scores.iter().enumerate() {
                let Some(values) = table.row(row) else {
                    assert_eq!(*score, f32::NEG_INFINITY);
                    continue;
                };
                let exact: f32 = values[..hidden].iter().zip(&query).map(|(a, b)| a * b).sum::<f32>() + values[hidden];
                assert!((exact - score).abs() < 0.01 * (hidden as f32).sqrt() * 2.0, "{row}: {score} is not {exact}");
            }
        }
    }
}
