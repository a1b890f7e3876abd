//! The bytes of a message of the shared log: the requests of one group commit.
//!
//! ```text
//! message   = version: u8 [‖ compression: u8] ‖ body
//! body      = requests: u32 ‖ request ‖ request ‖ …
//! request   = condition ‖ origin ‖ entries: u32 ‖ entry ‖ entry ‖ …
//! condition = kind: u8 [‖ offset: u64]
//! origin    = 0: u8, or 1: u8 ‖ minute: u32 ‖ key hash: u64 ‖ address hash: u64
//! ```
//!
//! All numbers are little-endian. Entries have the same form as in the journal. Version 1 has no
//! compression. In version 2, the body is the text itself (compression 0) or a frame of Zstandard
//! [RFC 8878] (compression 1). A node writes the newest version that all nodes read.

use crate::domain::{Entry, Offset, Origin, OriginHash};
use crate::store::codec::{self, CodecError};
use crate::store::{CommitCondition, CommitRequest};

/// The oldest version of the form of messages. Every build reads it.
pub const OLDEST_MESSAGE_VERSION: u8 = 1;
/// The newest version that this build reads and writes.
pub const NEWEST_MESSAGE_VERSION: u8 = 2;
/// Largest length of a message without its entries and requests, in bytes.
pub const MESSAGE_OVERHEAD_BYTES: usize = 6;
/// The first version whose messages can be compressed.
const FIRST_COMPRESSED_VERSION: u8 = 2;
/// Shorter bodies are not compressed.
const MIN_COMPRESSED_BYTES: usize = 256;
/// Level of the compression: the fastest that saves most of the space.
const COMPRESSION_LEVEL: i32 = 1;
/// Largest length of an uncompressed body, in bytes. No server accepts a larger message.
const MAX_BODY_BYTES: usize = 64 << 20;
/// Largest length of a request without its entries, in bytes.
pub const REQUEST_OVERHEAD_BYTES: usize = 34;

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Another version wrote the message.
    #[error(
        "it has version {found} of the message form, and this build reads versions up to {NEWEST_MESSAGE_VERSION}; update this node"
    )]
    Version {
        /// The version of the message.
        found: u8,
    },
    /// The message ends early, or bytes follow its last request.
    #[error("it is incomplete or too long")]
    Length,
    /// The compressed part is damaged.
    #[error("its compressed part is damaged")]
    Compression,
    /// A field has an unknown value.
    #[error("its {field} has the unknown value {value}")]
    UnknownValue {
        /// The field.
        field: &'static str,
        /// The value.
        value: u8,
    },
    /// An entry cannot be read or written.
    #[error("an entry cannot be coded")]
    Entry(#[from] CodecError),
}

/// A request whose entries are encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRequest {
    /// The sender of the entries.
    pub origin: Option<Origin>,
    /// The condition under which the entries apply.
    pub condition: Option<CommitCondition>,
    /// Number of entries.
    pub entries: u32,
    /// The entries, one behind the other.
    pub bytes: Vec<u8>,
}

impl EncodedRequest {
    /// A request without entries, with the origin and the condition of another one.
    #[must_use]
    pub fn empty_like(&self) -> Self {
        Self { origin: self.origin, condition: self.condition, ..Self::default() }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`CodecError::Encode`] if the entry cannot be encoded. The request is then unchanged.
    pub fn push(&mut self, entry: &Entry) -> Result<(), CodecError> {
        let before = self.bytes.len();
        codec::encode_to(entry, &mut self.bytes).inspect_err(|_| self.bytes.truncate(before))?;
        self.entries += 1;
        Ok(())
    }

    /// Length in a message, at most, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        REQUEST_OVERHEAD_BYTES + self.bytes.len()
    }
}

