//! Calls in the shape of Segment's tracking API, as its libraries send them.

mod event_mapping;
#[cfg(test)]
mod tests;

pub use event_mapping::SegmentEventMapping;

use super::framing::BodyError;
use super::timestamp;
use super::validation::{self, RawEvent, ValidationRules, excerpt, missing_field};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Consent, Entry, EventKind, Timestamp, WithConsent};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Where an item's id is looked for, in this order.
const ITEM_IDS: [&str; 5] = ["product_id", "sku", "id", "asset_id", "article_id"];

/// What the fields of an [`Event`](crate::domain::Event) are called in a message.
const FIELDS: [(&str, &str); 5] = [
    ("event_id", "messageId"),
    ("user_id", "userId"),
    ("session_id", "context.sessionId"),
    ("item_id", "product_id"),
    ("consent", "context.consent.level"),
];

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentCall {
    /// Something was done.
    Track,
    /// A page was looked at.
    Page,
    /// A screen was looked at.
    Screen,
    /// Who somebody is.
    Identify,
    /// Two ids are of one user.
    Alias,
    /// Whom somebody belongs to; nothing is taken of it.
    Group,
}

impl SegmentCall {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "track" => Self::Track,
            "page" => Self::Page,
            "screen" => Self::Screen,
            "identify" => Self::Identify,
            "alias" => Self::Alias,
            "group" => Self::Group,
            _ => return None,
        })
    }
}

/// What a body of messages held.
#[derive(Debug, Default, PartialEq)]
pub struct ParsedSegmentBatch {
    /// What is to be taken, in the order of the messages.
    pub entries: Vec<WithConsent<Entry>>,
    /// What is wrong with messages of which nothing is taken; the index is the message's.
    pub errors: Vec<ValidationError>,
    /// Messages of which nothing is taken since their event is not known.
    pub unmapped: Vec<ValidationError>,
    /// How many other messages nothing is to be taken of.
    pub ignored: u64,
    /// How many messages something is taken of.
    pub accepted: u64,
}

/// Reads the body of one call.
///
/// # Errors
/// If it is no JSON object, or gives more entries than the rules allow; then nothing is taken.
pub fn read_segment_call(
    body: &[u8],
    call: SegmentCall,
    rules: &ValidationRules,
    received_at: Timestamp,
) -> Result<ParsedSegmentBatch, BodyError> {
    let Value::Object(message) = parse(body)? else {
        return Err(BodyError::Unreadable { reason: "a call's body is a JSON object".to_owned() });
    };
    let mut messages = ParsedSegmentBatch::default();
    messages.read(&message, &MessageContext { index: 0, call: Some(call), sent_at: None, rules, received_at });
    messages.bounded(rules)
}

/// Reads a batch: `{"batch": [message, …], "sentAt": …}`. A fault costs only the message that it stands in.
///
/// # Errors
/// If it is no JSON object with a `batch`, or holds more messages, or gives more entries, than the rules allow; then nothing is taken.
pub fn read_segment_batch(body: &[u8], rules: &ValidationRules, received_at: Timestamp) -> Result<ParsedSegmentBatch, BodyError> {
    let body = parse(body)?;
    let Some(batch) = body.get("batch").and_then(Value::as_array) else {
        return Err(BodyError::Unreadable { reason: "the body is no JSON object with a list `batch`".to_owned() });
    };
    if batch.len() > rules.max_events {
        return Err(BodyError::TooMany { record: "message", records: batch.len(), limit: rules.max_events });
    }
    let mut messages = ParsedSegmentBatch::default();
    for (index, message) in (0..).zip(batch) {
        match message {
            Value::Object(message) => {
                messages.read(message, &MessageContext { index, call: None, sent_at: body.get("sentAt"), rules, received_at })
            }
            _ => messages
                .errors
                .push(ValidationError::new(None, ValidationErrorCode::WrongType, "a message is a JSON object").with_position(index, None)),
        }
    }
    messages.bounded(rules)
}

fn parse(body: &[u8]) -> Result<Value, BodyError> {
    if body.trim_ascii().is_empty() {
        return Err(BodyError::Empty { record: "message" });
    }
    serde_json::from_slice(body).map_err(|error| BodyError::Unreadable { reason: format!("the body is not JSON: {error}") })
}

/// What holds of a message beside what it says.
struct MessageContext<'v> {
    /// Its place in the batch.
    index: u64,
    /// What it is, if the path told.
    call: Option<SegmentCall>,
    /// When the batch was sent, by the sender's clock.
    sent_at: Option<&'v Value>,
    rules: &'v ValidationRules,
    received_at: Timestamp,
}

