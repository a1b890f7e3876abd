//! Faster encoding of long float vectors. The bytes are those of `Vec<f32>`.
//!
//! serde encodes and decodes each float with its own call, which dominates the cost of a checkpoint.
//! These types pass four floats per call, as one 128-bit integer. A format without type information
//! and with fixed-width little-endian numbers, such as that of checkpoints, then has the same bytes.

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

const FLOATS_PER_PACK: usize = 4;
/// Maximum number of floats for which memory is allocated before they are read. A damaged length
/// therefore allocates little.
const MAX_FLOATS_ALLOCATED_AHEAD: usize = 1 << 20;

/// A float slice that is encoded like `Vec<f32>`.
pub(super) struct FloatSlice<'a>(pub(super) &'a [f32]);

impl Serialize for FloatSlice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (packs, rest) = self.0.as_chunks::<FLOATS_PER_PACK>();
        let mut sequence = serializer.serialize_seq(Some(self.0.len()))?;
        packs.iter().try_for_each(|pack| sequence.serialize_element(&pack_floats(*pack)))?;
        rest.iter().try_for_each(|value| sequence.serialize_element(value))?;
        sequence.end()
    }
}

/// A float vector that is decoded like `Vec<f32>`.
pub(super) struct FloatVec(pub(super) Vec<f32>);

impl<'de> Deserialize<'de> for FloatVec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FloatVisitor)
    }
}

struct FloatVisitor;

impl<'de> Visitor<'de> for FloatVisitor {
    type Value = FloatVec;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a vector of floats of known length")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<FloatVec, A::Error> {
        let len = sequence.size_hint().unwrap_or_default();
        let mut values = Vec::with_capacity(len.min(MAX_FLOATS_ALLOCATED_AHEAD));
        for _ in 0..len / FLOATS_PER_PACK {
            let Some(pack) = sequence.next_element()? else { break };
            values.extend_from_slice(&unpack_floats(pack));
        }
        for _ in 0..len % FLOATS_PER_PACK {
            values.extend(sequence.next_element::<f32>()?);
        }
        Ok(FloatVec(values))
    }
}

/// Packs floats into an integer whose little-endian bytes are those of the floats, in order.
fn pack_floats(floats: [f32; FLOATS_PER_PACK]) -> u128 {
    floats.iter().rev().fold(0, |pack, value| pack << 32 | u128::from(value.to_bits()))
}

fn unpack_floats(pack: u128) -> [f32; FLOATS_PER_PACK] {
    [0, 32, 64, 96].map(|shift| f32::from_bits((pack >> shift) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bincode::config::legacy;
    use bincode::serde::{decode_from_slice, encode_to_vec};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_floats_have_the_bytes_of_single_floats(bits in proptest::collection::vec(any::<u32>(), 0..70)) {
            let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let bytes = encode_to_vec(FloatSlice(&values), legacy()).unwrap();
            prop_assert_eq!(&bytes, &encode_to_vec(&values, legacy()).unwrap());
            let (FloatVec(decoded), used) = decode_from_slice(&bytes, legacy()).unwrap();
            prop_assert_eq!(used, bytes.len());
            prop_assert_eq!(decoded.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), bits);
        }

        #[test]
        fn truncated_floats_are_an_error(len in 1..70_usize, cut in any::<prop::sample::Index>()) {
            let bytes = encode_to_vec(vec![1.0_f32; len], legacy()).unwrap();
            let cut = bytes.get(..cut.index(bytes.len())).unwrap();
            prop_assert!(decode_from_slice::<FloatVec, _>(cut, legacy()).is_err());
        }
    }

    #[test]
    fn a_damaged_length_is_an_error_and_allocates_little() {
        let mut bytes = (1_u64 << 60).to_le_bytes().to_vec();
        bytes.extend([0; 64]);
        assert!(decode_from_slice::<FloatVec, _>(&bytes, legacy()).is_err());
    }
}