/// Encodes a message in a version from [`OLDEST_MESSAGE_VERSION`] to [`NEWEST_MESSAGE_VERSION`].
#[must_use]
pub fn encode_message(requests: &[EncodedRequest], version: u8) -> Vec<u8> {
    let body = encode_body(requests);
    let mut bytes = Vec::with_capacity(MESSAGE_OVERHEAD_BYTES + body.len());
    bytes.push(version);
    if version < FIRST_COMPRESSED_VERSION {
        bytes.extend_from_slice(&body);
        return bytes;
    }
    let compressed = match body.len() {
        MIN_COMPRESSED_BYTES.. => zstd::bulk::compress(&body, COMPRESSION_LEVEL).ok(),
        _ => None,
    };
    match compressed.filter(|compressed| compressed.len() < body.len()) {
        Some(compressed) => {
            bytes.push(1);
            bytes.extend_from_slice(&compressed);
        }
        None => {
            bytes.push(0);
            bytes.extend_from_slice(&body);
        }
    }
    bytes
}

fn encode_body(requests: &[EncodedRequest]) -> Vec<u8> {
    let length: usize = requests.iter().map(EncodedRequest::len_bytes).sum();
    let mut bytes = Vec::with_capacity(MESSAGE_OVERHEAD_BYTES + length);
    put_u32(&mut bytes, u32::try_from(requests.len()).unwrap_or(u32::MAX));
    for request in requests {
        match request.condition {
            None => bytes.push(0),
            Some(CommitCondition::NoModelChangeFrom(offset)) => put_condition(&mut bytes, 1, offset),
            Some(CommitCondition::NoExpiryFrom(offset)) => put_condition(&mut bytes, 2, offset),
        }
        match request.origin {
            None => bytes.push(0),
            Some(Origin { key, address, minute }) => {
                bytes.push(1);
                put_u32(&mut bytes, minute);
                for hash in [key, address] {
                    bytes.extend_from_slice(&hash.map_or(0, OriginHash::get).to_le_bytes());
                }
            }
        }
        put_u32(&mut bytes, request.entries);
        bytes.extend_from_slice(&request.bytes);
    }
    bytes
}

fn put_u32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_condition(bytes: &mut Vec<u8>, kind: u8, offset: Offset) {
    bytes.push(kind);
    bytes.extend_from_slice(&offset.to_le_bytes());
}

/// Decodes a message.
///
/// # Errors
/// [`MessageError`] if a newer version wrote it, or if it is damaged.
pub fn decode_message(bytes: &[u8]) -> Result<Vec<CommitRequest>, MessageError> {
    let mut reader = Reader(bytes);
    let [version] = reader.take()?;
    if !(OLDEST_MESSAGE_VERSION..=NEWEST_MESSAGE_VERSION).contains(&version) {
        return Err(MessageError::Version { found: version });
    }
    let [compression] = if version < FIRST_COMPRESSED_VERSION { [0] } else { reader.take()? };
    match compression {
        0 => decode_body(reader.0),
        1 => {
            let body = zstd::bulk::decompress(reader.0, MAX_BODY_BYTES).map_err(|_| MessageError::Compression)?;
            decode_body(&body)
        }
        value => Err(MessageError::UnknownValue { field: "compression", value }),
    }
}

fn decode_body(bytes: &[u8]) -> Result<Vec<CommitRequest>, MessageError> {
    let mut reader = Reader(bytes);
    let count = u32::from_le_bytes(reader.take()?);
    let mut requests = Vec::new();
    for _ in 0..count {
        requests.push(reader.take_request()?);
    }
    if reader.0.is_empty() { Ok(requests) } else { Err(MessageError::Length) }
}

