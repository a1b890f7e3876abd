//! Formats values for the admin pages. `console.js` formats live values in the same way.

use jiff::Timestamp as UtcTimestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::Timestamp;

/// The text that stands for an absent value.
pub(in crate::http) const NO_VALUE_TEXT: &str = "–";

/// Formats a whole number with thousands separators.
pub(in crate::http) fn format_count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number of bytes in decimal units.
pub(in crate::http) fn format_bytes(number: u64) -> String {
    let mut number = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if number < 1000.0 {
            return if unit == "B" { format!("{number:.0} B") } else { format!("{number:.1} {unit}") };
        }
        number /= 1000.0;
    }
    format!("{number:.1} TB")
}

/// Formats a rate per second.
pub(in crate::http) fn format_rate(number: f64) -> String {
    if number >= 100.0 { format_count(number.round() as u64) } else { format!("{number:.1}") }
}

/// Formats a duration in seconds.
pub(in crate::http) fn format_seconds(number: f64) -> String {
    match number {
        number if number <= 0.0 => "0 s".to_owned(),
        number if number < 0.001 => format!("{:.0} µs", number * 1e6),
        number if number < 1.0 => format!("{:.1} ms", number * 1e3),
        number if number < 120.0 => format!("{number:.1} s"),
        number if number < 7200.0 => format!("{:.0} min", number / 60.0),
        number if number < 172_800.0 => format!("{:.1} h", number / 3600.0),
        number => format!("{:.1} d", number / 86_400.0),
    }
}

/// Formats a ratio with four decimal places.
pub(in crate::http) fn format_ratio(number: f64) -> String {
    format!("{number:.4}")
}

/// Formats a timestamp in UTC. A timestamp that is out of the range of the calendar is shown as a
/// number of milliseconds.
pub(in crate::http) fn format_timestamp(at: Timestamp) -> String {
    UtcTimestamp::from_millisecond(at)
        .map_or_else(|_| at.to_string(), |timestamp| timestamp.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// The characters to percent-encode in a path segment.
const PATH_SEGMENT_ENCODE_SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The path of the page of one user or one item. `parent` is the path of the list, such as
/// `/console/items`.
pub(in crate::http) fn detail_page_path(parent: &str, id: &str) -> String {
    format!("{parent}/{}", utf8_percent_encode(id, PATH_SEGMENT_ENCODE_SET))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_values() {
        assert_eq!([0, 999, 1000, 1_234_567].map(format_count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 999, 1000, 2_500_000].map(format_bytes), ["0 B", "999 B", "1.0 kB", "2.5 MB"]);
        assert_eq!(
            [0.0, 0.00025, 0.0123, 35.0, 600.0, 7200.0].map(format_seconds),
            ["0 s", "250 µs", "12.3 ms", "35.0 s", "10 min", "2.0 h"]
        );
        assert_eq!([0.04, 99.94, 12_345.6].map(format_rate), ["0.0", "99.9", "12,346"]);
        assert_eq!(format_timestamp(0), "1970-01-01 00:00:00");
    }

    #[test]
    fn escapes_an_id_as_one_path_segment() {
        assert_eq!(detail_page_path("/console/items", "a/b c?ü"), "/console/items/a%2Fb%20c%3F%C3%BC");
    }
}
