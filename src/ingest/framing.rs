//! How a body holds its records: one JSON object, an array of them, or one a line (NDJSON).

use super::json_scanner;

/// Why nothing of a body can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It holds nothing.
    #[error("the body is empty; send one {record}, an array of {record}s, or one {record} a line")]
    Empty {
        /// What it should hold.
        record: &'static str,
    },
    /// It holds more records than one request may.
    #[error("the body holds {records} {record}s; at most {limit} are allowed in one request")]
    TooMany {
        /// What it should hold.
        record: &'static str,
        /// How many it holds.
        records: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// It is not what it should be.
    #[error("{reason}")]
    Unreadable {
        /// Why not.
        reason: String,
    },
}

/// One record's text, or what stands where one should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FramedRecord<'a> {
    /// The text, and the line that it is where the body has lines.
    Complete(&'a [u8], Option<u64>),
    /// The body is torn here; nothing follows.
    Malformed(&'static str),
}

/// Cuts a body into its records without parsing them, so that a fault, of syntax too, costs only the record that it stands in. `record` names one in errors.
///
/// # Errors
/// If the body is empty or holds more than `limit` records.
pub(super) fn split_records<'a>(body: &'a [u8], record: &'static str, limit: usize) -> Result<Vec<FramedRecord<'a>>, BodyError> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii();
    let bounded = |records: usize| if records > limit { Err(BodyError::TooMany { record, records, limit }) } else { Ok(()) };
    match body {
        [] => Err(BodyError::Empty { record }),
        [b'[', inner @ ..] => {
            let (elements, rest) = json_scanner::array_elements(inner);
            let torn = match rest {
                None => Some("the array never closes"),
                Some(rest) => (!rest.trim_ascii().is_empty()).then_some("something follows the array"),
            };
            bounded(elements.len())?;
            // An array that never closes ends in an element that is torn itself.
            let whole = elements.len() - usize::from(rest.is_none());
            let pieces = elements.into_iter().take(whole).map(|element| FramedRecord::Complete(element, None));
            Ok(pieces.chain(torn.map(FramedRecord::Malformed)).collect())
        }
        _ if !has_lines(body) => Ok(vec![FramedRecord::Complete(body, None)]),
        _ => {
            let lines = || (1..).zip(body.split(|&byte| byte == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
            bounded(lines().count())?;
            Ok(lines().map(|(number, line)| FramedRecord::Complete(line.trim_ascii(), Some(number))).collect())
        }
    }
}

/// Whether the body is one record a line, one of them perhaps torn, and not one record, perhaps torn, in many lines: its first line is a value
/// by itself, or a later one looks like an object of its own.
fn has_lines(body: &[u8]) -> bool {
    let mut lines = body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    !json_scanner::is_one_value(body)
        && (lines.next().is_some_and(|first| first.len() < body.len() && json_scanner::is_one_value(first))
            || lines.any(|line| line.starts_with(b"{") && line.ends_with(b"}")))
}
