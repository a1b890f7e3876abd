//! Events as JSON: one object, an array of them, or one a line (NDJSON).

use super::column_mapping::ColumnMapping;
use super::framing::BodyError;
use super::items::parse_object;
use super::record_batch::{ParsedBatch, read_records};
use super::timestamp;
use super::validation::{RawEvent, ValidationRules, excerpt};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Timestamp, WithConsent};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields of an event, in the order in which [`EventObject::values`] holds them. The last two are those that an export adds: what it is, and where it stood.
const FIELDS: [&str; 11] =
    ["event_id", "user_id", "session_id", "type", "item_id", "value", "timestamp", "properties", "consent", "entry", "offset"];

/// Reads the body of a request: one JSON object, a JSON array of objects, or one object a line. A fault, of syntax too, costs only
/// the element or the line that it stands in. `received_at` dates the events that carry no timestamp.
///
/// # Errors
/// If the body is empty or holds more events than the rules allow; then nothing is taken.
pub fn read_events(body: &[u8], rules: &ValidationRules, received_at: Timestamp) -> Result<ParsedBatch<WithConsent>, BodyError> {
    read_records(body, "event", rules.max_events, |text, warn| read_event(text, rules, received_at, warn))
}

/// Reads one JSON object as an event; fields that no event has are told to `warn`.
///
/// # Errors
/// The first fault, without a place.
pub(super) fn read_event(
    text: &[u8],
    rules: &ValidationRules,
    received_at: Timestamp,
    warn: &mut dyn FnMut(ValidationError),
) -> Result<WithConsent, ValidationError> {
    let text = std::str::from_utf8(text).map_err(|_| ValidationError::new(None, ValidationErrorCode::NotUtf8, "the event is not UTF-8"))?;
    if !text.starts_with('{') {
        return Err(ValidationError::new(
            None,
            if text.is_empty() { ValidationErrorCode::Syntax } else { ValidationErrorCode::WrongType },
            "an event is a JSON object",
        ));
    }
    let object: EventObject<'_> = serde_json::from_str(text).map_err(|error| syntax(text, &error))?;
    if let Some(field) = object.repeated {
        return Err(ValidationError::new(field, ValidationErrorCode::Repeated, format!("`{field}` is given twice")));
    }
    let [event_id, user_id, session_id, kind, item_id, value, timestamp, properties, consent, entry, _] = object.values;
    if let Some(entry) = string("entry", entry)?.filter(|entry| entry != "event") {
        let reason = format!("this is an exported `{}`, not an event; items go to /v1/items, anything else nowhere", excerpt(&entry));
        return Err(ValidationError::new("entry", ValidationErrorCode::WrongType, reason));
    }
    let draft = RawEvent {
        event_id: string("event_id", event_id)?,
        user_id: string("user_id", user_id)?,
        session_id: string("session_id", session_id)?,
        kind: string("type", kind)?,
        item_id: string("item_id", item_id)?,
        value: given(value).map(number).transpose()?,
        timestamp: given(timestamp).map(point_in_time).transpose()?,
        properties: given(properties).map(properties_text).transpose()?,
        consent: string("consent", consent)?,
    };
    let event = rules.validate_event(draft, received_at)?;
    for name in object.unknown {
        let reason = format!("an event has no field `{}`; what it cannot name goes into `properties`", excerpt(&name));
        warn(ValidationError::new(None, ValidationErrorCode::UnknownField, reason));
    }
    Ok(event)
}

/// Reads one JSON object under names of its own as an event.
///
/// # Errors
/// The first fault, without a place.
pub(super) fn read_mapped_event(
    text: &[u8],
    shape: &ColumnMapping,
    rules: &ValidationRules,
    received_at: Timestamp,
) -> Result<WithConsent, ValidationError> {
    rules.validate_event(shape.raw_event_from_object(&parse_object(text)?)?, received_at)
}

