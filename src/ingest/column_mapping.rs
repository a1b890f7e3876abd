//! Maps the field names and the time format of a foreign file to the fields of an event.

use super::number_text::{id_from_number, number_text};
use super::table_format::TableFormat;
use super::timestamp::TimeFormat;
use super::validation::{RawEvent, missing_field_error, printable_excerpt};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::Attributes;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A field of an event that a file can hold in a CSV column or JSON field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventField {
    /// See [`Event::event_id`](crate::domain::Event::event_id).
    EventId,
    /// See [`Event::user_id`](crate::domain::Event::user_id).
    User,
    /// See [`Event::session_id`](crate::domain::Event::session_id).
    Session,
    /// See [`Event::kind`](crate::domain::Event::kind).
    Kind,
    /// See [`Event::item_id`](crate::domain::Event::item_id).
    Item,
    /// See [`Event::value`](crate::domain::Event::value).
    Value,
    /// See [`Event::timestamp`](crate::domain::Event::timestamp).
    Time,
    /// See [`WithConsent::consent`](crate::domain::WithConsent::consent).
    Consent,
    /// See [`EventDetails::recommendation_id`](crate::domain::EventDetails::recommendation_id).
    Recommendation,
    /// See [`EventDetails::currency`](crate::domain::EventDetails::currency).
    Currency,
    /// See [`EventDetails::quantity`](crate::domain::EventDetails::quantity).
    Quantity,
}

/// Each field with its CSV column name and its JSON name, in the order of [`EventField`].
const EVENT_FIELD_NAMES: [(EventField, &str, &str); 11] = [
    (EventField::EventId, "event_id", "event_id"),
    (EventField::User, "user", "user_id"),
    (EventField::Session, "session", "session_id"),
    (EventField::Kind, "event", "type"),
    (EventField::Item, "item", "item_id"),
    (EventField::Value, "value", "value"),
    (EventField::Time, "timestamp", "timestamp"),
    (EventField::Consent, "consent", "consent"),
    (EventField::Recommendation, "recommendation_id", "recommendation_id"),
    (EventField::Currency, "currency", "currency"),
    (EventField::Quantity, "quantity", "quantity"),
];

impl EventField {
    /// The number of fields that an event can have.
    pub(super) const FIELD_COUNT: usize = EVENT_FIELD_NAMES.len();

    /// All fields, in the order of their discriminants.
    pub(super) fn all_in_order() -> impl Iterator<Item = Self> {
        EVENT_FIELD_NAMES.into_iter().map(|(field, ..)| field)
    }

    /// Whether the value is an id, which can be any text.
    fn is_id(self) -> bool {
        matches!(self, Self::EventId | Self::User | Self::Session | Self::Item | Self::Recommendation)
    }

    /// The field with this name in JSON or CSV; `id` and `time` are short forms.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "id" => Some(Self::EventId),
            "time" => Some(Self::Time),
            _ => EVENT_FIELD_NAMES
                .into_iter()
                .find(|(_, column, json)| [*column, *json].contains(&name))
                .map(|(field, ..)| field),
        }
    }

    fn csv_and_json_names(self) -> (&'static str, &'static str) {
        EVENT_FIELD_NAMES.get(self as usize).map_or(("", ""), |(_, column, json)| (*column, *json))
    }

    /// The name in JSON, which equals the name of the event's field.
    pub(super) fn json_name(self) -> &'static str {
        self.csv_and_json_names().1
    }
}

/// Field names, time format, table format and event kinds of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnMapping {
    names: [Option<String>; EventField::FIELD_COUNT],
    time: TimeFormat,
    table: TableFormat,
    kind: Option<String>,
    /// The event kinds, by the names that the file uses for them.
    kinds: BTreeMap<String, String>,
}

impl ColumnMapping {
    /// Creates a mapping with Sequor's field names. Events without a kind get `kind`.
    #[must_use]
    pub fn new(time: TimeFormat, kind: Option<String>) -> Self {
        Self { time, kind, ..Self::default() }
    }

    /// Maps a field to another name.
    #[must_use]
    pub fn with_column(mut self, field: EventField, name: String) -> Self {
        if let Some(slot) = self.names.get_mut(field as usize) {
            *slot = Some(name);
        }
        self
    }

    /// Sets the row format of a CSV file.
    #[must_use]
    pub fn with_table_format(mut self, table: TableFormat) -> Self {
        self.table = table;
        self
    }

    /// Maps the name of an event kind in the file to a kind of Sequor.
    #[must_use]
    pub fn with_kind_name(mut self, name: String, kind: String) -> Self {
        self.kinds.insert(name, kind);
        self
    }

    /// The row format of a CSV file.
    pub(super) fn table_format(&self) -> &TableFormat {
        &self.table
    }

