//! Parses free attributes and contexts from JSON.

use super::validation::printable_excerpt;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{
    AttributeValue, Attributes, AttributesPatch, MAX_ATTRIBUTE_LIST_LEN, MAX_ATTRIBUTE_NAME_BYTES,
    MAX_ATTRIBUTE_TEXT_BYTES, MAX_ATTRIBUTES, MAX_CONTEXT_TEXT_BYTES, MAX_CONTEXT_VALUES,
};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The limits on the values of an object of named values.
struct ValueLimits {
    /// The field of the object, for errors.
    field: &'static str,
    values: usize,
    text_bytes: usize,
    allows_lists: bool,
}

const ATTRIBUTE_LIMITS: ValueLimits = ValueLimits {
    field: "attributes",
    values: MAX_ATTRIBUTES,
    text_bytes: MAX_ATTRIBUTE_TEXT_BYTES,
    allows_lists: true,
};
const CONTEXT_LIMITS: ValueLimits = ValueLimits {
    field: "context",
    values: MAX_CONTEXT_VALUES,
    text_bytes: MAX_CONTEXT_TEXT_BYTES,
    allows_lists: false,
};

/// Parses a change of free attributes: values by name. A `null` removes the attribute of a name, or
/// all attributes.
///
/// # Errors
/// The first error; the caller adds the position of the record.
pub(super) fn parse_attributes(value: Value) -> Result<AttributesPatch, ValidationError> {
    if value.is_null() {
        return Ok(AttributesPatch::RemoveAll);
    }
    let named = ATTRIBUTE_LIMITS.check_object(value)?.into_iter();
    let change = named.map(|(name, value)| {
        let value = (!value.is_null()).then(|| ATTRIBUTE_LIMITS.parse_value(&name, value)).transpose()?;
        Ok((name.into(), value))
    });
    change.collect::<Result<_, _>>().map(AttributesPatch::Change)
}

/// Parses the context of an event or a request: values by name, without lists. A `null` equals an
/// absent value.
///
/// # Errors
/// The first error; the caller adds the position of the record.
pub fn parse_context(value: Value) -> Result<Attributes, ValidationError> {
    if value.is_null() {
        return Ok(Attributes::default());
    }
    let named = CONTEXT_LIMITS.check_object(value)?.into_iter().filter(|(_, value)| !value.is_null());
    let values = named.map(|(name, value)| {
        let value = CONTEXT_LIMITS.parse_value(&name, value)?;
        Ok((name.into(), value))
    });
    values.collect::<Result<Vec<_>, _>>().map(Attributes::from_values)
}

/// Adds a value from a query parameter to a context. `true`, `false` and numbers become booleans
/// and numbers; every other value is a text.
///
/// # Errors
/// If the name occurs twice, or the name, the value or the number of values is out of range.
pub fn with_context_parameter(context: &Attributes, name: &str, text: &str) -> Result<Attributes, ValidationError> {
    if context.get(name).is_some() {
        let reason = format!("`context.{name}` occurs twice");
        return Err(ValidationError::new("context", ValidationErrorCode::Repeated, reason));
    }
    CONTEXT_LIMITS.check_count(context.len() + 1)?;
    let typed = match serde_json::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::from(text),
    };
    let added = parse_context(Value::Object(Map::from_iter([(name.to_owned(), typed)])))?;
    Ok(context.merged_with(&added))
}

/// Parses a text of an item: at most `limit` bytes, without control characters.
///
/// # Errors
/// The first broken rule.
pub(super) fn parse_bounded_text(field: &'static str, text: &str, limit: usize) -> Result<Arc<str>, ValidationError> {
    check_text(field, field, text, limit)
}

fn check_text(field: &'static str, place: &str, text: &str, limit: usize) -> Result<Arc<str>, ValidationError> {
    if text.len() > limit {
        let reason = format!("`{place}` has {} bytes; at most {limit} are allowed", text.len());
        return Err(ValidationError::new(field, ValidationErrorCode::TooLong, reason));
    }
    if text.chars().any(char::is_control) {
        let reason = format!("`{place}` contains a control character");
        return Err(ValidationError::new(field, ValidationErrorCode::ControlCharacter, reason));
    }
    Ok(Arc::from(text))
}

