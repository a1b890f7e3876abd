//! Parses changes of users' attributes.

use super::attributes::parse_attributes;
use super::items::parse_object;
use super::validation::{missing_field_error, printable_excerpt};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::AttributesPatch;

/// Parses the body of a change of a user: an object with `attributes`.
///
/// # Errors
/// The first error.
pub fn read_user_attributes(body: &[u8]) -> Result<AttributesPatch, ValidationError> {
    let mut fields = parse_object(body)?;
    let attributes = fields.remove("attributes").ok_or_else(|| missing_field_error("attributes"))?;
    if let Some(name) = fields.keys().next() {
        let reason = format!("unknown field `{}`; a user has only `attributes`", printable_excerpt(name));
        return Err(ValidationError::new(None, ValidationErrorCode::UnknownField, reason));
    }
    parse_attributes(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_only_attributes() {
        let code = |body: &str| read_user_attributes(body.as_bytes()).unwrap_err().code;
        assert_eq!(code("{}"), ValidationErrorCode::Missing);
        assert_eq!(code(r#"{"attributes":{},"name":1}"#), ValidationErrorCode::UnknownField);
        assert_eq!(code("[]"), ValidationErrorCode::WrongType);
        let patch = read_user_attributes(br#"{"attributes":{"age":null}}"#).unwrap();
        assert_eq!(patch, AttributesPatch::Change(vec![("age".into(), None)]));
    }
}
