//! Events of PostHog, as its batch exports write them.
//!
//! Commerce events follow Segment's specification, so the mapping of Segment's event names applies,
//! with the overrides of `[segment.events]`.

use super::kind_names::{KindNames, MappedName, SkippedEvents};
use super::source_event::{ConvertedRecord, SourceEvent, Validation};
use crate::ingest::items::parse_object;
use crate::ingest::product_fields::{item_id, parse_text};
use crate::ingest::timestamp::{TimeFormat, TimeUnit};
use crate::ingest::validation::missing_field_error;
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use serde_json::{Map, Value};
use std::borrow::Cow;

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
    let name = parse_text("event", event.get("event"))?.ok_or_else(|| missing_field_error("event"))?;
    let mapped = match kinds.lookup(&name) {
        MappedName::Unmapped => segment_kind(&name, validation),
        mapped => mapped,
    };
    let Some(kind) = mapped.kind_or_count(&name, skipped) else { return Ok(()) };
    let user = parse_text("distinct_id", event.get("distinct_id"))?;
    let at = parse_text("timestamp", event.get("timestamp"))?.ok_or_else(|| missing_field_error("timestamp"))?;
    let id = parse_text("uuid", event.get("uuid"))?.ok_or_else(|| missing_field_error("uuid"))?;
    let properties = properties(&event)?;
    let source = SourceEvent {
        kind,
        record_id: format!("posthog/{id}"),
        user_id: user.ok_or_else(|| missing_field_error("distinct_id"))?,
        session_id: parse_text("$session_id", properties.get("$session_id"))?,
        timestamp: TimeFormat::of_unit(TimeUnit::Iso8601).parse("timestamp", &at)?,
        currency: properties.get("currency").and_then(Value::as_str).map(Cow::Borrowed),
        query: parse_text("query", properties.get("query"))?,
    };
    match properties.get("products").and_then(Value::as_array).filter(|list| !list.is_empty() && !source.is_search()) {
        Some(products) => {
            source.add_products(products, item_id, validation, record);
            Ok(())
        }
        None => source.add_single(item_id(&properties)?, &properties, validation, record),
    }
}

/// The kind of an event name of Segment's specification, with spaces or underscores between words.
/// PostHog's own events, whose names begin with `$`, yield no event.
fn segment_kind<'r>(name: &str, validation: Validation<'r>) -> MappedName<'r> {
    if name.starts_with('$') {
        return MappedName::Ignored;
    }
    let names = &validation.rules.segment_events;
    match names.lookup(name).or_else(|| names.lookup(&name.replace('_', " "))) {
        Some(Some(kind)) => MappedName::Kind(kind.name()),
        Some(None) => MappedName::Ignored,
        None => MappedName::Unmapped,
    }
}

/// The properties: an object, or a text that holds the JSON of an object.
fn properties(event: &Map<String, Value>) -> Result<Cow<'_, Map<String, Value>>, ValidationError> {
    match event.get("properties") {
        None | Some(Value::Null) => Ok(Cow::Owned(Map::new())),
        Some(Value::Object(properties)) => Ok(Cow::Borrowed(properties)),
        Some(Value::String(text)) => parse_object(text.as_bytes()).map(Cow::Owned).map_err(|mut error| {
            error.field = Some("properties");
            error.reason = format!("`properties`: {}", error.reason);
            error
        }),
        Some(_) => {
            let reason = "`properties` must be an object";
            Err(ValidationError::new("properties", ValidationErrorCode::WrongType, reason))
        }
    }
}
