//! Parses events from JSON: one object, an array of objects, or one object per line (NDJSON).

use super::attributes::parse_context;
use super::column_mapping::ColumnMapping;
use super::framing::BodyError;
use super::items::parse_object;
use super::record_batch::{ParsedBatch, read_records};
use super::timestamp::{self, TimeFormat};
use super::validation::{RawEvent, ValidationRules, printable_excerpt};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Attributes, Timestamp, WithConsent};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields of an event, in the order of [`EventObject::values`]. The last two are written by
/// exports: the kind of entry, which must be `event` if present, and the journal offset, which is
/// ignored.
const EVENT_FIELDS: [&str; 15] = [
    "event_id",
    "user_id",
    "session_id",
    "type",
    "item_id",
    "value",
    "timestamp",
    "properties",
    "consent",
    "recommendation_id",
    "currency",
    "quantity",
    "context",
    "entry",
    "offset",
];

/// Parses a request body: one JSON object, an array of objects, or one object per line. An error,
/// even a syntax error, rejects only its own element or line. Events without a timestamp get
/// `received_at`.
///
/// # Errors
/// If the body is empty or holds more events than `rules` allow. In that case, no event is
/// accepted.
pub fn read_events(
    body: &[u8],
    rules: &ValidationRules,
    received_at: Timestamp,
) -> Result<ParsedBatch<WithConsent>, BodyError> {
    read_records(body, "event", rules.max_events, |text, warn| read_event(text, rules, received_at, None, warn))
}

/// Parses one JSON object into an event. `time` is the time format of a file; `None` selects the
/// time format of the API. `warn` receives unknown fields.
///
/// # Errors
/// The first error of the object; the caller adds its position.
pub(super) fn read_event(
    text: &[u8],
    rules: &ValidationRules,
    received_at: Timestamp,
    time: Option<&TimeFormat>,
    warn: &mut dyn FnMut(ValidationError),
) -> Result<WithConsent, ValidationError> {
    let text = std::str::from_utf8(text)
        .map_err(|_| ValidationError::new(None, ValidationErrorCode::NotUtf8, "the event is not UTF-8"))?;
    if !text.starts_with('{') {
        return Err(ValidationError::new(
            None,
            if text.is_empty() { ValidationErrorCode::Syntax } else { ValidationErrorCode::WrongType },
            "an event must be a JSON object",
        ));
    }
    let object: EventObject<'_> = serde_json::from_str(text).map_err(|error| syntax_error(text, &error))?;
    if let Some(field) = object.repeated {
        return Err(ValidationError::new(field, ValidationErrorCode::Repeated, format!("`{field}` occurs twice")));
    }
    let [
        event_id,
        user_id,
        session_id,
        kind,
        item_id,
        value,
        timestamp,
        properties,
        consent,
        recommended,
        currency,
        quantity,
        context,
        entry,
        _,
    ] = object.values;
    if let Some(entry) = parse_string("entry", entry)?.filter(|entry| entry != "event") {
        let reason = format!(
            "the record is an exported `{}`, not an event; send items to /v1/items; other kinds cannot be imported",
            printable_excerpt(&entry)
        );
        return Err(ValidationError::new("entry", ValidationErrorCode::WrongType, reason));
    }
    let raw = RawEvent {
        event_id: parse_string("event_id", event_id)?,
        user_id: parse_string("user_id", user_id)?,
        session_id: parse_string("session_id", session_id)?,
        kind: parse_string("type", kind)?,
        item_id: parse_string("item_id", item_id)?,
        value: non_null_text(value).map(|text| parse_number("value", text)).transpose()?,
        timestamp: non_null_text(timestamp).map(|text| event_timestamp(text, time)).transpose()?,
        properties: non_null_text(properties).map(properties_text).transpose()?,
        consent: parse_string("consent", consent)?,
        recommendation_id: parse_string("recommendation_id", recommended)?,
        currency: parse_string("currency", currency)?,
        quantity: non_null_text(quantity).map(|text| parse_number("quantity", text)).transpose()?,
        context: non_null_text(context).map(context_from_text).transpose()?.unwrap_or_default(),
    };
    let event = rules.validate_event(raw, received_at)?;
    for name in object.unknown {
        let reason =
            format!("unknown event field `{}`; put additional data into `properties`", printable_excerpt(&name));
        warn(ValidationError::new(None, ValidationErrorCode::UnknownField, reason));
    }
    Ok(event)
}

