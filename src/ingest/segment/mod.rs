//! Parses calls of Segment's tracking API, as its client libraries send them.

mod event_mapping;
#[cfg(test)]
mod tests;

pub use event_mapping::SegmentEventMapping;

use super::framing::BodyError;
use super::product_fields::{currency, event_value, item_id, parse_text, piece_count};
use super::timestamp;
use super::validation::{self, RawEvent, ValidationRules, missing_field_error, printable_excerpt};
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Consent, Entry, EventKind, Timestamp, WithConsent};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The fields of an [`Event`](crate::domain::Event) with their names in a Segment message.
const SEGMENT_FIELD_NAMES: [(&str, &str); 5] = [
    ("event_id", "messageId"),
    ("user_id", "userId"),
    ("session_id", "context.sessionId"),
    ("item_id", "product_id"),
    ("consent", "context.consent.level"),
];

/// The method of a message in Segment's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentCall {
    /// A user action.
    Track,
    /// A page view.
    Page,
    /// A view of a screen in an app.
    Screen,
    /// Links an anonymous id to a user id.
    Identify,
    /// Merges two ids of one user.
    Alias,
    /// Assigns a user to a group. Always ignored.
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

/// The parsed messages of a request body.
#[derive(Debug, Default, PartialEq)]
pub struct ParsedSegmentBatch {
    /// The journal entries to write, in the order of the messages.
    pub entries: Vec<WithConsent<Entry>>,
    /// Errors of rejected messages. The index is the position of the message in the batch.
    pub errors: Vec<ValidationError>,
    /// Messages skipped because no event kind is mapped to their event name.
    pub unmapped: Vec<ValidationError>,
    /// Merges skipped because an id is a placeholder.
    pub unmerged: Vec<ValidationError>,
    /// Number of messages that yield no entry for any other reason.
    pub ignored: u64,
    /// Number of messages that yield at least one entry.
    pub accepted: u64,
}

/// Parses the body of a single call.
///
/// # Errors
/// If the body is not a JSON object or yields more entries than `rules` allow. In that case, no
/// entry is accepted.
pub fn read_segment_call(
    body: &[u8],
    call: SegmentCall,
    rules: &ValidationRules,
    received_at: Timestamp,
) -> Result<ParsedSegmentBatch, BodyError> {
    let Value::Object(message) = parse_body(body)? else {
        return Err(BodyError::Unreadable { reason: "the body must be a JSON object".to_owned() });
    };
    let mut messages = ParsedSegmentBatch::default();
    messages.read_message(&message, &MessageContext { index: 0, call: Some(call), sent_at: None, rules, received_at });
    messages.check_entry_limit(rules)
}

/// Parses a batch: `{"batch": [message, …], "sentAt": …}`. An error rejects only its own message.
///
/// # Errors
/// If the body is not a JSON object with a list `batch`, or if the messages or their entries exceed
/// the limit of `rules`. In that case, no entry is accepted.
pub fn read_segment_batch(
    body: &[u8],
    rules: &ValidationRules,
    received_at: Timestamp,
) -> Result<ParsedSegmentBatch, BodyError> {
    let body = parse_body(body)?;
    let Some(batch) = body.get("batch").and_then(Value::as_array) else {
        return Err(BodyError::Unreadable { reason: "the body must be a JSON object with a list `batch`".to_owned() });
    };
    if batch.len() > rules.max_events {
        return Err(BodyError::TooMany { record: "message", records: batch.len(), limit: rules.max_events });
    }
    let mut messages = ParsedSegmentBatch::default();
    for (index, message) in (0..).zip(batch) {
        match message {
            Value::Object(message) => messages.read_message(
                message,
                &MessageContext { index, call: None, sent_at: body.get("sentAt"), rules, received_at },
            ),
            _ => messages.errors.push(
                ValidationError::new(None, ValidationErrorCode::WrongType, "a message must be a JSON object")
                    .with_position(index, None),
            ),
        }
    }
    messages.check_entry_limit(rules)
}

fn parse_body(body: &[u8]) -> Result<Value, BodyError> {
    if body.trim_ascii().is_empty() {
        return Err(BodyError::Empty { record: "message" });
    }
    serde_json::from_slice(body)
        .map_err(|error| BodyError::Unreadable { reason: format!("the body is not JSON: {error}") })
}

/// Context of a message within its request.
struct MessageContext<'v> {
    /// Position of the message in the batch.
    index: u64,
    /// The method, if the request path determines it.
    call: Option<SegmentCall>,
    /// Send time of the batch, by the sender's clock.
    sent_at: Option<&'v Value>,
    rules: &'v ValidationRules,
    received_at: Timestamp,
}

/// The fields that all events of one message share.
struct EventTemplate<'m> {
    kind: &'m EventKind,
    user_id: Cow<'m, str>,
    session_id: Option<Cow<'m, str>>,
    timestamp: Option<Timestamp>,
    consent: Option<Consent>,
    /// The currency of the message, for products that name none.
    currency: Option<&'m str>,
    rules: &'m ValidationRules,
    received_at: Timestamp,
}

