//! Enriched events of Snowplow: tab-separated values without a header and without quotes.
//!
//! The commerce events of Snowplow's trackers are self-describing: the column `unstruct_event` holds
//! the action, and the column `contexts` holds the products.

use super::kind_names::{IGNORE, KindNames, SkippedEvents};
use super::source_event::{ConvertedRecord, SourceEvent, Validation};
use crate::domain::Timestamp;
use crate::ingest::items::parse_object;
use crate::ingest::product_fields::parse_text;
use crate::ingest::timestamp::{TimeFormat, TimeUnit};
use crate::ingest::validation::missing_field_error;
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The kinds of commerce actions and other events. The name of a structured event is `struct:` with
/// the event's action, and its item is the event's label.
pub(super) const KINDS: [(&str, &str); 31] = [
    ("product_view", "view"),
    ("list_click", "click"),
    ("add_to_cart", "cart"),
    ("remove_from_cart", "dismiss"),
    ("transaction", "purchase"),
    ("transaction_item", "purchase"),
    ("site_search", "search"),
    ("classic_transaction", IGNORE),
    ("list_view", IGNORE),
    ("checkout_step", IGNORE),
    ("refund", IGNORE),
    ("promo_view", IGNORE),
    ("promo_click", IGNORE),
    ("trns_error", IGNORE),
    ("page_view", IGNORE),
    ("page_ping", IGNORE),
    ("screen_view", IGNORE),
    ("screen_end", IGNORE),
    ("link_click", IGNORE),
    ("button_click", IGNORE),
    ("submit_form", IGNORE),
    ("focus_form", IGNORE),
    ("change_form", IGNORE),
    ("application_background", IGNORE),
    ("application_foreground", IGNORE),
    ("application_install", IGNORE),
    ("application_error", IGNORE),
    ("web_vitals", IGNORE),
    ("timing", IGNORE),
    ("social_interaction", IGNORE),
    ("consent_preferences", IGNORE),
];

/// The number of columns.
const COLUMN_COUNT: usize = 131;

/// Positions of the columns that are read, from 0.
mod column {
    pub(super) const APP_ID: usize = 0;
    pub(super) const COLLECTOR_TSTAMP: usize = 3;
    pub(super) const EVENT: usize = 5;
    pub(super) const EVENT_ID: usize = 6;
    pub(super) const USER_ID: usize = 12;
    pub(super) const DOMAIN_USERID: usize = 15;
    pub(super) const NETWORK_USERID: usize = 17;
    pub(super) const CONTEXTS: usize = 52;
    pub(super) const SE_ACTION: usize = 54;
    pub(super) const SE_LABEL: usize = 55;
    pub(super) const UNSTRUCT_EVENT: usize = 58;
    pub(super) const TI_ORDERID: usize = 67;
    pub(super) const TI_SKU: usize = 68;
    pub(super) const TI_PRICE: usize = 71;
    pub(super) const TI_QUANTITY: usize = 72;
    pub(super) const TI_CURRENCY: usize = 112;
    pub(super) const DOMAIN_SESSIONID: usize = 123;
    pub(super) const DERIVED_TSTAMP: usize = 124;
    pub(super) const EVENT_NAME: usize = 126;
    pub(super) const TRUE_TSTAMP: usize = 130;
}

/// The schemas of commerce entities, without their versions.
const ACTION_SCHEMA: &str = "com.snowplowanalytics.snowplow.ecommerce/snowplow_ecommerce_action/";
const PRODUCT_SCHEMA: &str = "com.snowplowanalytics.snowplow.ecommerce/product/";
const TRANSACTION_SCHEMA: &str = "com.snowplowanalytics.snowplow.ecommerce/transaction/";

/// One row.
struct EnrichedRow<'t>(Vec<&'t str>);

impl<'t> EnrichedRow<'t> {
    fn parse(line: &'t [u8]) -> Result<Self, ValidationError> {
        let text = std::str::from_utf8(line)
            .map_err(|_| ValidationError::new(None, ValidationErrorCode::NotUtf8, "the row is not UTF-8"))?;
        let fields: Vec<_> = text.split('\t').collect();
        if fields.len() < COLUMN_COUNT {
            let reason = format!("the row has {} columns; an enriched event has {COLUMN_COUNT}", fields.len());
            return Err(ValidationError::new(None, ValidationErrorCode::Missing, reason));
        }
        Ok(Self(fields))
    }

    /// The text of a column; `None` if it is empty.
    fn text(&self, column: usize) -> Option<&'t str> {
        self.0.get(column).copied().filter(|text| !text.is_empty())
    }

    fn json(&self, column: usize, field: &'static str) -> Result<Option<Map<String, Value>>, ValidationError> {
        let parse = |text: &str| {
            parse_object(text.as_bytes()).map_err(|mut error| {
                error.field = Some(field);
                error.reason = format!("`{field}`: {}", error.reason);
                error
            })
        };
        self.text(column).map(parse).transpose()
    }

    fn timestamp(&self) -> Result<Timestamp, ValidationError> {
        let columns = [column::TRUE_TSTAMP, column::DERIVED_TSTAMP, column::COLLECTOR_TSTAMP];
        let at = columns.into_iter().find_map(|column| self.text(column));
        let at = at.ok_or_else(|| missing_field_error("collector_tstamp"))?;
        TimeFormat::of_unit(TimeUnit::Iso8601).parse("collector_tstamp", at)
    }
}

