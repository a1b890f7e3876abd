//! Scoring the whole catalogue: output rows as 8-bit codes, sixteen rows side by side.

use super::math::kernel;
use super::rows::{BLOCK, Rows};
use crate::domain::Pages;
use std::sync::Arc;

/// Sixteen rows as codes. An item's logit is about `bias + scale · Σ code · query`.
#[derive(Debug, Clone)]
struct CodeBlock {
    /// `(pairs of dimensions, rows, 2)`, eight rows in each half, so that a vector holds two dimensions of eight rows and no sum runs across rows.
    codes: Vec<[[i8; BLOCK]; 2]>,
    scales: [f32; BLOCK],
    /// −∞ beyond the last item.
    biases: [f32; BLOCK],
}

/// The codes of a whole table. Clones share what has not changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Scan {
    blocks: Pages<Arc<CodeBlock>, 64>,
}

impl CodeBlock {
    /// A block without rows.
    fn new(hidden: usize) -> Self {
        Self { codes: vec![[[0; BLOCK]; 2]; hidden.div_ceil(2)], scales: [0.0; BLOCK], biases: [f32::NEG_INFINITY; BLOCK] }
    }
}

kernel! {
    /// Encodes one row of a block.
    fn encode<'a>(block: &'a mut CodeBlock, row: usize, embedding: &'a [f32], bias: f32) -> () {
        let mut largest = 0.0_f32;
        for value in embedding {
            largest = largest.max(value.abs());
        }
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        (block.scales[row], block.biases[row]) = (largest / 127.0, bias);
        let (half, place) = (row / HALF, row % HALF * 2);
        for (codes, values) in block.codes.iter_mut().zip(embedding.chunks(2)) {
            for (code, value) in codes[half][place..].iter_mut().zip(values) {
                *code = (value * factor).round_ties_even() as i8;
            }
        }
    }
}

/// A query as integers: pairs of dimensions, and what one unit of a product is worth.
#[derive(Debug, Clone, Default)]
pub(super) struct CodedQuery {
    pairs: Vec<[i16; 2]>,
    unit: f32,
}

impl CodedQuery {
    /// The largest code: with 127 for a row's and 1,024 dimensions a sum of products stays within 32 bits.
    const LARGEST: f32 = 16_000.0;

    pub(super) fn encode(&mut self, query: &[f32]) {
        let largest = query.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let factor = if largest > 0.0 { Self::LARGEST / largest } else { 0.0 };
        self.unit = largest / Self::LARGEST;
        self.pairs.clear();
        let code = |value: Option<&f32>| value.map_or(0, |value| (value * factor).round() as i16);
        self.pairs.extend(query.chunks(2).map(|pair| [code(pair.first()), code(pair.get(1))]));
    }
}

/// Rows of half a block.
const HALF: usize = BLOCK / 2;

impl CodeBlock {
    /// The logits of the sums of products.
    #[inline(always)]
    fn logits(&self, sums: &[i32], unit: f32, out: &mut [f32]) {
        for (((out, sum), scale), bias) in out.iter_mut().zip(sums).zip(&self.scales).zip(&self.biases) {
            *out = (*sum as f32 * unit).mul_add(*scale, *bias);
        }
    }
}

kernel! {
    /// Writes the approximate logits of blocks, on any processor.
    fn score_plainly<'a>(blocks: &'a [Arc<CodeBlock>], query: &'a CodedQuery, out: &'a mut [f32]) -> () {
        for (block, out) in blocks.iter().zip(out.chunks_exact_mut(BLOCK)) {
            let mut sums = [0_i32; BLOCK];
            for (codes, pair) in block.codes.iter().zip(&query.pairs) {
                let (first, second) = (i32::from(pair[0]), i32::from(pair[1]));
                for (sum, code) in sums.iter_mut().zip(codes.as_flattened().chunks_exact(2)) {
                    *sum += i32::from(code[0]) * first + i32::from(code[1]) * second;
                }
            }
            block.logits(&sums, query.unit, out);
        }
    }
}

/// The same with the instruction that multiplies two pairs and adds them: the sums are the same integers.
#[cfg(target_arch = "x86_64")]
struct ScoreByPairs<'a> {
    simd: pulp::x86::V3,
    blocks: &'a [Arc<CodeBlock>],
    query: &'a CodedQuery,
    out: &'a mut [f32],
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for ScoreByPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, blocks, query, out } = self;
        for (block, out) in blocks.iter().zip(out.chunks_exact_mut(BLOCK)) {
            let mut sums = [simd.avx._mm256_setzero_si256(); 2];
            for (codes, pair) in block.codes.iter().zip(&query.pairs) {
                let pair = simd.avx._mm256_set1_epi32(pulp::cast(*pair));
                for (sum, codes) in sums.iter_mut().zip(codes) {
                    let codes = simd.avx2._mm256_cvtepi8_epi16(pulp::cast(*codes));
                    *sum = simd.avx2._mm256_add_epi32(*sum, simd.avx2._mm256_madd_epi16(codes, pair));
                }
            }
            let sums: [i32; BLOCK] = pulp::cast(sums);
            block.logits(&sums, query.unit, out);
        }
    }
}

/// Writes the approximate logits of blocks.
fn score_blocks(blocks: &[Arc<CodeBlock>], query: &CodedQuery, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(ScoreByPairs { simd, blocks, query, out });
    }
    score_plainly(blocks, query, out);
}

impl Scan {
    /// Encodes anew the named rows of `table`, whose first `hidden` values are the embedding and the next the bias.
    pub(super) fn update(&mut self, table: &Rows, hidden: usize, rows: &[u32]) {
        self.blocks.grow(table.len().div_ceil(BLOCK), || Arc::new(CodeBlock::new(hidden)));
        for row in rows.iter().map(|row| *row as usize) {
            if let (Some(values), Some(block)) = (table.row(row), self.blocks.get_mut(row / BLOCK)) {
                encode(Arc::make_mut(block), row % BLOCK, &values[..hidden], values[hidden]);
            }
        }
    }

    /// The codes of a whole table.
    pub(super) fn of(table: &Rows, hidden: usize) -> Self {
        let mut scan = Self::default();
        scan.update(table, hidden, &(0..table.len() as u32).collect::<Vec<_>>());
        scan
    }

    /// Writes the approximate logit of every item, and −∞ for what fills the last block.
    pub(super) fn score(&self, query: &CodedQuery, out: &mut Vec<f32>) {
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
            let mut table = Rows::new(hidden + 2);
            table.grow(37, |row, values| {
                values.iter_mut().enumerate().for_each(|(i, value)| *value = ((row * 31 + i * 17) % 41) as f32 / 20.0 - 1.0)
            });
            let query: Vec<f32> = (0..hidden).map(|i| (i % 5) as f32 - 2.0).collect();
            let (mut coded, mut scores) = (CodedQuery::default(), Vec::new());
            coded.encode(&query);
            Scan::of(&table, hidden).score(&coded, &mut scores);
            assert_eq!(scores.len(), 48);
            let scan = Scan::of(&table, hidden);
            let mut plain = vec![0.0; 48];
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