impl EventTemplate<'_> {
    /// Builds and validates the event of one product, or of the message's properties.
    fn build_event(
        &self,
        event_id: Option<Cow<'_, str>>,
        object: &Map<String, Value>,
    ) -> Result<WithConsent<Entry>, ValidationError> {
        let raw = RawEvent {
            event_id,
            user_id: Some(self.user_id.clone()),
            session_id: self.session_id.clone(),
            kind: Some(self.kind.name().into()),
            item_id: item_id(object)?,
            value: event_value(self.kind, object)?,
            timestamp: self.timestamp,
            currency: currency(object).or(self.currency).map(Cow::Borrowed),
            quantity: piece_count(object),
            ..RawEvent::default()
        };
        let mut event = self.rules.validate_event(raw, self.received_at)?.value;
        // Sites choose properties for all destinations of Segment, not only for Sequor. If
        // properties exceed a limit, the event is therefore accepted without them.
        event.properties = self.rules.properties_within_limits(object);
        Ok(WithConsent { value: Entry::Event(event), consent: self.consent })
    }
}

impl ParsedSegmentBatch {
    fn read_message(&mut self, message: &Map<String, Value>, context: &MessageContext) {
        let before = self.entries.len();
        if let Err(error) = self.convert_message(message, context) {
            // A message is accepted as a whole or not at all.
            self.entries.truncate(before);
            self.errors.push(with_segment_field_name(error).with_position(context.index, None));
        }
        self.accepted += u64::from(self.entries.len() > before);
    }

    /// Converts a message into entries.
    fn convert_message(
        &mut self,
        message: &Map<String, Value>,
        context: &MessageContext,
    ) -> Result<(), ValidationError> {
        let &MessageContext { index, call, rules, .. } = context;
        let call = match call {
            Some(call) => call,
            None => parse_call_type(message)?,
        };
        let user = match parse_text("userId", message.get("userId"))? {
            Some(user) => Some(user),
            None => parse_text("anonymousId", message.get("anonymousId"))?,
        };
        let consent = message_consent(message.get("context"), rules)?;
        let name = match call {
            SegmentCall::Track => {
                parse_text("event", message.get("event"))?.ok_or_else(|| missing_field_error("event"))?
            }
            SegmentCall::Page => "Page".into(),
            SegmentCall::Screen => "Screen".into(),
            SegmentCall::Identify | SegmentCall::Alias => return self.convert_merge(message, call, consent, context),
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
                let reason = format!(
                    "no event kind is mapped to `{}`; add it to [segment.events] in the settings",
                    printable_excerpt(&name)
                );
                self.unmapped.push(
                    ValidationError::new("event", ValidationErrorCode::UnknownKind, reason).with_position(index, None),
                );
                return Ok(());
            }
        };
        let user_id = user.ok_or_else(|| {
            ValidationError::new("userId", ValidationErrorCode::Missing, "`userId` and `anonymousId` are both missing")
        })?;
        self.convert_events(message, call, kind, user_id, consent, context)
    }

    /// Converts `identify` and `alias` into a merge of two user ids.
    fn convert_merge(
        &mut self,
        message: &Map<String, Value>,
        call: SegmentCall,
        consent: Option<Consent>,
        context: &MessageContext,
    ) -> Result<(), ValidationError> {
        let &MessageContext { sent_at, rules, received_at, .. } = context;
        let fields = if call == SegmentCall::Identify { ["anonymousId", "userId"] } else { ["previousId", "userId"] };
        let [from, into] = fields.map(|field| parse_text(field, message.get(field)));
        match (from?, into?) {
            (Some(from), Some(into)) if from != into => {
                let at = event_time(message, sent_at, received_at)?.unwrap_or(received_at);
                match rules.validate_merge(fields, from, into, at) {
                    Ok(merge) => self.entries.push(WithConsent { value: Entry::Merge(merge), consent }),
                    Err(error) if error.code == ValidationErrorCode::PlaceholderId => {
                        self.unmerged.push(error.with_position(context.index, None));
                    }
                    Err(error) => return Err(error),
                }
            }
            (None, _) if call == SegmentCall::Alias => return Err(missing_field_error("previousId")),
            (_, None) if call == SegmentCall::Alias => return Err(missing_field_error("userId")),
            // If there are no two different ids, there is nothing to merge.
            _ => self.ignored += 1,
        }
        Ok(())
    }

    /// Converts `track`, `page` and `screen` into events: one per product, or one per message.
    fn convert_events(
        &mut self,
        message: &Map<String, Value>,
        call: SegmentCall,
        kind: &EventKind,
        user_id: Cow<'_, str>,
        consent: Option<Consent>,
        context: &MessageContext,
    ) -> Result<(), ValidationError> {
        let &MessageContext { sent_at, rules, received_at, .. } = context;
        let empty = Map::new();
        let properties = match message.get("properties") {
            None | Some(Value::Null) => &empty,
            Some(Value::Object(properties)) => properties,
            Some(_) => {
                return Err(ValidationError::new(
                    "properties",
                    ValidationErrorCode::WrongType,
                    "`properties` must be an object",
                ));
            }
        };
        let products = match properties.get("products").and_then(Value::as_array) {
            Some(products) if !products.is_empty() && *kind != EventKind::Search => Some(products),
            _ => None,
        };
        let message_id = parse_text("messageId", message.get("messageId"))?;
        let session_id =
            parse_text("context.sessionId", message.get("context").and_then(|context| context.get("sessionId")))?;
        let timestamp = event_time(message, sent_at, received_at)?;
        let currency = currency(properties);
        let template = EventTemplate { kind, user_id, session_id, timestamp, consent, currency, rules, received_at };
        let Some(products) = products else {
            // A page without an item yields no event.
            if matches!(call, SegmentCall::Page | SegmentCall::Screen)
                && *kind != EventKind::Search
                && item_id(properties)?.is_none()
            {
                self.ignored += 1;
                return Ok(());
            }
            self.entries.push(template.build_event(message_id, properties)?);
            return Ok(());
        };
        for (index, product) in products.iter().enumerate() {
            let Value::Object(product) = product else {
                return Err(ValidationError::new(
                    "products",
                    ValidationErrorCode::WrongType,
                    "each of `products` must be an object",
                ));
            };
            let event_id = message_id.as_ref().map(|id| format!("{id}/{index}").into());
            self.entries.push(template.build_event(event_id, product)?);
        }
        Ok(())
    }

    /// Rejects the body if it yields more entries than the limit.
    fn check_entry_limit(self, rules: &ValidationRules) -> Result<Self, BodyError> {
        let (records, limit) = (self.entries.len(), rules.max_events);
        if records > limit { Err(BodyError::TooMany { record: "event", records, limit }) } else { Ok(self) }
    }
}

