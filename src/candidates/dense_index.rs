//! A map from numbers to small dense places, emptied in no time: the workspace of every sum over items or sessions.

/// Open addressing with a stamp per slot, so that [`DenseIndex::clear`] touches nothing. Its size is fixed; what comes once it is full is not taken.
#[derive(Debug, Clone)]
pub struct DenseIndex {
    /// `stamp << 48 | place << 32 | key`: a slot with another stamp is empty.
    slots: Vec<u64>,
    stamp: u64,
    keys: Vec<u32>,
    limit: usize,
    shift: u32,
}

impl DenseIndex {
    /// A map of at most `limit` keys (at most 32,768).
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, 1 << 15);
        let slots = (limit * 2).next_power_of_two();
        Self { slots: vec![0; slots], stamp: 1, keys: Vec::with_capacity(limit), limit, shift: 64 - slots.trailing_zeros() }
    }

    /// Forgets all keys.
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

    /// The slot of a key, or the empty one where it would stand; `Ok` holds the key's place.
    #[inline]
    fn probe(&self, key: u32) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = self.start(key);
        loop {
            let slot = self.slots[at];
            if slot >> 48 != self.stamp {
                return Err(at);
            }
            if slot as u32 == key {
                return Ok((slot >> 32) as usize & 0xffff);
            }
            at = (at + 1) & mask;
        }
    }

    /// The place of a key: 0 for the first that came, one more for each that followed.
    #[must_use]
    #[inline]
    pub fn find(&self, key: u32) -> Option<usize> {
        self.probe(key).ok()
    }

    /// The place of a key, given now if it has none; whether it was given now; `None` once the map is full.
    #[inline]
    pub fn get_or_insert(&mut self, key: u32) -> Option<(usize, bool)> {
        match self.probe(key) {
            Ok(place) => Some((place, false)),
            Err(_) if self.keys.len() >= self.limit => None,
            Err(at) => {
                let place = self.keys.len();
                self.slots[at] = self.stamp << 48 | (place as u64) << 32 | u64::from(key);
                self.keys.push(key);
                Some((place, true))
            }
        }
    }

    /// The keys in the order in which they came, that is by place.
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
        fn places_are_those_of_first_entry_and_clearing_forgets(rounds in prop::collection::vec(prop::collection::vec(0u32..40, 0..60), 1..6)) {
            let mut tally = DenseIndex::new(16);
            for keys in rounds {
                tally.clear();
                let mut model = HashMap::new();
                for key in keys {
                    let next = model.len();
                    let expected = match model.get(&key) {
                        Some(&place) => Some((place, false)),
                        None if next >= 16 => None,
                        None => { model.insert(key, next); Some((next, true)) }
                    };
                    prop_assert_eq!(tally.get_or_insert(key), expected);
                }
                for key in 0..40 {
                    prop_assert_eq!(tally.find(key), model.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn the_stamp_may_wrap() {
        let mut tally = DenseIndex::new(4);
        tally.get_or_insert(7);
        for _ in 0..0x1_0000 {
            tally.clear();
            assert_eq!(tally.find(7), None);
        }
        assert_eq!(tally.get_or_insert(7), Some((0, true)));
    }
}