/// Parses one JSON object with the field names of `mapping` into an event.
///
/// # Errors
/// The first error of the object; the caller adds its position.
pub(super) fn read_mapped_event(
    text: &[u8],
    mapping: &ColumnMapping,
    rules: &ValidationRules,
    received_at: Timestamp,
) -> Result<WithConsent, ValidationError> {
    rules.validate_event(mapping.raw_event_from_object(&parse_object(text)?)?, received_at)
}

/// The raw values of the fields of one object.
#[derive(Default)]
struct EventObject<'a> {
    values: [Option<&'a RawValue>; EVENT_FIELDS.len()],
    repeated: Option<&'static str>,
    unknown: Vec<String>,
}

/// A field name: its index in [`EVENT_FIELDS`], or the unknown name.
enum EventFieldName {
    Known(usize),
    Unknown(String),
}

impl<'de> Deserialize<'de> for EventFieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventFieldNameVisitor;
        impl Visitor<'_> for EventFieldNameVisitor {
            type Value = EventFieldName;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("the name of a field")
            }
            fn visit_str<E>(self, name: &str) -> Result<EventFieldName, E> {
                Ok(EVENT_FIELDS
                    .iter()
                    .position(|field| *field == name)
                    .map_or_else(|| EventFieldName::Unknown(name.to_owned()), EventFieldName::Known))
            }
        }
        deserializer.deserialize_str(EventFieldNameVisitor)
    }
}

