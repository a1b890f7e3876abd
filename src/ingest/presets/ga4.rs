//! Events of Google Analytics 4, as BigQuery exports them.
//!
//! BigQuery writes integers as JSON strings. An event has its parameters in a list of names and
//! values, and its products in `items`.

use super::kind_names::{IGNORE, KindNames, SkippedEvents};
use super::source_event::{ConvertedRecord, SourceEvent, Validation, given_text};
use crate::ingest::digest::KeyedDigest;
use crate::ingest::items::parse_object;
use crate::ingest::product_fields::parse_text;
use crate::ingest::timestamp::{TimeFormat, TimeUnit};
use crate::ingest::validation::missing_field_error;
use crate::ingest::validation_error::ValidationError;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The kinds of recommended and automatically collected events.
pub(super) const KINDS: [(&str, &str); 42] = [
    ("view_item", "view"),
    ("select_item", "click"),
    ("add_to_cart", "cart"),
    ("add_to_wishlist", "like"),
    ("purchase", "purchase"),
    ("remove_from_cart", "dismiss"),
    ("search", "search"),
    ("view_search_results", "search"),
    ("share", "share"),
    ("add_payment_info", IGNORE),
    ("add_shipping_info", IGNORE),
    ("app_remove", IGNORE),
    ("app_update", IGNORE),
    ("begin_checkout", IGNORE),
    ("click", IGNORE),
    ("file_download", IGNORE),
    ("first_open", IGNORE),
    ("first_visit", IGNORE),
    ("form_start", IGNORE),
    ("form_submit", IGNORE),
    ("generate_lead", IGNORE),
    ("login", IGNORE),
    ("notification_open", IGNORE),
    ("notification_receive", IGNORE),
    ("os_update", IGNORE),
    ("page_view", IGNORE),
    ("refund", IGNORE),
    ("screen_view", IGNORE),
    ("scroll", IGNORE),
    ("select_content", IGNORE),
    ("select_promotion", IGNORE),
    ("session_start", IGNORE),
    ("sign_up", IGNORE),
    ("user_engagement", IGNORE),
    ("video_complete", IGNORE),
    ("video_progress", IGNORE),
    ("video_start", IGNORE),
    ("view_cart", IGNORE),
    ("view_item_list", IGNORE),
    ("view_promotion", IGNORE),
    ("app_exception", IGNORE),
    ("error", IGNORE),
];

/// The fields that identify an event together.
const ID_FIELDS: [&str; 8] = [
    "stream_id",
    "user_pseudo_id",
    "event_timestamp",
    "event_name",
    "event_bundle_sequence_id",
    "batch_page_id",
    "batch_ordering_id",
    "batch_event_index",
];

/// Converts one exported event.
///
/// # Errors
/// If the record lacks a field that all its events need.
pub(super) fn convert(
    text: &[u8],
    kinds: &KindNames,
    validation: Validation<'_>,
    skipped: &mut SkippedEvents,
    record: &mut ConvertedRecord,
) -> Result<(), ValidationError> {
    let event = parse_object(text)?;
    let name = parse_text("event_name", event.get("event_name"))?.ok_or_else(|| missing_field_error("event_name"))?;
    let Some(kind) = kinds.lookup(&name).kind_or_count(&name, skipped) else { return Ok(()) };
    let user = match given_text(parse_text("user_id", event.get("user_id"))?) {
        Some(user) => Some(user),
        None => parse_text("user_pseudo_id", event.get("user_pseudo_id"))?,
    };
    let at = parse_text("event_timestamp", event.get("event_timestamp"))?;
    let at = at.ok_or_else(|| missing_field_error("event_timestamp"))?;
    let source = SourceEvent {
        kind,
        record_id: record_id(&event, kind)?,
        user_id: user.ok_or_else(|| missing_field_error("user_pseudo_id"))?,
        session_id: parameter(&event, "ga_session_id"),
        timestamp: TimeFormat::of_unit(TimeUnit::Microseconds).parse("event_timestamp", &at)?,
        currency: parameter(&event, "currency"),
        query: parameter(&event, "search_term"),
    };
    match event.get("items").and_then(Value::as_array).filter(|items| !items.is_empty() && !source.is_search()) {
        Some(items) => {
            source.add_products(
                items,
                |item| Ok(given_text(parse_text("item_id", item.get("item_id"))?)),
                validation,
                record,
            );
            Ok(())
        }
        None => source.add_single(parameter(&event, "item_id"), &Map::new(), validation, record),
    }
}

/// Identifies an event. An order that is reported again, such as after a reload of its page, has the
/// same id.
fn record_id(event: &Map<String, Value>, kind: &str) -> Result<String, ValidationError> {
    let order = event.get("ecommerce").and_then(|ecommerce| ecommerce.get("transaction_id"));
    let order =
        given_text(parse_text("ecommerce.transaction_id", order)?).or_else(|| parameter(event, "transaction_id"));
    if let Some(order) = order.filter(|_| kind == "purchase") {
        return Ok(format!("ga4/order/{order}"));
    }
    let texts = ID_FIELDS.map(|field| event.get(field).map(|value| value.to_string().replace('"', "")));
    let parts = texts.each_ref().map(|text| text.as_deref().unwrap_or_default().as_bytes());
    Ok(format!("ga4/{}", KeyedDigest::hex_digest_of_parts(&[0; 16], &parts)))
}

/// The value of an event parameter as text.
fn parameter<'e>(event: &'e Map<String, Value>, name: &str) -> Option<Cow<'e, str>> {
    let parameters = event.get("event_params")?.as_array()?;
    let value =
        parameters.iter().find(|parameter| parameter.get("key").and_then(Value::as_str) == Some(name))?.get("value")?;
    let fields = ["string_value", "int_value", "double_value", "float_value"];
    given_text(fields.into_iter().find_map(|field| parse_text("event_params", value.get(field)).ok().flatten()))
}