    /// Whether the file uses Sequor's own field names and kinds; the time format does not matter.
    pub(super) fn is_native(&self) -> bool {
        self.kind.is_none() && self.kinds.is_empty() && self.names.iter().all(Option::is_none)
    }

    /// The format of the timestamps.
    pub(super) fn time_format(&self) -> &TimeFormat {
        &self.time
    }

    /// The CSV column of a field.
    pub(super) fn csv_column(&self, field: EventField) -> &str {
        self.mapped_name(field).unwrap_or(field.csv_and_json_names().0)
    }

    /// The name that a column of a CSV file has instead, if no column has the name of
    /// [`Self::csv_column`]: that in JSON. `None` if another column is mapped, the names are equal, or
    /// a column with this name often has another meaning (`type`, if a kind for all events is given).
    pub(super) fn other_csv_column(&self, field: EventField) -> Option<&'static str> {
        let (csv, json) = field.csv_and_json_names();
        let is_expected = self.requires_column(field) || field == EventField::Session;
        (self.mapped_name(field).is_none() && is_expected && csv != json).then_some(json)
    }

    /// Whether a file must have a column for this field.
    pub(super) fn requires_column(&self, field: EventField) -> bool {
        match field {
            EventField::User | EventField::Item | EventField::Time => true,
            EventField::Kind => self.kind.is_none(),
            EventField::EventId
            | EventField::Session
            | EventField::Value
            | EventField::Consent
            | EventField::Recommendation
            | EventField::Currency
            | EventField::Quantity => self.mapped_name(field).is_some(),
        }
    }

    /// Whether a file's column or field of this name is read. Some names are so common that they
    /// often have another meaning, so they are read only if they are mapped.
    pub(super) fn reads(&self, field: EventField) -> bool {
        let needs_mapping = matches!(field, EventField::Recommendation | EventField::Currency | EventField::Quantity);
        !needs_mapping || self.mapped_name(field).is_some()
    }

    /// The mapping of a table with these columns. A field whose name in JSON is no column, and whose
    /// name in CSV is one, gets the latter.
    ///
    /// # Errors
    /// If there is no column for a required field. The error names it and the columns.
    pub(super) fn resolved_in_table(mut self, columns: &[String]) -> Result<Self, String> {
        let has = |name: &str| columns.iter().any(|column| column == name);
        for field in EventField::all_in_order() {
            let (csv, json) = field.csv_and_json_names();
            let name = self.mapped_name(field).unwrap_or(json).to_owned();
            let first_part = name.split('.').next().unwrap_or_default();
            let is_present = has(&name) || has(first_part);
            if !is_present && self.mapped_name(field).is_none() && has(csv) {
                self = self.with_column(field, csv.to_owned());
            } else if !is_present && self.requires_column(field) {
                let short = match field {
                    EventField::Time => "time",
                    EventField::Kind => "type",
                    _ => csv,
                };
                return Err(format!(
                    "there is no column `{name}`; the columns are {}; name another one with --map {short}=NAME",
                    columns.iter().map(|column| printable_excerpt(column)).collect::<Vec<_>>().join(", ")
                ));
            }
        }
        Ok(self)
    }

    fn mapped_name(&self, field: EventField) -> Option<&str> {
        self.names.get(field as usize)?.as_deref()
    }

    fn mapped_kind<'t>(&'t self, name: Cow<'t, str>) -> Cow<'t, str> {
        self.kinds.get(name.as_ref()).map_or(name, |kind| Cow::Borrowed(kind))
    }

    /// Builds an unvalidated event. `text` returns the text of a field, or `None` if it is empty.
    pub(super) fn raw_event_from_fields<'t>(
        &'t self,
        text: impl Fn(EventField) -> Result<Option<Cow<'t, str>>, ValidationError>,
    ) -> Result<RawEvent<'t>, ValidationError> {
        let text = |field| if self.reads(field) { text(field) } else { Ok(None) };
        let at = text(EventField::Time)?.ok_or_else(|| missing_field_error("timestamp"))?;
        let number = |field: EventField| {
            text(field)?.map(|text| text.parse().map_err(|_| not_a_number_error(field.json_name()))).transpose()
        };
        Ok(RawEvent {
            event_id: text(EventField::EventId)?,
            user_id: text(EventField::User)?,
            session_id: text(EventField::Session)?,
            kind: text(EventField::Kind)?
                .map(|name| self.mapped_kind(name))
                .or(self.kind.as_deref().map(Cow::Borrowed)),
            item_id: text(EventField::Item)?,
            value: number(EventField::Value)?,
            timestamp: Some(self.time.parse("timestamp", &at)?),
            properties: None,
            consent: text(EventField::Consent)?,
            recommendation_id: text(EventField::Recommendation)?,
            currency: text(EventField::Currency)?,
            quantity: number(EventField::Quantity)?,
            context: Attributes::default(),
        })
    }

    /// Builds an unvalidated event from a JSON object. Numbers and ids can be JSON numbers or
    /// strings. If a mapped name contains dots, such as `context.user.id`, it can also be the path
    /// to a field of a nested object.
    pub(super) fn raw_event_from_object<'t>(
        &'t self,
        object: &'t Map<String, Value>,
    ) -> Result<RawEvent<'t>, ValidationError> {
        let event = self.raw_event_from_fields(|field| {
            match lookup_path(object, self.mapped_name(field).unwrap_or(field.json_name())) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok((!text.is_empty()).then_some(Cow::Borrowed(text))),
                Some(Value::Number(number)) if field.is_id() => {
                    Ok(Some(Cow::Owned(id_from_number(field.json_name(), number)?)))
                }
                Some(Value::Number(number)) => Ok(Some(Cow::Owned(number_text(number)))),
                Some(_) => Err(ValidationError::new(
                    field.json_name(),
                    ValidationErrorCode::WrongType,
                    format!("`{}` must be a string or a number", field.json_name()),
                )),
            }
        })?;
        let properties = object.get("properties").filter(|properties| properties.is_object());
        Ok(RawEvent { properties: properties.map(|properties| Cow::Owned(properties.to_string())), ..event })
    }
}

