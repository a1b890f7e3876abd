//! Changes of the catalog as JSON: an item's attributes, or many items at once.

use super::framing::BodyError;
use super::record_batch::{ParsedBatch, read_records};
use super::timestamp;
use super::validation::{excerpt, missing_field, validate_id};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Item, ItemChange, ItemOperation, ItemPatch, Timestamp};
use serde_json::{Map, Value};

/// The most categories of one item.
pub const MAX_CATEGORIES: usize = 16;
/// The most tags of one item.
pub const MAX_TAGS: usize = 64;

/// Reads the attributes of one item: what it is from now on. A `null` is as good as nothing.
///
/// # Errors
/// The first fault, without a place.
pub fn read_item(text: &[u8], warn: &mut dyn FnMut(ValidationError)) -> Result<ItemOperation, ValidationError> {
    put(attributes(parse_object(text)?, warn)?)
}

/// Reads a change of some attributes of one item, as a JSON merge patch (RFC 7396): what is absent stays, a `null` takes away.
///
/// # Errors
/// The first fault, without a place.
pub fn read_item_patch(text: &[u8], warn: &mut dyn FnMut(ValidationError)) -> Result<ItemOperation, ValidationError> {
    attributes(parse_object(text)?, warn).map(ItemOperation::Patch)
}

/// Reads the body of a request that changes many items: one JSON object, an array of them, or one a line. Each names its `item_id`, its attributes, and, in `op`,
/// whether these are put (if it says nothing), patched, or the item deleted. A fault costs only the object that it stands in.
///
/// # Errors
/// If the body is empty or holds more than `limit` changes; then nothing is taken.
pub fn read_items(body: &[u8], limit: usize, received_at: Timestamp) -> Result<ParsedBatch<ItemChange>, BodyError> {
    read_records(body, "item", limit, |text, warn| read_change(text, received_at, warn))
}

/// Holds an id, as it stands in a path or a query, against the rules.
///
/// # Errors
/// If it breaks one.
pub fn check_id(field: &'static str, text: String) -> Result<String, ValidationError> {
    validate_id(field, text.into())
}

fn read_change(text: &[u8], received_at: Timestamp, warn: &mut dyn FnMut(ValidationError)) -> Result<ItemChange, ValidationError> {
    item_change_from_object(parse_object(text)?, received_at, warn)
}

/// Reads an object as a change of an item.
///
/// # Errors
/// The first fault, without a place.
pub(super) fn item_change_from_object(
    mut fields: Map<String, Value>,
    received_at: Timestamp,
    warn: &mut dyn FnMut(ValidationError),
) -> Result<ItemChange, ValidationError> {
    exported(&mut fields)?;
    let item_id = validate_id(
        "item_id",
        string("item_id", fields.remove("item_id").unwrap_or_default())?.ok_or_else(|| missing_field("item_id"))?.into(),
    )?;
    let op = string("op", fields.remove("op").unwrap_or_default())?;
    let patch = attributes(fields, warn)?;
    let act = match op.as_deref() {
        None | Some("put") => put(patch)?,
        Some("patch") => ItemOperation::Patch(patch),
        Some("delete") => ItemOperation::Delete,
        Some(other) => {
            let reason = format!("`op` is `{}`, which is unknown; known are put, patch, delete", excerpt(other));
            return Err(ValidationError::new("op", ValidationErrorCode::UnknownOp, reason));
        }
    };
    Ok(ItemChange { item_id, timestamp: received_at, operation: act })
}

/// Takes out what an export adds to a change: what it is, where it stood, and when it arrived.
fn exported(fields: &mut Map<String, Value>) -> Result<(), ValidationError> {
    let Some(entry) = string("entry", fields.remove("entry").unwrap_or_default())? else { return Ok(()) };
    if entry != "item" {
        let reason = format!("this is an exported `{}`, not an item; events go to /v1/events, anything else nowhere", excerpt(&entry));
        return Err(ValidationError::new("entry", ValidationErrorCode::WrongType, reason));
    }
    fields.remove("offset");
    fields.remove("timestamp");
    Ok(())
}

fn put(patch: ItemPatch) -> Result<ItemOperation, ValidationError> {
    let mut item = Item::default();
    patch.apply(&mut item);
    Ok(ItemOperation::Put(item))
}

