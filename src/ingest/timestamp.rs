//! Parses timestamps of the input formats into milliseconds since 1970.
//!
//! One rule applies to all formats: if the unit of a number is not stated, the number is never read
//! as a time in 1970. Such a number almost always has another unit than the format expects. The
//! parser rejects it and suggests the probable unit. Any time is allowed if the timestamp is text
//! with a time zone offset, or if the caller names the unit.

use super::validation::printable_excerpt;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::Timestamp;
use jiff::civil;
use jiff::fmt::{strtime, temporal::DateTimeParser};
use jiff::tz::{Offset, TimeZone};

/// The unit of timestamps in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeUnit {
    /// Detected for each number by its magnitude; text is ISO 8601.
    #[default]
    Auto,
    /// Seconds since 1970, with an optional fraction.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// Microseconds since 1970.
    Microseconds,
    /// Nanoseconds since 1970.
    Nanoseconds,
    /// ISO 8601, such as `2014-04-01T01:15:41Z`, `2014-04-01 01:15:41` or `2014-04-01`.
    Iso8601,
}

/// The format of the timestamps in a file: unit and time zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimeFormat {
    unit: TimeUnit,
    /// The time zone of text that has no offset.
    zone: Option<TimeZone>,
}

/// The time zone is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown time zone `{0}`; write a name such as Europe/Berlin, an offset such as +02:00, or UTC")]
pub struct TimeZoneError(String);

/// The end of the year 1970, in milliseconds. Smaller numbers whose unit is not stated are
/// rejected.
pub(super) const END_OF_1970_MS: Timestamp = 365 * 24 * 60 * 60 * 1000;

/// Numeric units: unit, name, length in nanoseconds, and bound. If the unit of a number is not
/// stated, the first unit whose bound is not exceeded applies. Each bound is the year 5138 in its
/// own unit, and the year 1973 in the next one.
const NUMERIC_UNITS: [(TimeUnit, &str, i128, f64); 4] = [
    (TimeUnit::Seconds, "seconds", 1_000_000_000, 1e11),
    (TimeUnit::Milliseconds, "milliseconds", 1_000_000, 1e14),
    (TimeUnit::Microseconds, "microseconds", 1_000, 1e17),
    (TimeUnit::Nanoseconds, "nanoseconds", 1, f64::MAX),
];

impl TimeFormat {
    /// Creates a format. `zone` names the zone of text without an offset: an IANA name, an offset
    /// or `UTC`.
    ///
    /// # Errors
    /// If the zone is unknown.
    pub fn new(unit: TimeUnit, zone: Option<&str>) -> Result<Self, TimeZoneError> {
        let parse = |name: &str| match name {
            "UTC" | "Z" | "utc" => Ok(TimeZone::UTC),
            other => DateTimeParser::new().parse_time_zone(other).map_err(|_| TimeZoneError(printable_excerpt(other))),
        };
        Ok(Self { unit, zone: zone.map(parse).transpose()? })
    }

    /// A format of which only the unit is known. ISO 8601 text without an offset is in UTC.
    pub(super) fn of_unit(unit: TimeUnit) -> Self {
        Self { unit, zone: None }
    }

    /// Parses the timestamp in `field`.
    ///
    /// # Errors
    /// [`ValidationErrorCode::BadTimestamp`] if the text has another format,
    /// [`ValidationErrorCode::TooEarly`] for a number of unknown unit that would be in 1970.
    pub(super) fn parse(&self, field: &'static str, text: &str) -> Result<Timestamp, ValidationError> {
        let text = text.trim();
        match self.unit {
            TimeUnit::Auto => match detected_unit(text) {
                Some(unit) => to_milliseconds(text, unit)
                    .ok_or_else(|| self.bad_timestamp_error(field))
                    .and_then(|at| reject_1970(field, text, unit, at)),
                None => from_iso_8601(text, self.zone.as_ref()).ok_or_else(|| self.bad_timestamp_error(field)),
            },
            TimeUnit::Iso8601 => from_iso_8601(text, Some(self.zone.as_ref().unwrap_or(&TimeZone::UTC)))
                .ok_or_else(|| self.bad_timestamp_error(field)),
            unit => to_milliseconds(text, unit).ok_or_else(|| self.bad_timestamp_error(field)),
        }
    }

