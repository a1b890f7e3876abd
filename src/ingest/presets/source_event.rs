//! The events of one record of an analytics tool.

use crate::domain::{EventKind, Timestamp, WithConsent};
use crate::ingest::digest::KeyedDigest;
use crate::ingest::product_fields::{currency, event_value, piece_count};
use crate::ingest::validation::{RawEvent, ValidationRules};
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Longest id of a record that its event ids contain unchanged, in bytes. An index may follow.
const MAX_PLAIN_ID_BYTES: usize = 200;

/// The events of a record, and the errors of its invalid parts.
#[derive(Debug, Default, PartialEq)]
pub struct ConvertedRecord {
    /// The valid events.
    pub events: Vec<WithConsent>,
    /// The errors of the record, or of single products of the record.
    pub errors: Vec<ValidationError>,
}

/// The validation rules and the time of arrival.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validation<'r> {
    pub(super) rules: &'r ValidationRules,
    pub(super) received_at: Timestamp,
}

/// The fields that all events of one record share.
#[derive(Debug)]
pub(super) struct SourceEvent<'s> {
    /// The name of the event kind.
    pub(super) kind: &'s str,
    /// Identifies the record in its source.
    pub(super) record_id: String,
    pub(super) user_id: Cow<'s, str>,
    pub(super) session_id: Option<Cow<'s, str>>,
    pub(super) timestamp: Timestamp,
    /// The currency of products that name none.
    pub(super) currency: Option<Cow<'s, str>>,
    /// The text of a search.
    pub(super) query: Option<Cow<'s, str>>,
}

impl SourceEvent<'_> {
    /// Whether the event is a search, which needs no item.
    pub(super) fn is_search(&self) -> bool {
        self.kind == EventKind::Search.name()
    }

    /// Adds one event for each product. `item_id` finds the item id in a product. An invalid product
    /// yields an error, and the others yield events.
    pub(super) fn add_products<'p>(
        &self,
        products: &'p [Value],
        item_id: impl Fn(&'p Map<String, Value>) -> Result<Option<Cow<'p, str>>, ValidationError>,
        validation: Validation<'_>,
        record: &mut ConvertedRecord,
    ) {
        for (index, product) in products.iter().enumerate() {
            let event = match product {
                Value::Object(product) => {
                    item_id(product).and_then(|item| self.build_event(Some(index), item, product, validation))
                }
                _ => Err(ValidationError::new("products", ValidationErrorCode::WrongType, "it is not an object")),
            };
            match event {
                Ok(event) => record.events.push(event),
                Err(mut error) => {
                    error.reason = format!("product {} of the event: {}", index + 1, error.reason);
                    record.errors.push(error);
                }
            }
        }
    }

    /// Adds the only event of the record. `object` can hold price, quantity, rating and currency.
    ///
    /// # Errors
    /// The first broken rule.
    pub(super) fn add_single(
        &self,
        item_id: Option<Cow<'_, str>>,
        object: &Map<String, Value>,
        validation: Validation<'_>,
        record: &mut ConvertedRecord,
    ) -> Result<(), ValidationError> {
        record.events.push(self.build_event(None, item_id, object, validation)?);
        Ok(())
    }

    fn build_event(
        &self,
        index: Option<usize>,
        item_id: Option<Cow<'_, str>>,
        object: &Map<String, Value>,
        Validation { rules, received_at }: Validation<'_>,
    ) -> Result<WithConsent, ValidationError> {
        let id = if self.record_id.len() > MAX_PLAIN_ID_BYTES {
            KeyedDigest::hex_digest_of_parts(&[0; 16], &[self.record_id.as_bytes()])
        } else {
            self.record_id.clone()
        };
        let kind = EventKind::from_name(self.kind);
        let properties =
            self.query.as_ref().filter(|_| self.is_search()).map(|query| serde_json::json!({ "query": query }));
        let raw = RawEvent {
            event_id: Some(index.map_or(id.clone(), |index| format!("{id}/{index}")).into()),
            user_id: Some(self.user_id.clone()),
            session_id: self.session_id.clone(),
            kind: Some(self.kind.into()),
            item_id,
            value: event_value(&kind, object)?,
            timestamp: Some(self.timestamp),
            properties: properties.map(|properties| properties.to_string().into()),
            currency: currency(object).or(self.currency.as_deref().and_then(valid_currency)).map(Cow::Borrowed),
            quantity: piece_count(object),
            ..RawEvent::default()
        };
        rules.validate_event(raw, received_at)
    }
}

/// A currency code in upper case. A code in another form is left out, as it is for Segment.
fn valid_currency(code: &str) -> Option<&str> {
    (code.len() == 3 && code.bytes().all(|letter| letter.is_ascii_uppercase())).then_some(code)
}

/// A text that is neither empty nor a placeholder of Google Analytics.
pub(super) fn given_text(text: Option<Cow<'_, str>>) -> Option<Cow<'_, str>> {
    text.filter(|text| !text.trim().is_empty() && text != "(not set)" && text != "(none)")
}
