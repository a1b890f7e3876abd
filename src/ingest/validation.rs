//! Validation rules shared by every input format.

use super::pseudonymiser::{IdKind, Pseudonymiser};
use super::segment::SegmentEventMapping;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{
    Attributes, Consent, ConsentChange, Event, EventDetails, EventKind, EventKinds, PlaceholderIds, Timestamp,
    UserMerge, WithConsent,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Longest id (`event_id`, `user_id`, `session_id`, `item_id`), in bytes: long enough for a
/// URL-like key, short enough for a store key.
pub const MAX_ID_BYTES: usize = 256;

/// How far a timestamp may be after the time of arrival, in milliseconds. A sender with a wrong
/// time zone stays within one day.
pub const MAX_FUTURE_MS: i64 = 24 * 60 * 60 * 1000;

/// Largest `properties`, in bytes of JSON.
pub const MAX_PROPERTIES_BYTES: usize = 16 * 1024;

/// Deepest nesting of `properties`. The object itself is the first level.
pub const MAX_PROPERTIES_DEPTH: usize = 8;

/// An event whose fields are parsed but not validated.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawEvent<'a> {
    /// See [`Event::event_id`].
    pub event_id: Option<Cow<'a, str>>,
    /// See [`Event::user_id`].
    pub user_id: Option<Cow<'a, str>>,
    /// See [`Event::session_id`].
    pub session_id: Option<Cow<'a, str>>,
    /// The name of the event kind (`type` in JSON, `event` in CSV).
    pub kind: Option<Cow<'a, str>>,
    /// See [`Event::item_id`].
    pub item_id: Option<Cow<'a, str>>,
    /// See [`Event::value`].
    pub value: Option<f64>,
    /// Milliseconds since 1970; `None` means the time of arrival.
    pub timestamp: Option<Timestamp>,
    /// A well-formed JSON object.
    pub properties: Option<Cow<'a, str>>,
    /// The name of the [`Consent`] level that applies only to this event.
    pub consent: Option<Cow<'a, str>>,
    /// See [`EventDetails::recommendation_id`].
    pub recommendation_id: Option<Cow<'a, str>>,
    /// See [`EventDetails::currency`].
    pub currency: Option<Cow<'a, str>>,
    /// See [`EventDetails::quantity`].
    pub quantity: Option<f64>,
    /// The context, which is already checked.
    pub context: Attributes,
}

/// The rules that an event must satisfy.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidationRules {
    /// The known kinds of event.
    pub kinds: EventKinds,
    /// Largest number of events in one request.
    pub max_events: usize,
    /// The event kinds of Segment's event names.
    pub segment_events: SegmentEventMapping,
    /// Maximum consent level of a Segment message whose user refuses a category, by category name.
    pub consent_if_refused: BTreeMap<String, Consent>,
    /// Replaces user, session and event ids by pseudonyms; `None` keeps the ids.
    pub pseudonymiser: Option<Arc<Pseudonymiser>>,
    /// Whether to drop `properties`.
    pub drop_properties: bool,
    /// User ids that are never merged.
    pub placeholder_ids: PlaceholderIds,
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
            placeholder_ids: PlaceholderIds::default(),
        }
    }
}