impl ParsedSegmentBatch {
    fn read(&mut self, message: &Map<String, Value>, around: &MessageContext) {
        let before = self.entries.len();
        if let Err(fault) = self.take(message, around) {
            // Of a message all is taken or nothing.
            self.entries.truncate(before);
            self.errors.push(in_their_words(fault).with_position(around.index, None));
        }
        self.accepted += u64::from(self.entries.len() > before);
    }

    fn take(&mut self, message: &Map<String, Value>, around: &MessageContext) -> Result<(), ValidationError> {
        let &MessageContext { index, call, sent_at, rules, received_at } = around;
        let call = match call {
            Some(call) => call,
            None => {
                let name = text("type", message.get("type"))?.ok_or_else(|| missing_field("type"))?;
                SegmentCall::from_name(&name).ok_or_else(|| {
                    let known = "track, page, screen, identify, alias, group";
                    ValidationError::new(
                        "type",
                        ValidationErrorCode::UnknownKind,
                        format!("`type` is `{}`; there are {known}", excerpt(&name)),
                    )
                })?
            }
        };
        let user = match text("userId", message.get("userId"))? {
            Some(user) => Some(user),
            None => text("anonymousId", message.get("anonymousId"))?,
        };
        let consent = consent(message.get("context"), rules)?;
        let name = match call {
            SegmentCall::Track => text("event", message.get("event"))?.ok_or_else(|| missing_field("event"))?,
            SegmentCall::Page => "Page".into(),
            SegmentCall::Screen => "Screen".into(),
            SegmentCall::Identify | SegmentCall::Alias => {
                let fields = if call == SegmentCall::Identify { ["anonymousId", "userId"] } else { ["previousId", "userId"] };
                let [from, into] = fields.map(|field| text(field, message.get(field)));
                match (from?, into?) {
                    (Some(from), Some(into)) if from != into => {
                        let at = moment(message, sent_at, received_at)?.unwrap_or(received_at);
                        self.entries.push(WithConsent { value: Entry::Merge(rules.validate_merge(fields, from, into, at)?), consent });
                    }
                    (None, _) if call == SegmentCall::Alias => return Err(missing_field("previousId")),
                    (_, None) if call == SegmentCall::Alias => return Err(missing_field("userId")),
                    // Who is not known by two ids need not be merged.
                    _ => self.ignored += 1,
                }
                return Ok(());
            }
            SegmentCall::Group => {
                self.ignored += 1;
                return Ok(());
            }
        };
        let kind = match rules.segment_events.lookup(&name) {
            Some(Some(kind)) => kind,
            Some(None) => {
                self.ignored += 1;
                return Ok(());
            }
            None => {
                let reason = format!("nothing is taken of `{}`; [segment.events] of the settings can say what it means", excerpt(&name));
                self.unmapped.push(ValidationError::new("event", ValidationErrorCode::UnknownKind, reason).with_position(index, None));
                return Ok(());
            }
        };
        let user = user
            .ok_or_else(|| ValidationError::new("userId", ValidationErrorCode::Missing, "`userId` and `anonymousId` are both missing"))?;
        let nothing = Map::new();
        let properties = match message.get("properties") {
            None | Some(Value::Null) => &nothing,
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err(ValidationError::new("properties", ValidationErrorCode::WrongType, "`properties` must be an object")),
        };
        let products = match properties.get("products").and_then(Value::as_array) {
            Some(products) if !products.is_empty() && *kind != EventKind::Search => Some(products),
            _ => None,
        };
        let message_id = text("messageId", message.get("messageId"))?;
        let session_id = text("context.sessionId", message.get("context").and_then(|context| context.get("sessionId")))?;
        let at = moment(message, sent_at, received_at)?;
        let draft = |event_id: Option<Cow<'_, str>>, thing: &Map<String, Value>| {
            let draft = RawEvent {
                event_id,
                user_id: Some(user.clone()),
                session_id: session_id.clone(),
                kind: Some(kind.name().into()),
                item_id: item(thing)?,
                value: value(kind, thing)?,
                timestamp: at,
                properties: None,
                consent: None,
            };
            let mut event = rules.validate_event(draft, received_at)?.value;
            // They are meant for others, too: what of them is beyond the bounds costs the event nothing.
            event.properties = rules.bounded_properties(thing);
            Ok(WithConsent { value: Entry::Event(event), consent })
        };
        let Some(products) = products else {
            // Of a page that shows no item there is nothing to take.
            if matches!(call, SegmentCall::Page | SegmentCall::Screen) && *kind != EventKind::Search && item(properties)?.is_none() {
                self.ignored += 1;
                return Ok(());
            }
            self.entries.push(draft(message_id, properties)?);
            return Ok(());
        };
        for (place, product) in products.iter().enumerate() {
            let Value::Object(product) = product else {
                return Err(ValidationError::new("products", ValidationErrorCode::WrongType, "each of `products` must be an object"));
            };
            let event_id = message_id.as_ref().map(|id| format!("{id}/{place}").into());
            self.entries.push(draft(event_id, product)?);
        }
        Ok(())
    }

    fn bounded(self, rules: &ValidationRules) -> Result<Self, BodyError> {
        let (records, limit) = (self.entries.len(), rules.max_events);
        if records > limit { Err(BodyError::TooMany { record: "event", records, limit }) } else { Ok(self) }
    }
}

