//! The hashed table of weights, in blocks that clones share.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// Number of bits of a slot's number.
const SLOT_BITS: u32 = 18;
/// Number of slots of a block. The first write to a block after a clone copies the block.
const SLOTS_PER_BLOCK: usize = 128;
const BLOCKS: usize = (1 << SLOT_BITS) / SLOTS_PER_BLOCK;

/// Adagrad learning rate.
const LEARNING_RATE: f32 = 0.05;
/// Initial value of the sums of squared gradients in Adagrad.
const INITIAL_SUM_OF_SQUARES: f32 = 0.1;
/// Weight of the L2 penalty.
const L2: f32 = 1e-3;
/// Largest change of a weight in one step.
const MAX_STEP: f32 = 0.1;
/// Largest absolute value of a weight.
const MAX_WEIGHT: f32 = 8.0;

/// A weight with the sum of its squared gradients, which is 0 before the first step.
type Slot = (f32, f32);

/// The slot of a hashed value.
pub(super) fn slot_of(hash: u64) -> u32 {
    u32::try_from(hash >> (u64::BITS - SLOT_BITS)).unwrap_or_default()
}

/// 2^18 weights, which are 0 at first. A block takes memory from its first step on. A clone copies
/// one pointer; the first write after it copies the list of blocks (16 KiB).
#[derive(Debug, Clone, Default)]
pub(super) struct WeightTable {
    blocks: Arc<Vec<Option<Arc<[Slot; SLOTS_PER_BLOCK]>>>>,
}

impl WeightTable {
    /// The weight of a slot.
    pub(super) fn weight(&self, slot: u32) -> f32 {
        let (block, within) = (slot as usize / SLOTS_PER_BLOCK, slot as usize % SLOTS_PER_BLOCK);
        let block = self.blocks.get(block).and_then(Option::as_ref);
        block.and_then(|slots| slots.get(within)).map_or(0.0, |(weight, _)| *weight)
    }

    /// Makes one Adagrad step. Returns whether it is the slot's first.
    pub(super) fn step(&mut self, slot: u32, gradient: f32) -> bool {
        if !gradient.is_finite() {
            return false;
        }
        let (block, within) = (slot as usize / SLOTS_PER_BLOCK, slot as usize % SLOTS_PER_BLOCK);
        let blocks = Arc::make_mut(&mut self.blocks);
        if blocks.is_empty() {
            blocks.resize(BLOCKS, None);
        }
        let Some(block) = blocks.get_mut(block) else { return false };
        let slots = Arc::make_mut(block.get_or_insert_with(|| Arc::new([(0.0, 0.0); SLOTS_PER_BLOCK])));
        let Some((weight, squares)) = slots.get_mut(within) else { return false };
        let is_first = *squares == 0.0;
        let gradient = gradient + L2 * *weight;
        // The smallest positive sum marks the slot as used, even if its gradient is tiny.
        *squares = (*squares + gradient * gradient).max(f32::MIN_POSITIVE);
        let step = LEARNING_RATE * gradient / (INITIAL_SUM_OF_SQUARES + *squares).sqrt();
        *weight = (*weight - step.clamp(-MAX_STEP, MAX_STEP)).clamp(-MAX_WEIGHT, MAX_WEIGHT);
        is_first
    }
}

/// The stored form: the blocks in use, with their numbers.
impl Serialize for WeightTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let used: Vec<(u32, &[Slot])> = (0_u32..)
            .zip(self.blocks.iter())
            .filter_map(|(number, block)| Some((number, block.as_ref()?.as_slice())))
            .collect();
        used.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WeightTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let used = Vec::<(u32, Vec<Slot>)>::deserialize(deserializer)?;
        if used.is_empty() {
            return Ok(Self::default());
        }
        let mut blocks = vec![None; BLOCKS];
        for (number, slots) in used {
            let place = blocks.get_mut(number as usize);
            let slots: Result<[Slot; SLOTS_PER_BLOCK], _> = slots.try_into();
            let (Some(place), Ok(slots)) = (place, slots) else {
                return Err(serde::de::Error::custom("a block of weights has a wrong number or length"));
            };
            *place = Some(Arc::new(slots));
        }
        Ok(Self { blocks: Arc::new(blocks) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_against_the_gradient_and_are_bounded() {
        let mut table = WeightTable::default();
        assert!(table.step(7, 1.0) && !table.step(7, 1.0));
        let weight = table.weight(7);
        assert!((-2.0 * MAX_STEP..0.0).contains(&weight), "{weight}");
        assert_eq!(table.weight(8), 0.0);
        for _ in 0..100_000 {
            table.step(9, -1e9);
        }
        assert!(table.weight(9) <= MAX_WEIGHT);
        assert!(!table.step(10, f32::NAN) && table.weight(10) == 0.0);
    }

    #[test]
    fn a_clone_does_not_change_and_shares_the_other_blocks() {
        let mut table = WeightTable::default();
        table.step(0, -1.0);
        table.step(1000, -1.0);
        let (published, before) = (table.clone(), table.weight(0));
        table.step(0, -1.0);
        assert!(published.weight(0) == before && table.weight(0) > before);
        let block = |table: &WeightTable| table.blocks[1000 / SLOTS_PER_BLOCK].clone().unwrap();
        assert!(Arc::ptr_eq(&block(&published), &block(&table)));
    }

    #[test]
    fn without_gradient_the_penalty_shrinks_a_weight() {
        let mut table = WeightTable::default();
        for _ in 0..20 {
            table.step(3, -1.0);
        }
        let before = table.weight(3);
        for _ in 0..1000 {
            table.step(3, 0.0);
        }
        assert!(table.weight(3) < before && table.weight(3) > 0.0);
    }
}