/// Reads a text as an object.
///
/// # Errors
/// If it is none.
pub(super) fn parse_object(text: &[u8]) -> Result<Map<String, Value>, ValidationError> {
    let text =
        std::str::from_utf8(text).map_err(|_| ValidationError::new(None, ValidationErrorCode::NotUtf8, "the record is not UTF-8"))?;
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(ValidationError::new(None, ValidationErrorCode::WrongType, "the record is no JSON object")),
        Err(error) => Err(ValidationError::new(None, ValidationErrorCode::Syntax, format!("not JSON: {error}"))),
    }
}

fn attributes(fields: Map<String, Value>, warn: &mut dyn FnMut(ValidationError)) -> Result<ItemPatch, ValidationError> {
    let mut patch = ItemPatch::default();
    for (name, value) in fields {
        match name.as_str() {
            "categories" => patch.categories = Some(list("categories", value, MAX_CATEGORIES)?),
            "brand" => patch.brand = Some(string("brand", value)?.map(|brand| validate_id("brand", brand.into())).transpose()?),
            "price" => patch.price = Some(price(&value)?),
            "tags" => patch.tags = Some(list("tags", value, MAX_TAGS)?),
            "available" => patch.available = Some(available(&value)?),
            "published" => patch.published = Some(point_in_time("published", &value)?),
            "expires" => patch.expires = Some(point_in_time("expires", &value)?),
            other => {
                warn(ValidationError::new(None, ValidationErrorCode::UnknownField, format!("an item has no field `{}`", excerpt(other))))
            }
        }
    }
    Ok(patch)
}

fn wrong_type(field: &'static str, wanted: &str) -> ValidationError {
    ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be {wanted}"))
}

fn string(field: &'static str, value: Value) -> Result<Option<String>, ValidationError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(wrong_type(field, "a string")),
    }
}

/// A list of names, each once.
fn list(field: &'static str, value: Value, most: usize) -> Result<Vec<String>, ValidationError> {
    let values = match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values,
        _ => return Err(wrong_type(field, "a list of strings")),
    };
    if values.len() > most {
        return Err(ValidationError::new(
            field,
            ValidationErrorCode::TooMany,
            format!("`{field}` holds {}; at most {most} are allowed", values.len()),
        ));
    }
    let mut names: Vec<String> = Vec::with_capacity(values.len());
    for value in values {
        let Value::String(name) = value else { return Err(wrong_type(field, "a list of strings")) };
        let name = validate_id(field, name.into())?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn price(value: &Value) -> Result<Option<f64>, ValidationError> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => match number.as_f64().filter(|price| price.is_finite()) {
            Some(price) if price >= 0.0 => Ok(Some(price)),
            Some(_) => Err(ValidationError::new("price", ValidationErrorCode::OutOfRange, "`price` is negative")),
            None => Err(ValidationError::new("price", ValidationErrorCode::NotFinite, "`price` is not a finite number")),
        },
        _ => Err(wrong_type("price", "a number")),
    }
}

fn available(value: &Value) -> Result<bool, ValidationError> {
    match value {
        Value::Null => Ok(true),
        Value::Bool(available) => Ok(*available),
        _ => Err(wrong_type("available", "true or false")),
    }
}

