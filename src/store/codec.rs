//! Encodes and decodes values with bincode. This module is the only user of bincode.
//!
//! The format is bincode's `legacy` configuration: little-endian integers of fixed width, lengths
//! as `u64`, enum variants as `u32`. The format is not self-describing. Do not store types that
//! need a self-describing format (`serde_json::Value`, untagged or flattened enums), because the
//! decoder cannot read them.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{Read, Write};

/// Maximum size of a value in a record, in bytes. If a damaged record states a larger length, the
/// decoder rejects it before it allocates memory.
const MAX_RECORD_BYTES: usize = 64 << 20;
/// Maximum sizes of streamed values, in bytes. A stream is decoded with the smallest limit that is
/// at least its length. The limit is a type parameter of the decoder, so each limit repeats the code
/// of all decoders.
const MAX_STREAM_BYTES: usize = 1 << 32;
const MAX_LONG_STREAM_BYTES: usize = 1 << 40;

const RECORD_CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_RECORD_BYTES>> =
    bincode::config::legacy().with_limit::<MAX_RECORD_BYTES>();
const STREAM_CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_STREAM_BYTES>> =
    bincode::config::legacy().with_limit::<MAX_STREAM_BYTES>();
const LONG_STREAM_CONFIG: Configuration<LittleEndian, Fixint, Limit<MAX_LONG_STREAM_BYTES>> =
    bincode::config::legacy().with_limit::<MAX_LONG_STREAM_BYTES>();

/// An encoding or decoding error.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value cannot be encoded, or the sink failed.
    #[error("encoding: {0}")]
    Encode(#[source] Box<EncodeError>),
    /// The bytes do not encode a value of the expected type.
    #[error("decoding: {0}")]
    Decode(#[source] Box<DecodeError>),
    /// Unread bytes follow the value.
    #[error("decoding: {0} bytes follow the value")]
    TrailingBytes(usize),
}

impl From<EncodeError> for CodecError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(Box::new(error))
    }
}

impl From<DecodeError> for CodecError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(Box::new(error))
    }
}

/// Encodes a value.
///
/// # Errors
/// [`CodecError::Encode`] for a value that serde cannot describe (for instance a sequence of
/// unknown length).
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    encode_to(value, &mut bytes)?;
    Ok(bytes)
}

/// Encodes a value into a sink without an intermediate buffer. The encoder makes many small writes,
/// so pass a buffered sink.
///
/// # Errors
/// [`CodecError::Encode`] as for [`encode`], or if the sink fails.
pub fn encode_to<T: Serialize + ?Sized, W: Write>(value: &T, sink: &mut W) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, sink, RECORD_CONFIG)?;
    Ok(())
}

/// Decodes a value that occupies all of `bytes`.
///
/// # Errors
/// [`CodecError::Decode`] if the bytes do not encode a value of type `T`, or if they state a length
/// of more than 64 MiB. [`CodecError::TrailingBytes`] if bytes follow the value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, rest) = decode_prefix(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::TrailingBytes(rest.len())) }
}

/// Decodes a value from the start of `bytes`; also returns the bytes after it.
///
/// # Errors
/// [`CodecError::Decode`] as for [`decode`].
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, RECORD_CONFIG)?;
    Ok((value, bytes.get(used..).unwrap_or_default()))
}

/// Decodes a value from a stream of at most `length` bytes. If the data states a much larger length
/// (for example because another build wrote it), the decoder fails before it allocates memory. The
/// decoder makes many small reads, so pass a buffered stream.
///
/// # Errors
/// [`CodecError::Decode`] if the stream fails, ends early or does not encode a value of type `T`.
pub fn decode_from<T: DeserializeOwned, R: Read>(stream: &mut R, length: u64) -> Result<T, CodecError> {
    let read = if length <= MAX_STREAM_BYTES as u64 {
        bincode::serde::decode_from_std_read(stream, STREAM_CONFIG)
    } else {
        bincode::serde::decode_from_std_read(stream, LONG_STREAM_CONFIG)
    };
    Ok(read?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::any_entries;
    use super::*;
    use crate::domain::Entry;
    use proptest::prelude::*;

    #[test]
    fn integers_are_encoded_with_fixed_width_and_little_endian() {
        assert_eq!(
            encode(&(1_u16, "ab", Some(-2_i32))).unwrap(),
            [1, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', 1, 254, 255, 255, 255]
        );
    }

    #[test]
    fn a_claimed_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        let mut bytes = (u64::MAX / 2).to_le_bytes().to_vec();
        bytes.extend([0; 8]);
        assert!(matches!(decode::<Vec<u64>>(&bytes), Err(CodecError::Decode(_))));
        assert!(matches!(decode::<String>(&bytes), Err(CodecError::Decode(_))));
        // Regression test: the process aborted when the data stated a text length of 36 GiB. A
        // checkpoint of another build can contain such a length.
        let claimed = 38_654_705_666_u64.to_le_bytes();
        assert!(matches!(decode_from::<String, _>(&mut claimed.as_slice(), 8), Err(CodecError::Decode(_))));
    }

    #[test]
    fn trailing_bytes_are_an_error() {
        let mut bytes = encode(&7_u32).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(CodecError::TrailingBytes(1))));
    }

    proptest! {
        #[test]
        fn encoding_round_trips(entries in any_entries(0..20)) {
            let bytes = encode(&entries).unwrap();
            prop_assert_eq!(&decode::<Vec<Entry>>(&bytes).unwrap(), &entries);
            prop_assert_eq!(&decode_from::<Vec<Entry>, _>(&mut bytes.as_slice(), bytes.len() as u64).unwrap(), &entries);
        }

        #[test]
        fn consecutive_values_decode_one_by_one(entries in any_entries(1..20)) {
            let mut bytes = Vec::new();
            entries.iter().for_each(|entry| encode_to(entry, &mut bytes).unwrap());
            let mut rest = bytes.as_slice();
            for entry in &entries {
                let (decoded, after) = decode_prefix::<Entry>(rest).unwrap();
                prop_assert_eq!(&decoded, entry);
                rest = after;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Vec<Entry>>(&bytes);
            let _ = decode_from::<Vec<Entry>, _>(&mut bytes.as_slice(), bytes.len() as u64);
        }

        #[test]
        fn a_truncated_value_is_an_error(entries in any_entries(1..4), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&entries).unwrap();
            prop_assert!(decode::<Vec<Entry>>(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }
}
