//! What is wrong with one event or item, said so that its sender can mend it.

use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

/// The closed set of reasons, for machines to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Code)]
pub enum ValidationErrorCode {
    /// Not JSON, or not CSV, at all.
    Syntax,
    /// Not UTF-8.
    NotUtf8,
    /// The value has another type than the field takes.
    WrongType,
    /// A required field or column is absent.
    Missing,
    /// An id of no bytes.
    Empty,
    /// An id, or a line, of too many bytes.
    TooLong,
    /// An id holds a control character.
    ControlCharacter,
    /// The kind of event is neither built in nor configured.
    UnknownKind,
    /// The value is NaN, infinite or beyond what 32 bits hold.
    NotFinite,
    /// The timestamp is in none of the accepted forms.
    BadTimestamp,
    /// The timestamp lies before 1970.
    TooEarly,
    /// The timestamp lies more than a day ahead of its arrival.
    TooLate,
    /// The properties take too many bytes.
    TooLarge,
    /// The properties are nested too deeply.
    TooDeep,
    /// A list holds too much.
    TooMany,
    /// A number is not within its range.
    OutOfRange,
    /// What is to be done with an item is neither put, patch nor delete.
    UnknownOp,
    /// How far the consent goes is said in no known way.
    UnknownConsent,
    /// A field is given twice.
    Repeated,
    /// A field that no such record has; the record is taken all the same and the fault is a warning.
    UnknownField,
}

/// One refused event or item, or one warning about one that was taken. Serialises as an entry of the receipt's `rejected` list.
///
/// Reasons never repeat an id: they may be logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Fault)]
pub struct ValidationError {
    /// Its place among those sent, from 0.
    pub index: u64,
    /// The line it stands in, from 1, where the format has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The field at fault, if one is.
    pub field: Option<&'static str>,
    /// The reason, for machines.
    pub code: ValidationErrorCode,
    /// The reason, for people.
    pub reason: String,
}

impl ValidationError {
    /// A fault whose place is told later, by [`ValidationError::with_position`].
    pub(super) fn new(field: impl Into<Option<&'static str>>, code: ValidationErrorCode, reason: impl Into<String>) -> Self {
        Self { index: 0, line: None, field: field.into(), code, reason: reason.into() }
    }

    /// The same fault at a place.
    pub(super) fn with_position(self, index: u64, line: Option<u64>) -> Self {
        Self { index, line, ..self }
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
    fn serialises_as_the_receipt_promises() {
        let fault = ValidationError::new("user_id", ValidationErrorCode::Empty, "`user_id` is empty").with_position(3, None);
        let json = r#"{"index":3,"field":"user_id","code":"empty","reason":"`user_id` is empty"}"#;
        assert_eq!(serde_json::to_string(&fault).unwrap(), json);
        let fault = ValidationError::new(None, ValidationErrorCode::NotUtf8, "not UTF-8").with_position(0, Some(1));
        assert_eq!(serde_json::to_string(&fault).unwrap(), r#"{"index":0,"line":1,"field":null,"code":"not_utf8","reason":"not UTF-8"}"#);
        assert_eq!(fault.to_string(), "line 1: not UTF-8");
    }
}
