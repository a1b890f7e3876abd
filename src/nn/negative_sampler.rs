//! Popularity-based negative sampling: items are drawn in proportion to count^α.

use crate::domain::ItemIx;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use serde::{Deserialize, Serialize};

/// Children per node of the sum tree.
const FANOUT: usize = 16;
/// Weight of an item with count 1. Large enough to round count^α to an integer.
const UNIT: f64 = 256.0;

/// Target counts per item and a sum tree over `round(256 · count^α)`.
///
/// The sums are integers, so counting a target costs one addition per level and never drifts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "SamplerState", into = "SamplerState")]
pub(super) struct NegativeSampler {
    alpha: f64,
    counts: Vec<u32>,
    /// Sum of all counts.
    events: u64,
    /// Level 0 holds the item weights. Each further level holds the sums of [`FANOUT`] nodes of the
    /// level below, up to a single node.
    levels: Vec<Vec<u64>>,
}

/// Serialised form of [`NegativeSampler`]; the tree is rebuilt from the counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SamplerState {
    alpha: f64,
    counts: Vec<u32>,
}

impl From<NegativeSampler> for SamplerState {
    fn from(sampler: NegativeSampler) -> Self {
        Self { alpha: sampler.alpha, counts: sampler.counts }
    }
}

impl From<SamplerState> for NegativeSampler {
    fn from(state: SamplerState) -> Self {
        let mut sampler = Self::new(state.alpha);
        let mut level: Vec<u64> = state.counts.iter().map(|count| sampler.weight(*count)).collect();
        sampler.events = state.counts.iter().map(|count| u64::from(*count)).sum();
        sampler.counts = state.counts;
        sampler.levels.clear();
        while level.len() > 1 {
            let above = level.chunks(FANOUT).map(|children| children.iter().sum()).collect();
            sampler.levels.push(std::mem::replace(&mut level, above));
        }
        sampler.levels.push(level);
        sampler
    }
}

impl NegativeSampler {
    pub(super) fn new(alpha: f64) -> Self {
        Self { alpha, counts: Vec::new(), events: 0, levels: vec![Vec::new()] }
    }

    fn weight(&self, count: u32) -> u64 {
        if count == 0 { 0 } else { (UNIT * f64::from(count).powf(self.alpha)).round() as u64 }
    }

    /// Number of items with a count.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Grows to `items` items; new items have count 0.
    pub(super) fn grow(&mut self, items: usize) {
        if items <= self.counts.len() {
            return;
        }
        self.counts.resize(items, 0);
        let (mut level, mut nodes) = (0, items);
        loop {
            if level == self.levels.len() {
                let sum = self.levels.last().map_or(0, |below| below.iter().sum());
                self.levels.push(vec![sum]);
            }
            if let Some(sums) = self.levels.get_mut(level) {
                sums.resize(nodes.max(sums.len()), 0);
            }
            if nodes <= 1 {
                return;
            }
            (level, nodes) = (level + 1, nodes.div_ceil(FANOUT));
        }
    }

    /// Counts one target. Items beyond the end are ignored.
    pub(super) fn count_target(&mut self, item: ItemIx) {
        let Some(count) = self.counts.get(item as usize).copied().filter(|count| *count < u32::MAX) else {
            return;
        };
        let added = self.weight(count + 1).saturating_sub(self.weight(count));
        self.events += 1;
        let mut node = item as usize;
        if let Some(count) = self.counts.get_mut(node) {
            *count += 1;
        }
        for level in &mut self.levels {
            if let Some(sum) = level.get_mut(node) {
                *sum += added;
            }
            node /= FANOUT;
        }
    }

    /// Number of times the item was a target.
    pub(super) fn count(&self, item: ItemIx) -> u32 {
        self.counts.get(item as usize).copied().unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or(0)
    }

