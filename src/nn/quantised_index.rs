//! Scoring the whole catalogue: output rows as 8-bit codes, sixteen rows side by side.

use super::cow_rows::CowRows;
use super::math::kernel;
use crate::domain::PagedVec;
use std::sync::Arc;

/// Rows that are scored side by side.
const SIDE: usize = 16;
/// Rows of a block: so many that the processor reads ahead within one, so few that a changed row copies little.
const BLOCK: usize = 4 * SIDE;
/// Rows of half a side: the sums of one vector.
const HALF: usize = SIDE / 2;

/// A block of rows as codes. An item's logit is about `bias + scale · Σ code · query`.
#[derive(Debug, Clone)]
struct QuantisedBlock {
    /// `(sides, fours of dimensions, rows, 4)`, eight rows in each half, so that a vector holds four dimensions of eight rows and no sum runs across rows.
    codes: Vec<[[i8; HALF * 4]; 2]>,
    /// By row, the sum of its codes.
    sums: [f32; BLOCK],
    scales: [f32; BLOCK],
    /// −∞ beyond the last item.
    biases: [f32; BLOCK],
}

/// The codes of a whole table. Clones share what has not changed.
#[derive(Debug, Clone, Default)]
pub(super) struct QuantisedIndex {
    blocks: PagedVec<Arc<QuantisedBlock>, 16>,
}

kernel! {
    /// Encodes one row of a block.
    fn encode<'a>(block: &'a mut QuantisedBlock, row: usize, embedding: &'a [f32], bias: f32) -> () {
        let mut largest = 0.0_f32;
        for value in embedding {
            largest = largest.max(value.abs());
        }
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let (side, half, place) = (row / SIDE, row % SIDE / HALF, row % HALF * 4);
        let fours = embedding.len().div_ceil(4);
        let mut sum = 0;
        for (codes, values) in block.codes[side * fours..].iter_mut().zip(embedding.chunks(4)) {
            for (code, value) in codes[half][place..].iter_mut().zip(values) {
                *code = (value * factor).round_ties_even() as i8;
                sum += i32::from(*code);
            }
        }
        (block.sums[row], block.scales[row], block.biases[row]) = (sum as f32, largest / 127.0, bias);
    }
}

/// A query as integers: about `least + unit · code`.
#[derive(Debug, Clone, Default)]
pub(super) struct QuantisedQuery {
    /// Fours of dimensions, each code at most [`QuantisedQuery::LARGEST`].
    fours: Vec<[u8; 4]>,
    least: f32,
    unit: f32,
}

impl QuantisedQuery {
    /// The largest code: with 127 for a row's the sum of two products stays within 16 bits, as the processor takes them.
    const LARGEST: f32 = 127.0;

    pub(super) fn encode(&mut self, query: &[f32]) {
        let (least, largest) = query.iter().fold((0.0_f32, 0.0_f32), |(least, largest), value| (least.min(*value), largest.max(*value)));
        let range = largest - least;
        let factor = if range > 0.0 { Self::LARGEST / range } else { 0.0 };
        (self.least, self.unit) = (least, range / Self::LARGEST);
        self.fours.clear();
        let code = |value: Option<&f32>| value.map_or(0, |value| ((value - least) * factor).round_ties_even() as u8);
        self.fours.extend(query.chunks(4).map(|four| [0, 1, 2, 3].map(|place| code(four.get(place)))));
    }
}

impl QuantisedBlock {
    /// A block without rows.
    fn new(hidden: usize) -> Self {
        Self {
            codes: vec![[[0; HALF * 4]; 2]; BLOCK / SIDE * hidden.div_ceil(4)],
            sums: [0.0; BLOCK],
            scales: [0.0; BLOCK],
            biases: [f32::NEG_INFINITY; BLOCK],
        }
    }

    /// The logits of the rows, of whose codes `products` takes the sums of products with the query's, a side at a time.
    #[inline(always)]
    fn logits(&self, query: &QuantisedQuery, out: &mut [f32], products: impl Fn(&[[[i8; HALF * 4]; 2]]) -> [i32; SIDE]) {
        let mut sums = [0; BLOCK];
        for (sums, codes) in sums.as_chunks_mut().0.iter_mut().zip(self.codes.chunks_exact(query.fours.len().max(1))) {
            *sums = products(codes);
        }
        let rows = self.sums.iter().zip(&self.scales).zip(&self.biases);
        for ((out, product), ((sum, scale), bias)) in out.iter_mut().zip(&sums).zip(rows) {
            *out = (*product as f32).mul_add(query.unit, sum * query.least).mul_add(*scale, *bias);
        }
    }
}

