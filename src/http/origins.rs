//! Decides which origins of events and merges the journal records.

use std::net::IpAddr;

use crate::auth::KeyId;
use crate::domain::{Origin, OriginHash, OriginHasher, Timestamp};
use crate::http::rate_limits::client_network;
use crate::settings::RecordedOrigins;

/// Computes the origins that the journal records.
#[derive(Debug, Clone)]
pub struct OriginRecorder {
    hasher: OriginHasher,
    recorded: RecordedOrigins,
}

impl OriginRecorder {
    /// Creates a recorder with the hasher of the store and the setting `privacy.origins`.
    #[must_use]
    pub fn new(hasher: OriginHasher, recorded: RecordedOrigins) -> Self {
        Self { hasher, recorded }
    }

    /// A recorder that records nothing.
    #[must_use]
    pub fn disabled() -> Self {
        Self::new(OriginHasher::new([0; 16]), RecordedOrigins::None)
    }

    /// The origin to record for entries of this sender that arrive at `now`; `None` if nothing is
    /// recorded.
    pub(in crate::http) fn origin_of(
        &self,
        key: Option<&KeyId>,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Option<Origin> {
        let key = key.filter(|_| self.recorded.includes_key()).map(|id| self.hash_key(id));
        let address = address.filter(|_| self.recorded.includes_address()).map(|address| self.hash_address(address));
        Origin::new(key, address, now)
    }

    /// The hash of an API key's id.
    pub(in crate::http) fn hash_key(&self, id: &KeyId) -> OriginHash {
        self.hasher.hash_key_id(id.as_str())
    }

    /// The hash of the network that an address belongs to. The network is the one that the rate
    /// limits count as one client.
    pub(in crate::http) fn hash_address(&self, address: IpAddr) -> OriginHash {
        self.hasher.hash_network(client_network(address))
    }

    /// Which origins are recorded.
    pub(in crate::http) fn recorded(&self) -> RecordedOrigins {
        self.recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_decides_what_is_recorded() {
        let recorder = |recorded| OriginRecorder::new(OriginHasher::new([1; 16]), recorded);
        let (key, address) = ("1a2b3c4d".parse::<KeyId>().unwrap(), "2001:db8::1".parse().ok());
        let of = |recorded| recorder(recorded).origin_of(Some(&key), address, 120_000);
        let both = of(RecordedOrigins::KeyAndAddress).unwrap();
        assert!(both.key.is_some() && both.address.is_some() && both.minute == 2);
        assert_eq!(of(RecordedOrigins::Key), Some(Origin { address: None, ..both }));
        assert_eq!(of(RecordedOrigins::None), None);
        let neighbour = "2001:db8::ffff".parse().unwrap();
        assert_eq!(Some(recorder(RecordedOrigins::Key).hash_address(neighbour)), both.address, "a /64 is one client");
    }
}
