//! Parses timestamps of the input formats into milliseconds since 1970.

use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::Timestamp;
use jiff::civil;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Offset;

/// The unit of timestamps in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeUnit {
    /// Seconds, milliseconds above 1e11, or RFC 3339.
    #[default]
    Auto,
    /// Seconds since 1970, with an optional fraction.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// ISO 8601, such as `2014-04-01T01:15:41Z` or `2014-04-01 01:15:41`; UTC if it has no offset.
    Iso8601,
}

/// Numbers in a file up to this magnitude are seconds; larger ones are milliseconds. 1e11 is the
/// year 5138 in seconds and 1973 in milliseconds.
const LARGEST_SECONDS: f64 = 1e11;

/// Parses an RFC 3339 date and time with an offset, of any year.
///
/// # Errors
/// [`ValidationErrorCode::BadTimestamp`] if the text has another format.
pub(super) fn from_rfc3339(text: &str) -> Result<Timestamp, ValidationError> {
    from_iso(text, None)
}

/// Parses an ISO 8601 date and time. `offset` applies to a text without an offset; if it is `None`,
/// such a text is rejected.
fn from_iso(text: &str, offset: Option<Offset>) -> Result<Timestamp, ValidationError> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    // `jiff::Timestamp` does not work here: its range ends within the year 9999, and such
    // timestamps must be reported as too late, not as bad_timestamp.
    let pieces = PARSER.parse_pieces(text).map_err(|_| bad_timestamp())?;
    let (Some(time), Some(offset)) = (pieces.time(), pieces.to_numeric_offset().or(offset)) else {
        return Err(bad_timestamp());
    };
    let local = civil::DateTime::from_parts(pieces.date(), time).duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0));
    let milliseconds = local.as_millis() - i128::from(offset.seconds()) * 1000;
    Timestamp::try_from(milliseconds).map_err(|_| bad_timestamp())
}

/// Parses milliseconds since 1970 from a JSON number. A fraction of a millisecond is truncated.
///
/// # Errors
/// [`ValidationErrorCode::BadTimestamp`] if the text is not a number or its magnitude is 2^53 or
/// more.
pub(super) fn from_milliseconds(text: &str) -> Result<Timestamp, ValidationError> {
    text.parse().or_else(|_| text.parse().map_err(|_| bad_timestamp()).and_then(whole_milliseconds))
}

/// Parses a timestamp of unknown unit: seconds since 1970 (with an optional fraction), milliseconds
/// (above 1e11), or RFC 3339.
///
/// # Errors
/// [`ValidationErrorCode::BadTimestamp`] if the text has another format.
pub(super) fn from_column(text: &str) -> Result<Timestamp, ValidationError> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.abs() <= LARGEST_SECONDS => whole_milliseconds((seconds * 1000.0).round()),
        Ok(milliseconds) => whole_milliseconds(milliseconds),
        Err(_) => from_rfc3339(text),
    }
}

/// Parses a timestamp of a known unit.
///
/// # Errors
/// [`ValidationErrorCode::BadTimestamp`] if the text has another format.
pub(super) fn parse_in_unit(text: &str, unit: TimeUnit) -> Result<Timestamp, ValidationError> {
    match unit {
        TimeUnit::Auto => from_column(text),
        TimeUnit::Seconds => {
            text.parse().map_err(|_| bad_timestamp()).and_then(|seconds: f64| whole_milliseconds((seconds * 1000.0).round()))
        }
        TimeUnit::Milliseconds => from_milliseconds(text),
        TimeUnit::Iso8601 => from_iso(text, Some(Offset::UTC)),
    }
}

/// Parses a timestamp of an access log: `10/Oct/2000:13:55:36 -0700`, any format of
/// [`from_column`], or ISO 8601.
///
/// # Errors
/// [`ValidationErrorCode::BadTimestamp`] if the text has another format.
pub(super) fn from_access_log(text: &str) -> Result<Timestamp, ValidationError> {
    match jiff::Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", text) {
        Ok(at) => Ok(at.as_millisecond()),
        Err(_) => from_column(text).or_else(|_| from_iso(text, Some(Offset::UTC))),
    }
}

