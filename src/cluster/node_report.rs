//! What each node tells the others about itself.

use crate::domain::{NodeRole, Offset};
use crate::store::LogDigest;
use serde::{Deserialize, Serialize};

/// The state of a node, as it reports it to the other nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// The name of the node.
    pub node: String,
    /// A text that identifies the node's data directory.
    pub data_dir_id: String,
    /// The version of the program.
    pub version: String,
    /// What the node does for the learned weights.
    pub role: NodeRole,
    /// The version of the form of messages that the node reads.
    pub message_version: u8,
    /// The offset after the last entry of the journal.
    pub offset: Offset,
    /// The last applied message of the shared log.
    pub sequence: u64,
    /// The running hash after the last applied message, in hexadecimal.
    pub chain: String,
    /// Running hashes after earlier messages, at sequence numbers that all nodes report.
    pub points: Vec<ChainPoint>,
    /// Why the node accepts no writes; empty if it does.
    pub problem: String,
    /// Digests of the learned state, at offsets that all nodes report.
    pub states: Vec<StatePoint>,
    /// The offset after the last entry of the journal that requests an erasure or an expiry.
    pub last_removal: Offset,
    /// The files of the node contain no entry that an erasure or an expiry before this offset
    /// removes.
    pub removed_through: Offset,
}

/// The running hash after one message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainPoint {
    /// The message.
    pub sequence: u64,
    /// The hash, in hexadecimal.
    pub chain: String,
}

/// The digest of the learned state at one offset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePoint {
    /// The offset.
    pub offset: Offset,
    /// The digest, in hexadecimal.
    pub digest: String,
}

impl NodeReport {
    /// The hash of the node after the message `sequence`, if the report contains it.
    #[must_use]
    pub fn chain_at(&self, sequence: u64) -> Option<&str> {
        if sequence == self.sequence {
            return Some(&self.chain);
        }
        self.points.iter().find(|point| point.sequence == sequence).map(|point| point.chain.as_str())
    }

    /// The digest of the learned state at an offset, if the report contains it.
    #[must_use]
    pub fn state_at(&self, offset: Offset) -> Option<&str> {
        self.states.iter().find(|point| point.offset == offset).map(|point| point.digest.as_str())
    }

    /// The sequence numbers of the hashes in the report.
    pub fn sequences(&self) -> impl Iterator<Item = u64> {
        self.points.iter().map(|point| point.sequence).chain([self.sequence])
    }
}

/// The digest of a text in hexadecimal; `None` if the text is none.
#[must_use]
pub(super) fn from_hex(text: &str) -> Option<LogDigest> {
    let mut digest = LogDigest::default();
    if text.len() != 2 * digest.len() || !text.is_ascii() {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..text.len()).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// A digest in hexadecimal.
#[must_use]
pub fn to_hex(digest: &LogDigest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_texts_have_the_bytes_of_the_digest() {
        let digest: LogDigest = std::array::from_fn(|index| 17 * index as u8);
        assert_eq!(to_hex(&digest), "00112233445566778899aabbccddeeff");
        assert_eq!(from_hex(&to_hex(&digest)), Some(digest));
        for bad in ["", "0011", "zz112233445566778899aabbccddeeff"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
