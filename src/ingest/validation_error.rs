//! Validation errors of single events and items, for the sender.

use crate::domain::{MAX_ATTRIBUTES, VectorError};
use serde::Serialize;
use std::fmt;

/// Machine-readable error codes. This list is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ValidationErrorCode {
    /// The text is not valid JSON or CSV.
    Syntax,
    /// The text is not UTF-8.
    NotUtf8,
    /// The value has the wrong type for its field.
    WrongType,
    /// A required field or column is absent.
    Missing,
    /// An id is empty.
    Empty,
    /// An id or a line has too many bytes.
    TooLong,
    /// An id contains a control character.
    ControlCharacter,
    /// The kind of event is neither built in nor configured.
    UnknownKind,
    /// The value is NaN, infinite or out of the range of its type.
    NotFinite,
    /// The timestamp has none of the accepted formats.
    BadTimestamp,
    /// The timestamp is before 1970, or is a number that would be in 1970 and probably has another
    /// unit.
    TooEarly,
    /// The timestamp is more than a day after the time of arrival.
    TooLate,
    /// The properties have too many bytes.
    TooLarge,
    /// The properties are nested too deeply.
    TooDeep,
    /// A list has too many elements.
    TooMany,
    /// A number is out of range.
    OutOfRange,
    /// The operation on an item is not put, patch or delete.
    UnknownOp,
    /// The consent level is unknown.
    UnknownConsent,
    /// A field occurs twice.
    Repeated,
    /// The record has an unknown field. The record is accepted; this is a warning.
    UnknownField,
    /// A user id is a placeholder that many visitors share, so it is not merged.
    PlaceholderId,
}

/// A rejected event or item, or a warning about an accepted one. Serialises as an entry of the
/// receipt's `rejected` list.
///
/// Reasons never contain the id of a user, a session or an event, because they may be logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidationError {
    /// Position of the record in the request or file, from 0.
    pub index: u64,
    /// Line of the record, from 1, if the format has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The invalid field, if the error concerns one.
    pub field: Option<&'static str>,
    /// Machine-readable code.
    pub code: ValidationErrorCode,
    /// Human-readable reason.
    pub reason: String,
}

impl ValidationError {
    /// Creates an error without a position; [`ValidationError::with_position`] adds one.
    pub(super) fn new(
        field: impl Into<Option<&'static str>>,
        code: ValidationErrorCode,
        reason: impl Into<String>,
    ) -> Self {
        Self { index: 0, line: None, field: field.into(), code, reason: reason.into() }
    }

    /// Returns the error with a position.
    #[must_use]
    pub fn with_position(self, index: u64, line: Option<u64>) -> Self {
        Self { index, line, ..self }
    }
}

impl ValidationError {
    /// The error of an item change that was refused because of its vectors, without a position.
    #[must_use]
    pub fn from_vector_error(error: &VectorError) -> Self {
        let code = match error {
            VectorError::OtherDimension { .. } => ValidationErrorCode::OutOfRange,
            VectorError::TooManyNames { .. } => ValidationErrorCode::TooMany,
        };
        Self::new("vectors", code, error.to_string())
    }

    /// The error of a patch after which there would be `count` attributes, without a position.
    #[must_use]
    pub fn too_many_attributes(count: usize) -> Self {
        let reason = format!(
            "after the change of `attributes` there would be {count}; at most {MAX_ATTRIBUTES} are allowed; set others to null in the same change"
        );
        Self::new("attributes", ValidationErrorCode::TooMany, reason)
    }
}

impl fmt::Display for ValidationError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(out, "line {line}: {}", self.reason),
            None => write!(out, "event {}: {}", self.index, self.reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialises_as_documented_for_receipts() {
        let error =
            ValidationError::new("user_id", ValidationErrorCode::Empty, "`user_id` is empty").with_position(3, None);
        let json = r#"{"index":3,"field":"user_id","code":"empty","reason":"`user_id` is empty"}"#;
        assert_eq!(serde_json::to_string(&error).unwrap(), json);
        let error = ValidationError::new(None, ValidationErrorCode::NotUtf8, "not UTF-8").with_position(0, Some(1));
        assert_eq!(
            serde_json::to_string(&error).unwrap(),
            r#"{"index":0,"line":1,"field":null,"code":"not_utf8","reason":"not UTF-8"}"#
        );
        assert_eq!(error.to_string(), "line 1: not UTF-8");
    }
}