/// Converts one enriched event.
///
/// # Errors
/// If the row lacks a field that all its events need.
pub(super) fn convert(
    line: &[u8],
    kinds: &KindNames,
    validation: Validation<'_>,
    skipped: &mut SkippedEvents,
    record: &mut ConvertedRecord,
) -> Result<(), ValidationError> {
    let row = EnrichedRow::parse(line)?;
    let unstruct = row.json(column::UNSTRUCT_EVENT, "unstruct_event")?;
    let event = unstruct.as_ref().and_then(|outer| outer.get("data"));
    let data = event.and_then(|event| event.get("data")).and_then(Value::as_object);
    let name = event_name(&row, schema_of(event), data);
    let Some(kind) = kinds.lookup(&name).kind_or_count(&name, skipped) else { return Ok(()) };
    let contexts = row.json(column::CONTEXTS, "contexts")?;
    let entities = contexts.as_ref().and_then(|outer| outer.get("data")).and_then(Value::as_array);
    let users = [column::USER_ID, column::DOMAIN_USERID, column::NETWORK_USERID];
    let user = users.into_iter().find_map(|column| row.text(column));
    let currency = data.and_then(|data| data.get("currency")).and_then(Value::as_str);
    let source = SourceEvent {
        kind,
        record_id: record_id(&row, kind, entities)?,
        user_id: user.ok_or_else(|| missing_field_error("domain_userid"))?.into(),
        session_id: row.text(column::DOMAIN_SESSIONID).map(Cow::Borrowed),
        timestamp: row.timestamp()?,
        currency: currency.or(row.text(column::TI_CURRENCY)).map(Cow::Borrowed),
        query: data.and_then(search_text).map(Cow::Owned),
    };
    let products: Vec<_> = entity_data(entities, PRODUCT_SCHEMA).cloned().collect();
    if !products.is_empty() && !source.is_search() {
        source.add_products(&products, |product| parse_text("id", product.get("id")), validation, record);
        return Ok(());
    }
    if row.text(column::EVENT) == Some("transaction_item") {
        let fields = [("price", column::TI_PRICE), ("quantity", column::TI_QUANTITY)];
        let object = fields.into_iter().filter_map(|(name, column)| Some((name.to_owned(), row.text(column)?.into())));
        return source.add_single(row.text(column::TI_SKU).map(Cow::Borrowed), &object.collect(), validation, record);
    }
    let empty = Map::new();
    let data = data.unwrap_or(&empty);
    let item = match parse_text("sku", data.get("sku"))? {
        Some(sku) => Some(sku),
        None => row.text(column::SE_LABEL).map(Cow::Borrowed),
    };
    source.add_single(item, data, validation, record)
}

/// The name of an event for the mapping of kinds.
fn event_name<'r>(row: &EnrichedRow<'r>, schema: &str, data: Option<&Map<String, Value>>) -> Cow<'r, str> {
    let action = data.and_then(|data| data.get("type")).and_then(Value::as_str);
    match (row.text(column::EVENT).unwrap_or_default(), action) {
        (_, Some(action)) if schema.contains(ACTION_SCHEMA) => Cow::Owned(action.to_owned()),
        ("transaction", _) => "classic_transaction".into(),
        ("struct", _) => format!("struct:{}", row.text(column::SE_ACTION).unwrap_or_default()).into(),
        (event, _) => row.text(column::EVENT_NAME).map_or_else(|| event.to_owned().into(), Cow::Borrowed),
    }
}

/// Identifies an event. The products of an order are identified by the order, so that an order that
/// is reported again counts once.
fn record_id(row: &EnrichedRow<'_>, kind: &str, entities: Option<&Vec<Value>>) -> Result<String, ValidationError> {
    let app = row.text(column::APP_ID).unwrap_or_default();
    let transaction = entity_data(entities, TRANSACTION_SCHEMA).next().and_then(|entity| entity.get("transaction_id"));
    if let Some(order) = parse_text("transaction_id", transaction)?.filter(|_| kind == "purchase") {
        return Ok(format!("snowplow/{app}/order/{order}"));
    }
    if let (Some(order), Some(sku)) = (row.text(column::TI_ORDERID), row.text(column::TI_SKU)) {
        return Ok(format!("snowplow/{app}/order/{order}/{sku}"));
    }
    let id = row.text(column::EVENT_ID).ok_or_else(|| missing_field_error("event_id"))?;
    Ok(format!("snowplow/{id}"))
}

fn schema_of(entity: Option<&Value>) -> &str {
    entity.and_then(|entity| entity.get("schema")).and_then(Value::as_str).unwrap_or_default()
}

/// The data of the entities with this schema.
fn entity_data<'e>(entities: Option<&'e Vec<Value>>, schema: &'static str) -> impl Iterator<Item = &'e Value> {
    let matching = entities.into_iter().flatten().filter(move |entity| schema_of(Some(entity)).contains(schema));
    matching.filter_map(|entity| entity.get("data"))
}

/// The words of a site search.
fn search_text(data: &Map<String, Value>) -> Option<String> {
    let terms: Vec<_> = data.get("terms")?.as_array()?.iter().filter_map(Value::as_str).collect();
    Some(terms.join(" "))
}
