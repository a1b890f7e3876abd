//! Rate limits per API key and per client address.

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use papaya::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::auth::{ApiKey, KeyId, KeyRing};

/// Largest number of client addresses that have their own limiter. A limiter takes about 100 bytes.
/// If this number is reached, addresses share [`SHARED_LIMITER_COUNT`] limiters.
const MAX_ADDRESSES_WITH_OWN_LIMITER: usize = 100_000;
/// Number of shared limiters.
const SHARED_LIMITER_COUNT: u64 = 1024;

/// Configuration of the rate limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimitSettings {
    /// Number of events and requests per second that a key may send, if the key has no rate of its
    /// own. 0 means unlimited.
    pub per_key: u32,
    /// Number of events and requests per second that a client address may send. 0 means unlimited.
    pub per_address: u32,
    /// Number of events and requests that may arrive at once: the largest size of a batch. If the
    /// rate per second is larger than this number, the rate applies instead.
    pub burst: u32,
}

/// A rate limit is exceeded. The value is the time until a retry can succeed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct RateExceeded(pub(in crate::http) Duration);

type GlobalRateLimiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;
type AddressRateLimiter<C> =
    RateLimiter<IpAddr, governor::state::keyed::DashMapStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The rate limits of a server. They are leaky buckets [GCRA, ITU-T I.371], so capacity returns
/// continuously.
pub(in crate::http) struct RateLimits<C: Clock = DefaultClock> {
    rates: RateLimitSettings,
    clock: C,
    /// The limiters of the keys that have a limit and have been used.
    keys: HashMap<KeyId, Arc<GlobalRateLimiter<C>>>,
    addresses: Option<AddressRateLimiter<C>>,
    /// Whether addresses share limiters, because [`MAX_ADDRESSES_WITH_OWN_LIMITER`] was reached at
    /// the last eviction.
    shares_limiters: AtomicBool,
    hasher: RandomState,
}

impl<C: Clock + Clone> RateLimits<C> {
    pub(in crate::http) fn new(rates: RateLimitSettings, clock: C) -> Self {
        let addresses =
            rates.quota(rates.per_address).map(|quota| RateLimiter::dashmap_with_clock(quota, clock.clone()));
        Self {
            rates,
            clock,
            keys: HashMap::new(),
            addresses,
            shares_limiters: AtomicBool::new(false),
            hasher: RandomState::new(),
        }
    }

    /// Charges a key for `count` events or requests.
    pub(in crate::http) fn check_key(&self, key: &ApiKey, count: u32) -> Result<(), RateExceeded> {
        let Some(quota) = self.rates.quota(key.rate.unwrap_or(self.rates.per_key)) else { return Ok(()) };
        let keys = self.keys.pin();
        let limiter = keys
            .get_or_insert_with(key.id.clone(), || Arc::new(RateLimiter::direct_with_clock(quota, self.clock.clone())));
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        // `count` does not exceed the burst, because the size of a batch is checked earlier, and
        // the burst is at least the largest batch.
        limiter.check_n(count).map_or(Ok(()), |counted| counted.map_err(|until| self.retry_delay(&until)))
    }

    /// Charges an address for `count` events or requests.
    pub(in crate::http) fn check_address(&self, address: IpAddr, count: u32) -> Result<(), RateExceeded> {
        let (Some(addresses), Some(count)) = (&self.addresses, NonZeroU32::new(count)) else { return Ok(()) };
        let mut client = client_network(address);
        if self.shares_limiters.load(Ordering::Relaxed) {
            // No client has an address in 0.0.0.0/8. These addresses therefore serve as the names
            // of the shared limiters.
            client = IpAddr::V4(Ipv4Addr::from_bits((self.hasher.hash_one(client) % SHARED_LIMITER_COUNT) as u32));
        }
        addresses
            .check_key_n(&client, count)
            .map_or(Ok(()), |counted| counted.map_err(|until| self.retry_delay(&until)))
    }

    fn retry_delay(&self, until: &NotUntil<C::Instant>) -> RateExceeded {
        RateExceeded(until.wait_time_from(self.clock.now()))
    }

    /// Removes the limiters of revoked keys. Also removes the limiters of addresses that have full
    /// capacity again. Called every second.
    pub(in crate::http) fn evict_idle(&self, ring: &KeyRing) {
        self.keys.pin().retain(|id, _| ring.get(id).is_some());
        if let Some(addresses) = &self.addresses {
            addresses.retain_recent();
            self.shares_limiters.store(addresses.len() >= MAX_ADDRESSES_WITH_OWN_LIMITER, Ordering::Relaxed);
        }
    }
}