fn point_in_time(field: &'static str, value: &Value) -> Result<Option<Timestamp>, ValidationError> {
    let unreadable = || {
        ValidationError::new(
            field,
            ValidationErrorCode::BadTimestamp,
            format!("`{field}` is neither an RFC 3339 date and time with an offset nor milliseconds since 1970"),
        )
    };
    let at = match value {
        Value::Null => return Ok(None),
        Value::String(text) => timestamp::from_rfc3339(text).map_err(|_| unreadable())?,
        Value::Number(number) => timestamp::from_milliseconds(&number.to_string()).map_err(|_| unreadable())?,
        _ => return Err(unreadable()),
    };
    if at < 0 {
        Err(ValidationError::new(field, ValidationErrorCode::TooEarly, format!("`{field}` lies before 1970")))
    } else {
        Ok(Some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(text: &str) -> (Option<&'static str>, ValidationErrorCode) {
        let fault = read_item(text.as_bytes(), &mut |_| {}).unwrap_err();
        (fault.field, fault.code)
    }

    #[test]
    fn a_price_is_the_number_that_was_written() {
        // Found by mutated inputs: read a last place off, it was another number when it was written again.
        let read = read_item(br#"{"price":3901267362473246491.5}"#, &mut |_| {}).unwrap();
        assert_eq!(read, ItemOperation::Put(Item { price: Some(3_901_267_362_473_246_491.5), ..Item::default() }));
    }

    #[test]
    fn reads_every_attribute() {
        let text = r#"{"categories":["tea","green","tea"],"brand":"b","price":2.5,"tags":["new"],"available":false,
            "published":"2014-04-01T01:15:41Z","expires":1396314942000}"#;
        let item = Item {
            categories: vec!["tea".to_owned(), "green".to_owned()],
            brand: Some("b".to_owned()),
            price: Some(2.5),
            tags: vec!["new".to_owned()],
            available: false,
            published: Some(1_396_314_941_000),
            expires: Some(1_396_314_942_000),
        };
        assert_eq!(read_item(text.as_bytes(), &mut |_| {}), Ok(ItemOperation::Put(item)));
        assert_eq!(read_item(b"{}", &mut |_| {}), Ok(ItemOperation::Put(Item::default())));
    }

    #[test]
    fn a_null_in_a_patch_takes_away() {
        let patch = ItemPatch { brand: Some(None), price: Some(Some(3.0)), tags: Some(Vec::new()), ..ItemPatch::default() };
        assert_eq!(read_item_patch(br#"{"brand":null,"price":3,"tags":null}"#, &mut |_| {}), Ok(ItemOperation::Patch(patch)));
    }

    #[test]
    fn every_bad_attribute_is_named() {
        let long = "x".repeat(257);
        assert_eq!(fault("[]"), (None, ValidationErrorCode::WrongType));
        assert_eq!(fault("{"), (None, ValidationErrorCode::Syntax));
        assert_eq!(fault(r#"{"categories":"tea"}"#), (Some("categories"), ValidationErrorCode::WrongType));
        assert_eq!(fault(r#"{"categories":[1]}"#), (Some("categories"), ValidationErrorCode::WrongType));
        assert_eq!(fault(r#"{"tags":[""]}"#), (Some("tags"), ValidationErrorCode::Empty));
        assert_eq!(fault(&serde_json::json!({ "tags": vec!["t"; 65] }).to_string()), (Some("tags"), ValidationErrorCode::TooMany));
        assert_eq!(fault(&format!(r#"{{"brand":"{long}"}}"#)), (Some("brand"), ValidationErrorCode::TooLong));
        assert_eq!(fault(r#"{"brand":"a\u0000"}"#), (Some("brand"), ValidationErrorCode::ControlCharacter));
        assert_eq!(fault(r#"{"price":"2"}"#), (Some("price"), ValidationErrorCode::WrongType));
        assert_eq!(fault(r#"{"price":-0.1}"#), (Some("price"), ValidationErrorCode::OutOfRange));
        assert_eq!(fault(r#"{"available":1}"#), (Some("available"), ValidationErrorCode::WrongType));
        assert_eq!(fault(r#"{"expires":"soon"}"#), (Some("expires"), ValidationErrorCode::BadTimestamp));
        assert_eq!(fault(r#"{"published":-1}"#), (Some("published"), ValidationErrorCode::TooEarly));
    }

    #[test]
    fn many_items_are_read_line_by_line() {
        let body = concat!(
            "{\"item_id\":\"a\",\"price\":1}\n",
            "{\"item_id\":\"b\",\"op\":\"patch\",\"colour\":\"red\"}\nnope\n",
            "{\"item_id\":\"c\",\"op\":\"delete\"}\n{\"op\":\"put\"}\n{\"item_id\":\"d\",\"op\":\"drop\"}",
        );
        let reading = read_items(body.as_bytes(), 10, 7).unwrap();
        let taken: Vec<_> = reading.records.iter().flatten().map(|change| (change.item_id.as_str(), change.timestamp)).collect();
        assert_eq!(taken, [("a", 7), ("b", 7), ("c", 7)]);
        let faults: Vec<_> =
            reading.records.iter().filter_map(|change| change.as_ref().err()).map(|fault| (fault.line, fault.code)).collect();
        assert_eq!(
            faults,
            [(Some(3), ValidationErrorCode::Syntax), (Some(5), ValidationErrorCode::Missing), (Some(6), ValidationErrorCode::UnknownOp)]
        );
        assert_eq!(
            reading.warnings.iter().map(|warning| (warning.line, warning.code)).collect::<Vec<_>>(),
            [(Some(2), ValidationErrorCode::UnknownField)]
        );
        assert_eq!(read_items(body.as_bytes(), 5, 7), Err(BodyError::TooMany { record: "item", records: 6, limit: 5 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_items(&body, 100, 0);
            let _ = read_item_patch(&body, &mut |_| {});
        }
    }
}
