//! How much each key and each address may bring.

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

/// Addresses that are told apart at once, 100 bytes each; of more than that several share one
/// allowance.
const ADDRESSES: usize = 100_000;
/// How many allowances there are to share.
const SHARED: u64 = 1024;

/// What a limit is set to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimitSettings {
    /// Events and questions a second that a key may bring which says nothing else itself; 0: any
    /// number.
    pub per_key: u32,
    /// Those that an address may bring; 0: any number.
    pub per_address: u32,
    /// What may come at once, where it is more than a second's worth: a whole batch.
    pub burst: u32,
}

/// After how long it is worth to come back.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct RateExceeded(pub(in crate::http) Duration);

type GlobalRateLimiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;
type AddressRateLimiter<C> =
    RateLimiter<IpAddr, governor::state::keyed::DashMapStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The limits of a door: leaky buckets [GCRA, ITU-T I.371], so that what is used up comes back bit
/// by bit.
pub(in crate::http) struct RateLimits<C: Clock = DefaultClock> {
    rates: RateLimitSettings,
    clock: C,
    /// Of each key that was used, if it has a limit. As many as there are keys at most.
    keys: HashMap<KeyId, Arc<GlobalRateLimiter<C>>>,
    addresses: Option<AddressRateLimiter<C>>,
    /// Whether there are as many addresses as are told apart.
    crowded: AtomicBool,
    hasher: RandomState,
}

impl<C: Clock + Clone> RateLimits<C> {
    pub(in crate::http) fn new(rates: RateLimitSettings, clock: C) -> Self {
        let addresses = rates.quota(rates.per_address).map(|quota| RateLimiter::dashmap_with_clock(quota, clock.clone()));
        Self { rates, clock, keys: HashMap::new(), addresses, crowded: AtomicBool::new(false), hasher: RandomState::new() }
    }

    /// Counts so many events and questions of a key.
    pub(in crate::http) fn check_key(&self, key: &ApiKey, count: u32) -> Result<(), RateExceeded> {
        let Some(quota) = self.rates.quota(key.rate.unwrap_or(self.rates.per_key)) else { return Ok(()) };
        let keys = self.keys.pin();
        let limiter = keys.get_or_insert_with(key.id.clone(), || Arc::new(RateLimiter::direct_with_clock(quota, self.clock.clone())));
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        // What is more than ever fits was refused as too large a batch before.
        limiter.check_n(count).map_or(Ok(()), |counted| counted.map_err(|until| self.wait(&until)))
    }

    /// Counts so many events and questions of an address.
    pub(in crate::http) fn check_address(&self, address: IpAddr, count: u32) -> Result<(), RateExceeded> {
        let (Some(addresses), Some(count)) = (&self.addresses, NonZeroU32::new(count)) else { return Ok(()) };
        let mut who = neighbourhood(address);
        if self.crowded.load(Ordering::Relaxed) {
            // 0.0.0.0/8 is nobody's address.
            who = IpAddr::V4(Ipv4Addr::from_bits((self.hasher.hash_one(who) % SHARED) as u32));
        }
        addresses.check_key_n(&who, count).map_or(Ok(()), |counted| counted.map_err(|until| self.wait(&until)))
    }

    fn wait(&self, until: &NotUntil<C::Instant>) -> RateExceeded {
        RateExceeded(until.wait_time_from(self.clock.now()))
    }

    /// Removes callers whose allowance is full again, and revoked keys. Called every second.
    pub(in crate::http) fn evict_idle(&self, ring: &KeyRing) {
        self.keys.pin().retain(|id, _| ring.get(id).is_some());
        if let Some(addresses) = &self.addresses {
            addresses.retain_recent();
            self.crowded.store(addresses.len() >= ADDRESSES, Ordering::Relaxed);
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

/// Whom an address belongs to: the owner of an IPv6 address has the 2^64 beside it, too [RFC 6177].
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;

    const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn limits(per_key: u32, per_address: u32, batch: u32) -> (RateLimits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (RateLimits::new(RateLimitSettings { per_key, per_address, burst: batch }, clock.clone()), clock)
    }

    fn key(rate: Option<u32>) -> ApiKey {
        ApiKey::generate("k", "write".parse().unwrap(), rate, 0).unwrap().0
    }

    #[test]
    fn a_key_has_its_own_rate_or_the_usual_one() {
        let (limits, clock) = limits(10, 0, 0);
        let (usual, fast, free) = (key(None), key(Some(20)), key(Some(0)));
        let taken = |key: &ApiKey| (0..1000).filter(|_| limits.check_key(key, 1).is_ok()).count();
        assert_eq!((taken(&usual), taken(&fast), taken(&free)), (10, 20, 1000));
        // A tenth of a second brings a tenth of what a second does.
        clock.advance(Duration::from_millis(100));
        assert_eq!((taken(&usual), taken(&fast)), (1, 2));
        assert_eq!(limits.check_key(&usual, 1), Err(RateExceeded(Duration::from_millis(100))));
    }

    #[test]
    fn ten_times_the_limit_gets_the_limit() {
        let (limits, clock) = limits(50, 0, 100);
        let (key, mut taken) = (key(None), 0);
        // 500 a second for 20 seconds, in batches of 10.
        for _ in 0..1000 {
            clock.advance(Duration::from_millis(20));
            taken += if limits.check_key(&key, 10).is_ok() { 10 } else { 0 };
        }
        // The burst, and then what comes back: 50 a second.
        assert!((1000..=1100).contains(&taken), "{taken}");
    }

    #[test]
    fn a_whole_batch_fits_into_any_limit() {
        let (limits, clock) = limits(1, 1, 100);
        let key = key(None);
        assert!(limits.check_key(&key, 1).is_ok() && limits.check_key(&key, 99).is_ok() && limits.check_key(&key, 1).is_err());
        assert!(limits.check_address(NOBODY, 100).is_ok() && limits.check_address(NOBODY, 100).is_err());
        clock.advance(Duration::from_secs(100));
        assert!(limits.check_key(&key, 100).is_ok());
    }

    #[test]
    fn who_owns_many_addresses_has_one_allowance() {
        let (limits, _) = limits(0, 2, 0);
        let of = |text: &str| limits.check_address(text.parse().unwrap(), 1).is_ok();
        assert!(of("2001:db8::1") && of("2001:db8::2") && !of("2001:db8:0:0:ffff::3") && of("2001:db8:0:1::1"));
        assert!(of("192.0.2.1") && of("::ffff:192.0.2.1") && !of("192.0.2.1") && of("192.0.2.2"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (limits, clock) = limits(1, 1, 0);
        let known = key(None);
        let many =
            |from: u32, count: u32| (from..from + count).for_each(|bits| drop(limits.check_address(Ipv4Addr::from_bits(bits).into(), 1)));
        let held = || limits.addresses.as_ref().unwrap().len();
        let _ = limits.check_key(&known, 1);
        many(1 << 24, ADDRESSES as u32);
        limits.evict_idle(&KeyRing::default());
        assert!(limits.keys.pin().is_empty());
        // From here on the others share.
        many(1 << 28, 300_000);
        assert!(held() <= ADDRESSES + SHARED as usize, "{}", held());
        clock.advance(Duration::from_secs(2));
        limits.evict_idle(&KeyRing::default());
        assert_eq!(held(), 0);
    }
}