impl RateLimitSettings {
    /// `None`: no limit.
    fn quota(self, rate: u32) -> Option<Quota> {
        let rate = NonZeroU32::new(rate)?;
        Some(Quota::per_second(rate).allow_burst(NonZeroU32::new(self.burst).map_or(rate, |batch| batch.max(rate))))
    }
}

/// The network that counts as one client: a single IPv4 address, or the /64 network of an IPv6
/// address. One client usually owns all 2^64 addresses of a /64 network [RFC 6177].
pub(in crate::http) fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    const CLIENT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn new_limits(per_key: u32, per_address: u32, batch: u32) -> (RateLimits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (RateLimits::new(RateLimitSettings { per_key, per_address, burst: batch }, clock.clone()), clock)
    }

    fn new_key(rate: Option<u32>) -> ApiKey {
        ApiKey::generate("k", "write".parse().unwrap(), rate, 0).unwrap().0
    }

    #[test]
    fn key_has_its_own_rate_or_the_default() {
        let (limits, clock) = new_limits(10, 0, 0);
        let (default, fast, unlimited) = (new_key(None), new_key(Some(20)), new_key(Some(0)));
        let admitted = |key: &ApiKey| (0..1000).filter(|_| limits.check_key(key, 1).is_ok()).count();
        assert_eq!((admitted(&default), admitted(&fast), admitted(&unlimited)), (10, 20, 1000));
        // A tenth of a second restores a tenth of the rate.
        clock.advance(Duration::from_millis(100));
        assert_eq!((admitted(&default), admitted(&fast)), (1, 2));
        assert_eq!(limits.check_key(&default, 1), Err(RateExceeded(Duration::from_millis(100))));
    }

    #[test]
    fn admits_the_configured_rate_under_overload() {
        let (limits, clock) = new_limits(50, 0, 100);
        let (key, mut admitted) = (new_key(None), 0);
        // The client sends 500 events per second for 20 seconds, in batches of 10.
        for _ in 0..1000 {
            clock.advance(Duration::from_millis(20));
            admitted += if limits.check_key(&key, 10).is_ok() { 10 } else { 0 };
        }
        // The limit admits the burst, and then 50 per second.
        assert!((1000..=1100).contains(&admitted), "{admitted}");
    }

    #[test]
    fn whole_batch_fits_into_any_limit() {
        let (limits, clock) = new_limits(1, 1, 100);
        let key = new_key(None);
        assert!(
            limits.check_key(&key, 1).is_ok()
                && limits.check_key(&key, 99).is_ok()
                && limits.check_key(&key, 1).is_err()
        );
        assert!(
            limits.check_address(CLIENT_ADDRESS, 100).is_ok() && limits.check_address(CLIENT_ADDRESS, 100).is_err()
        );
        clock.advance(Duration::from_secs(100));
        assert!(limits.check_key(&key, 100).is_ok());
    }

    #[test]
    fn addresses_of_one_network_share_a_limiter() {
        let (limits, _) = new_limits(0, 2, 0);
        let of = |text: &str| limits.check_address(text.parse().unwrap(), 1).is_ok();
        assert!(of("2001:db8::1") && of("2001:db8::2") && !of("2001:db8:0:0:ffff::3") && of("2001:db8:0:1::1"));
        assert!(of("192.0.2.1") && of("::ffff:192.0.2.1") && !of("192.0.2.1") && of("192.0.2.2"));
    }

    #[test]
    fn number_of_limiters_is_bounded() {
        let (limits, clock) = new_limits(1, 1, 0);
        let known = new_key(None);
        let many = |from: u32, count: u32| {
            (from..from + count).for_each(|bits| drop(limits.check_address(Ipv4Addr::from_bits(bits).into(), 1)))
        };
        let held = || limits.addresses.as_ref().unwrap().len();
        let _ = limits.check_key(&known, 1);
        many(1 << 24, MAX_ADDRESSES_WITH_OWN_LIMITER as u32);
        limits.evict_idle(&KeyRing::default());
        assert!(limits.keys.pin().is_empty());
        // From here on, addresses share limiters.
        many(1 << 28, 300_000);
        assert!(held() <= MAX_ADDRESSES_WITH_OWN_LIMITER + SHARED_LIMITER_COUNT as usize, "{}", held());
        clock.advance(Duration::from_secs(2));
        limits.evict_idle(&KeyRing::default());
        assert_eq!(held(), 0);
    }
}