/// Whether a name has the form `[a-z][a-z0-9_]*`, and at most [`MAX_ATTRIBUTE_NAME_BYTES`].
fn is_attribute_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= MAX_ATTRIBUTE_NAME_BYTES
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && name.bytes().all(is_inner)
}

impl ValueLimits {
    fn error(&self, code: ValidationErrorCode, reason: impl Into<String>) -> ValidationError {
        ValidationError::new(self.field, code, reason)
    }

    fn check_count(&self, count: usize) -> Result<(), ValidationError> {
        if count <= self.values {
            return Ok(());
        }
        let reason = format!("`{}` has {count} names; at most {} are allowed", self.field, self.values);
        Err(self.error(ValidationErrorCode::TooMany, reason))
    }

    /// The members of an object, with valid names.
    fn check_object(&self, value: Value) -> Result<Map<String, Value>, ValidationError> {
        let field = self.field;
        let Value::Object(named) = value else {
            let reason = format!("`{field}` must be an object of values by name, such as {{\"size\": 42}}");
            return Err(self.error(ValidationErrorCode::WrongType, reason));
        };
        self.check_count(named.len())?;
        if let Some(name) = named.keys().find(|name| !is_attribute_name(name)) {
            let reason = format!(
                "`{field}` has the name `{}`; a name begins with a-z, and consists of at most {MAX_ATTRIBUTE_NAME_BYTES} \
                 characters a-z, 0-9 and _",
                printable_excerpt(name)
            );
            return Err(self.error(ValidationErrorCode::OutOfRange, reason));
        }
        Ok(named)
    }

    fn parse_value(&self, name: &str, value: Value) -> Result<AttributeValue, ValidationError> {
        match value {
            Value::String(text) => Ok(AttributeValue::Text(self.parse_text(name, &text)?)),
            Value::Bool(boolean) => Ok(AttributeValue::Boolean(boolean)),
            Value::Number(_) => self.parse_number(name, &value).map(AttributeValue::Number),
            Value::Array(elements) if self.allows_lists => self.parse_list(name, &elements),
            _ => Err(self.wrong_type_error(name)),
        }
    }

    fn parse_list(&self, name: &str, elements: &[Value]) -> Result<AttributeValue, ValidationError> {
        if elements.len() > MAX_ATTRIBUTE_LIST_LEN {
            let (field, count) = (self.field, elements.len());
            let reason = format!("`{field}.{name}` has {count} elements; at most {MAX_ATTRIBUTE_LIST_LEN} are allowed");
            return Err(self.error(ValidationErrorCode::TooMany, reason));
        }
        if elements.first().is_some_and(Value::is_number) {
            let numbers = elements.iter().map(|element| self.parse_number(name, element));
            return numbers.collect::<Result<_, _>>().map(AttributeValue::Numbers);
        }
        let texts = elements.iter().map(|element| match element {
            Value::String(text) => self.parse_text(name, text),
            _ => Err(self.wrong_type_error(name)),
        });
        texts.collect::<Result<_, _>>().map(AttributeValue::Texts)
    }

    fn parse_text(&self, name: &str, text: &str) -> Result<Arc<str>, ValidationError> {
        check_text(self.field, &format!("{}.{name}", self.field), text, self.text_bytes)
    }

