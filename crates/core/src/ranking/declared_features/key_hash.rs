//! Hashes of the values of features. The hashes are stored with the weights, so the function never
//! changes. It reads bytes only, no internal number of an item or a user.

use crate::domain::AttributeView;

/// Largest number of elements of a list that count.
pub(super) const MAX_ELEMENTS: usize = 8;
/// Multiplier of the mixing step, as in FxHash.
const MULTIPLIER: u64 = 0x517c_c1b7_2722_0a95;

/// Mixes a word into a hash.
#[inline]
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(MULTIPLIER)
}

/// Spreads the bits of a hash, so that its upper bits depend on all of them.
pub(super) fn finish(hash: u64) -> u64 {
    let mixed = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// Hash of a text.
pub(super) fn hash_text(text: &str) -> u64 {
    let mut words = text.as_bytes().chunks_exact(8);
    let mut hash = mix(1, text.len() as u64);
    for word in &mut words {
        hash = mix(hash, word.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    }
    let rest = words.remainder().iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    mix(hash, rest)
}

/// Hash of the bucket of a number: its sign, and the largest power of two that is not larger than its
/// absolute value.
fn hash_number(number: f64) -> u64 {
    // The upper 12 bits are sign and exponent. 0 and -0 have the same bucket.
    let bucket = if number == 0.0 { 0 } else { number.to_bits() >> 52 };
    mix(2, bucket)
}

/// Hash of true or false.
pub(super) fn hash_flag(flag: bool) -> u64 {
    mix(3, u64::from(flag))
}

/// The hashes of the elements of a value.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ValueHashes {
    hashes: [u64; MAX_ELEMENTS],
    len: usize,
}

impl ValueHashes {
    /// The hashes of a value: one for each of the first elements of a list.
    pub(super) fn of_value(value: AttributeView<'_>) -> Self {
        let mut hashes = Self::default();
        match value {
            AttributeView::Text(text) => hashes.push(hash_text(text)),
            AttributeView::Number(number) => hashes.push(hash_number(number)),
            AttributeView::Boolean(flag) => hashes.push(hash_flag(flag)),
            AttributeView::Texts(texts) => texts.iter().for_each(|text| hashes.push(hash_text(text))),
            AttributeView::Numbers(numbers) => numbers.iter().for_each(|number| hashes.push(hash_number(*number))),
        }
        hashes
    }

    /// The hash of one value.
    pub(super) fn of_hash(hash: u64) -> Self {
        let mut hashes = Self::default();
        hashes.push(hash);
        hashes
    }

    fn push(&mut self, hash: u64) {
        if let Some(place) = self.hashes.get_mut(self.len) {
            *place = hash;
            self.len += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[u64] {
        self.hashes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_depend_on_the_values_alone_and_never_change() {
        assert_eq!(hash_text("de"), 0x942d_bdbf_e4cd_5c16);
        assert_ne!(hash_text("de"), hash_text("de\0"));
        assert_ne!(hash_text("12345678"), hash_text("123456789"));
        assert_ne!(hash_flag(true), hash_number(1.0));
    }

    #[test]
    fn numbers_of_one_octave_share_a_bucket() {
        assert_eq!(hash_number(8.0), hash_number(15.99));
        assert_ne!(hash_number(8.0), hash_number(7.99));
        assert_ne!(hash_number(8.0), hash_number(-8.0));
        assert_eq!(hash_number(0.0), hash_number(-0.0));
    }

    #[test]
    fn the_first_elements_of_a_list_count() {
        let numbers: Vec<f64> = (0..20).map(|exponent| f64::from(1 << exponent)).collect();
        assert_eq!(ValueHashes::of_value(AttributeView::Numbers(&numbers)).as_slice().len(), MAX_ELEMENTS);
        assert!(ValueHashes::of_value(AttributeView::Numbers(&[])).as_slice().is_empty());
    }
}
