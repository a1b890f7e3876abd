//! Popularity-based negative sampling: the probability of an item is proportional to count^α.

use crate::domain::ItemIx;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use serde::{Deserialize, Serialize};

/// Children per node of the sum tree.
const CHILDREN_PER_NODE: usize = 16;
/// Sampling weight of an item with count 1. The sampling weight of an item is count^α times this
/// number, rounded to an integer.
const WEIGHT_OF_COUNT_1: f64 = 256.0;

/// The number of target events of each item, and a sum tree over the sampling weights `round(256 ·
/// count^α)`.
///
/// The sums are integers. To count a target event, one sum per tree level is updated, and no
/// rounding errors accumulate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "StoredNegativeSampler", into = "StoredNegativeSampler")]
pub(super) struct NegativeSampler {
    alpha: f64,
    counts: Vec<u32>,
    /// Sum of the counts of all items.
    events: u64,
    /// The sum tree. Level 0 holds the weights of the items. A node of a higher level holds the sum
    /// of [`CHILDREN_PER_NODE`] nodes of the level below. The top level is a single node.
    levels: Vec<Vec<u64>>,
}

/// Serialised form of [`NegativeSampler`]. Deserialisation rebuilds the sum tree from the counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredNegativeSampler {
    alpha: f64,
    counts: Vec<u32>,
}

impl From<NegativeSampler> for StoredNegativeSampler {
    fn from(sampler: NegativeSampler) -> Self {
        Self { alpha: sampler.alpha, counts: sampler.counts }
    }
}

impl From<StoredNegativeSampler> for NegativeSampler {
    fn from(state: StoredNegativeSampler) -> Self {
        let mut sampler = Self::new(state.alpha);
        let mut level: Vec<u64> = state.counts.iter().map(|count| sampler.weight_of_count(*count)).collect();
        sampler.events = state.counts.iter().map(|count| u64::from(*count)).sum();
        sampler.counts = state.counts;
        sampler.levels.clear();
        while level.len() > 1 {
            let above = level.chunks(CHILDREN_PER_NODE).map(|children| children.iter().sum()).collect();
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

    fn weight_of_count(&self, count: u32) -> u64 {
        if count == 0 { 0 } else { (WEIGHT_OF_COUNT_1 * f64::from(count).powf(self.alpha)).round() as u64 }
    }

    /// Number of items that the sampler knows.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Grows the sampler to `items` items. New items have count 0.
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
            (level, nodes) = (level + 1, nodes.div_ceil(CHILDREN_PER_NODE));
        }
    }

    /// Counts one target event on `item`. Unknown items are ignored.
    pub(super) fn count_target(&mut self, item: ItemIx) {
        let Some(count) = self.counts.get(item as usize).copied().filter(|count| *count < u32::MAX) else {
            return;
        };
        let added = self.weight_of_count(count + 1).saturating_sub(self.weight_of_count(count));
        self.events += 1;
        let mut node = item as usize;
        if let Some(count) = self.counts.get_mut(node) {
            *count += 1;
        }
        for level in &mut self.levels {
            if let Some(sum) = level.get_mut(node) {
                *sum += added;
            }
            node /= CHILDREN_PER_NODE;
        }
    }

    /// Number of counted target events on `item`.
    pub(super) fn target_count(&self, item: ItemIx) -> u32 {
        self.counts.get(item as usize).copied().unwrap_or(0)
    }

    fn total_weight(&self) -> u64 {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or(0)
    }

    /// Draws `draws` items with replacement and appends them to `out` in ascending order.
    ///
    /// The sampling is stratified: it splits the total weight into `draws` equal strata and draws
    /// once from each. The expected number of draws of an item is the same as with independent
    /// draws, and the variance is smaller. Draws nothing if no target event was counted yet.
    pub(super) fn draw_negatives(&self, draws: usize, rng: &mut Xoshiro256PlusPlus, out: &mut Vec<ItemIx>) {
        let total = self.total_weight();
        if total == 0 || draws == 0 {
            return;
        }
        /// 2⁻⁵³, which scales 53 random bits to [0, 1).
        const SCALE_OF_53_BITS: f64 = 1.0 / 9_007_199_254_740_992.0;
        let stratum = total as f64 / draws as f64;
        // The search for the next drawn item starts at the tree node of the previous draw. If the
        // item is not below the current node, the search moves up one tree level.
        let (mut level, mut node, mut weight_before) = (0, 0, 0_u64);
        for draw in 0..draws {
            let fraction = (rng.next_u64() >> 11) as f64 * SCALE_OF_53_BITS;
            let target_weight = (((draw as f64 + fraction) * stratum) as u64).min(total - 1);
            loop {
                let Some(weight) = self.levels.get(level).and_then(|sums| sums.get(node)) else {
                    return;
                };
                if target_weight - weight_before < *weight {
                    if level == 0 {
                        break;
                    }
                    (level, node) = (level - 1, node * CHILDREN_PER_NODE);
                } else {
                    (weight_before, node) = (weight_before + weight, node + 1);
                    if node % CHILDREN_PER_NODE == 0 && level + 1 < self.levels.len() {
                        (level, node) = (level + 1, node / CHILDREN_PER_NODE);
                    }
                }
            }
            out.push(ItemIx::try_from(node).unwrap_or(ItemIx::MAX));
        }
    }

    /// Returns how often an item is expected to occur in a batch of `draws` drawn negatives and
    /// `targets` targets: `draws · weight / Σ weight + targets · count / Σ count`.
    ///
    /// The formula uses a count of at least 1, so that an item without a target event has a finite
    /// logQ correction.
    pub(super) fn expected_count(&self, item: ItemIx, draws: usize, targets: usize) -> f32 {
        let count = self.counts.get(item as usize).copied().unwrap_or(0).max(1);
        let weight = self
            .levels
            .first()
            .and_then(|weights| weights.get(item as usize))
            .copied()
            .unwrap_or(0)
            .max(WEIGHT_OF_COUNT_1 as u64);
        let drawn = draws as f64 * weight as f64 / self.total_weight().max(1) as f64;
        let in_batch = targets as f64 * f64::from(count) / self.events.max(1) as f64;
        (drawn + in_batch) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    fn sampler_with_counts(items: usize, alpha: f64) -> NegativeSampler {
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
        let sampler = sampler_with_counts(1000, 0.5);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut drawn = Vec::new();
        (0..200).for_each(|_| sampler.draw_negatives(500, &mut rng, &mut drawn));
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
        sampler_with_counts(300, 0.5).draw_negatives(64, &mut Xoshiro256PlusPlus::seed_from_u64(2), &mut drawn);
        assert!(drawn.is_sorted() && drawn.len() == 64);
    }

    #[test]
    fn deserialisation_rebuilds_the_sum_tree_from_the_counts() {
        for items in [0, 1, 15, 16, 17, 257, 5000] {
            let sampler = sampler_with_counts(items, 0.75);
            let again = NegativeSampler::from(StoredNegativeSampler::from(sampler.clone()));
            assert_eq!((again.levels, again.events), (sampler.levels, sampler.events), "{items} items");
        }
    }

    #[test]
    fn no_negatives_are_drawn_before_the_first_target_is_counted() {
        let mut sampler = NegativeSampler::new(0.5);
        sampler.grow(40);
        sampler.count_target(40);
        let mut drawn = Vec::new();
        sampler.draw_negatives(10, &mut Xoshiro256PlusPlus::seed_from_u64(3), &mut drawn);
        assert!(drawn.is_empty());
    }
}