    fn parse_number(&self, name: &str, value: &Value) -> Result<f64, ValidationError> {
        value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| self.wrong_type_error(name))
    }

    fn wrong_type_error(&self, name: &str) -> ValidationError {
        let lists = if self.allows_lists { ", or a list of texts or of numbers" } else { "" };
        let reason = format!("`{}.{name}` must be a text, a number, true or false{lists}", self.field);
        self.error(ValidationErrorCode::WrongType, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::AttributeView;
    use serde_json::json;

    #[test]
    fn reads_every_type_of_value() {
        let value = json!({ "a": "text", "b": 2.5, "c": true, "d": ["x", "y"], "e": [1, 2.5], "f": null, "g": [] });
        let AttributesPatch::Change(changes) = parse_attributes(value).unwrap() else { panic!() };
        assert!(changes.iter().any(|(name, value)| &**name == "f" && value.is_none()));
        let attributes = Attributes::default().patched(&AttributesPatch::Change(changes));
        let json = serde_json::to_value(attributes.views()).unwrap();
        assert_eq!(json, json!({ "a": "text", "b": 2.5, "c": true, "d": ["x", "y"], "e": [1.0, 2.5], "g": [] }));
        assert_eq!(parse_attributes(Value::Null), Ok(AttributesPatch::RemoveAll));
    }

    #[test]
    fn names_the_limit_of_every_bad_value() {
        let long = "x".repeat(257);
        let many: Map<_, _> = (0..10_000).map(|number| (format!("a{number}"), json!(1))).collect();
        for (value, code, reason) in [
            (json!([1]), ValidationErrorCode::WrongType, "`attributes` must be an object"),
            (Value::Object(many), ValidationErrorCode::TooMany, "`attributes` has 10000 names; at most 64 are allowed"),
            (json!({ "Size": 1 }), ValidationErrorCode::OutOfRange, "`attributes` has the name `Size`; a name begins"),
            (json!({ "": 1 }), ValidationErrorCode::OutOfRange, "has the name ``"),
            (json!({ "1a": 1 }), ValidationErrorCode::OutOfRange, "has the name `1a`"),
            (json!({ "a": { "b": 1 } }), ValidationErrorCode::WrongType, "`attributes.a` must be a text, a number"),
            (json!({ "a": [1, "b"] }), ValidationErrorCode::WrongType, "`attributes.a` must be"),
            (json!({ "a": ["b", 1] }), ValidationErrorCode::WrongType, "`attributes.a` must be"),
            (json!({ "a": [[]] }), ValidationErrorCode::WrongType, "`attributes.a` must be"),
            (json!({ "a": vec![1; 33] }), ValidationErrorCode::TooMany, "has 33 elements; at most 32 are allowed"),
            (json!({ "a": long }), ValidationErrorCode::TooLong, "has 257 bytes; at most 256 are allowed"),
            (json!({ "a": "\u{7}" }), ValidationErrorCode::ControlCharacter, "`attributes.a` contains"),
        ] {
            let error = parse_attributes(value).unwrap_err();
            assert_eq!((error.field, error.code), (Some("attributes"), code), "{}", error.reason);
            assert!(error.reason.contains(reason), "{}", error.reason);
        }
    }

    #[test]
    fn a_context_is_small_and_without_lists() {
        let context =
            parse_context(json!({ "device": "phone", "max_price": 9.5, "guest": true, "none": null })).unwrap();
        assert_eq!((context.len(), context.get("device")), (3, Some(AttributeView::Text("phone"))));
        let nine: Map<_, _> = (0..9).map(|number| (format!("a{number}"), json!(1))).collect();
        for value in [json!({ "a": [1] }), json!({ "a": "x".repeat(65) }), Value::Object(nine), json!("phone")] {
            assert_eq!(parse_context(value).unwrap_err().field, Some("context"));
        }
    }

    #[test]
    fn a_query_has_typed_values() {
        let pairs = [("a", "1.5"), ("b", "true"), ("c", "phone"), ("d", "[1]"), ("e", "\"x\""), ("f", "nan")];
        let mut context = Attributes::default();
        for (name, text) in pairs {
            context = with_context_parameter(&context, name, text).unwrap();
        }
        let json = serde_json::to_value(context.views()).unwrap();
        assert_eq!(json, json!({ "a": 1.5, "b": true, "c": "phone", "d": "[1]", "e": "\"x\"", "f": "nan" }));
        assert_eq!(with_context_parameter(&context, "a", "2").unwrap_err().code, ValidationErrorCode::Repeated);
        assert_eq!(with_context_parameter(&context, "A", "2").unwrap_err().code, ValidationErrorCode::OutOfRange);
        for name in ["g", "h"] {
            context = with_context_parameter(&context, name, "1").unwrap();
        }
        assert_eq!(with_context_parameter(&context, "i", "1").unwrap_err().code, ValidationErrorCode::TooMany);
    }
}
