//! The one rule set that every outside format meets.

use super::pseudonymiser::{IdKind, Pseudonymiser};
use super::segment::SegmentEventMapping;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Consent, ConsentChange, Event, EventKind, EventKinds, Timestamp, UserMerge, WithConsent};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest id (`event_id`, `user_id`, `session_id`, `item_id`), in bytes: long enough for a URL-like key, short enough to be a store key.
pub const MAX_ID_BYTES: usize = 256;

/// How far ahead of its arrival an event may be dated, in milliseconds: a day covers every wrong time zone, not a wrong century.
pub const MAX_FUTURE_MS: i64 = 24 * 60 * 60 * 1000;

/// The most that `bounded_properties` may take, in bytes of JSON.
pub const MAX_PROPERTIES_BYTES: usize = 16 * 1024;

/// How deeply `bounded_properties` may be nested; the object itself is the first level.
pub const MAX_PROPERTIES_DEPTH: usize = 8;

/// An event as its sender wrote it: fields found, nothing believed yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawEvent<'a> {
    /// See [`Event::event_id`].
    pub event_id: Option<Cow<'a, str>>,
    /// See [`Event::user_id`].
    pub user_id: Option<Cow<'a, str>>,
    /// See [`Event::session_id`].
    pub session_id: Option<Cow<'a, str>>,
    /// The name of the event's kind (`type` in JSON, `event` in CSV).
    pub kind: Option<Cow<'a, str>>,
    /// See [`Event::item_id`].
    pub item_id: Option<Cow<'a, str>>,
    /// See [`Event::value`].
    pub value: Option<f64>,
    /// Milliseconds since 1970; `None` takes the moment of arrival.
    pub timestamp: Option<Timestamp>,
    /// A JSON object, known to be well-formed.
    pub properties: Option<Cow<'a, str>>,
    /// How far the consent to just this event goes: the name of a [`Consent`].
    pub consent: Option<Cow<'a, str>>,
}

/// What an event must satisfy to be taken.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidationRules {
    /// The kinds that are known.
    pub kinds: EventKinds,
    /// The most events that one request may hold.
    pub max_events: usize,
    /// What the names of Segment's events mean.
    pub segment_events: SegmentEventMapping,
    /// By the name of a category of consent in Segment's messages: how far consent goes at most where it is refused.
    pub consent_if_refused: BTreeMap<String, Consent>,
    /// Under which users, visits and events are known instead of their ids; `None`: they are known by their ids.
    pub pseudonymiser: Option<Arc<Pseudonymiser>>,
    /// Whether properties are dropped.
    pub drop_properties: bool,
}

impl Default for ValidationRules {
    fn default() -> Self {
        Self {
            kinds: EventKinds::default(),
            max_events: 1000,
            segment_events: SegmentEventMapping::default(),
            consent_if_refused: BTreeMap::new(),
            pseudonymiser: None,
            drop_properties: false,
        }
    }
}

impl ValidationRules {
    /// Holds a draft against every rule. `received_at` is the moment of its arrival.
    ///
    /// # Errors
    /// The first rule that the draft breaks, without a place.
    pub fn validate_event(&self, draft: RawEvent<'_>, received_at: Timestamp) -> Result<WithConsent, ValidationError> {
        let user_id = self.internal_id(IdKind::User, validate_id("user_id", draft.user_id.ok_or_else(|| missing_field("user_id"))?)?);
        let kind = self.kind(&draft.kind.ok_or_else(|| missing_field("type"))?)?;
        let item_id = draft.item_id.map(|item| validate_id("item_id", item)).transpose()?;
        if item_id.is_none() && kind != EventKind::Search {
            return Err(ValidationError::new(
                "item_id",
                ValidationErrorCode::Missing,
                "`item_id` is missing; only a search may go without",
            ));
        }
        let consent = draft.consent.as_deref().map(parse_consent).transpose()?;
        let what = Event {
            event_id: draft.event_id.map(|event| Ok(self.internal_id(IdKind::Event, validate_id("event_id", event)?))).transpose()?,
            user_id,
            session_id: draft
                .session_id
                .map(|session| Ok(self.internal_id(IdKind::Session, validate_id("session_id", session)?)))
                .transpose()?,
            kind,
            item_id,
            value: draft.value.map(value).transpose()?,
            timestamp: draft.timestamp.map_or(Ok(received_at), |at| timestamp(at, received_at))?,
            properties: draft.properties.map(properties).transpose()?.filter(|_| !self.drop_properties),
        };
        Ok(WithConsent { value: what, consent })
    }

    /// Holds a merge of two users against the rules for their ids, which `fields` name: who is merged, and into whom.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate_merge(
        &self,
        fields: [&'static str; 2],
        from: Cow<'_, str>,
        into: Cow<'_, str>,
        timestamp: Timestamp,
    ) -> Result<UserMerge, ValidationError> {
        let [from_field, into_field] = fields;
        Ok(UserMerge {
            from: self.validate_user_id(from_field, from.into_owned())?,
            into: self.validate_user_id(into_field, into.into_owned())?,
            timestamp,
        })
    }