/// A text, or a number in its place: both are in use for ids. An empty one is none.
fn text<'v>(field: &'static str, value: Option<&'v Value>) -> Result<Option<Cow<'v, str>>, ValidationError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok((!text.is_empty()).then(|| text.as_str().into())),
        Some(Value::Number(number)) => Ok(Some(number.to_string().into())),
        Some(_) => Err(ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be a string"))),
    }
}

/// How far consent goes: the least of what `context.consent` says by name, as `level`, and of what is left by the categories that it refuses.
/// <https://segment.com/docs/privacy/consent-management/consent-in-segment-connections/>
fn consent(context: Option<&Value>, rules: &ValidationRules) -> Result<Option<Consent>, ValidationError> {
    let Some(consent) = context.and_then(|context| context.get("consent")) else { return Ok(None) };
    let level = text("context.consent.level", consent.get("level"))?.map(|level| validation::parse_consent(&level)).transpose()?;
    let categories = consent.get("categoryPreferences").and_then(Value::as_object);
    let refused = categories.into_iter().flatten().filter(|(_, given)| **given == Value::Bool(false));
    Ok(refused.filter_map(|(category, _)| rules.consent_if_refused.get(category).copied()).chain(level).min())
}

fn item(thing: &Map<String, Value>) -> Result<Option<Cow<'_, str>>, ValidationError> {
    for field in ITEM_IDS {
        if let Some(id) = text(field, thing.get(field))? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// How much: of a rating the rating, of a purchase the price of all pieces. Other events are worth what their kind is.
fn value(kind: &EventKind, thing: &Map<String, Value>) -> Result<Option<f64>, ValidationError> {
    match kind {
        EventKind::Rate => number("rating", thing.get("rating")),
        EventKind::Purchase => {
            let pieces = number("quantity", thing.get("quantity"))?.unwrap_or(1.0);
            Ok(number("price", thing.get("price"))?.map(|price| price * pieces))
        }
        _ => Ok(None),
    }
}

/// A number, or a text that is one.
fn number(field: &'static str, value: Option<&Value>) -> Result<Option<f64>, ValidationError> {
    let wrong = || ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be a number"));
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_f64().ok_or_else(wrong).map(Some),
        Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| wrong()),
        Some(_) => Err(wrong()),
    }
}

/// When it happened, by the clock of this machine: what the sender's clock said when it sent the message tells by how much it is wrong.
/// <https://segment.com/docs/connections/spec/common/#timestamp-overview>
fn moment(message: &Map<String, Value>, sent_at: Option<&Value>, received_at: Timestamp) -> Result<Option<Timestamp>, ValidationError> {
    let Some(at) = message.get("timestamp").or_else(|| message.get("originalTimestamp")).filter(|at| !at.is_null()) else {
        return Ok(None);
    };
    let at = match at {
        Value::String(at) => timestamp::from_rfc3339(at)?,
        Value::Number(at) => timestamp::from_milliseconds(&at.to_string())?,
        _ => return Err(ValidationError::new("timestamp", ValidationErrorCode::WrongType, "`timestamp` must be a string")),
    };
    let sent = message.get("sentAt").or(sent_at).and_then(Value::as_str).and_then(|sent| timestamp::from_rfc3339(sent).ok());
    Ok(Some(sent.map_or(at, |sent| received_at.saturating_sub(sent.saturating_sub(at)))))
}

/// A fault of the common rules, with the names that a message has for the fields.
fn in_their_words(mut fault: ValidationError) -> ValidationError {
    if let Some((ours, theirs)) = FIELDS.into_iter().find(|(ours, _)| fault.field == Some(ours)) {
        fault.field = Some(theirs);
        fault.reason = fault.reason.replace(&format!("`{ours}`"), &format!("`{theirs}`"));
    }
    fault
}
