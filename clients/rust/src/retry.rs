//! When a request is sent again, and after which delay.

use std::time::{Duration, SystemTime};

/// Exponential backoff with full jitter.
///
/// The delay before retry n is a random time up to `base_delay` · 2ⁿ⁻¹, at most `max_delay`. It is
/// added to the `Retry-After` of the response.
///
/// ```
/// use sequor_client::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy { attempts: Some(3), ..RetryPolicy::default() };
/// assert_eq!(policy.delay(2, None, 0.5), Some(Duration::from_millis(200)));
/// assert_eq!(policy.delay(3, None, 0.5), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Number of attempts, including the first one. `None` is no limit.
    pub attempts: Option<u32>,
    /// Longest delay before the first retry.
    pub base_delay: Duration,
    /// Longest delay before any retry, without the `Retry-After` of the response.
    pub max_delay: Duration,
    /// A response with a longer `Retry-After` is not retried.
    pub max_retry_after: Duration,
}

impl Default for RetryPolicy {
    /// 5 attempts, 0.2 s, 10 s and 60 s.
    fn default() -> Self {
        Self {
            attempts: Some(5),
            base_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(10),
            max_retry_after: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The delay after failed attempt number `attempt`, which counts from 1. `random` is from 0 to
    /// 1. `None` if there is no further attempt.
    #[must_use]
    pub fn delay(&self, attempt: u32, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
        let is_last = self.attempts.is_some_and(|attempts| attempt >= attempts);
        if is_last || retry_after.is_some_and(|asked| asked > self.max_retry_after) {
            return None;
        }
        // The exponent is bounded, so that the power cannot overflow.
        let factor = 2.0_f64.powi(attempt.saturating_sub(1).min(32) as i32);
        let backoff = (self.base_delay.as_secs_f64() * factor).min(self.max_delay.as_secs_f64());
        let jitter = Duration::try_from_secs_f64(backoff * random).unwrap_or(self.max_delay);
        Some(retry_after.unwrap_or_default().saturating_add(jitter))
    }
}

/// Whether a request with a response of this status is sent again.
pub(crate) fn is_retryable_status(status: u16, is_idempotent: bool) -> bool {
    match status {
        // The daemon has stored nothing.
        408 | 429 | 503 => true,
        // The request can have taken effect.
        500 | 502 | 504 => is_idempotent,
        _ => false,
    }
}

/// The time that the value of a `Retry-After` header asks to wait: a number of seconds, or a date.
/// `None` if the value is malformed.
pub(crate) fn parse_retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_limit_with_full_jitter() {
        let policy = RetryPolicy {
            attempts: None,
            base_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(1),
            ..RetryPolicy::default()
        };
        // 0.2 · 2^(n-1), at most 1.0
        let delays = [1, 2, 3, 4, 5, 5000].map(|attempt| policy.delay(attempt, None, 1.0).unwrap().as_millis());
        assert_eq!(delays, [200, 400, 800, 1000, 1000, 1000]);
        assert_eq!(policy.delay(3, None, 0.0), Some(Duration::ZERO));
        assert_eq!(policy.delay(3, None, 0.25), Some(Duration::from_millis(200)));
    }

    #[test]
    fn the_last_attempt_and_a_long_retry_after_have_no_delay() {
        let policy = RetryPolicy { attempts: Some(2), ..RetryPolicy::default() };
        assert!(policy.delay(1, None, 1.0).is_some());
        assert_eq!(policy.delay(2, None, 1.0), None);
        assert_eq!(policy.delay(1, Some(Duration::from_secs(60)), 0.0), Some(Duration::from_secs(60)));
        assert_eq!(policy.delay(1, Some(Duration::from_secs(61)), 0.0), None);
    }

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        // Mon, 01 Jan 2024 00:00:00 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200);
        for (value, seconds) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("later", None),
            ("", None),
            ("99999999999999999999999", None),
            ("Mon, 01 Jan 2024 00:00:30 GMT", Some(30)),
            ("Sun, 31 Dec 2023 23:59:30 GMT", Some(0)),
        ] {
            assert_eq!(parse_retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn an_unknown_outcome_is_retried_only_if_that_is_safe() {
        for (status, if_idempotent, otherwise) in [
            (408, true, true),
            (429, true, true),
            (503, true, true),
            (500, true, false),
            (502, true, false),
            (504, true, false),
            (400, false, false),
            (404, false, false),
            (413, false, false),
        ] {
            let found = [true, false].map(|is_idempotent| is_retryable_status(status, is_idempotent));
            assert_eq!(found, [if_idempotent, otherwise], "{status}");
        }
    }
}