impl ValidationRules {
    /// Validates an event that arrived at `received_at`.
    ///
    /// # Errors
    /// The first broken rule; the caller adds the position.
    pub fn validate_event(&self, raw: RawEvent<'_>, received_at: Timestamp) -> Result<WithConsent, ValidationError> {
        let user_id = self.internal_id(
            IdKind::User,
            validate_id("user_id", raw.user_id.ok_or_else(|| missing_field_error("user_id"))?)?,
        );
        let kind = self.parse_kind(&raw.kind.ok_or_else(|| missing_field_error("type"))?)?;
        let item_id = raw.item_id.map(|item| validate_id("item_id", item)).transpose()?;
        if item_id.is_none() && kind != EventKind::Search {
            return Err(ValidationError::new(
                "item_id",
                ValidationErrorCode::Missing,
                "`item_id` is missing; only a search event can omit it",
            ));
        }
        let consent = raw.consent.as_deref().map(parse_consent).transpose()?;
        let details = EventDetails {
            recommendation_id: raw.recommendation_id.map(check_recommendation_id).transpose()?,
            currency: raw.currency.map(check_currency).transpose()?,
            quantity: raw.quantity.map(check_quantity).transpose()?,
            context: raw.context,
        };
        let event = Event {
            event_id: raw
                .event_id
                .map(|event| Ok(self.internal_id(IdKind::Event, validate_id("event_id", event)?)))
                .transpose()?,
            user_id,
            session_id: raw
                .session_id
                .map(|session| Ok(self.internal_id(IdKind::Session, validate_id("session_id", session)?)))
                .transpose()?,
            kind,
            item_id,
            value: raw.value.map(value_to_f32).transpose()?,
            timestamp: raw.timestamp.map_or(Ok(received_at), |at| check_timestamp(at, received_at))?,
            properties: raw.properties.map(check_properties).transpose()?.filter(|_| !self.drop_properties),
            details: details.into_boxed(),
        };
        Ok(WithConsent { value: event, consent })
    }

    /// Validates a merge of the user `from` into the user `into`. `fields` names the two ids in
    /// errors. Merging a placeholder id would join the histories of all visitors who share the id.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn validate_merge(
        &self,
        fields: [&'static str; 2],
        from: Cow<'_, str>,
        into: Cow<'_, str>,
        timestamp: Timestamp,
    ) -> Result<UserMerge, ValidationError> {
        let [from_field, into_field] = fields;
        for (field, id) in [(from_field, &from), (into_field, &into)] {
            if self.placeholder_ids.contains(id) {
                let reason = format!(
                    "`{field}` is a placeholder that many visitors share, so the users are not merged; send the visitor's own id, or \
                     change events.placeholder_ids"
                );
                return Err(ValidationError::new(field, ValidationErrorCode::PlaceholderId, reason));
            }
        }
        Ok(UserMerge {
            from: self.validate_user_id(from_field, from.into_owned())?,
            into: self.validate_user_id(into_field, into.into_owned())?,
            timestamp,
        })
    }

    /// Validates a user id and converts it to its internal form. `field` names the id in errors.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn validate_user_id(&self, field: &'static str, text: String) -> Result<String, ValidationError> {
        Ok(self.internal_id(IdKind::User, validate_id(field, text.into())?))
    }

    /// The id to store: a pseudonym if pseudonymisation is on, else the id itself.
    #[must_use]
    pub fn internal_id(&self, kind: IdKind, id: String) -> String {
        match &self.pseudonymiser {
            Some(pseudonymiser) => pseudonymiser.pseudonym(kind, &id),
            None => id,
        }
    }

    /// Validates a change of a user's consent.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn validate_consent(
        &self,
        user: Cow<'_, str>,
        level: &str,
        timestamp: Timestamp,
    ) -> Result<ConsentChange, ValidationError> {
        Ok(ConsentChange {
            user_id: self.validate_user_id("user", user.into_owned())?,
            consent: parse_consent(level)?,
            timestamp,
        })
    }

    /// Serialises a properties object. `None` if it is empty, exceeds a limit, or properties are
    /// dropped.
    pub(super) fn properties_within_limits(
        &self,
        object: &serde_json::Map<String, serde_json::Value>,
    ) -> Option<String> {
        let text = serde_json::to_string(object).ok().filter(|_| !object.is_empty() && !self.drop_properties)?;
        check_properties(text.into()).ok()
    }

    fn parse_kind(&self, name: &str) -> Result<EventKind, ValidationError> {
        let kind = EventKind::from_name(name);
        if self.kinds.id_of(&kind).is_some() {
            return Ok(kind);
        }
        let known: Vec<_> = self.kinds.names().collect();
        let reason =
            format!("unknown event kind `{}` in `type`; known kinds are {}", printable_excerpt(name), known.join(", "));
        Err(ValidationError::new("type", ValidationErrorCode::UnknownKind, reason))
    }
}

/// Parses the name of a consent level.
///
/// # Errors
/// If the level is unknown.
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