    fn bad_timestamp_error(&self, field: &'static str) -> ValidationError {
        let expected = match (self.unit, &self.zone) {
            (TimeUnit::Auto, None) => {
                "neither a date and time with an offset (for others name a --time-zone) nor a number of seconds, milliseconds, microseconds or nanoseconds since 1970"
            }
            (TimeUnit::Auto, Some(_)) => {
                "neither a date and time nor a number of seconds, milliseconds, microseconds or nanoseconds since 1970"
            }
            (TimeUnit::Iso8601, _) => "not an ISO 8601 date and time",
            (TimeUnit::Seconds, _) => "not a number of seconds since 1970",
            (TimeUnit::Milliseconds, _) => "not a number of milliseconds since 1970",
            (TimeUnit::Microseconds, _) => "not a number of microseconds since 1970",
            (TimeUnit::Nanoseconds, _) => "not a number of nanoseconds since 1970",
        };
        ValidationError::new(field, ValidationErrorCode::BadTimestamp, format!("`{field}` is {expected}"))
    }
}

/// Parses an RFC 3339 date and time with an offset, of any year.
///
/// # Errors
/// [`ValidationErrorCode::BadTimestamp`] if the text has another format.
pub(super) fn from_rfc3339(field: &'static str, text: &str) -> Result<Timestamp, ValidationError> {
    from_iso_8601(text, None).ok_or_else(|| bad_api_timestamp_error(field))
}

/// Parses milliseconds since 1970 from a JSON number of the API. A fraction of a millisecond is
/// truncated.
///
/// # Errors
/// [`ValidationErrorCode::BadTimestamp`] if the text is not a number or its magnitude is 2^53 or
/// more. [`ValidationErrorCode::TooEarly`] or [`ValidationErrorCode::TooLate`] if it probably has
/// another unit.
pub(super) fn from_milliseconds(field: &'static str, text: &str) -> Result<Timestamp, ValidationError> {
    let at = to_milliseconds(text, TimeUnit::Milliseconds).ok_or_else(|| bad_api_timestamp_error(field))?;
    match detected_unit(text) {
        Some(unit @ (TimeUnit::Microseconds | TimeUnit::Nanoseconds)) => {
            let reason = format!(
                "`{field}` {} in milliseconds is after the year 5138{}",
                printable_excerpt(text),
                probable_unit_hint(text, unit)
            );
            Err(ValidationError::new(field, ValidationErrorCode::TooLate, reason))
        }
        _ if (0..END_OF_1970_MS).contains(&at) => {
            let unit = probable_unit_hint(text, TimeUnit::Seconds);
            let reason = format!(
                "`{field}` {} in milliseconds is {}{unit}; a time in 1970 is accepted as RFC 3339 text",
                printable_excerpt(text),
                format_timestamp(at)
            );
            Err(ValidationError::new(field, ValidationErrorCode::TooEarly, reason))
        }
        _ => Ok(at),
    }
}

/// Parses a timestamp of an access log: `10/Oct/2000:13:55:36 -0700`, a number of any unit, or ISO
/// 8601.
///
/// # Errors
/// As [`TimeFormat::parse`].
pub(super) fn from_access_log(text: &str) -> Result<Timestamp, ValidationError> {
    let parsed =
        strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).and_then(|parts| Ok((parts.offset(), parts.to_timestamp()?)));
    match parsed {
        Ok((offset, at)) if offset.is_none_or(is_shorter_than_a_day) => Ok(at.as_millisecond()),
        Ok(_) | Err(_) => TimeFormat { unit: TimeUnit::Auto, zone: Some(TimeZone::UTC) }.parse("timestamp", text),
    }
}

