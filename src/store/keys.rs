//! The keys of the database's trees. Numbers in keys are big-endian, so that the order of the keys
//! is the order of the numbers.

use crate::domain::Offset;

/// Key of a piece of a journal record: the offset of the record's first entry, then the number of
/// the piece. Layout: `offset: u64, big-endian ‖ piece: u32, big-endian`, so that keys sort in
/// journal order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PieceKey {
    /// The offset of the record's first entry.
    pub first: Offset,
    /// Number of the piece, starting from 0.
    pub piece: u32,
}

impl PieceKey {
    /// Encodes the key.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (first, piece) = bytes.split_at_mut(8);
        first.copy_from_slice(&self.first.to_be_bytes());
        piece.copy_from_slice(&self.piece.to_be_bytes());
        bytes
    }

    /// Decodes a key; `None` if the length is wrong.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, piece) = bytes.split_first_chunk::<8>()?;
        Some(Self { first: Offset::from_be_bytes(*first), piece: u32::from_be_bytes(piece.try_into().ok()?) })
    }
}

/// Prefix of every session record key, so that no user id collides with [`SESSIONS_WATERMARK_KEY`].
pub const USER_KEY_PREFIX: &[u8] = b"u";

/// Key of the session records' watermark in the session tree.
pub const SESSIONS_WATERMARK_KEY: &[u8] = b"m/through";
/// Key of the item names' watermark in the item tree. The key is longer than the key of a page, so
/// the two cannot be confused.
pub const ITEMS_WATERMARK_KEY: &[u8] = b"through";

/// Key, in the default tree, of the fingerprint of the pseudonym secret.
pub const SECRET_FINGERPRINT_KEY: &[u8] = b"pseudonyms";

/// Key, in the default tree, of the secret key of the origin hashes.
pub(super) const ORIGIN_KEY: &[u8] = b"origin-key";

/// Key, in the default tree, of the journal's position in the shared log of a cluster.
pub(super) const LOG_POSITION_KEY: &[u8] = b"log-position";

/// Key, in the default tree, of the settings with which the stored sequences were computed.
pub(super) const SESSION_RULES_KEY: &[u8] = b"session-rules";

/// Key, in the default tree, of the recorded header of the pretrained state's file.
pub(super) const PRETRAINED_KEY: &[u8] = b"pretrained";

/// Returns a stable name for a user in errors and logs. The name is derived from a hash and does
/// not contain the user id.
#[must_use]
pub fn redacted_user_name(user_id: &str) -> String {
    format!("user #{:08x}", crc32fast::hash(user_id.as_bytes()))
}

/// Key of a user's session record.
#[must_use]
pub fn user_key(user_id: &str) -> Vec<u8> {
    [USER_KEY_PREFIX, user_id.as_bytes()].concat()
}

/// Extracts the user id from a session record key; `None` for other keys.
#[must_use]
pub fn parse_user_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(USER_KEY_PREFIX)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn key_order_is_journal_order(a in any::<(u64, u32)>(), b in any::<(u64, u32)>()) {
            let [a, b] = [a, b].map(|(first, piece)| PieceKey { first, piece });
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
            prop_assert_eq!(PieceKey::from_bytes(&a.to_bytes()), Some(a));
        }

        #[test]
        fn no_user_id_collides_with_the_reserved_key(id in ".*") {
            let key = user_key(&id);
            prop_assert_ne!(key.as_slice(), SESSIONS_WATERMARK_KEY);
            prop_assert_eq!(parse_user_key(&key), Some(id.as_str()));
        }

        #[test]
        fn from_bytes_rejects_other_lengths(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            prop_assert_eq!(PieceKey::from_bytes(&bytes).is_some(), bytes.len() == 12);
        }
    }

    #[test]
    fn reserved_keys_are_not_records() {
        assert_eq!(parse_user_key(SESSIONS_WATERMARK_KEY), None);
        assert_ne!(ITEMS_WATERMARK_KEY.len(), 4);
    }
}