/// The rest of a message.
struct Reader<'m>(&'m [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(MessageError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn take_request(&mut self) -> Result<CommitRequest, MessageError> {
        let condition = match self.take()? {
            [0] => None,
            [1] => Some(CommitCondition::NoModelChangeFrom(Offset::from_le_bytes(self.take()?))),
            [2] => Some(CommitCondition::NoExpiryFrom(Offset::from_le_bytes(self.take()?))),
            [value] => return Err(MessageError::UnknownValue { field: "condition", value }),
        };
        let origin = match self.take()? {
            [0] => None,
            [1] => {
                let minute = u32::from_le_bytes(self.take()?);
                let [key, address] = [self.take()?, self.take()?].map(|hash| OriginHash::new(u64::from_le_bytes(hash)));
                Some(Origin { key, address, minute })
            }
            [value] => return Err(MessageError::UnknownValue { field: "origin", value }),
        };
        let count = u32::from_le_bytes(self.take()?);
        let mut entries = Vec::new();
        for _ in 0..count {
            let (entry, rest) = codec::decode_prefix(self.0)?;
            entries.push(entry);
            self.0 = rest;
        }
        Ok(CommitRequest { entries, origin, condition })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Event, EventKind};
    use proptest::prelude::*;

    fn event(number: u64) -> Entry {
        Entry::Event(Event {
            event_id: Some(format!("e{number}")),
            user_id: format!("u{}", number % 3),
            session_id: None,
            kind: EventKind::View,
            item_id: Some(format!("i{number}")),
            value: None,
            timestamp: number as i64,
            properties: None,
            details: None,
        })
    }

    fn any_requests() -> impl Strategy<Value = Vec<CommitRequest>> {
        let condition = prop_oneof![
            Just(None),
            any::<u64>().prop_map(|offset| Some(CommitCondition::NoModelChangeFrom(offset))),
            any::<u64>().prop_map(|offset| Some(CommitCondition::NoExpiryFrom(offset))),
        ];
        let origin = (any::<u64>(), any::<u64>(), any::<u32>()).prop_map(|(key, address, minute)| {
            let (key, address) = (OriginHash::new(key), OriginHash::new(address));
            (key.is_some() || address.is_some()).then_some(Origin { key, address, minute })
        });
        let entries = proptest::collection::vec(any::<u64>().prop_map(event), 0..5);
        let request = (entries, origin, condition).prop_map(|(entries, origin, condition)| CommitRequest {
            entries,
            origin,
            condition,
        });
        proptest::collection::vec(request, 0..5)
    }

    fn encode(requests: &[CommitRequest], version: u8) -> Vec<u8> {
        let encoded: Vec<_> = requests
            .iter()
            .map(|request| {
                let mut encoded = EncodedRequest {
                    origin: request.origin,
                    condition: request.condition,
                    ..EncodedRequest::default()
                };
                request.entries.iter().for_each(|entry| encoded.push(entry).unwrap());
                encoded
            })
            .collect();
        let bytes = encode_message(&encoded, version);
        let bound: usize = encoded.iter().map(EncodedRequest::len_bytes).sum();
        assert!(bytes.len() <= MESSAGE_OVERHEAD_BYTES + bound);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_decoded_message_has_the_encoded_requests(
            requests in any_requests(),
            version in OLDEST_MESSAGE_VERSION..=NEWEST_MESSAGE_VERSION,
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = encode(&requests, version);
            prop_assert_eq!(decode_message(&bytes).unwrap(), requests);
            prop_assert!(decode_message(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert!(decode_message(&[&bytes[..], &[0]].concat()).is_err());
        }

        #[test]
        fn decoding_a_message_never_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            start in prop_oneof![Just(vec![1]), Just(vec![2, 0]), Just(vec![2, 1]), Just(vec![2])],
        ) {
            let _ = decode_message(&[&start, &bytes[..]].concat());
        }
    }

    #[test]
    fn a_message_of_another_version_is_refused() {
        let mut bytes = encode(&[vec![event(1)].into()], NEWEST_MESSAGE_VERSION);
        for version in [0, NEWEST_MESSAGE_VERSION + 1] {
            bytes[0] = version;
            let error = decode_message(&bytes).unwrap_err().to_string();
            assert!(error.contains("update this node"), "{error}");
        }
    }

    #[test]
    fn version_2_compresses_long_messages() {
        let requests = [(0..100).map(event).collect::<Vec<_>>().into()];
        let [plain, compressed] = [1, 2].map(|version| encode(&requests, version));
        assert!(3 * compressed.len() < plain.len(), "{} of {} bytes", compressed.len(), plain.len());
        assert_eq!(decode_message(&compressed).unwrap(), requests);
        let short = [vec![event(1)].into()];
        assert_eq!(encode(&short, 2).len(), encode(&short, 1).len() + 1);
    }
}
