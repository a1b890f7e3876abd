//! Digests that are the same on every machine and in every version: what ids are made of.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// 128 bits that stand for bytes: SipHash-2-4 [Aumasson & Bernstein 2012]. Who does not know the key cannot find the bytes by trying.
#[derive(Debug, Clone, Copy)]
pub struct KeyedDigest(SipHasher24);

impl KeyedDigest {
    /// Of no bytes yet, under a key. One of zeros is no secret, and good enough to tell contents apart.
    #[must_use]
    pub fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher24::new_with_key(key))
    }

    /// Of the bytes so far and these: it does not matter in which portions they come.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The digest of what was added, as 32 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        format!("{:032x}", self.0.finish128().as_u128())
    }

    /// The digest of some parts, each of which counts with its length.
    #[must_use]
    pub fn of_parts(key: &[u8; 16], parts: &[&[u8]]) -> String {
        let mut digest = Self::new(key);
        for part in parts {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_do_not_matter_and_parts_do() {
        let mut portions = KeyedDigest::new(&[0; 16]);
        portions.update(b"one and ");
        portions.update(b"another");
        let mut whole = KeyedDigest::new(&[0; 16]);
        whole.update(b"one and another");
        assert_eq!(portions.hex(), whole.hex());
        assert_ne!(KeyedDigest::of_parts(&[0; 16], &[b"ab", b"c"]), KeyedDigest::of_parts(&[0; 16], &[b"a", b"bc"]));
        assert_ne!(KeyedDigest::of_parts(&[0; 16], &[b"a"]), KeyedDigest::of_parts(&[1; 16], &[b"a"]));
    }

    #[test]
    fn it_is_what_the_paper_says() {
        // Expected: the first vector of SipHash-2-4-128's reference implementation (vectors.h), the key 00..0f and no bytes: a3817f04ba25a8e66df67214c7550293.
        let key = std::array::from_fn(|at| at as u8);
        let expected =
            u128::from_le_bytes([0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]);
        assert_eq!(KeyedDigest::new(&key).hex(), format!("{expected:032x}"));
    }
}