/// The first 40 characters of a name, without control characters, for error messages.
pub(super) fn printable_excerpt(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(40).collect()
}

/// The error for an absent required field.
pub(super) fn missing_field_error(field: &'static str) -> ValidationError {
    ValidationError::new(field, ValidationErrorCode::Missing, format!("`{field}` is missing"))
}

/// Validates an id or a name: it is not empty, not too long, and contains no control character.
///
/// # Errors
/// The first broken rule.
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
        return Err(ValidationError::new(
            field,
            ValidationErrorCode::ControlCharacter,
            format!("`{field}` contains a control character"),
        ));
    }
    Ok(text.into_owned())
}

#[expect(clippy::cast_possible_truncation, reason = "overflow becomes infinite and is rejected")]
fn value_to_f32(value: f64) -> Result<f32, ValidationError> {
    let narrow = value as f32;
    if narrow.is_finite() {
        Ok(narrow)
    } else {
        Err(ValidationError::new("value", ValidationErrorCode::NotFinite, "`value` is not a finite 32-bit number"))
    }
}

fn check_timestamp(at: Timestamp, received_at: Timestamp) -> Result<Timestamp, ValidationError> {
    if at < 0 {
        return Err(ValidationError::new("timestamp", ValidationErrorCode::TooEarly, "`timestamp` is before 1970"));
    }
    if at > received_at.saturating_add(MAX_FUTURE_MS) {
        let shown = jiff::Timestamp::from_millisecond(at)
            .map_or_else(|_| "the year 9999 or later".to_owned(), |at| at.to_string());
        return Err(ValidationError::new(
            "timestamp",
            ValidationErrorCode::TooLate,
            format!("`timestamp` ({shown}) is more than a day in the future"),
        ));
    }
    Ok(at)
}

fn check_recommendation_id(id: Cow<'_, str>) -> Result<String, ValidationError> {
    let (id, limit) = (validate_id("recommendation_id", id)?, EventDetails::MAX_RECOMMENDATION_ID_BYTES);
    if id.len() > limit {
        let reason = format!("`recommendation_id` has {} bytes; at most {limit} are allowed", id.len());
        return Err(ValidationError::new("recommendation_id", ValidationErrorCode::TooLong, reason));
    }
    Ok(id)
}

fn check_currency(code: Cow<'_, str>) -> Result<String, ValidationError> {
    if code.len() == 3 && code.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return Ok(code.into_owned());
    }
    let reason = format!(
        "`currency` is `{}`; it must be a code of three upper-case letters (ISO 4217), such as EUR",
        printable_excerpt(&code)
    );
    Err(ValidationError::new("currency", ValidationErrorCode::OutOfRange, reason))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn check_quantity(quantity: f64) -> Result<u32, ValidationError> {
    if (1.0..=f64::from(EventDetails::MAX_QUANTITY)).contains(&quantity) && quantity.fract() == 0.0 {
        return Ok(quantity as u32);
    }
    let reason = format!("`quantity` must be a whole number from 1 to {}", EventDetails::MAX_QUANTITY);
    Err(ValidationError::new("quantity", ValidationErrorCode::OutOfRange, reason))
}

