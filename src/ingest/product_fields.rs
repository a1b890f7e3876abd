//! Fields of products in the messages of tracking tools: item id, price, quantity and currency.

use super::number_text::id_from_number;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{EventDetails, EventKind};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Properties that can hold an item id; the first one that is present is used.
const ITEM_ID_PROPERTIES: [&str; 5] = ["product_id", "sku", "id", "asset_id", "article_id"];

/// The text of a field. Numbers are accepted, because sites use them as ids. An empty text is
/// `None`.
///
/// # Errors
/// If the value is neither, or a number that is not exact.
pub(super) fn parse_text<'v>(
    field: &'static str,
    value: Option<&'v Value>,
) -> Result<Option<Cow<'v, str>>, ValidationError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then(|| text.as_str().into())),
        Some(Value::Number(number)) => Ok(Some(id_from_number(field, number)?.into())),
        Some(_) => {
            Err(ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be a string")))
        }
    }
}

/// The first of [`ITEM_ID_PROPERTIES`] that is present.
pub(super) fn item_id(object: &Map<String, Value>) -> Result<Option<Cow<'_, str>>, ValidationError> {
    for field in ITEM_ID_PROPERTIES {
        if let Some(id) = parse_text(field, object.get(field))? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The value of an event: the rating, or the price of a purchase. If the quantity is not a number
/// of pieces that the event keeps, the value is price times quantity. A negative quantity in a
/// cart, or of a purchase without price, is itself the value, so that the event is a dismissal.
/// Other events carry no value and get the default value of their kind.
pub(super) fn event_value(kind: &EventKind, object: &Map<String, Value>) -> Result<Option<f64>, ValidationError> {
    match kind {
        EventKind::Rate => parse_number("rating", object.get("rating")),
        EventKind::Purchase | EventKind::Cart => {
            let quantity = parse_number("quantity", object.get("quantity"))?.unwrap_or(1.0);
            let price = parse_number("price", object.get("price"))?.filter(|_| *kind == EventKind::Purchase);
            let factor = if piece_count(object).is_some() { 1.0 } else { quantity };
            Ok(price.map(|price| price * factor).or((quantity < 0.0).then_some(quantity)))
        }
        _ => Ok(None),
    }
}

/// The currency, if it is a valid code. Sites choose it for all destinations of Segment, so a code
/// in another form is ignored.
pub(super) fn currency(object: &Map<String, Value>) -> Option<&str> {
    let code = object.get("currency")?.as_str()?;
    (code.len() == 3 && code.bytes().all(|letter| letter.is_ascii_uppercase())).then_some(code)
}

/// The number of pieces, if it is a valid quantity. A negative quantity makes the event a dismissal.
pub(super) fn piece_count(object: &Map<String, Value>) -> Option<f64> {
    let quantity = parse_number("quantity", object.get("quantity")).ok().flatten()?;
    let is_valid = quantity.fract() == 0.0 && (1.0..=f64::from(EventDetails::MAX_QUANTITY)).contains(&quantity);
    is_valid.then_some(quantity)
}

/// Parses a JSON number, or a string that holds a number.
pub(super) fn parse_number(field: &'static str, value: Option<&Value>) -> Result<Option<f64>, ValidationError> {
    let wrong_type =
        || ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be a number"));
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_f64().ok_or_else(wrong_type).map(Some),
        Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| wrong_type()),
        Some(_) => Err(wrong_type()),
    }
}
