//! Origins of journal entries: hashes of the API key and of the client address that sent an entry.

use super::Timestamp;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::net::IpAddr;
use std::num::NonZeroU64;

/// Milliseconds of a minute.
const MINUTE_MS: i64 = 60_000;

/// A keyed hash of an API key's id or of a client address. It is never 0.
pub type OriginHash = NonZeroU64;

/// The sender of an entry and the minute of its arrival. An origin has no effect on what the model
/// learns or recommends. A purge selects entries by their origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The hash of the API key's id; `None` if the request had no key.
    pub key: Option<OriginHash>,
    /// The hash of the client's network; `None` if addresses are not recorded.
    pub address: Option<OriginHash>,
    /// The time of arrival, in minutes since 1970.
    pub minute: u32,
}

impl Origin {
    /// The origin of entries that arrived at `now`; `None` if neither hash is known.
    #[must_use]
    pub fn new(key: Option<OriginHash>, address: Option<OriginHash>, now: Timestamp) -> Option<Self> {
        let minute = u32::try_from(now.div_euclid(MINUTE_MS)).unwrap_or(0);
        (key.is_some() || address.is_some()).then_some(Self { key, address, minute })
    }
}

/// Hashes the ids of API keys and the addresses of clients with the secret key of a store
/// [SipHash-2-4, Aumasson and Bernstein 2012]. Without the key, nobody can test which address a
/// hash belongs to.
#[derive(Clone)]
pub struct OriginHasher {
    key: [u8; 16],
}

impl std::fmt::Debug for OriginHasher {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("OriginHasher(…)")
    }
}

impl OriginHasher {
    /// Creates a hasher with the store's key.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// Hashes the id of an API key.
    #[must_use]
    pub fn hash_key_id(&self, id: &str) -> OriginHash {
        self.hash(b'k', id.as_bytes())
    }

    /// Hashes a client's network: an IPv4 address, or the first address of an IPv6 /64 network.
    #[must_use]
    pub fn hash_network(&self, network: IpAddr) -> OriginHash {
        match network {
            IpAddr::V4(address) => self.hash(b'4', &address.octets()),
            IpAddr::V6(address) => self.hash(b'6', &address.octets()),
        }
    }

    fn hash(&self, kind: u8, bytes: &[u8]) -> OriginHash {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(&[kind]);
        hasher.write(bytes);
        NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN)
    }
}

/// The removal of all earlier events and merges of an origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// Only entries with this key hash; `None`: of any key.
    pub key: Option<OriginHash>,
    /// Only entries with this address hash; `None`: of any address.
    pub address: Option<OriginHash>,
    /// Only entries that arrived at this time or later, in milliseconds since 1970.
    pub since: Timestamp,
    /// Only entries that arrived before this time, in milliseconds since 1970.
    pub until: Timestamp,
    /// The time of the request.
    pub timestamp: Timestamp,
}

impl Purge {
    /// Whether the purge removes entries with this origin. If the period covers a minute only in
    /// part, the purge removes all entries that arrived in this minute. A purge without a key and
    /// without an address removes nothing.
    #[must_use]
    pub fn selects(&self, origin: Origin) -> bool {
        let arrived = i64::from(origin.minute) * MINUTE_MS;
        (self.key.is_some() || self.address.is_some())
            && (self.key.is_none() || self.key == origin.key)
            && (self.address.is_none() || self.address == origin.address)
            && arrived.saturating_add(MINUTE_MS) > self.since
            && arrived < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_depend_on_the_secret_key_and_the_kind() {
        let (one, other) = (OriginHasher::new([1; 16]), OriginHasher::new([2; 16]));
        assert_eq!(one.hash_key_id("1a2b3c4d"), OriginHasher::new([1; 16]).hash_key_id("1a2b3c4d"));
        assert_ne!(one.hash_key_id("1a2b3c4d"), other.hash_key_id("1a2b3c4d"));
        let address = |text: &str| one.hash_network(text.parse().unwrap());
        assert_ne!(address("203.0.113.7"), address("203.0.113.8"));
        // The id consists of the bytes of the address.
        assert_ne!(address("49.50.51.52"), one.hash_key_id("1234"));
        assert!(!format!("{one:?}").contains('1'));
    }

    #[test]
    fn a_purge_selects_by_key_address_and_minute() {
        let hash = |number| NonZeroU64::new(number);
        let origin = Origin::new(hash(1), hash(2), 10 * MINUTE_MS + 59_999).unwrap();
        assert_eq!(origin.minute, 10);
        let purge = |key, address, since, until| Purge { key, address, since, until, timestamp: 0 }.selects(origin);
        let (begin, end) = (10 * MINUTE_MS, 11 * MINUTE_MS);
        assert!(purge(hash(1), None, 0, i64::MAX) && purge(None, hash(2), 0, i64::MAX));
        assert!(purge(hash(1), hash(2), 0, i64::MAX) && !purge(hash(1), hash(3), 0, i64::MAX));
        assert!(!purge(hash(2), None, 0, i64::MAX) && !purge(None, None, 0, i64::MAX));
        assert!(purge(hash(1), None, end - 1, i64::MAX) && !purge(hash(1), None, end, i64::MAX));
        assert!(purge(hash(1), None, 0, begin + 1) && !purge(hash(1), None, 0, begin));
        assert_eq!(Origin::new(None, None, 5), None);
    }
}
