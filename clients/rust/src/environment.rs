//! The clock, the waits and the random numbers of a client.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The clock, the waits and the random numbers of a client. Tests replace them.
#[derive(Clone)]
pub struct Environment {
    /// The present time, for events without a time and for dates in `Retry-After`.
    pub now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// A random number from 0 up to, but excluding, 1. It is the share of the backoff that a delay
    /// has.
    pub random: Arc<dyn Fn() -> f64 + Send + Sync>,
    /// Waits before a retry. `None` puts the thread to sleep.
    pub sleep: Option<Arc<dyn Fn(Duration) + Send + Sync>>,
}

impl Default for Environment {
    fn default() -> Self {
        Self { now: Arc::new(SystemTime::now), random: Arc::new(random_fraction), sleep: None }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Environment").finish_non_exhaustive()
    }
}

impl Environment {
    pub(crate) fn sleep(&self, delay: Duration) {
        match &self.sleep {
            Some(sleep) => sleep(delay),
            None => std::thread::sleep(delay),
        }
    }
}

/// A new id of 32 hexadecimal digits, for an event or a list.
pub(crate) fn new_id() -> String {
    format!("{:016x}{:016x}", random_u64(), random_u64())
}

/// A random number from 0 up to, but excluding, 1, such as for
/// [`RetryPolicy::delay`](crate::RetryPolicy::delay).
#[must_use]
pub fn random_fraction() -> f64 {
    // The 53 bits of the mantissa.
    (random_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// A random number of the system. If the system has none, the number is a hash with the random keys
/// of the standard library.
fn random_u64() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    getrandom::u64().unwrap_or_else(|_| {
        RandomState::new().hash_one((COUNTER.fetch_add(1, Ordering::Relaxed), SystemTime::now(), std::process::id()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_distinct_and_have_32_digits() {
        let ids: HashSet<_> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }

    #[test]
    fn fractions_are_in_the_unit_interval() {
        let fractions: Vec<_> = (0..1000).map(|_| random_fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        // The chance that all 1000 numbers are on one side of 0.5 is 2^-999.
        assert!(fractions.iter().any(|fraction| *fraction < 0.5) && fractions.iter().any(|fraction| *fraction >= 0.5));
    }
}