    /// Passes the id of a user, which `field` names, as it is known here.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate_user_id(&self, field: &'static str, text: String) -> Result<String, ValidationError> {
        Ok(self.internal_id(IdKind::User, validate_id(field, text.into())?))
    }

    /// An id as it is known here.
    #[must_use]
    pub fn internal_id(&self, what: IdKind, id: String) -> String {
        match &self.pseudonymiser {
            Some(pseudonyms) => pseudonyms.pseudonym(what, &id),
            None => id,
        }
    }

    /// Holds what a user says of consent against the rules.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn validate_consent(&self, user: Cow<'_, str>, level: &str, timestamp: Timestamp) -> Result<ConsentChange, ValidationError> {
        Ok(ConsentChange { user_id: self.validate_user_id("user", user.into_owned())?, consent: parse_consent(level)?, timestamp })
    }

    /// Properties that came as an object, unless they are beyond the bounds.
    pub(super) fn bounded_properties(&self, object: &serde_json::Map<String, serde_json::Value>) -> Option<String> {
        let text = serde_json::to_string(object).ok().filter(|_| !object.is_empty() && !self.drop_properties)?;
        properties(text.into()).ok()
    }

    fn kind(&self, name: &str) -> Result<EventKind, ValidationError> {
        let kind = EventKind::from_name(name);
        if self.kinds.id(&kind).is_some() {
            return Ok(kind);
        }
        let known: Vec<_> = self.kinds.names().collect();
        let reason = format!("`type` is `{}`, which is unknown; known are {}", excerpt(name), known.join(", "));
        Err(ValidationError::new("type", ValidationErrorCode::UnknownKind, reason))
    }
}

/// A level of consent by its name.
///
/// # Errors
/// If there is no such level.
pub(super) fn parse_consent(name: &str) -> Result<Consent, ValidationError> {
    let unknown = || {
        ValidationError::new(
            "consent",
            ValidationErrorCode::UnknownConsent,
            format!("`consent` must be {}", Consent::ALL.map(Consent::name).join(", ")),
        )
    };
    Consent::from_name(name).ok_or_else(unknown)
}

/// The beginning of a name that is shown to people, without what could spoil a terminal.
pub(super) fn excerpt(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(40).collect()
}

/// The fault of a required field that is absent.
pub(super) fn missing_field(field: &'static str) -> ValidationError {
    ValidationError::new(field, ValidationErrorCode::Missing, format!("`{field}` is missing"))
}