/// Truncates to whole milliseconds. From 2^53 on, an `f64` cannot represent every millisecond, so
/// such values are rejected.
#[expect(clippy::cast_possible_truncation, reason = "the condition above bounds the value by 2^53")]
fn whole_milliseconds(milliseconds: f64) -> Result<Timestamp, ValidationError> {
    if milliseconds.is_finite() && milliseconds.abs() < 9.007_199_254_740_992e15 {
        Ok(milliseconds as Timestamp)
    } else {
        Err(bad_timestamp())
    }
}

fn bad_timestamp() -> ValidationError {
    ValidationError::new(
        "timestamp",
        ValidationErrorCode::BadTimestamp,
        "`timestamp` is neither an RFC 3339 date and time with an offset nor a number of seconds or milliseconds since 1970",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_format() {
        // Expected: date -u -d 2014-04-01T01:15:41Z +%s gives 1396314941.
        assert_eq!(from_rfc3339("2014-04-01T01:15:41Z").unwrap(), 1_396_314_941_000);
        assert_eq!(from_rfc3339("2014-04-01T03:15:41.25+02:00").unwrap(), 1_396_314_941_250);
        assert_eq!(from_rfc3339("1969-12-31T23:59:59Z").unwrap(), -1000);
        // Expected: date -u -d 9999-12-31T23:59:59Z +%s gives 253402300799.
        assert_eq!(from_rfc3339("9999-12-31T23:59:59Z").unwrap(), 253_402_300_799_000);
        assert_eq!(from_milliseconds("1396314941000").unwrap(), 1_396_314_941_000);
        assert_eq!(from_milliseconds("1.3963149415e12").unwrap(), 1_396_314_941_500);
        assert_eq!(from_column("1396314941").unwrap(), 1_396_314_941_000);
        assert_eq!(from_column("1396314941.042").unwrap(), 1_396_314_941_042);
        assert_eq!(from_column("1396314941042").unwrap(), 1_396_314_941_042);
        assert_eq!(from_column("2014-04-01T01:15:41Z").unwrap(), 1_396_314_941_000);
    }

    #[test]
    fn parses_log_timestamps_and_known_units() {
        // Expected: date -u -d '2000-10-10 20:55:36' +%s gives 971211336.
        assert_eq!(from_access_log("10/Oct/2000:13:55:36 -0700").unwrap(), 971_211_336_000);
        assert_eq!(from_access_log("971211336.250").unwrap(), 971_211_336_250);
        assert_eq!(from_access_log("2000-10-10T20:55:36+00:00").unwrap(), 971_211_336_000);
        assert_eq!(from_access_log("2000-10-10 20:55:36").unwrap(), 971_211_336_000);
        assert_eq!(from_access_log("10/Okt/2000").unwrap_err().code, ValidationErrorCode::BadTimestamp);
        assert_eq!(parse_in_unit("971211336000", TimeUnit::Milliseconds).unwrap(), 971_211_336_000);
        assert_eq!(parse_in_unit("100", TimeUnit::Milliseconds).unwrap(), 100);
        assert_eq!(parse_in_unit("1.5", TimeUnit::Seconds).unwrap(), 1500);
        assert_eq!(parse_in_unit("2000-10-10 20:55:36", TimeUnit::Iso8601).unwrap(), 971_211_336_000);
        assert_eq!(parse_in_unit("971211336", TimeUnit::Iso8601).unwrap_err().code, ValidationErrorCode::BadTimestamp);
    }

    #[test]
    fn rejects_other_formats() {
        for text in ["", "yesterday", "2014-04-01", "2014-04-01T01:15:41", "2014-13-01T00:00:00Z", "NaN", "inf", "1e300"] {
            assert_eq!(from_column(text).unwrap_err().code, ValidationErrorCode::BadTimestamp, "{text}");
        }
    }
}