/// The member with this name, or at this path of names separated by dots.
fn lookup_path<'o>(object: &'o Map<String, Value>, name: &str) -> Option<&'o Value> {
    object.get(name).or_else(|| {
        let (first, rest) = name.split_once('.')?;
        lookup_path(object.get(first)?.as_object()?, rest)
    })
}

fn not_a_number_error(field: &'static str) -> ValidationError {
    ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::TimeUnit;

    #[test]
    fn field_table_follows_the_enum_order() {
        assert!(EventField::all_in_order().enumerate().all(|(index, field)| field as usize == index));
        assert_eq!(
            ["time", "user_id", "user", "event", "type", "id", "colour"].map(EventField::from_name),
            [
                Some(EventField::Time),
                Some(EventField::User),
                Some(EventField::User),
                Some(EventField::Kind),
                Some(EventField::Kind),
                Some(EventField::EventId),
                None
            ]
        );
    }

    #[test]
    fn reads_an_object_with_foreign_field_names() {
        let mapping = ColumnMapping::new(TimeFormat::new(TimeUnit::Seconds, None).unwrap(), Some("view".to_owned()))
            .with_column(EventField::User, "visitor".to_owned())
            .with_column(EventField::Time, "ts".to_owned());
        let object = serde_json::from_str(r#"{"visitor":7,"item_id":"i","ts":"12.5","value":"3"}"#).unwrap();
        let raw = mapping.raw_event_from_object(&object).unwrap();
        assert_eq!(
            (raw.user_id.as_deref(), raw.kind.as_deref(), raw.timestamp, raw.value),
            (Some("7"), Some("view"), Some(12_500), Some(3.0))
        );
        let mapping = mapping
            .with_column(EventField::User, "who.id".to_owned())
            .with_kind_name("addtocart".to_owned(), "cart".to_owned());
        let object =
            serde_json::from_str(r#"{"who":{"id":"v"},"type":"addtocart","item_id":"i","ts":12,"properties":{"a":1}}"#)
                .unwrap();
        let raw = mapping.raw_event_from_object(&object).unwrap();
        assert_eq!(
            (raw.user_id.as_deref(), raw.kind.as_deref(), raw.properties.as_deref()),
            (Some("v"), Some("cart"), Some(r#"{"a":1}"#))
        );
        let mapping = mapping.with_column(EventField::User, "visitor".to_owned());
        let object = serde_json::from_str(r#"{"visitor":7.0,"item_id":2.5,"ts":12.0,"type":"view"}"#).unwrap();
        let raw = mapping.raw_event_from_object(&object).unwrap();
        assert_eq!(
            (raw.user_id.as_deref(), raw.item_id.as_deref(), raw.timestamp),
            (Some("7"), Some("2.5"), Some(12_000))
        );
        for number in ["18446744073709551616", "9007199254740993.0", "1e20"] {
            let object = serde_json::from_str(&format!(r#"{{"visitor":{number},"item_id":"i","ts":12}}"#)).unwrap();
            assert_eq!(mapping.raw_event_from_object(&object).unwrap_err().field, Some("user_id"), "{number}");
        }
        let object = serde_json::from_str(r#"{"visitor":[7],"item_id":"i","ts":12}"#).unwrap();
        assert_eq!(mapping.raw_event_from_object(&object).unwrap_err().field, Some("user_id"));
    }
}
