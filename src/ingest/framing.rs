//! Splits a request body into records: one JSON object, an array of objects, or one object per line
//! (NDJSON).

use super::json_scanner;

/// Errors that reject a body as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is empty.
    #[error("the body is empty; send one {record}, an array of {record}s, or one {record} per line")]
    Empty {
        /// The expected kind of record.
        record: &'static str,
    },
    /// The body holds more records than the limit of a request.
    #[error("the body holds {records} {record}s; at most {limit} are allowed in one request")]
    TooMany {
        /// The kind of record.
        record: &'static str,
        /// The number of records in the body.
        records: usize,
        /// The largest number of records allowed.
        limit: usize,
    },
    /// The body does not have the expected structure.
    #[error("{reason}")]
    Unreadable {
        /// What is invalid.
        reason: String,
    },
}

/// The text of one record, or the error that ends the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FramedRecord<'a> {
    /// The text, and its line number if the body is NDJSON.
    Complete(&'a [u8], Option<u64>),
    /// The array is malformed at this point; the text is the reason. No record follows.
    Malformed(&'static str),
}

/// Splits a body into its records without parsing them, so that a syntax error invalidates only its
/// own record. `record` names the kind of record in errors.
///
/// # Errors
/// If the body is empty or holds more than `limit` records.
pub(super) fn split_records<'a>(
    body: &'a [u8],
    record: &'static str,
    limit: usize,
) -> Result<Vec<FramedRecord<'a>>, BodyError> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii();
    let check_limit =
        |records: usize| if records > limit { Err(BodyError::TooMany { record, records, limit }) } else { Ok(()) };
    match body {
        [] => Err(BodyError::Empty { record }),
        [b'[', inner @ ..] => {
            let (elements, rest) = json_scanner::array_elements(inner);
            let malformed = match rest {
                None => Some("the array never closes"),
                Some(rest) => (!rest.trim_ascii().is_empty()).then_some("the body continues after the array"),
            };
            check_limit(elements.len())?;
            // If the array is never closed, its last element is incomplete.
            let complete = elements.len() - usize::from(rest.is_none());
            let records = elements.into_iter().take(complete).map(|element| FramedRecord::Complete(element, None));
            Ok(records.chain(malformed.map(FramedRecord::Malformed)).collect())
        }
        _ if !is_ndjson(body) => Ok(vec![FramedRecord::Complete(body, None)]),
        _ => {
            let lines =
                || (1..).zip(body.split(|&byte| byte == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
            check_limit(lines().count())?;
            Ok(lines().map(|(number, line)| FramedRecord::Complete(line.trim_ascii(), Some(number))).collect())
        }
    }
}

/// Distinguishes NDJSON from a single record that spans several lines. NDJSON and a single record
/// can both be malformed. The body is NDJSON if its first line is a complete value, or a later line
/// looks like a complete object.
fn is_ndjson(body: &[u8]) -> bool {
    let mut lines = body.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    !json_scanner::is_one_value(body)
        && (lines.next().is_some_and(|first| first.len() < body.len() && json_scanner::is_one_value(first))
            || lines.any(|line| line.starts_with(b"{") && line.ends_with(b"}")))
}
