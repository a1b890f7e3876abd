//! Map from `u32` keys to dense indices, with O(1) clear: the scratch of sums over items or
//! sessions.

/// Open-addressing hash map with linear probing and a generation stamp per slot, so
/// [`DenseIndex::clear`] touches no slot.
///
/// The capacity is fixed. A full map rejects new keys.
#[derive(Debug, Clone)]
pub struct DenseIndex {
    /// `stamp << 48 | index << 32 | key`. A slot with another stamp is empty.
    slots: Vec<u64>,
    stamp: u64,
    keys: Vec<u32>,
    limit: usize,
    shift: u32,
}

impl DenseIndex {
    /// Creates a map of at most `limit` keys; `limit` is clamped to 1..=32,768.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, 1 << 15);
        let slots = (limit * 2).next_power_of_two();
        Self {
            slots: vec![0; slots],
            stamp: 1,
            keys: Vec::with_capacity(limit),
            limit,
            shift: 64 - slots.trailing_zeros(),
        }
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.stamp += 1;
        if self.stamp > 0xffff {
            self.stamp = 1;
            self.slots.fill(0);
        }
    }

    fn start(&self, key: u32) -> usize {
        (u64::from(key).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// `Ok(index)` of a present key, or `Err(slot)` with the empty slot where it belongs.
    #[inline]
    fn probe(&self, key: u32) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut slot_index = self.start(key);
        loop {
            let slot = self.slots[slot_index];
            if slot >> 48 != self.stamp {
                return Err(slot_index);
            }
            if slot as u32 == key {
                return Ok((slot >> 32) as usize & 0xffff);
            }
            slot_index = (slot_index + 1) & mask;
        }
    }

    /// Index of a key: 0 for the first inserted, then ascending.
    #[must_use]
    #[inline]
    pub fn find(&self, key: u32) -> Option<usize> {
        self.probe(key).ok()
    }

    /// Index of a key, inserted if absent, and whether it is new. `None` if the map is full.
    #[inline]
    pub fn get_or_insert(&mut self, key: u32) -> Option<(usize, bool)> {
        match self.probe(key) {
            Ok(index) => Some((index, false)),
            Err(_) if self.keys.len() >= self.limit => None,
            Err(slot_index) => {
                let index = self.keys.len();
                self.slots[slot_index] = self.stamp << 48 | (index as u64) << 32 | u64::from(key);
                self.keys.push(key);
                Some((index, true))
            }
        }
    }

    /// Keys in index order.
    #[must_use]
    pub fn keys(&self) -> &[u32] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn indices_follow_insertion_order_and_clear_removes_keys(rounds in prop::collection::vec(prop::collection::vec(0u32..40, 0..60), 1..6)) {
            let mut map = DenseIndex::new(16);
            for keys in rounds {
                map.clear();
                let mut model = HashMap::new();
                for key in keys {
                    let next = model.len();
                    let expected = match model.get(&key) {
                        Some(&index) => Some((index, false)),
                        None if next >= 16 => None,
                        None => { model.insert(key, next); Some((next, true)) }
                    };
                    prop_assert_eq!(map.get_or_insert(key), expected);
                }
                for key in 0..40 {
                    prop_assert_eq!(map.find(key), model.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn clear_survives_stamp_wraparound() {
        let mut map = DenseIndex::new(4);
        map.get_or_insert(7);
        for _ in 0..0x1_0000 {
            map.clear();
            assert_eq!(map.find(7), None);
        }
        assert_eq!(map.get_or_insert(7), Some((0, true)));
    }
}