kernel! {
    /// Writes the approximate logits of blocks, on any processor.
    fn score_plainly<'a>(blocks: &'a [Arc<QuantisedBlock>], query: &'a QuantisedQuery, out: &'a mut [f32]) -> () {
        for (block, out) in blocks.iter().zip(out.chunks_exact_mut(BLOCK)) {
            block.logits(query, out, |codes| {
                let mut sums = [0_i32; SIDE];
                for (codes, four) in codes.iter().zip(&query.fours) {
                    let four = four.map(i32::from);
                    for (sum, codes) in sums.iter_mut().zip(codes.as_flattened().as_chunks::<4>().0) {
                        *sum += codes.iter().zip(four).map(|(code, query)| i32::from(*code) * query).sum::<i32>();
                    }
                }
                sums
            });
        }
    }
}

/// The same with the instructions that multiply bytes and add neighbours: the sums are the same integers.
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
        for (block, out) in blocks.iter().zip(out.chunks_exact_mut(BLOCK)) {
            block.logits(
                query,
                out,
                #[inline(always)]
                |codes| {
                    let mut sums = [simd.avx._mm256_setzero_si256(); 2];
                    for (codes, four) in codes.iter().zip(&query.fours) {
                        let four = simd.avx._mm256_set1_epi32(pulp::cast(*four));
                        for (sum, codes) in sums.iter_mut().zip(codes) {
                            let pairs = simd.avx2._mm256_maddubs_epi16(four, pulp::cast(*codes));
                            *sum = simd.avx2._mm256_add_epi32(*sum, simd.avx2._mm256_madd_epi16(pairs, ones));
                        }
                    }
                    pulp::cast(sums)
                },
            );
        }
    }
}

/// Writes the approximate logits of blocks.
fn score_blocks(blocks: &[Arc<QuantisedBlock>], query: &QuantisedQuery, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(Avx2ScoreKernel { simd, blocks, query, out });
    }
    score_plainly(blocks, query, out);
}

impl QuantisedIndex {
    /// Encodes anew the named rows of `table`, whose first `hidden` values are the embedding and the next the bias.
    pub(super) fn update(&mut self, table: &CowRows, hidden: usize, rows: &[u32]) {
        self.blocks.grow(table.len().div_ceil(BLOCK), || Arc::new(QuantisedBlock::new(hidden)));
        for row in rows.iter().map(|row| *row as usize) {
            if let (Some(values), Some(block)) = (table.row(row), self.blocks.get_mut(row / BLOCK)) {
                encode(Arc::make_mut(block), row % BLOCK, &values[..hidden], values[hidden]);
            }
        }
    }

    /// The codes of a whole table.
    pub(super) fn from_table(table: &CowRows, hidden: usize) -> Self {
        let mut scan = Self::default();
        scan.update(table, hidden, &(0..table.len() as u32).collect::<Vec<_>>());
        scan
    }

    /// Writes the approximate logit of every item, and −∞ for what fills the last block.
    pub(super) fn score(&self, query: &QuantisedQuery, out: &mut Vec<f32>) {
        out.resize(self.blocks.len() * BLOCK, 0.0);
        let mut rest = out.as_mut_slice();
        for page in self.blocks.pages() {
            let (now, later) = rest.split_at_mut((page.len() * BLOCK).min(rest.len()));
            score_blocks(page, query, now);
            rest = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_close_to_the_products() {
        for hidden in [1, 7, 100] {
            let mut table = CowRows::new(hidden + 2);
            table.grow(37, |row, values| {
                values.iter_mut().enumerate().for_each(|(i, value)| *value = ((row * 31 + i * 17) % 41) as f32 / 20.0 - 1.0)
            });
            let query: Vec<f32> = (0..hidden).map(|i| (i % 5) as f32 - 2.0).collect();
            let (mut coded, mut scores) = (QuantisedQuery::default(), Vec::new());
            coded.encode(&query);
            QuantisedIndex::from_table(&table, hidden).score(&coded, &mut scores);
            assert_eq!(scores.len(), BLOCK);
            let scan = QuantisedIndex::from_table(&table, hidden);
            let mut plain = vec![0.0; BLOCK];
            scan.blocks.pages().for_each(|page| score_plainly(page, &coded, &mut plain));
            assert_eq!(scores, plain, "every processor ranks alike");
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
