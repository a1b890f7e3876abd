//! Reads every record of a body and keeps each one's outcome.

use super::framing::{BodyError, FramedRecord, split_records};
use super::validation_error::{ValidationError, ValidationErrorCode};

/// The records of a body.
#[derive(Debug, PartialEq)]
pub struct ParsedBatch<T> {
    /// Each record, accepted or rejected, in the order of the body.
    pub records: Vec<Result<T, ValidationError>>,
    /// Unknown fields in accepted records. They are often misspelt, so a receipt should list them.
    pub warnings: Vec<ValidationError>,
}

/// Reads every record of a body with `read`, which passes unknown fields to the function that it is
/// given. An error of syntax costs only the element or the line in which it stands.
///
/// # Errors
/// If the body is empty or holds more records than `limit`.
pub(super) fn read_records<T>(
    body: &[u8],
    record: &'static str,
    limit: usize,
    read: impl Fn(&[u8], &mut dyn FnMut(ValidationError)) -> Result<T, ValidationError>,
) -> Result<ParsedBatch<T>, BodyError> {
    let mut reading = ParsedBatch { records: Vec::new(), warnings: Vec::new() };
    for (index, piece) in (0..).zip(split_records(body, record, limit)?) {
        let taken = match piece {
            FramedRecord::Complete(text, line) => read(text, &mut |warning| reading.warnings.push(warning.with_position(index, line)))
                .map_err(|fault| fault.with_position(index, line)),
            FramedRecord::Malformed(reason) => {
                Err(ValidationError::new(None, ValidationErrorCode::Syntax, format!("{reason}; the rest is not read"))
                    .with_position(index, None))
            }
        };
        reading.records.push(taken);
    }
    Ok(reading)
}