/// Parses the method of a message from its `type`.
fn parse_call_type(message: &Map<String, Value>) -> Result<SegmentCall, ValidationError> {
    let name = parse_text("type", message.get("type"))?.ok_or_else(|| missing_field_error("type"))?;
    SegmentCall::from_name(&name).ok_or_else(|| {
        let reason = format!(
            "unknown `type` `{}`; it must be track, page, screen, identify, alias or group",
            printable_excerpt(&name)
        );
        ValidationError::new("type", ValidationErrorCode::UnknownKind, reason)
    })
}

/// The consent level of a message: the minimum of `context.consent.level` and the levels that the
/// refused categories allow.
/// <https://segment.com/docs/privacy/consent-management/consent-in-segment-connections/>
fn message_consent(context: Option<&Value>, rules: &ValidationRules) -> Result<Option<Consent>, ValidationError> {
    let Some(consent) = context.and_then(|context| context.get("consent")) else { return Ok(None) };
    let level = parse_text("context.consent.level", consent.get("level"))?
        .map(|level| validation::parse_consent(&level))
        .transpose()?;
    let categories = consent.get("categoryPreferences").and_then(Value::as_object);
    let refused = categories.into_iter().flatten().filter(|(_, preference)| **preference == Value::Bool(false));
    Ok(refused.filter_map(|(category, _)| rules.consent_if_refused.get(category).copied()).chain(level).min())
}

/// The time of an event by this machine's clock. The difference between arrival time and the
/// sender's `sentAt` corrects the error of the sender's clock.
/// <https://segment.com/docs/connections/spec/common/#timestamp-overview>
fn event_time(
    message: &Map<String, Value>,
    sent_at: Option<&Value>,
    received_at: Timestamp,
) -> Result<Option<Timestamp>, ValidationError> {
    let Some(at) = message.get("timestamp").or_else(|| message.get("originalTimestamp")).filter(|at| !at.is_null())
    else {
        return Ok(None);
    };
    let at = match at {
        Value::String(at) => timestamp::from_rfc3339("timestamp", at)?,
        Value::Number(at) => timestamp::from_milliseconds("timestamp", &at.to_string())?,
        _ => {
            return Err(ValidationError::new(
                "timestamp",
                ValidationErrorCode::WrongType,
                "`timestamp` must be a string",
            ));
        }
    };
    let sent = message
        .get("sentAt")
        .or(sent_at)
        .and_then(Value::as_str)
        .and_then(|sent| timestamp::from_rfc3339("sentAt", sent).ok());
    Ok(Some(sent.map_or(at, |sent| received_at.saturating_sub(sent.saturating_sub(at)))))
}

/// Renames the field of a validation error to its name in a Segment message.
fn with_segment_field_name(mut error: ValidationError) -> ValidationError {
    if let Some((field, segment_name)) = SEGMENT_FIELD_NAMES.into_iter().find(|(field, _)| error.field == Some(field)) {
        error.field = Some(segment_name);
        error.reason = error.reason.replace(&format!("`{field}`"), &format!("`{segment_name}`"));
    }
    error
}
