//! How a file of others names what an event holds, and in which unit it counts time.

use super::timestamp::{self, TimeUnit};
use super::validation::{RawEvent, missing_field};
use super::validation_error::{ValidationError, ValidationErrorCode};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// What a column, or a field, of a file may hold of an event.
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
    /// See [`Said::consent`](crate::domain::WithConsent::consent).
    Consent,
}

/// Each field, its column in CSV, its name in JSON.
const FIELDS: [(EventField, &str, &str); 8] = [
    (EventField::EventId, "event_id", "event_id"),
    (EventField::User, "user", "user_id"),
    (EventField::Session, "session", "session_id"),
    (EventField::Kind, "event", "type"),
    (EventField::Item, "item", "item_id"),
    (EventField::Value, "value", "value"),
    (EventField::Time, "timestamp", "timestamp"),
    (EventField::Consent, "consent", "consent"),
];

impl EventField {
    /// How many there are.
    pub(super) const COUNT: usize = FIELDS.len();

    /// Every field.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        FIELDS.into_iter().map(|(field, ..)| field)
    }

    /// The field that a mapping names: by its name in JSON or CSV, or in short `id` and `time`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "id" => Some(Self::EventId),
            "time" => Some(Self::Time),
            _ => FIELDS.into_iter().find(|(_, column, json)| [*column, *json].contains(&name)).map(|(field, ..)| field),
        }
    }

    fn row(self) -> (&'static str, &'static str) {
        FIELDS.get(self as usize).map_or(("", ""), |(_, column, json)| (*column, *json))
    }

    /// Its name in JSON, which is that of the event's field.
    pub(super) fn json_name(self) -> &'static str {
        self.row().1
    }
}

/// How a file names and counts what an event holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ColumnMapping {
    names: [Option<String>; EventField::COUNT],
    unit: TimeUnit,
    kind: Option<String>,
}

impl ColumnMapping {
    /// One whose timestamps have that unit, and whose events are of that kind if they name none.
    #[must_use]
    pub fn new(unit: TimeUnit, kind: Option<String>) -> Self {
        Self { unit, kind, ..Self::default() }
    }

    /// The same, with a field found under another name.
    #[must_use]
    pub fn with_column(mut self, field: EventField, name: String) -> Self {
        if let Some(slot) = self.names.get_mut(field as usize) {
            *slot = Some(name);
        }
        self
    }

    /// Whether it is the project's own.
    pub(super) fn is_native(&self) -> bool {
        *self == Self::default()
    }

    /// The column that holds a field.
    pub(super) fn column(&self, field: EventField) -> &str {
        self.mapped(field).unwrap_or(field.row().0)
    }

    /// Whether a file without such a column cannot be read.
    pub(super) fn requires(&self, field: EventField) -> bool {
        match field {
            EventField::User | EventField::Item | EventField::Time => true,
            EventField::Kind => self.kind.is_none(),
            EventField::EventId | EventField::Session | EventField::Value | EventField::Consent => self.mapped(field).is_some(),
        }
    }

    fn mapped(&self, field: EventField) -> Option<&str> {
        self.names.get(field as usize)?.as_deref()
    }

    /// An event as its file has it; `text` finds what a field holds, nothing if that is empty.
    pub(super) fn raw_event<'t>(
        &'t self,
        text: impl Fn(EventField) -> Result<Option<Cow<'t, str>>, ValidationError>,
    ) -> Result<RawEvent<'t>, ValidationError> {
        let at = text(EventField::Time)?.ok_or_else(|| missing_field("timestamp"))?;
        let value = text(EventField::Value)?;
        Ok(RawEvent {
            event_id: text(EventField::EventId)?,
            user_id: text(EventField::User)?,
            session_id: text(EventField::Session)?,
            kind: text(EventField::Kind)?.or(self.kind.as_deref().map(Cow::Borrowed)),
            item_id: text(EventField::Item)?,
            value: value.map(|text| text.parse().map_err(|_| not_a_number())).transpose()?,
            timestamp: Some(timestamp::parse_in_unit(&at, self.unit)?),
            properties: None,
            consent: text(EventField::Consent)?,
        })
    }

    /// An event as one JSON object has it under this shape's names. What is a number may stand as one or as text, and so may an id.
    pub(super) fn raw_event_from_object<'t>(&'t self, object: &'t Map<String, Value>) -> Result<RawEvent<'t>, ValidationError> {
        self.raw_event(|field| match object.get(self.mapped(field).unwrap_or(field.json_name())) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok((!text.is_empty()).then_some(Cow::Borrowed(text))),
            Some(Value::Number(number)) => Ok(Some(Cow::Owned(number.to_string()))),
            Some(_) => Err(ValidationError::new(
                field.json_name(),
                ValidationErrorCode::WrongType,
                format!("`{}` must be a string or a number", field.json_name()),
            )),
        })
    }
}

fn not_a_number() -> ValidationError {
    ValidationError::new("value", ValidationErrorCode::WrongType, "`value` must be a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_stand_in_their_order() {
        assert!(EventField::all().enumerate().all(|(place, field)| field as usize == place));
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
    fn an_object_of_others_is_read() {
        let shape = ColumnMapping::new(TimeUnit::Seconds, Some("view".to_owned()))
            .with_column(EventField::User, "visitor".to_owned())
            .with_column(EventField::Time, "ts".to_owned());
        let object = serde_json::from_str(r#"{"visitor":7,"item_id":"i","ts":"12.5","value":"3"}"#).unwrap();
        let draft = shape.raw_event_from_object(&object).unwrap();
        assert_eq!(
            (draft.user_id.as_deref(), draft.kind.as_deref(), draft.timestamp, draft.value),
            (Some("7"), Some("view"), Some(12_500), Some(3.0))
        );
        let object = serde_json::from_str(r#"{"visitor":[7],"item_id":"i","ts":12}"#).unwrap();
        assert_eq!(shape.raw_event_from_object(&object).unwrap_err().field, Some("user_id"));
    }
}
