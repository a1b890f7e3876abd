//! Negatives in proportion to a power of popularity.

use crate::domain::ItemIx;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;
use serde::{Deserialize, Serialize};

/// Children of one node of the tree of sums.
const FANOUT: usize = 16;
/// An item seen once weighs this much: fine enough for count^α as an integer.
const UNIT: f64 = 256.0;

/// How often every item was a target, and a tree of sums over count^α. Sums are integers, so that adding one event costs a few additions and never drifts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "SamplerState", into = "SamplerState")]
pub(super) struct NegativeSampler {
    alpha: f64,
    counts: Vec<u32>,
    /// All targets so far.
    events: u64,
    /// Level 0 holds the items' weights, every further one the sums of [`FANOUT`] nodes below, up to one node.
    levels: Vec<Vec<u64>>,
}

/// What of a [`NegativeSampler`] is kept: the rest follows from it.
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
    fn from(kept: SamplerState) -> Self {
        let mut sampler = Self::new(kept.alpha);
        let mut level: Vec<u64> = kept.counts.iter().map(|count| sampler.weight(*count)).collect();
        sampler.events = kept.counts.iter().map(|count| u64::from(*count)).sum();
        sampler.counts = kept.counts;
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

    /// How many items it has room for.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// Makes room for `items` items, new ones never seen.
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

    /// Counts one target. An item beyond the last is ignored.
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

    /// How many targets an item was.
    pub(super) fn count(&self, item: ItemIx) -> u32 {
        self.counts.get(item as usize).copied().unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.levels.last().and_then(|top| top.first()).copied().unwrap_or(0)
    }

    /// Draws `draws` items with replacement into `out`, in the order of their numbers: one from each of `draws` equal strata of the total weight, so that an item's expected
    /// count is that of independent draws and its variance smaller. Draws nothing before the first target.
    pub(super) fn draw(&self, draws: usize, rng: &mut Xoshiro256PlusPlus, out: &mut Vec<ItemIx>) {
        let total = self.total();
        if total == 0 || draws == 0 {
            return;
        }
        /// 2⁻⁵³: 53 random bits span [0, 1).
        const STEP: f64 = 1.0 / 9_007_199_254_740_992.0;
        let stratum = total as f64 / draws as f64;
        // The search walks on from where the previous draw ended, climbing only where it leaves a group.
        let (mut level, mut node, mut before) = (0, 0, 0_u64);
        for draw in 0..draws {
            let share = (rng.next_u64() >> 11) as f64 * STEP;
            let wanted = (((draw as f64 + share) * stratum) as u64).min(total - 1);
            loop {
                let Some(weight) = self.levels.get(level).and_then(|sums| sums.get(node)) else {
                    return;
                };
                if wanted - before < *weight {
                    if level == 0 {
                        break;
                    }
                    (level, node) = (level - 1, node * FANOUT);
                } else {
                    (before, node) = (before + weight, node + 1);
                    if node % FANOUT == 0 && level + 1 < self.levels.len() {
                        (level, node) = (level + 1, node / FANOUT);
                    }
                }
            }
            out.push(ItemIx::try_from(node).unwrap_or(ItemIx::MAX));
        }
    }

    /// How often an item is expected among `draws` draws and `targets` targets of other examples. An item never counted is taken as counted once.
    pub(super) fn expected_count(&self, item: ItemIx, draws: usize, targets: usize) -> f32 {
        let count = self.counts.get(item as usize).copied().unwrap_or(0).max(1);
        let weight = self.levels.first().and_then(|weights| weights.get(item as usize)).copied().unwrap_or(0).max(UNIT as u64);
        let drawn = draws as f64 * weight as f64 / self.total().max(1) as f64;
        let met = targets as f64 * f64::from(count) / self.events.max(1) as f64;
        (drawn + met) as f32
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
    fn draws_follow_the_power_of_popularity() {
        let sampler = filled(1000, 0.5);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut drawn = Vec::new();
        (0..200).for_each(|_| sampler.draw(500, &mut rng, &mut drawn));
        assert_eq!(drawn.len(), 100_000);
        for item in [0, 6, 345, 999] {
            let expected = 200.0 * sampler.expected_count(item, 500, 0);
            let met = drawn.iter().filter(|other| **other == item).count() as f32;
            assert!((met - expected).abs() < 5.0 * expected.sqrt(), "item {item}: {met} of {expected}");
        }
    }

    #[test]
    fn one_call_draws_in_order() {
        let mut drawn = Vec::new();
        filled(300, 0.5).draw(64, &mut Xoshiro256PlusPlus::seed_from_u64(2), &mut drawn);
        assert!(drawn.is_sorted() && drawn.len() == 64);
    }

    #[test]
    fn what_is_kept_is_the_whole() {
        for items in [0, 1, 15, 16, 17, 257, 5000] {
            let sampler = filled(items, 0.75);
            let again = NegativeSampler::from(SamplerState::from(sampler.clone()));
            assert_eq!((again.levels, again.events), (sampler.levels, sampler.events), "{items} items");
        }
    }

    #[test]
    fn nothing_is_drawn_before_the_first_target() {
        let mut sampler = NegativeSampler::new(0.5);
        sampler.grow(40);
        sampler.count_target(40);
        let mut drawn = Vec::new();
        sampler.draw(10, &mut Xoshiro256PlusPlus::seed_from_u64(3), &mut drawn);
        assert!(drawn.is_empty());
    }
}