impl<'de> Deserialize<'de> for EventObject<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventObjectVisitor;
        impl<'de> Visitor<'de> for EventObjectVisitor {
            type Value = EventObject<'de>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an event")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventObject<'de>, A::Error> {
                let mut object = EventObject::default();
                while let Some(name) = map.next_key()? {
                    let value = map.next_value()?;
                    match name {
                        EventFieldName::Unknown(name) => object.unknown.push(name),
                        EventFieldName::Known(index) => {
                            let slot = object.values.get_mut(index);
                            if slot.is_some_and(|slot| slot.replace(value).is_some()) {
                                object.repeated = EVENT_FIELDS.get(index).copied();
                            }
                        }
                    }
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(EventObjectVisitor)
    }
}

/// The text of a field, if it is present and not `null`.
fn non_null_text(value: Option<&RawValue>) -> Option<&str> {
    value.map(RawValue::get).filter(|text| *text != "null")
}

fn parse_string<'a>(field: &'static str, value: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, ValidationError> {
    let Some(text) = non_null_text(value) else {
        return Ok(None);
    };
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => Err(ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be a string"))),
        Some(plain) if !plain.contains('\\') => Ok(Some(Cow::Borrowed(plain))),
        Some(_) => {
            let unescaped = serde_json::from_str(text).map_err(|error| {
                ValidationError::new(field, ValidationErrorCode::Syntax, format!("`{field}`: {error}"))
            })?;
            Ok(Some(Cow::Owned(unescaped)))
        }
    }
}

fn parse_number(field: &'static str, text: &str) -> Result<f64, ValidationError> {
    text.parse()
        .map_err(|_| ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be a number")))
}

fn context_from_text(text: &str) -> Result<Attributes, ValidationError> {
    let value = serde_json::from_str(text)
        .map_err(|error| ValidationError::new("context", ValidationErrorCode::Syntax, format!("`context`: {error}")))?;
    parse_context(value)
}

fn event_timestamp(text: &str, time: Option<&TimeFormat>) -> Result<Timestamp, ValidationError> {
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match (time, unquoted) {
        (Some(time), _) => time.parse("timestamp", unquoted.unwrap_or(text)),
        (None, Some(text)) => timestamp::from_rfc3339("timestamp", text),
        (None, None) => timestamp::from_milliseconds("timestamp", text),
    }
}

fn properties_text(text: &str) -> Result<Cow<'_, str>, ValidationError> {
    if text.starts_with('{') {
        Ok(text.into())
    } else {
        Err(ValidationError::new("properties", ValidationErrorCode::WrongType, "`properties` must be an object"))
    }
}

/// Converts a JSON syntax error. Names the field whose value contains the error, if it can be
/// found.
fn syntax_error(text: &str, error: &serde_json::Error) -> ValidationError {
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (line_start + error.column()).saturating_sub(1);
    // If a word is unknown, the JSON parser reports the position of its first or second byte.
    let head = text.get(..at).unwrap_or(text).trim_end_matches(['-', 'N', 'I']).trim_end();
    let name = head.strip_suffix(':').map(str::trim_end).and_then(|head| head.strip_suffix('"'));
    let field = name.and_then(|name| {
        EVENT_FIELDS.into_iter().find(|field| name.strip_suffix(field).is_some_and(|rest| rest.ends_with('"')))
    });
    let tail = text.get(head.len()..).unwrap_or_default().trim_start().trim_start_matches('-');
    if tail.starts_with("NaN") || tail.starts_with("Infinity") {
        return ValidationError::new(
            field,
            ValidationErrorCode::NotFinite,
            "JSON has neither NaN nor Infinity; omit an unknown value",
        );
    }
    ValidationError::new(field, ValidationErrorCode::Syntax, format!("not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Consent, EventKind};
    use proptest::prelude::*;

    const NOW: Timestamp = 1_700_000_000_000;
    const VALID_EVENT: &str = r#"{"user_id":"u","type":"view","item_id":"i"}"#;

    fn read_body(body: &str) -> ParsedBatch<WithConsent> {
        read_events(body.as_bytes(), &ValidationRules::default(), NOW).unwrap()
    }

    fn only_error(body: &str) -> ValidationError {
        let mut events = read_body(body).records;
        assert_eq!(events.len(), 1, "{body}");
        events.remove(0).unwrap_err()
    }

    #[test]
    fn reads_every_field() {
        let batch = read_body(
            r#"{"event_id":"e1","user_id":"\u00fcser","session_id":"s","type":"rate","item_id":"i","value":4.5,
                "timestamp":"2014-04-01T01:15:41Z","properties":{"page": [1, {}]},
                "recommendation_id":"r1","currency":"EUR","quantity":2,"context":{"device":"phone"}}"#,
        );
        let event = batch.records.into_iter().next().unwrap().unwrap().value;
        assert_eq!(event.event_id.as_deref(), Some("e1"));
        assert_eq!(event.user_id, "üser");
        assert_eq!(event.session_id.as_deref(), Some("s"));
        assert_eq!((event.kind, event.item_id.as_deref(), event.value), (EventKind::Rate, Some("i"), Some(4.5)));
        assert_eq!(event.timestamp, 1_396_314_941_000);
        assert_eq!(event.properties.as_deref(), Some(r#"{"page": [1, {}]}"#));
        let details = event.details.unwrap();
        assert_eq!((details.recommendation_id.as_deref(), details.currency.as_deref()), (Some("r1"), Some("EUR")));
        assert_eq!((details.quantity, details.context.len()), (Some(2), 1));
    }

    #[test]
    fn parses_consent_and_rejects_unknown_levels() {
        let parsed = |level: &str| {
            read_body(&format!(r#"{{"user_id":"u","type":"view","item_id":"i","consent":{level}}}"#)).records.remove(0)
        };
        for level in Consent::ALL {
            assert_eq!(parsed(&format!("\"{}\"", level.name())).unwrap().consent, Some(level));
        }
        assert_eq!(parsed("null").unwrap().consent, None);
        for (wrong, code) in [
            ("\"all\"", ValidationErrorCode::UnknownConsent),
            ("\"\"", ValidationErrorCode::UnknownConsent),
            ("true", ValidationErrorCode::WrongType),
        ] {
            let error = parsed(wrong).unwrap_err();
            assert_eq!((error.field, error.code), (Some("consent"), code), "{wrong}");
        }
    }

    #[test]
    fn object_array_and_lines_give_the_same_events() {
        let one = read_body(VALID_EVENT).records;
        assert!(one[0].is_ok());
        let pretty = "{\n  \"user_id\": \"u\",\n  \"type\": \"view\",\n  \"item_id\": \"i\"\n}\n";
        assert_eq!(read_body(pretty).records, one);
        assert_eq!(
            read_body(&format!("\u{feff} [{VALID_EVENT}, {VALID_EVENT}]\n")).records,
            [one.clone(), one.clone()].concat()
        );
        assert_eq!(read_body(&format!("{VALID_EVENT}\r\n\n{VALID_EVENT}\n")).records, [one.clone(), one].concat());
        assert_eq!(read_body("[]"), ParsedBatch { records: Vec::new(), warnings: Vec::new() });
    }

    #[test]
    fn names_field_and_code_of_every_bad_input() {
        let id = "x".repeat(300);
        let rest = r#""type":"view","item_id":"i""#;
        let table = [
            ("42".to_owned(), None, ValidationErrorCode::WrongType),
            ("user_id=u".to_owned(), None, ValidationErrorCode::WrongType),
            ("[[]]".to_owned(), None, ValidationErrorCode::WrongType),
            ("{".to_owned(), None, ValidationErrorCode::Syntax),
            (r#"{"user_id":}"#.to_owned(), Some("user_id"), ValidationErrorCode::Syntax),
            (format!(r#"{{"user_id":"u",{rest},"value":NaN}}"#), Some("value"), ValidationErrorCode::NotFinite),
            (format!(r#"{{"user_id":"u",{rest},"value": -Infinity}}"#), Some("value"), ValidationErrorCode::NotFinite),
            (format!(r#"{{"user_id":"u",{rest},"value":1e400}}"#), Some("value"), ValidationErrorCode::NotFinite),
            (format!(r#"{{"user_id":"u",{rest},"value":"4"}}"#), Some("value"), ValidationErrorCode::WrongType),
            (format!(r#"{{"user_id":7,{rest}}}"#), Some("user_id"), ValidationErrorCode::WrongType),
            (format!(r#"{{"user_id":"",{rest}}}"#), Some("user_id"), ValidationErrorCode::Empty),
            (format!(r#"{{"user_id":"{id}",{rest}}}"#), Some("user_id"), ValidationErrorCode::TooLong),
            (format!(r#"{{"user_id":"a\u0000",{rest}}}"#), Some("user_id"), ValidationErrorCode::ControlCharacter),
            (format!(r#"{{"user_id":"\ud800",{rest}}}"#), Some("user_id"), ValidationErrorCode::Syntax),
            (format!(r#"{{"user_id":"u","user_id":"v",{rest}}}"#), Some("user_id"), ValidationErrorCode::Repeated),
            (format!(r#"{{"user_id":null,{rest}}}"#), Some("user_id"), ValidationErrorCode::Missing),
            (
                format!(r#"{{"user_id":"u",{rest},"currency":"eur"}}"#),
                Some("currency"),
                ValidationErrorCode::OutOfRange,
            ),
            (format!(r#"{{"user_id":"u",{rest},"quantity":0}}"#), Some("quantity"), ValidationErrorCode::OutOfRange),
            (format!(r#"{{"user_id":"u",{rest},"quantity":1.5}}"#), Some("quantity"), ValidationErrorCode::OutOfRange),
            (format!(r#"{{"user_id":"u",{rest},"quantity":"1"}}"#), Some("quantity"), ValidationErrorCode::WrongType),
            (
                format!(r#"{{"user_id":"u",{rest},"recommendation_id":"{}"}}"#, "x".repeat(129)),
                Some("recommendation_id"),
                ValidationErrorCode::TooLong,
            ),
            (
                format!(r#"{{"user_id":"u",{rest},"context":{{"a":[]}}}}"#),
                Some("context"),
                ValidationErrorCode::WrongType,
            ),
            (
                r#"{"user_id":"u","type":"glance","item_id":"i"}"#.to_owned(),
                Some("type"),
                ValidationErrorCode::UnknownKind,
            ),
            (r#"{"user_id":"u","type":"view"}"#.to_owned(), Some("item_id"), ValidationErrorCode::Missing),
            (
                format!(r#"{{"user_id":"u",{rest},"timestamp":"9999-01-01T00:00:00Z"}}"#),
                Some("timestamp"),
                ValidationErrorCode::TooLate,
            ),
            (
                format!(r#"{{"user_id":"u",{rest},"timestamp":"9999-12-31T23:59:59Z"}}"#),
                Some("timestamp"),
                ValidationErrorCode::TooLate,
            ),
            (format!(r#"{{"user_id":"u",{rest},"timestamp":-1}}"#), Some("timestamp"), ValidationErrorCode::TooEarly),
            (
                format!(r#"{{"user_id":"u",{rest},"timestamp":"today"}}"#),
                Some("timestamp"),
                ValidationErrorCode::BadTimestamp,
            ),
            (
                format!(r#"{{"user_id":"u",{rest},"timestamp":true}}"#),
                Some("timestamp"),
                ValidationErrorCode::BadTimestamp,
            ),
            (
                format!(r#"{{"user_id":"u",{rest},"properties":[1]}}"#),
                Some("properties"),
                ValidationErrorCode::WrongType,
            ),
        ];
        for (body, field, code) in table {
            let error = only_error(&body);
            assert_eq!((error.field, error.code), (field, code), "{body}: {}", error.reason);
            assert!(!error.reason.is_empty());
        }
    }

    #[test]
    fn error_rejects_only_its_own_element_or_line() {
        let batch = read_body(&format!(r#"[{VALID_EVENT},{{"user_id":"u",nope}},{VALID_EVENT}]"#));
        assert_eq!(batch.records.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(batch.records[1].as_ref().unwrap_err().index, 1);
        let batch = read_body(&format!("{{\"user_id\":\"torn\n\n{VALID_EVENT}\nnope\n{VALID_EVENT}"));
        let positions: Vec<_> =
            batch.records.iter().map(|event| event.as_ref().err().map(|error| (error.index, error.line))).collect();
        assert_eq!(positions, [Some((0, Some(1))), None, Some((2, Some(4))), None]);
    }

    #[test]
    fn distinguishes_lines_from_one_malformed_object() {
        let count = |body: &str| read_body(body).records.iter().map(Result::is_ok).collect::<Vec<_>>();
        assert_eq!(count(&format!("{VALID_EVENT}\nnope")), [true, false]);
        assert_eq!(count(&format!("nope\n{VALID_EVENT}")), [false, true]);
        assert_eq!(count("{\n  \"user_id\": \"u\",\n  \"properties\": {\n    \"a\": 1\n  }\n"), [false]);
    }

    #[test]
    fn rejects_deep_nesting_without_recursion() {
        let deep = format!(
            r#"{{"user_id":"u","type":"view","item_id":"i","properties":{{"a":{}{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(only_error(&deep).code, ValidationErrorCode::TooLarge);
        let deep = format!(
            r#"{{"user_id":"u","type":"view","item_id":"i","properties":{{"a":{}{}}}}}"#,
            "[".repeat(8),
            "]".repeat(8)
        );
        assert_eq!(only_error(&deep).code, ValidationErrorCode::TooDeep);
        assert_eq!(only_error(&format!(r#"{{"user_id":{}"#, "[".repeat(500_000))).code, ValidationErrorCode::Syntax);
    }

    #[test]
    fn unclosed_array_yields_its_complete_elements() {
        let batch = read_body(&format!(r#"[{VALID_EVENT},{{"user_id":"u""#));
        assert!(batch.records[0].is_ok());
        assert_eq!(batch.records[1].as_ref().unwrap_err().reason, "the array never closes; the rest is not read");
        let batch = read_body(&format!("[{VALID_EVENT}] {VALID_EVENT}"));
        assert_eq!(batch.records.len(), 2);
        assert!(batch.records[1].as_ref().unwrap_err().reason.starts_with("the body continues after the array"));
    }

    #[test]
    fn rejects_empty_and_oversized_bodies_as_a_whole() {
        let rules = ValidationRules { max_events: 2, ..ValidationRules::default() };
        assert_eq!(read_events(b" \n", &rules, NOW), Err(BodyError::Empty { record: "event" }));
        let three = [VALID_EVENT, VALID_EVENT, VALID_EVENT];
        for body in [three.join("\n"), format!("[{}]", three.join(","))] {
            assert_eq!(
                read_events(body.as_bytes(), &rules, NOW),
                Err(BodyError::TooMany { record: "event", records: 3, limit: 2 })
            );
        }
    }

    #[test]
    fn warns_about_an_unknown_field_and_accepts_the_event() {
        let batch = read_body(r#"[{"user_id":"u","type":"view","item_id":"i","sesion_id":"s"}]"#);
        assert!(batch.records[0].is_ok());
        assert_eq!((batch.warnings.len(), batch.warnings[0].code), (1, ValidationErrorCode::UnknownField));
        assert!(batch.warnings[0].reason.contains("`sesion_id`"));
    }

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_events(&body, &ValidationRules::default(), NOW);
        }

        #[test]
        fn mangled_event_leaves_its_neighbours_valid(cut in 0..VALID_EVENT.len(), byte in "[ -~]") {
            let mangled = format!("{}{byte}{}", &VALID_EVENT[..cut], &VALID_EVENT[cut..]);
            let batch = read_body(&format!("{VALID_EVENT}\n{mangled}\n{VALID_EVENT}"));
            prop_assert_eq!(batch.records.len(), 3);
            prop_assert!(batch.records[0].is_ok() && batch.records[2].is_ok());
        }

        #[test]
        fn round_trips_ids_of_any_characters(user in "\\PC{1,40}", item in "\\PC{1,40}") {
            let body = serde_json::json!({ "user_id": user, "type": "view", "item_id": item }).to_string();
            let event = read_body(&body).records.remove(0).unwrap().value;
            prop_assert_eq!((event.user_id, event.item_id), (user, Some(item)));
        }
    }
}