    /// Draws `draws` items with replacement into `out`, in ascending order.
    ///
    /// Stratified sampling: one draw from each of `draws` equal strata of the total weight. The
    /// expected count of an item is that of independent draws, with less variance. Draws nothing
    /// before the first target is counted.
    pub(super) fn draw(&self, draws: usize, rng: &mut Xoshiro256PlusPlus, out: &mut Vec<ItemIx>) {
        let total = self.total();
        if total == 0 || draws == 0 {
            return;
        }
        /// 2⁻⁵³: scales 53 random bits to [0, 1).
        const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
        let stratum = total as f64 / draws as f64;
        // The search continues where the previous draw ended and climbs only when it leaves a
        // group.
        let (mut level, mut node, mut weight_before) = (0, 0, 0_u64);
        for draw in 0..draws {
            let fraction = (rng.next_u64() >> 11) as f64 * STEP;
            let target_weight = (((draw as f64 + fraction) * stratum) as u64).min(total - 1);
            loop {
                let Some(weight) = self.levels.get(level).and_then(|sums| sums.get(node)) else {
                    return;
                };
                if target_weight - weight_before < *weight {
                    if level == 0 {
                        break;
                    }
                    (level, node) = (level - 1, node * FANOUT);
                } else {
                    (weight_before, node) = (weight_before + weight, node + 1);
                    if node % FANOUT == 0 && level + 1 < self.levels.len() {
                        (level, node) = (level + 1, node / FANOUT);
                    }
                }
            }
            out.push(ItemIx::try_from(node).unwrap_or(ItemIx::MAX));
        }
    }

    /// Expected number of occurrences of an item among `draws` draws and `targets` in-batch
    /// targets:
    /// `draws · weight / Σ weight + targets · count / Σ count`.
    ///
    /// The count is at least 1, so an item that was never a target has a finite logQ correction.
    pub(super) fn expected_count(&self, item: ItemIx, draws: usize, targets: usize) -> f32 {
        let count = self.counts.get(item as usize).copied().unwrap_or(0).max(1);
        let weight =
            self.levels.first().and_then(|weights| weights.get(item as usize)).copied().unwrap_or(0).max(UNIT as u64);
        let drawn = draws as f64 * weight as f64 / self.total().max(1) as f64;
        let in_batch = targets as f64 * f64::from(count) / self.events.max(1) as f64;
        (drawn + in_batch) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    fn filled(items: usize, alpha: f64) -> NegativeSampler {
        let mut sampler = NegativeSampler::new(alpha);
        for item in 0..items {
            sampler.grow(item + 1);
            for _ in 0..=item % 7 * 5 {
                sampler.count_target(item as ItemIx);
            }
        }
        sampler
    }

    #[test]
    fn draws_are_proportional_to_count_to_the_alpha() {
        let sampler = filled(1000, 0.5);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut drawn = Vec::new();
        (0..200).for_each(|_| sampler.draw(500, &mut rng, &mut drawn));
        assert_eq!(drawn.len(), 100_000);
        for item in [0, 6, 345, 999] {
            let expected = 200.0 * sampler.expected_count(item, 500, 0);
            let observed = drawn.iter().filter(|other| **other == item).count() as f32;
            assert!((observed - expected).abs() < 5.0 * expected.sqrt(), "item {item}: {observed} of {expected}");
        }
    }

    #[test]
    fn draws_are_in_ascending_order() {
        let mut drawn = Vec::new();
        filled(300, 0.5).draw(64, &mut Xoshiro256PlusPlus::seed_from_u64(2), &mut drawn);
        assert!(drawn.is_sorted() && drawn.len() == 64);
    }

    #[test]
    fn the_tree_is_rebuilt_from_the_counts() {
        for items in [0, 1, 15, 16, 17, 257, 5000] {
            let sampler = filled(items, 0.75);
            let again = NegativeSampler::from(SamplerState::from(sampler.clone()));
            assert_eq!((again.levels, again.events), (sampler.levels, sampler.events), "{items} items");
        }
    }

    #[test]
    fn draws_nothing_before_the_first_target() {
        let mut sampler = NegativeSampler::new(0.5);
        sampler.grow(40);
        sampler.count_target(40);
        let mut drawn = Vec::new();
        sampler.draw(10, &mut Xoshiro256PlusPlus::seed_from_u64(3), &mut drawn);
        assert!(drawn.is_empty());
    }
}