/// Parses an ISO 8601 date with an optional time. `zone` applies to a text without an offset; if it
/// is `None`, such a text is rejected.
fn from_iso_8601(text: &str, zone: Option<&TimeZone>) -> Option<Timestamp> {
    static DATE_TIME_PARSER: DateTimeParser = DateTimeParser::new();
    let (text, is_utc) = [" UTC", " GMT", " Z"]
        .iter()
        .find_map(|suffix| text.strip_suffix(suffix))
        .map_or((text, false), |text| (text, true));
    // `jiff::Timestamp` is unsuitable for text with an offset, because its range ends within the
    // year 9999. A later timestamp must be reported as `too_late`, not as `bad_timestamp`.
    let pieces = DATE_TIME_PARSER.parse_pieces(text).ok()?;
    let time = pieces.time().or_else(|| zone.map(|_| civil::Time::midnight()))?;
    let local = civil::DateTime::from_parts(pieces.date(), time);
    match pieces.to_numeric_offset().or(is_utc.then_some(Offset::UTC)) {
        Some(offset) if !is_shorter_than_a_day(offset) => None,
        Some(offset) => {
            let since_1970 = local.duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0));
            Timestamp::try_from(since_1970.as_millis() - i128::from(offset.seconds()) * 1000).ok()
        }
        None => zone?.to_timestamp(local).ok().map(|at| at.as_millisecond()),
    }
}

/// Whether an offset is shorter than a day. The parser accepts offsets up to 25:59; RFC 3339 allows
/// at most 23:59.
fn is_shorter_than_a_day(offset: Offset) -> bool {
    offset.seconds().abs() < 24 * 3600
}

/// The unit of a number by its magnitude; `None` if the text is not a number.
fn detected_unit(text: &str) -> Option<TimeUnit> {
    let number: f64 = text.parse().ok()?;
    NUMERIC_UNITS
        .into_iter()
        .find(|(.., bound)| number.abs() <= *bound)
        .map(|(unit, ..)| unit)
        .or(Some(TimeUnit::Nanoseconds))
}

/// Converts a number of a numeric unit to milliseconds. Integers are converted exactly.
fn to_milliseconds(text: &str, unit: TimeUnit) -> Option<Timestamp> {
    const NANOSECONDS_PER_MILLISECOND: i128 = 1_000_000;
    let scale = NUMERIC_UNITS.into_iter().find(|(numeric, ..)| *numeric == unit).map(|(_, _, scale, _)| scale)?;
    if let Ok(whole) = text.parse::<i128>() {
        return Timestamp::try_from(whole.checked_mul(scale)?.div_euclid(NANOSECONDS_PER_MILLISECOND)).ok();
    }
    let milliseconds = text.parse::<f64>().ok()? * (scale as f64 / NANOSECONDS_PER_MILLISECOND as f64);
    // In binary floating point, 1396314941.042 seconds become 1396314941041.9999 milliseconds.
    truncate_to_milliseconds(if unit == TimeUnit::Seconds { milliseconds.round() } else { milliseconds })
}

/// Rejects a time in 1970 if the unit of its number was detected.
fn reject_1970(field: &'static str, text: &str, unit: TimeUnit, at: Timestamp) -> Result<Timestamp, ValidationError> {
    if !(0..END_OF_1970_MS).contains(&at) {
        return Ok(at);
    }
    let reason = format!(
        "`{field}` {} in {} is {}; if that is meant, name the unit with --time-unit, such as --time-unit s",
        printable_excerpt(text),
        unit_name(unit),
        format_timestamp(at)
    );
    Err(ValidationError::new(field, ValidationErrorCode::TooEarly, reason))
}

/// A hint that a number is plausible in another unit; empty if the number is not plausible in
/// `unit`.
fn probable_unit_hint(text: &str, unit: TimeUnit) -> String {
    let at = to_milliseconds(text, unit).filter(|at| *at >= END_OF_1970_MS);
    at.map_or_else(String::new, |at| format!(", in {} it is {}", unit_name(unit), format_timestamp(at)))
}

fn unit_name(unit: TimeUnit) -> &'static str {
    NUMERIC_UNITS.into_iter().find(|(numeric, ..)| *numeric == unit).map_or("ISO 8601", |(_, name, ..)| name)
}

fn format_timestamp(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at).map_or_else(|_| "after the year 9998".to_owned(), |at| at.to_string())
}

