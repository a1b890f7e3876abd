//! Map from `u32` keys to consecutive indices. Clearing takes constant time. Queries use the map to
//! sum weights by item or session.

/// Open-addressing hash map with linear probing. Every slot has a generation stamp; a slot with an
/// old stamp is empty. [`DenseIndex::clear`] therefore only increments the current stamp.
///
/// The capacity is fixed: a full map rejects new keys.
#[derive(Debug, Clone)]
pub struct DenseIndex {
    /// `stamp << 48 | index << 32 | key`. A slot whose stamp differs from the current stamp is
    /// empty.
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

    fn first_slot_to_probe(&self, key: u32) -> usize {
        (u64::from(key).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    /// Returns `Ok(index)` if the map contains the key, else `Err(slot)` with the empty slot into
    /// which the key can be inserted.
    #[inline]
    fn find_index_or_empty_slot(&self, key: u32) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut slot_index = self.first_slot_to_probe(key);
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

    /// Index of a key, if the map contains it. The first inserted key has index 0, the next key 1,
    /// and so on.
    #[must_use]
    #[inline]
    pub fn find(&self, key: u32) -> Option<usize> {
        self.find_index_or_empty_slot(key).ok()
    }

    /// Inserts a key if absent. Returns the index of the key and whether the key is new. `None` if
    /// the map is full.
    #[inline]
    pub fn get_or_insert(&mut self, key: u32) -> Option<(usize, bool)> {
        match self.find_index_or_empty_slot(key) {
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
    fn clear_removes_all_keys_after_the_stamp_wraps_around() {
        let mut map = DenseIndex::new(4);
        map.get_or_insert(7);
        for _ in 0..0x1_0000 {
            map.clear();
            assert_eq!(map.find(7), None);
        }
        assert_eq!(map.get_or_insert(7), Some((0, true)));
    }
}