fn check_properties(text: Cow<'_, str>) -> Result<String, ValidationError> {
    let length = text.len();
    if length > MAX_PROPERTIES_BYTES {
        let reason = format!("`properties` has {length} bytes; at most {MAX_PROPERTIES_BYTES} are allowed");
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

    fn valid_event() -> RawEvent<'static> {
        RawEvent {
            user_id: Some("u".into()),
            kind: Some("view".into()),
            item_id: Some("i".into()),
            ..RawEvent::default()
        }
    }

    fn validation_error(raw: RawEvent<'_>) -> (Option<&'static str>, ValidationErrorCode) {
        let error = ValidationRules::default().validate_event(raw, NOW).unwrap_err();
        (error.field, error.code)
    }

    #[test]
    fn accepts_a_minimal_event_and_dates_it_by_arrival() {
        let event = ValidationRules::default().validate_event(valid_event(), NOW).unwrap().value;
        assert_eq!(
            (event.user_id.as_str(), event.kind, event.item_id.as_deref(), event.timestamp),
            ("u", EventKind::View, Some("i"), NOW)
        );
    }

    #[test]
    fn names_field_and_code_of_the_broken_rule() {
        let long = "x".repeat(300);
        assert_eq!(
            validation_error(RawEvent { user_id: None, ..valid_event() }),
            (Some("user_id"), ValidationErrorCode::Missing)
        );
        assert_eq!(
            validation_error(RawEvent { user_id: Some("".into()), ..valid_event() }),
            (Some("user_id"), ValidationErrorCode::Empty)
        );
        assert_eq!(
            validation_error(RawEvent { item_id: Some(long.as_str().into()), ..valid_event() }),
            (Some("item_id"), ValidationErrorCode::TooLong)
        );
        assert_eq!(
            validation_error(RawEvent { session_id: Some("a\nb".into()), ..valid_event() }),
            (Some("session_id"), ValidationErrorCode::ControlCharacter)
        );
        assert_eq!(
            validation_error(RawEvent { event_id: Some("\u{85}".into()), ..valid_event() }),
            (Some("event_id"), ValidationErrorCode::ControlCharacter)
        );
        assert_eq!(
            validation_error(RawEvent { kind: None, ..valid_event() }),
            (Some("type"), ValidationErrorCode::Missing)
        );
        assert_eq!(
            validation_error(RawEvent { kind: Some("veiw".into()), ..valid_event() }),
            (Some("type"), ValidationErrorCode::UnknownKind)
        );
        assert_eq!(
            validation_error(RawEvent { item_id: None, ..valid_event() }),
            (Some("item_id"), ValidationErrorCode::Missing)
        );
        assert_eq!(
            validation_error(RawEvent { value: Some(f64::NAN), ..valid_event() }),
            (Some("value"), ValidationErrorCode::NotFinite)
        );
        assert_eq!(
            validation_error(RawEvent { value: Some(1e39), ..valid_event() }),
            (Some("value"), ValidationErrorCode::NotFinite)
        );
        assert_eq!(
            validation_error(RawEvent { timestamp: Some(-1), ..valid_event() }),
            (Some("timestamp"), ValidationErrorCode::TooEarly)
        );
        assert_eq!(
            validation_error(RawEvent { timestamp: Some(NOW + MAX_FUTURE_MS + 1), ..valid_event() }),
            (Some("timestamp"), ValidationErrorCode::TooLate)
        );
        assert_eq!(
            validation_error(RawEvent { properties: Some("[[[[[[[[[1]]]]]]]]]".into()), ..valid_event() }),
            (Some("properties"), ValidationErrorCode::TooDeep)
        );
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_PROPERTIES_BYTES));
        assert_eq!(
            validation_error(RawEvent { properties: Some(large.into()), ..valid_event() }),
            (Some("properties"), ValidationErrorCode::TooLarge)
        );
    }

    #[test]
    fn accepts_a_search_without_item_and_configured_kinds() {
        let search = RawEvent { kind: Some("search".into()), item_id: None, ..valid_event() };
        assert_eq!(ValidationRules::default().validate_event(search, NOW).unwrap().value.item_id, None);
        let mut rules = ValidationRules::default();
        let wishlist = EventKind::Custom("wishlist".into());
        rules.kinds.set_rule(wishlist.clone(), KindRule::new(&wishlist, true, 2.0));
        let event =
            rules.validate_event(RawEvent { kind: Some("wishlist".into()), ..valid_event() }, NOW).unwrap().value;
        assert_eq!(event.kind, EventKind::Custom("wishlist".into()));
    }

    proptest! {
        #[test]
        fn accepted_events_are_within_every_limit(user in "\\PC{0,300}|.{0,4}", item in ".{0,300}", value in proptest::num::f64::ANY, at in any::<i64>()) {
            let raw = RawEvent { user_id: Some(user.into()), item_id: Some(item.into()), value: Some(value), timestamp: Some(at), ..valid_event() };
            if let Ok(WithConsent { value: event, .. }) = ValidationRules::default().validate_event(raw, NOW) {
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