/// The fields of one object, found and not yet read.
#[derive(Default)]
struct EventObject<'a> {
    values: [Option<&'a RawValue>; FIELDS.len()],
    repeated: Option<&'static str>,
    unknown: Vec<String>,
}

/// The name of a field: its place in [`FIELDS`], or itself.
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
                Ok(FIELDS
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
                        EventFieldName::Known(place) => {
                            let slot = object.values.get_mut(place);
                            if slot.is_some_and(|slot| slot.replace(value).is_some()) {
                                object.repeated = FIELDS.get(place).copied();
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

/// A field's text, if it is given and not `null`.
fn given(value: Option<&RawValue>) -> Option<&str> {
    value.map(RawValue::get).filter(|text| *text != "null")
}

fn string<'a>(field: &'static str, value: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, ValidationError> {
    let Some(text) = given(value) else {
        return Ok(None);
    };
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => Err(ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be a string"))),
        Some(plain) if !plain.contains('\\') => Ok(Some(Cow::Borrowed(plain))),
        Some(_) => {
            let unescaped = serde_json::from_str(text)
                .map_err(|error| ValidationError::new(field, ValidationErrorCode::Syntax, format!("`{field}`: {error}")))?;
            Ok(Some(Cow::Owned(unescaped)))
        }
    }
}

fn number(text: &str) -> Result<f64, ValidationError> {
    text.parse().map_err(|_| ValidationError::new("value", ValidationErrorCode::WrongType, "`value` must be a number"))
}

fn point_in_time(text: &str) -> Result<Timestamp, ValidationError> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(text) => timestamp::from_rfc3339(text),
        None => timestamp::from_milliseconds(text),
    }
}

fn properties_text(text: &str) -> Result<Cow<'_, str>, ValidationError> {
    if text.starts_with('{') {
        Ok(text.into())
    } else {
        Err(ValidationError::new("properties", ValidationErrorCode::WrongType, "`properties` must be an object"))
    }
}

