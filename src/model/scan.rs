//! Scoring the whole catalogue: output rows as 8-bit codes, sixteen rows side by side.

use super::math::kernel;
use super::rows::{BLOCK, Rows};
use crate::domain::Pages;
use std::sync::Arc;

/// Sixteen rows as codes. An item's logit is about `bias + scale · Σ code · query`.
#[derive(Debug, Clone)]
struct CodeBlock {
    /// `(pairs of dimensions, rows, 2)`, so that one vector holds two dimensions of every row and no sum runs across lanes.
    codes: Vec<i8>,
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
    /// Encodes the `rows` first rows of a block, each `width` values of which the first `hidden` are the embedding and the next the bias.
    fn new(block: &[f32], width: usize, hidden: usize, rows: usize) -> Self {
        let mut codes = vec![0; hidden.div_ceil(2) * 2 * BLOCK];
        let (mut scales, mut biases) = ([0.0; BLOCK], [f32::NEG_INFINITY; BLOCK]);
        let places = scales.iter_mut().zip(&mut biases);
        for (row, (values, (scale, bias))) in block.chunks_exact(width).take(rows).zip(places).enumerate() {
            let largest = values[..hidden].iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            (*scale, *bias) = (largest / 127.0, values[hidden]);
            if largest > 0.0 {
                let factor = 127.0 / largest;
                for (dimension, value) in values[..hidden].iter().enumerate() {
                    codes[(dimension / 2 * BLOCK + row) * 2 + dimension % 2] = (value * factor).round() as i8;
                }
            }
        }
        Self { codes, scales, biases }
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

kernel! {
    /// Writes the approximate logits of one page of blocks.
    fn score_blocks<'a>(blocks: &'a [Arc<CodeBlock>], query: &'a CodedQuery, out: &'a mut [f32]) -> () {
        for (block, out) in blocks.iter().zip(out.chunks_exact_mut(BLOCK)) {
            let mut sums = [0_i32; BLOCK];
            for (codes, pair) in block.codes.chunks_exact(2 * BLOCK).zip(&query.pairs) {
                let (first, second) = (i32::from(pair[0]), i32::from(pair[1]));
                for (sum, code) in sums.iter_mut().zip(codes.chunks_exact(2)) {
                    *sum += i32::from(code[0]) * first + i32::from(code[1]) * second;
                }
            }
            for (((out, sum), scale), bias) in out.iter_mut().zip(sums).zip(&block.scales).zip(&block.biases) {
                *out = (sum as f32 * query.unit).mul_add(*scale, *bias);
            }
        }
    }
}

impl Scan {
    /// Encodes anew the blocks of the named rows of `table`, whose first `hidden` values are the embedding.
    pub(super) fn update(&mut self, table: &Rows, hidden: usize, rows: &[u32]) {
        let mut blocks: Vec<usize> = rows.iter().map(|row| *row as usize / BLOCK).collect();
        blocks.sort_unstable();
        blocks.dedup();
        for block in blocks {
            let rows = table.len().saturating_sub(block * BLOCK).min(BLOCK);
            let Some(values) = table.block(block) else { continue };
            let codes = Arc::new(CodeBlock::new(values, table.width(), hidden, rows));
            match self.blocks.get_mut(block) {
                Some(place) => *place = codes,
                None => self.blocks.push(codes),
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