/// Truncates to whole milliseconds. From 2^53 on, an `f64` cannot represent every millisecond, so
/// such values are rejected.
#[expect(clippy::cast_possible_truncation, reason = "the condition above bounds the value by 2^53")]
fn truncate_to_milliseconds(milliseconds: f64) -> Option<Timestamp> {
    (milliseconds.is_finite() && milliseconds.abs() < 9.007_199_254_740_992e15).then_some(milliseconds as Timestamp)
}

fn bad_api_timestamp_error(field: &'static str) -> ValidationError {
    let reason = format!("`{field}` is neither an RFC 3339 date and time with an offset nor milliseconds since 1970");
    ValidationError::new(field, ValidationErrorCode::BadTimestamp, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_with_unit(unit: TimeUnit, zone: Option<&str>, text: &str) -> Result<Timestamp, ValidationErrorCode> {
        TimeFormat::new(unit, zone).unwrap().parse("timestamp", text).map_err(|error| error.code)
    }

    fn parse_with_detected_unit(text: &str) -> Result<Timestamp, ValidationErrorCode> {
        parse_with_unit(TimeUnit::Auto, None, text)
    }

    #[test]
    fn rejects_offsets_of_more_than_a_day() {
        for text in ["2014-04-01T01:15:41+25:00", "2014-04-01T01:15:41-24:00"] {
            assert_eq!(from_rfc3339("timestamp", text).unwrap_err().code, ValidationErrorCode::BadTimestamp, "{text}");
            assert_eq!(parse_with_detected_unit(text), Err(ValidationErrorCode::BadTimestamp), "{text}");
        }
        assert_eq!(from_access_log("10/Oct/2000:13:55:36 +2500").unwrap_err().code, ValidationErrorCode::BadTimestamp);
        assert_eq!(from_rfc3339("timestamp", "2014-04-01T01:15:41+23:59").unwrap(), 1_396_228_601_000);
    }

    #[test]
    fn parses_every_format() {
        // Expected: date -u -d 2014-04-01T01:15:41Z +%s gives 1396314941.
        let rfc3339 = |text| from_rfc3339("timestamp", text).unwrap();
        assert_eq!(rfc3339("2014-04-01T01:15:41Z"), 1_396_314_941_000);
        assert_eq!(rfc3339("2014-04-01T03:15:41.25+02:00"), 1_396_314_941_250);
        assert_eq!(rfc3339("1969-12-31T23:59:59Z"), -1000);
        // Expected: date -u -d 9999-12-31T23:59:59Z +%s gives 253402300799.
        assert_eq!(rfc3339("9999-12-31T23:59:59Z"), 253_402_300_799_000);
        assert_eq!(from_milliseconds("timestamp", "1396314941000").unwrap(), 1_396_314_941_000);
        assert_eq!(from_milliseconds("timestamp", "1.3963149415e12").unwrap(), 1_396_314_941_500);
        for (text, fraction) in [
            ("1396314941", 0),
            ("1396314941.042", 42),
            ("1396314941042", 42),
            ("1396314941042999", 42),
            ("1396314941042999999", 42),
            ("2014-04-01T01:15:41Z", 0),
            ("2014-04-01 01:15:41 UTC", 0),
            (" 1396314941 ", 0),
        ] {
            assert_eq!(parse_with_detected_unit(text), Ok(1_396_314_941_000 + fraction), "{text}");
        }
    }

    #[test]
    fn numbers_of_unknown_unit_are_never_in_1970() {
        for text in ["0", "1", "31535999", "0.5"] {
            assert_eq!(parse_with_detected_unit(text), Err(ValidationErrorCode::TooEarly), "{text}");
        }
        assert_eq!(parse_with_detected_unit("31536000"), Ok(END_OF_1970_MS));
        assert_eq!(parse_with_unit(TimeUnit::Seconds, None, "1"), Ok(1000));
        assert_eq!(parse_with_detected_unit("1970-01-01T00:00:01Z"), Ok(1000));
        let api = |text| from_milliseconds("timestamp", text).map_err(|error| (error.code, error.reason));
        let (code, reason) = api("1600000000").unwrap_err();
        assert_eq!(code, ValidationErrorCode::TooEarly);
        assert_eq!(
            reason,
            "`timestamp` 1600000000 in milliseconds is 1970-01-19T12:26:40Z, in seconds it is 2020-09-13T12:26:40Z; \
             a time in 1970 is accepted as RFC 3339 text"
        );
        let (code, reason) = api("1600000000000000").unwrap_err();
        assert_eq!(code, ValidationErrorCode::TooLate);
        assert!(reason.ends_with("in microseconds it is 2020-09-13T12:26:40Z"), "{reason}");
        assert!(api("1600000000000000000").unwrap_err().1.contains("in nanoseconds it is 2020-09-13"));
        assert_eq!(api("-1"), Ok(-1));
    }

    #[test]
    fn parses_named_units_and_zones() {
        // Expected: date -u -d '2000-10-10 20:55:36' +%s gives 971211336.
        assert_eq!(from_access_log("10/Oct/2000:13:55:36 -0700").unwrap(), 971_211_336_000);
        assert_eq!(from_access_log("971211336.250").unwrap(), 971_211_336_250);
        assert_eq!(from_access_log("2000-10-10T20:55:36+00:00").unwrap(), 971_211_336_000);
        assert_eq!(from_access_log("2000-10-10 20:55:36").unwrap(), 971_211_336_000);
        assert_eq!(from_access_log("10/Okt/2000").unwrap_err().code, ValidationErrorCode::BadTimestamp);
        for (unit, text) in [
            (TimeUnit::Seconds, "971211336"),
            (TimeUnit::Milliseconds, "971211336000"),
            (TimeUnit::Microseconds, "971211336000000"),
            (TimeUnit::Nanoseconds, "971211336000000000"),
            (TimeUnit::Iso8601, "2000-10-10 20:55:36"),
            (TimeUnit::Iso8601, "2000-10-10 20:55:36 UTC"),
        ] {
            assert_eq!(parse_with_unit(unit, None, text), Ok(971_211_336_000), "{text}");
        }
        assert_eq!(parse_with_unit(TimeUnit::Milliseconds, None, "100"), Ok(100));
        assert_eq!(parse_with_unit(TimeUnit::Seconds, None, "1.5"), Ok(1500));
        assert_eq!(parse_with_unit(TimeUnit::Iso8601, None, "971211336"), Err(ValidationErrorCode::BadTimestamp));
        assert_eq!(parse_with_unit(TimeUnit::Seconds, None, "2000-10-10"), Err(ValidationErrorCode::BadTimestamp));
        // One time in summer and one in winter, which have different offsets.
        assert_eq!(parse_with_unit(TimeUnit::Auto, Some("Europe/Berlin"), "2000-10-10 22:55:36"), Ok(971_211_336_000));
        assert_eq!(parse_with_unit(TimeUnit::Auto, Some("Europe/Berlin"), "2014-01-01"), Ok(1_388_530_800_000));
        assert_eq!(parse_with_unit(TimeUnit::Auto, Some("+02:00"), "2000-10-10T22:55:36"), Ok(971_211_336_000));
        assert_eq!(parse_with_unit(TimeUnit::Auto, Some("+02:00"), "2000-10-10T20:55:36Z"), Ok(971_211_336_000));
        assert!(
            TimeFormat::new(TimeUnit::Auto, Some("Europe/Nowhere"))
                .unwrap_err()
                .to_string()
                .contains("`Europe/Nowhere`")
        );
    }

    #[test]
    fn rejects_other_formats() {
        for text in
            ["", "yesterday", "2014-04-01", "2014-04-01T01:15:41", "2014-13-01T00:00:00Z", "NaN", "inf", "1e300"]
        {
            assert_eq!(parse_with_detected_unit(text), Err(ValidationErrorCode::BadTimestamp), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_without_panic(text in ".{0,40}|[0-9.e-]{1,40}") {
            for unit in [TimeUnit::Auto, TimeUnit::Seconds, TimeUnit::Nanoseconds, TimeUnit::Iso8601] {
                let _ = parse_with_unit(unit, Some("America/New_York"), &text);
            }
            let _ = from_milliseconds("timestamp", &text);
        }
    }
}
