//! Parses every record of a request body and collects the outcomes.

use super::framing::{BodyError, FramedRecord, split_records};
use super::validation_error::{ValidationError, ValidationErrorCode};

/// The parsed records of a body.
#[derive(Debug, PartialEq)]
pub struct ParsedBatch<T> {
    /// Each record, accepted or rejected, in the order of the body.
    pub records: Vec<Result<T, ValidationError>>,
    /// Unknown fields in accepted records. Unknown field names are often misspelt, so a receipt
    /// should list them.
    pub warnings: Vec<ValidationError>,
}

/// Parses every record of a body by calling `read`. For each unknown field, `read` calls the
/// function that is its second argument. A syntax error rejects only the element or line that
/// contains it.
///
/// # Errors
/// If the body is empty or holds more records than `limit`.
pub(super) fn read_records<T>(
    body: &[u8],
    record: &'static str,
    limit: usize,
    read: impl Fn(&[u8], &mut dyn FnMut(ValidationError)) -> Result<T, ValidationError>,
) -> Result<ParsedBatch<T>, BodyError> {
    let mut batch = ParsedBatch { records: Vec::new(), warnings: Vec::new() };
    for (index, framed) in (0..).zip(split_records(body, record, limit)?) {
        let outcome = match framed {
            FramedRecord::Complete(text, line) => {
                read(text, &mut |warning| batch.warnings.push(warning.with_position(index, line)))
                    .map_err(|error| error.with_position(index, line))
            }
            FramedRecord::Malformed(reason) => {
                Err(ValidationError::new(None, ValidationErrorCode::Syntax, format!("{reason}; the rest is not read"))
                    .with_position(index, None))
            }
        };
        batch.records.push(outcome);
    }
    Ok(batch)
}
