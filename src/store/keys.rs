//! Keys, laid out so that the order of bytes is the order of numbers.

use crate::domain::Offset;

/// A piece of a journal record: the offset of the record's first entry, then the number of the
/// piece. `offset: u64, big-endian ‖ piece: u32, big-endian`, so that keys sort in journal order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PieceKey {
    /// The offset of the record's first entry.
    pub first: Offset,
    /// 0 for the piece that begins the record.
    pub piece: u32,
}

impl PieceKey {
    /// The key's bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (first, piece) = bytes.split_at_mut(8);
        first.copy_from_slice(&self.first.to_be_bytes());
        piece.copy_from_slice(&self.piece.to_be_bytes());
        bytes
    }

    /// The key that these bytes are, or `None` if they are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, piece) = bytes.split_first_chunk::<8>()?;
        Some(Self { first: Offset::from_be_bytes(*first), piece: u32::from_be_bytes(piece.try_into().ok()?) })
    }
}

/// Begins the key of every user's session record, so that no user id is a [`SESSIONS_WATERMARK_KEY`].
pub const USER_PREFIX: &[u8] = b"u";

/// Where the tree of sessions keeps the offset that its records reach.
pub const SESSIONS_WATERMARK_KEY: &[u8] = b"m/through";
/// Where the tree of items keeps the offset that its names reach; longer than any number's key.
pub const ITEMS_WATERMARK_KEY: &[u8] = b"through";

/// Where the default tree keeps what tells the secret of the pseudonyms from others.
pub const FINGERPRINT_KEY: &[u8] = b"pseudonyms";

/// What stands for a user in what is said of a key: the same for the same user, and never the id.
#[must_use]
pub fn redacted(user_id: &str) -> String {
    format!("user #{:08x}", crc32fast::hash(user_id.as_bytes()))
}

/// The key of a user's session record.
#[must_use]
pub fn user_key(user_id: &str) -> Vec<u8> {
    [USER_PREFIX, user_id.as_bytes()].concat()
}

/// The user whose record stands under this key, or `None` if it is no record's.
#[must_use]
pub fn parse_user_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(USER_PREFIX)?).ok()
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
        fn other_lengths_are_no_piece_keys(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            prop_assert_eq!(PieceKey::from_bytes(&bytes).is_some(), bytes.len() == 12);
        }
    }

    #[test]
    fn the_reserved_keys_are_no_records() {
        assert_eq!(parse_user_key(SESSIONS_WATERMARK_KEY), None);
        assert_ne!(ITEMS_WATERMARK_KEY.len(), 4);
    }
}