/// A fault of syntax, with the field whose value it stands in, where that can be told.
fn syntax(text: &str, error: &serde_json::Error) -> ValidationError {
    let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (line_start + error.column()).saturating_sub(1);
    // The parser stops at the first or the second byte of a word it does not know.
    let head = text.get(..at).unwrap_or(text).trim_end_matches(['-', 'N', 'I']).trim_end();
    let name = head.strip_suffix(':').map(str::trim_end).and_then(|head| head.strip_suffix('"'));
    let field = name.and_then(|name| FIELDS.into_iter().find(|field| name.strip_suffix(field).is_some_and(|rest| rest.ends_with('"'))));
    let tail = text.get(head.len()..).unwrap_or_default().trim_start().trim_start_matches('-');
    if tail.starts_with("NaN") || tail.starts_with("Infinity") {
        return ValidationError::new(
            field,
            ValidationErrorCode::NotFinite,
            "JSON has neither NaN nor Infinity; leave out a value that is not known",
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
    const GOOD: &str = r#"{"user_id":"u","type":"view","item_id":"i"}"#;

    fn read(body: &str) -> ParsedBatch<WithConsent> {
        read_events(body.as_bytes(), &ValidationRules::default(), NOW).unwrap()
    }

    fn only_fault(body: &str) -> ValidationError {
        let mut events = read(body).records;
        assert_eq!(events.len(), 1, "{body}");
        events.remove(0).unwrap_err()
    }

    #[test]
    fn reads_every_field() {
        let reading = read(
            r#"{"event_id":"e1","user_id":"\u00fcser","session_id":"s","type":"rate","item_id":"i","value":4.5,
                "timestamp":"2014-04-01T01:15:41Z","properties":{"page": [1, {}]}}"#,
        );
        let event = reading.records.into_iter().next().unwrap().unwrap().value;
        assert_eq!(event.event_id.as_deref(), Some("e1"));
        assert_eq!(event.user_id, "üser");
        assert_eq!(event.session_id.as_deref(), Some("s"));
        assert_eq!((event.kind, event.item_id.as_deref(), event.value), (EventKind::Rate, Some("i"), Some(4.5)));
        assert_eq!(event.timestamp, 1_396_314_941_000);
        assert_eq!(event.properties.as_deref(), Some(r#"{"page": [1, {}]}"#));
    }

    #[test]
    fn consent_is_read_and_nothing_is_guessed_of_it() {
        let said = |level: &str| read(&format!(r#"{{"user_id":"u","type":"view","item_id":"i","consent":{level}}}"#)).records.remove(0);
        for level in Consent::ALL {
            assert_eq!(said(&format!("\"{}\"", level.name())).unwrap().consent, Some(level));
        }
        assert_eq!(said("null").unwrap().consent, None);
        for (wrong, code) in [
            ("\"all\"", ValidationErrorCode::UnknownConsent),
            ("\"\"", ValidationErrorCode::UnknownConsent),
            ("true", ValidationErrorCode::WrongType),
        ] {
            let fault = said(wrong).unwrap_err();
            assert_eq!((fault.field, fault.code), (Some("consent"), code), "{wrong}");
        }
    }

    #[test]
    fn an_object_an_array_and_lines_are_the_same() {
        let one = read(GOOD).records;
        assert!(one[0].is_ok());
        let pretty = "{\n  \"user_id\": \"u\",\n  \"type\": \"view\",\n  \"item_id\": \"i\"\n}\n";
        assert_eq!(read(pretty).records, one);
        assert_eq!(read(&format!("\u{feff} [{GOOD}, {GOOD}]\n")).records, [one.clone(), one.clone()].concat());
        assert_eq!(read(&format!("{GOOD}\r\n\n{GOOD}\n")).records, [one.clone(), one].concat());
        assert_eq!(read("[]"), ParsedBatch { records: Vec::new(), warnings: Vec::new() });
    }

    #[test]
    fn every_bad_input_is_named() {
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
            (r#"{"user_id":"u","type":"glance","item_id":"i"}"#.to_owned(), Some("type"), ValidationErrorCode::UnknownKind),
            (r#"{"user_id":"u","type":"view"}"#.to_owned(), Some("item_id"), ValidationErrorCode::Missing),
            (format!(r#"{{"user_id":"u",{rest},"timestamp":"9999-01-01T00:00:00Z"}}"#), Some("timestamp"), ValidationErrorCode::TooLate),
            (format!(r#"{{"user_id":"u",{rest},"timestamp":"9999-12-31T23:59:59Z"}}"#), Some("timestamp"), ValidationErrorCode::TooLate),
            (format!(r#"{{"user_id":"u",{rest},"timestamp":-1}}"#), Some("timestamp"), ValidationErrorCode::TooEarly),
            (format!(r#"{{"user_id":"u",{rest},"timestamp":"today"}}"#), Some("timestamp"), ValidationErrorCode::BadTimestamp),
            (format!(r#"{{"user_id":"u",{rest},"timestamp":true}}"#), Some("timestamp"), ValidationErrorCode::BadTimestamp),
            (format!(r#"{{"user_id":"u",{rest},"properties":[1]}}"#), Some("properties"), ValidationErrorCode::WrongType),
        ];
        for (body, field, code) in table {
            let fault = only_fault(&body);
            assert_eq!((fault.field, fault.code), (field, code), "{body}: {}", fault.reason);
            assert!(!fault.reason.is_empty());
        }
    }

    #[test]
    fn a_fault_costs_only_its_own_element_or_line() {
        let reading = read(&format!(r#"[{GOOD},{{"user_id":"u",nope}},{GOOD}]"#));
        assert_eq!(reading.records.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(reading.records[1].as_ref().unwrap_err().index, 1);
        let reading = read(&format!("{{\"user_id\":\"torn\n\n{GOOD}\nnope\n{GOOD}"));
        let places: Vec<_> = reading.records.iter().map(|event| event.as_ref().err().map(|fault| (fault.index, fault.line))).collect();
        assert_eq!(places, [Some((0, Some(1))), None, Some((2, Some(4))), None]);
    }

    #[test]
    fn lines_are_told_from_one_torn_object() {
        let count = |body: &str| read(body).records.iter().map(Result::is_ok).collect::<Vec<_>>();
        assert_eq!(count(&format!("{GOOD}\nnope")), [true, false]);
        assert_eq!(count(&format!("nope\n{GOOD}")), [false, true]);
        assert_eq!(count("{\n  \"user_id\": \"u\",\n  \"properties\": {\n    \"a\": 1\n  }\n"), [false]);
    }

    #[test]
    fn depth_costs_neither_stack_nor_time() {
        let deep =
            format!(r#"{{"user_id":"u","type":"view","item_id":"i","properties":{{"a":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(only_fault(&deep).code, ValidationErrorCode::TooLarge);
        let deep = format!(r#"{{"user_id":"u","type":"view","item_id":"i","properties":{{"a":{}{}}}}}"#, "[".repeat(8), "]".repeat(8));
        assert_eq!(only_fault(&deep).code, ValidationErrorCode::TooDeep);
        assert_eq!(only_fault(&format!(r#"{{"user_id":{}"#, "[".repeat(500_000))).code, ValidationErrorCode::Syntax);
    }

    #[test]
    fn a_torn_array_gives_what_it_holds() {
        let reading = read(&format!(r#"[{GOOD},{{"user_id":"u""#));
        assert!(reading.records[0].is_ok());
        assert_eq!(reading.records[1].as_ref().unwrap_err().reason, "the array never closes; the rest is not read");
        let reading = read(&format!("[{GOOD}] {GOOD}"));
        assert_eq!(reading.records.len(), 2);
        assert!(reading.records[1].as_ref().unwrap_err().reason.starts_with("something follows the array"));
    }

    #[test]
    fn bodies_of_nothing_and_of_too_much_are_refused_whole() {
        let rules = ValidationRules { max_events: 2, ..ValidationRules::default() };
        assert_eq!(read_events(b" \n", &rules, NOW), Err(BodyError::Empty { record: "event" }));
        let three = [GOOD, GOOD, GOOD];
        for body in [three.join("\n"), format!("[{}]", three.join(","))] {
            assert_eq!(read_events(body.as_bytes(), &rules, NOW), Err(BodyError::TooMany { record: "event", records: 3, limit: 2 }));
        }
    }

    #[test]
    fn a_field_that_no_event_has_is_told_but_costs_nothing() {
        let reading = read(r#"[{"user_id":"u","type":"view","item_id":"i","sesion_id":"s"}]"#);
        assert!(reading.records[0].is_ok());
        assert_eq!((reading.warnings.len(), reading.warnings[0].code), (1, ValidationErrorCode::UnknownField));
        assert!(reading.warnings[0].reason.contains("`sesion_id`"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_events(&body, &ValidationRules::default(), NOW);
        }

        #[test]
        fn any_mangled_event_is_answered_and_spares_its_neighbours(cut in 0..GOOD.len(), byte in "[ -~]") {
            let mangled = format!("{}{byte}{}", &GOOD[..cut], &GOOD[cut..]);
            let reading = read(&format!("{GOOD}\n{mangled}\n{GOOD}"));
            prop_assert_eq!(reading.records.len(), 3);
            prop_assert!(reading.records[0].is_ok() && reading.records[2].is_ok());
        }

        #[test]
        fn ids_survive_whatever_their_letters(user in "\\PC{1,40}", item in "\\PC{1,40}") {
            let body = serde_json::json!({ "user_id": user, "type": "view", "item_id": item }).to_string();
            let event = read(&body).records.remove(0).unwrap().value;
            prop_assert_eq!((event.user_id, event.item_id), (user, Some(item)));
        }
    }
}
