//! Visits of Matomo, as `Live.getLastVisitsDetails` returns them. Each visit holds a list of actions.

use super::kind_names::{IGNORE, KindNames, SkippedEvents};
use super::source_event::{ConvertedRecord, SourceEvent, Validation};
use crate::domain::Timestamp;
use crate::ingest::items::parse_object;
use crate::ingest::product_fields::parse_text;
use crate::ingest::timestamp::{TimeFormat, TimeUnit};
use crate::ingest::validation::{missing_field_error, printable_excerpt};
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The kinds of actions. An action with a product is a `productView`. The name of an event of
/// Matomo is `event:` with the event's action.
pub(super) const KINDS: [(&str, &str); 13] = [
    ("productView", "view"),
    ("ecommerceOrder", "purchase"),
    ("ecommerceAbandonedCart", "cart"),
    ("search", "search"),
    ("action", IGNORE),
    ("content", IGNORE),
    ("contentImpression", IGNORE),
    ("contentInteraction", IGNORE),
    ("download", IGNORE),
    ("goal", IGNORE),
    ("outlink", IGNORE),
    ("form", IGNORE),
    ("media", IGNORE),
];

/// The fields that all actions of a visit share.
struct Visit<'v> {
    site: Cow<'v, str>,
    id: Cow<'v, str>,
    user: Cow<'v, str>,
}

/// Converts one visit.
///
/// # Errors
/// If the visit lacks a field that all its events need.
pub(super) fn convert(
    text: &[u8],
    kinds: &KindNames,
    validation: Validation<'_>,
    skipped: &mut SkippedEvents,
    record: &mut ConvertedRecord,
) -> Result<(), ValidationError> {
    let visit = parse_object(text)?;
    if visit.get("result").and_then(Value::as_str) == Some("error") {
        let message = visit.get("message").and_then(Value::as_str).unwrap_or_default();
        let reason = format!("the file has no visits, but an error of Matomo: {}", printable_excerpt(message));
        return Err(ValidationError::new("result", ValidationErrorCode::WrongType, reason));
    }
    let id = parse_text("idVisit", visit.get("idVisit"))?.ok_or_else(|| missing_field_error("idVisit"))?;
    let user = match parse_text("userId", visit.get("userId"))? {
        Some(user) => Some(user),
        None => parse_text("visitorId", visit.get("visitorId"))?,
    };
    let shared = Visit {
        site: parse_text("idSite", visit.get("idSite"))?.unwrap_or_default(),
        id,
        user: user.ok_or_else(|| missing_field_error("visitorId"))?,
    };
    let Some(actions) = visit.get("actionDetails").and_then(Value::as_array) else {
        return Err(ValidationError::new("actionDetails", ValidationErrorCode::Missing, "`actionDetails` is missing"));
    };
    for (index, action) in actions.iter().enumerate() {
        let outcome = match action {
            Value::Object(action) => convert_action(&shared, index, action, kinds, validation, skipped, record),
            _ => Err(ValidationError::new("actionDetails", ValidationErrorCode::WrongType, "it is not an object")),
        };
        if let Err(mut error) = outcome {
            error.reason = format!("action {} of the visit: {}", index + 1, error.reason);
            record.errors.push(error);
        }
    }
    Ok(())
}

fn convert_action(
    visit: &Visit<'_>,
    index: usize,
    action: &Map<String, Value>,
    kinds: &KindNames,
    validation: Validation<'_>,
    skipped: &mut SkippedEvents,
    record: &mut ConvertedRecord,
) -> Result<(), ValidationError> {
    let name = action_name(action)?;
    let Some(kind) = kinds.lookup(&name).kind_or_count(&name, skipped) else { return Ok(()) };
    let source = SourceEvent {
        kind,
        record_id: record_id(visit, index, action)?,
        user_id: visit.user.clone(),
        session_id: Some(visit.id.clone()),
        timestamp: timestamp(action)?,
        currency: None,
        query: parse_text("siteSearchKeyword", action.get("siteSearchKeyword"))?,
    };
    if let Some(products) = action.get("itemDetails").and_then(Value::as_array) {
        source.add_products(products, |item| parse_text("itemSKU", item.get("itemSKU")), validation, record);
        return Ok(());
    }
    let item = match parse_text("productViewSku", action.get("productViewSku"))? {
        Some(sku) => Some(sku),
        None => parse_text("eventName", action.get("eventName"))?,
    };
    source.add_single(item, &Map::new(), validation, record)
}

/// The name of an action for the mapping of kinds.
fn action_name(action: &Map<String, Value>) -> Result<Cow<'_, str>, ValidationError> {
    let name = parse_text("type", action.get("type"))?.ok_or_else(|| missing_field_error("type"))?;
    if name == "event" {
        let action = parse_text("eventAction", action.get("eventAction"))?.unwrap_or_default();
        return Ok(format!("event:{action}").into());
    }
    let is_product_view = name == "action" && parse_text("productViewSku", action.get("productViewSku"))?.is_some();
    Ok(if is_product_view { "productView".into() } else { name })
}

/// Identifies an action. An order is identified by its own id. Other actions have a `pageId` that is
/// unique in Matomo's database; without it, the position in the visit identifies the action.
fn record_id(visit: &Visit<'_>, index: usize, action: &Map<String, Value>) -> Result<String, ValidationError> {
    let Visit { site, id, .. } = visit;
    if let Some(order) = parse_text("orderId", action.get("orderId"))? {
        return Ok(format!("matomo/{site}/order/{order}"));
    }
    Ok(match parse_text("pageId", action.get("pageId"))? {
        Some(page) => format!("matomo/{site}/{id}/{page}"),
        None => format!("matomo/{site}/{id}/at/{index}"),
    })
}

fn timestamp(action: &Map<String, Value>) -> Result<Timestamp, ValidationError> {
    let at = parse_text("timestamp", action.get("timestamp"))?.ok_or_else(|| missing_field_error("timestamp"))?;
    TimeFormat::of_unit(TimeUnit::Seconds).parse("timestamp", &at)
}
