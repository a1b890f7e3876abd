//! The envelope of stored values: a header with a version byte and a checksum, followed by the
//! payload.
//!
//! Layout: `version: u8 ‖ crc32(key ‖ version ‖ payload): u32, little-endian ‖ payload`. The
//! checksum includes the key, so it also detects a value that is stored under a wrong key.

use super::StoreError;
use crate::domain::Offset;

/// Version of the envelope's layout. All stored values have this version.
const LAYOUT_VERSION: u8 = 1;
/// Length of the header (version byte and checksum), in bytes.
const HEADER_BYTES: usize = 5;

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[LAYOUT_VERSION]);
    hasher.update(payload);
    hasher.finalize()
}

/// Builder of a stored value. The buffer starts with space for the header; the caller appends the
/// payload.
#[derive(Debug)]
pub(crate) struct ChecksummedEnvelope {
    bytes: Vec<u8>,
}

impl ChecksummedEnvelope {
    /// Creates an empty payload with `capacity` reserved bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + capacity);
        bytes.extend_from_slice(&[0; HEADER_BYTES]);
        Self { bytes }
    }

    /// Returns the buffer, to which the caller appends the payload.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Fills in the header and returns the value, which must be stored under `key`.
    pub(crate) fn seal(mut self, key: &[u8]) -> Vec<u8> {
        if let Some((header, payload)) = self.bytes.split_first_chunk_mut::<HEADER_BYTES>() {
            let [version, sum @ ..] = header;
            *version = LAYOUT_VERSION;
            *sum = checksum(key, payload).to_le_bytes();
        }
        self.bytes
    }
}

/// Verifies the header of a value that was stored under `key`. Returns the payload, or the reason
/// why the value is damaged.
pub(crate) fn open_value<'v>(key: &[u8], value: &'v [u8]) -> Result<&'v [u8], String> {
    let Some(([version, sum @ ..], payload)) = value.split_first_chunk::<HEADER_BYTES>() else {
        return Err(format!("{} bytes are too few for a checksum", value.len()));
    };
    if *version != LAYOUT_VERSION {
        return Err(format!("its layout version is {version}, not {LAYOUT_VERSION}"));
    }
    let (found, expected) = (checksum(key, payload), u32::from_le_bytes(*sum));
    if found != expected {
        return Err(format!("its checksum is {found:08x}, not {expected:08x}"));
    }
    Ok(payload)
}

/// Encodes an offset as a stored value under `key`.
pub(crate) fn seal_offset(key: &[u8], offset: Offset) -> Vec<u8> {
    let mut envelope = ChecksummedEnvelope::with_capacity(size_of::<Offset>());
    envelope.payload().extend_from_slice(&offset.to_le_bytes());
    envelope.seal(key)
}

/// Decodes a value that [`seal_offset`] encoded. `tree` is the tree's name in error messages.
pub(crate) fn open_offset(tree: &'static str, key: &[u8], value: &[u8]) -> Result<Offset, StoreError> {
    let payload =
        open_value(key, value).and_then(|payload| payload.try_into().map_err(|_| "it is not an offset".to_owned()));
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

    fn seal_payload(key: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut envelope = ChecksummedEnvelope::with_capacity(payload.len());
        envelope.payload().extend_from_slice(payload);
        envelope.seal(key)
    }

    proptest! {
        #[test]
        fn opening_a_sealed_value_returns_the_payload(key in any::<Vec<u8>>(), payload in any::<Vec<u8>>()) {
            prop_assert_eq!(open_value(&key, &seal_payload(&key, &payload)).map(<[u8]>::to_vec), Ok(payload));
        }

        #[test]
        fn opening_a_value_with_a_flipped_bit_fails(key in any::<[u8; 4]>(), payload in any::<Vec<u8>>(), index in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut value = seal_payload(&key, &payload);
            let index = index.index(value.len());
            value[index] ^= 1 << bit;
            prop_assert!(open_value(&key, &value).is_err());
        }

        #[test]
        fn opening_a_value_under_a_wrong_key_fails(payload in any::<Vec<u8>>(), a in any::<u32>(), b in any::<u32>()) {
            prop_assume!(a != b);
            prop_assert!(open_value(&b.to_be_bytes(), &seal_payload(&a.to_be_bytes(), &payload)).is_err());
        }
    }
}
