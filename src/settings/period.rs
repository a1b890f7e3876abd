//! Durations in a human-readable notation.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The units, largest first, with their milliseconds.
const UNITS_IN_MILLISECONDS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A duration in whole milliseconds (`30m`, `1h30m`, `10s`, `250ms`), or `off`.
///
/// ```
/// use sequor::settings::Period;
/// use std::time::Duration;
///
/// let period: Period = "1h30m".parse().unwrap();
/// assert_eq!(period.get(), Some(Duration::from_secs(5400)));
/// assert_eq!("off".parse::<Period>().unwrap().get(), None);
/// assert_eq!(Period::from_milliseconds(90_000).to_string(), "1m30s");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Period(Option<u64>);

/// The text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration `{0}`; write for example 30m, 1h30m, 10s, 250ms, or off")]
pub struct PeriodError(String);

impl Period {
    /// `off`: an unlimited duration.
    pub const OFF: Self = Self(None);

    /// Creates a period from milliseconds.
    #[must_use]
    pub const fn from_milliseconds(milliseconds: u64) -> Self {
        Self(Some(milliseconds))
    }

    /// Creates a period from seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(Some(seconds.saturating_mul(1000)))
    }

    /// Creates a period from minutes.
    #[must_use]
    pub const fn from_minutes(minutes: u64) -> Self {
        Self::from_seconds(minutes.saturating_mul(60))
    }

    /// The duration; `None` for `off`.
    #[must_use]
    pub fn get(self) -> Option<Duration> {
        self.0.map(Duration::from_millis)
    }

    /// The duration in milliseconds; `i64::MAX` for `off` and for longer durations.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0.and_then(|milliseconds| i64::try_from(milliseconds).ok()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let invalid = || PeriodError(text.to_owned());
        let mut rest = text.trim();
        if rest == "off" {
            return Ok(Self::OFF);
        }
        let mut total = (!rest.is_empty()).then_some(0_u64).ok_or_else(invalid)?;
        while !rest.is_empty() {
            let (digits, tail) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(invalid)?);
            let (name, tail) =
                tail.split_at(tail.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(tail.len()));
            let (_, unit) = UNITS_IN_MILLISECONDS.iter().find(|(unit, _)| *unit == name).ok_or_else(invalid)?;
            let amount: u64 = digits.parse().map_err(|_| invalid())?;
            total = amount.checked_mul(*unit).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
            rest = tail.trim_start();
        }
        Ok(Self(Some(total)))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => out.write_str("off"),
            Some(0) => out.write_str("0s"),
            Some(milliseconds) => UNITS_IN_MILLISECONDS
                .iter()
                .try_fold(milliseconds, |rest, (name, unit)| {
                    if rest >= *unit {
                        write!(out, "{}{name}", rest / unit)?;
                    }
                    Ok(rest % unit)
                })
                .map(|_| ()),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rejects_invalid_durations() {
        for text in ["", "30", "m", "30 minutes", "-1s", "1.5h", "1h30", "99999999999999999999d", "never"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        assert_eq!(" 1h 30m ".parse::<Period>().unwrap(), Period::from_minutes(90));
    }

    proptest! {
        #[test]
        fn display_round_trips(milliseconds in any::<u64>()) {
            let period = Period::from_milliseconds(milliseconds);
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
    }
}
