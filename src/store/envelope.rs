//! The envelope of every stored value: a version byte and a checksum around the payload.
//!
//! `version: u8 ‖ crc32(key ‖ version ‖ payload): u32, little-endian ‖ payload`. The key is summed
//! too, so that a value that turns up under another key is as damaged as one with a flipped bit.

use super::StoreError;
use crate::domain::Offset;

/// The version of the layout of every value so far.
const VERSION: u8 = 1;
/// Version byte and checksum.
const HEADER: usize = 5;

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[VERSION]);
    hasher.update(payload);
    hasher.finalize()
}

/// A value under way into its envelope: the payload is appended behind the room left for the
/// header.
#[derive(Debug)]
pub(crate) struct ChecksummedEnvelope {
    bytes: Vec<u8>,
}

impl ChecksummedEnvelope {
    /// An empty payload with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + capacity);
        bytes.extend_from_slice(&[0; HEADER]);
        Self { bytes }
    }

    /// The payload's end, to append to.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The finished value, to be stored under that key.
    pub(crate) fn seal(mut self, key: &[u8]) -> Vec<u8> {
        if let Some((header, payload)) = self.bytes.split_first_chunk_mut::<HEADER>() {
            let [version, sum @ ..] = header;
            *version = VERSION;
            *sum = checksum(key, payload).to_le_bytes();
        }
        self.bytes
    }
}

/// The payload of a value that stood under that key, or why it is none.
pub(crate) fn open<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], String> {
    let Some(([version, sum @ ..], payload)) = value.split_first_chunk::<HEADER>() else {
        return Err(format!("{} bytes are too few for a checksum", value.len()));
    };
    if *version != VERSION {
        return Err(format!("its layout version is {version}, not {VERSION}"));
    }
    let (found, expected) = (checksum(key, payload), u32::from_le_bytes(*sum));
    if found != expected {
        return Err(format!("its checksum is {found:08x}, not {expected:08x}"));
    }
    Ok(payload)
}

/// An offset as a value of its own, to be stored under that key.
pub(crate) fn seal_offset(key: &[u8], offset: Offset) -> Vec<u8> {
    let mut envelope = ChecksummedEnvelope::with_capacity(size_of::<Offset>());
    envelope.payload().extend_from_slice(&offset.to_le_bytes());
    envelope.seal(key)
}

/// The offset that [`seal_offset`] made this value of, in the tree of that name.
pub(crate) fn open_offset(tree: &'static str, key: &[u8], value: &[u8]) -> Result<Offset, StoreError> {
    let payload = open(key, value).and_then(|payload| payload.try_into().map_err(|_| "it is no offset".to_owned()));
    payload.map(Offset::from_le_bytes).map_err(|reason| StoreError::DamagedValue {
        tree,
        key: String::from_utf8_lossy(key).into_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealed(key: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut envelope = ChecksummedEnvelope::with_capacity(payload.len());
        envelope.payload().extend_from_slice(payload);
        envelope.seal(key)
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(key in any::<Vec<u8>>(), payload in any::<Vec<u8>>()) {
            prop_assert_eq!(open(&key, &sealed(&key, &payload)).map(<[u8]>::to_vec), Ok(payload));
        }

        #[test]
        fn a_flipped_bit_is_seen(key in any::<[u8; 4]>(), payload in any::<Vec<u8>>(), place in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut value = sealed(&key, &payload);
            let place = place.index(value.len());
            value[place] ^= 1 << bit;
            prop_assert!(open(&key, &value).is_err());
        }

        #[test]
        fn another_key_is_seen(payload in any::<Vec<u8>>(), a in any::<u32>(), b in any::<u32>()) {
            prop_assume!(a != b);
            prop_assert!(open(&b.to_be_bytes(), &sealed(&a.to_be_bytes(), &payload)).is_err());
        }
    }
}
