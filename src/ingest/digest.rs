//! Keyed digests that are stable across machines and versions, for deriving ids.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// A 128-bit SipHash-2-4 digest [Aumasson & Bernstein 2012]. An attacker who lacks the key cannot
/// find the input by hashing guesses.
#[derive(Debug, Clone, Copy)]
pub struct KeyedDigest(SipHasher24);

impl KeyedDigest {
    /// Creates an empty digest under a key. A key of zeros is not secret, but is enough to compare
    /// contents.
    #[must_use]
    pub fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher24::new_with_key(key))
    }

    /// Appends bytes to the input. Dividing the input into several calls does not change the
    /// digest.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The digest of the bytes so far, as 32 hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        format!("{:032x}", self.0.finish128().as_u128())
    }

    /// The digest of several parts. Each part is prefixed with its length, so moving bytes between
    /// parts changes the digest.
    #[must_use]
    pub fn hex_digest_of_parts(key: &[u8; 16], parts: &[&[u8]]) -> String {
        let mut digest = Self::new(key);
        for part in parts {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.to_hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_parts_and_not_on_chunks() {
        let mut chunks = KeyedDigest::new(&[0; 16]);
        chunks.update(b"one and ");
        chunks.update(b"another");
        let mut whole = KeyedDigest::new(&[0; 16]);
        whole.update(b"one and another");
        assert_eq!(chunks.to_hex(), whole.to_hex());
        assert_ne!(
            KeyedDigest::hex_digest_of_parts(&[0; 16], &[b"ab", b"c"]),
            KeyedDigest::hex_digest_of_parts(&[0; 16], &[b"a", b"bc"])
        );
        assert_ne!(
            KeyedDigest::hex_digest_of_parts(&[0; 16], &[b"a"]),
            KeyedDigest::hex_digest_of_parts(&[1; 16], &[b"a"])
        );
    }

    #[test]
    fn matches_the_reference_vector() {
        // Expected: the first vector of the reference implementation of SipHash-2-4-128
        // (vectors.h), for the key 00..0f and no bytes: a3817f04ba25a8e66df67214c7550293.
        let key = std::array::from_fn(|index| index as u8);
        let expected = u128::from_le_bytes([
            0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93,
        ]);
        assert_eq!(KeyedDigest::new(&key).to_hex(), format!("{expected:032x}"));
    }
}