/// Passes an id, or a name, that is neither empty nor too long and holds no control character.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn validate_id(field: &'static str, text: Cow<'_, str>) -> Result<String, ValidationError> {
    let length = text.len();
    if length == 0 {
        return Err(ValidationError::new(field, ValidationErrorCode::Empty, format!("`{field}` is empty")));
    }
    if length > MAX_ID_BYTES {
        return Err(ValidationError::new(
            field,
            ValidationErrorCode::TooLong,
            format!("`{field}` has {length} bytes; at most {MAX_ID_BYTES} are allowed"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(ValidationError::new(field, ValidationErrorCode::ControlCharacter, format!("`{field}` holds a control character")));
    }
    Ok(text.into_owned())
}

#[expect(clippy::cast_possible_truncation, reason = "what overflows becomes infinite and is refused")]
fn value(value: f64) -> Result<f32, ValidationError> {
    let narrow = value as f32;
    if narrow.is_finite() {
        Ok(narrow)
    } else {
        Err(ValidationError::new("value", ValidationErrorCode::NotFinite, "`value` is not a finite 32-bit number"))
    }
}

fn timestamp(at: Timestamp, received_at: Timestamp) -> Result<Timestamp, ValidationError> {
    if at < 0 {
        return Err(ValidationError::new("timestamp", ValidationErrorCode::TooEarly, "`timestamp` lies before 1970"));
    }
    if at > received_at.saturating_add(MAX_FUTURE_MS) {
        let shown = jiff::Timestamp::from_millisecond(at).map_or_else(|_| "the year 9999 or later".to_owned(), |at| at.to_string());
        return Err(ValidationError::new(
            "timestamp",
            ValidationErrorCode::TooLate,
            format!("`timestamp` ({shown}) lies more than a day in the future"),
        ));
    }
    Ok(at)
}

fn properties(text: Cow<'_, str>) -> Result<String, ValidationError> {
    let length = text.len();
    if length > MAX_PROPERTIES_BYTES {
        let reason = format!("`properties` takes {length} bytes; at most {MAX_PROPERTIES_BYTES} are allowed");
        return Err(ValidationError::new("properties", ValidationErrorCode::TooLarge, reason));
    }
    if super::json_scanner::nesting_depth(text.as_bytes()) > MAX_PROPERTIES_DEPTH {
        return Err(ValidationError::new(
            "properties",
            ValidationErrorCode::TooDeep,
            format!("`properties` is nested more than {MAX_PROPERTIES_DEPTH} levels deep"),
        ));
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::KindRule;
    use proptest::prelude::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn draft() -> RawEvent<'static> {
        RawEvent { user_id: Some("u".into()), kind: Some("view".into()), item_id: Some("i".into()), ..RawEvent::default() }
    }

    fn refused(draft: RawEvent<'_>) -> (Option<&'static str>, ValidationErrorCode) {
        let fault = ValidationRules::default().validate_event(draft, NOW).unwrap_err();
        (fault.field, fault.code)
    }

    #[test]
    fn takes_the_least_and_dates_it_by_its_arrival() {
        let event = ValidationRules::default().validate_event(draft(), NOW).unwrap().value;
        assert_eq!((event.user_id.as_str(), event.kind, event.item_id.as_deref(), event.timestamp), ("u", EventKind::View, Some("i"), NOW));
    }

    #[test]
    fn names_the_field_and_the_rule() {
        let long = "x".repeat(300);
        assert_eq!(refused(RawEvent { user_id: None, ..draft() }), (Some("user_id"), ValidationErrorCode::Missing));
        assert_eq!(refused(RawEvent { user_id: Some("".into()), ..draft() }), (Some("user_id"), ValidationErrorCode::Empty));
        assert_eq!(refused(RawEvent { item_id: Some(long.as_str().into()), ..draft() }), (Some("item_id"), ValidationErrorCode::TooLong));
        assert_eq!(
            refused(RawEvent { session_id: Some("a\nb".into()), ..draft() }),
            (Some("session_id"), ValidationErrorCode::ControlCharacter)
        );
        assert_eq!(
            refused(RawEvent { event_id: Some("\u{85}".into()), ..draft() }),
            (Some("event_id"), ValidationErrorCode::ControlCharacter)
        );
        assert_eq!(refused(RawEvent { kind: None, ..draft() }), (Some("type"), ValidationErrorCode::Missing));
        assert_eq!(refused(RawEvent { kind: Some("veiw".into()), ..draft() }), (Some("type"), ValidationErrorCode::UnknownKind));
        assert_eq!(refused(RawEvent { item_id: None, ..draft() }), (Some("item_id"), ValidationErrorCode::Missing));
        assert_eq!(refused(RawEvent { value: Some(f64::NAN), ..draft() }), (Some("value"), ValidationErrorCode::NotFinite));
        assert_eq!(refused(RawEvent { value: Some(1e39), ..draft() }), (Some("value"), ValidationErrorCode::NotFinite));
        assert_eq!(refused(RawEvent { timestamp: Some(-1), ..draft() }), (Some("timestamp"), ValidationErrorCode::TooEarly));
        assert_eq!(
            refused(RawEvent { timestamp: Some(NOW + MAX_FUTURE_MS + 1), ..draft() }),
            (Some("timestamp"), ValidationErrorCode::TooLate)
        );
        assert_eq!(
            refused(RawEvent { properties: Some("[[[[[[[[[1]]]]]]]]]".into()), ..draft() }),
            (Some("properties"), ValidationErrorCode::TooDeep)
        );
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_PROPERTIES_BYTES));
        assert_eq!(refused(RawEvent { properties: Some(large.into()), ..draft() }), (Some("properties"), ValidationErrorCode::TooLarge));
    }

    #[test]
    fn a_search_needs_no_item_and_a_configured_kind_is_known() {
        let search = RawEvent { kind: Some("search".into()), item_id: None, ..draft() };
        assert_eq!(ValidationRules::default().validate_event(search, NOW).unwrap().value.item_id, None);
        let mut rules = ValidationRules::default();
        rules.kinds.set(EventKind::Custom("wishlist".into()), KindRule { target: true, value: 2.0 });
        let event = rules.validate_event(RawEvent { kind: Some("wishlist".into()), ..draft() }, NOW).unwrap().value;
        assert_eq!(event.kind, EventKind::Custom("wishlist".into()));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_within_every_limit(user in "\\PC{0,300}|.{0,4}", item in ".{0,300}", value in proptest::num::f64::ANY, at in any::<i64>()) {
            let draft = RawEvent { user_id: Some(user.into()), item_id: Some(item.into()), value: Some(value), timestamp: Some(at), ..draft() };
            if let Ok(WithConsent { value: event, .. }) = ValidationRules::default().validate_event(draft, NOW) {
                let item = event.item_id.unwrap();
                for id in [&event.user_id, &item] {
                    prop_assert!((1..=MAX_ID_BYTES).contains(&id.len()) && !id.chars().any(char::is_control));
                }
                prop_assert!(event.value.unwrap().is_finite());
                prop_assert!((0..=NOW + MAX_FUTURE_MS).contains(&event.timestamp));
            }
        }
    }
}
