//! Events of users.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::environment::new_id;
use crate::error::SequorError;
use crate::setters::setters;

/// What may be stored of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// Nothing is stored.
    None,
    /// The session is used while it lasts.
    Session,
    /// Everything is stored.
    Full,
}

/// A time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Timestamp {
    /// Milliseconds since 1970.
    Milliseconds(i64),
    /// A date and time in RFC 3339, such as `2026-03-01T08:30:00Z`.
    Text(String),
}

impl From<i64> for Timestamp {
    fn from(milliseconds: i64) -> Self {
        Self::Milliseconds(milliseconds)
    }
}

impl From<&str> for Timestamp {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Timestamp {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::Milliseconds(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(error) => -millis(error.duration()),
        })
    }
}

/// A user event.
///
/// Every event gets an `event_id` when it is made. The daemon ignores an id that it has seen, so an
/// event that is sent again counts once.
///
/// ```
/// use sequor_client::Event;
///
/// let event = Event::new("ann", "cart").item_id("teapot").value(24.0).currency("EUR");
/// assert_eq!(event.event_id.len(), 32);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The user.
    pub user_id: String,
    /// The kind, such as `view`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item_id: Option<String>,
    /// The value, such as a price or a rating. It must be finite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// When the event happened. Without it, the event gets the time at which it is tracked or, if
    /// it is sent, the time at which it arrives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// The session of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The list to which the event responds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommendation_id: Option<String>,
    /// The currency of the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u32>,
    /// Texts, numbers and booleans that describe the situation of the user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub context: BTreeMap<String, Value>,
    /// Further members, which the daemon stores.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Value>,
    /// What may be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// The id by which the daemon recognises a repetition.
    #[serde(default = "new_id")]
    pub event_id: String,
}

impl Event {
    /// An event of a kind with a new `event_id`.
    #[must_use]
    pub fn new(user_id: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            user_id: user_id.into(),
            kind: kind.into(),
            item_id: None,
            value: None,
            timestamp: None,
            session_id: None,
            recommendation_id: None,
            currency: None,
            quantity: None,
            context: BTreeMap::new(),
            properties: BTreeMap::new(),
            consent: None,
            event_id: new_id(),
        }
    }

    setters! {
        /// Sets the item.
        item_id: impl Into<String>,
        /// Sets the value.
        value: f64,
        /// Sets when the event happened.
        timestamp: impl Into<Timestamp>,
        /// Sets the session of the site.
        session_id: impl Into<String>,
        /// Sets the list to which the event responds.
        recommendation_id: impl Into<String>,
        /// Sets the currency of the value.
        currency: impl Into<String>,
        /// Sets the number of items.
        quantity: u32,
        /// Sets what may be stored.
        consent: Consent,
    }

    /// Sets the id by which the daemon recognises a repetition.
    #[must_use]
    pub fn event_id(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = event_id.into();
        self
    }

    /// Adds a text, a number or a boolean to the context.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.context.insert(name.into(), value.into());
        self
    }

    /// Adds a property. A number that is not finite becomes `null`, because JSON has no such numbers.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Checks that the event has a JSON form. `subject` names the event in the error.
    ///
    /// # Errors
    /// [`SequorError::InvalidArgument`] if `value` is not finite, which JSON cannot express, or if the
    /// context has `null`.
    pub(crate) fn check(&self, subject: &str) -> Result<(), SequorError> {
        match self.value {
            Some(value) if !value.is_finite() => {
                Err(SequorError::invalid(format!("{subject}: `value` is {value}; it must be a finite number")))
            }
            _ => check_context(&self.context).map_err(|error| SequorError::invalid(format!("{subject}: {error}"))),
        }
    }
}

/// Checks a context. `Value::from` makes `null` of a number that is not finite.
///
/// # Errors
/// [`SequorError::InvalidArgument`] if a value is `null`.
pub(crate) fn check_context(context: &BTreeMap<String, Value>) -> Result<(), SequorError> {
    match context.iter().find(|(_, value)| value.is_null()) {
        None => Ok(()),
        Some((name, _)) => Err(SequorError::invalid(format!(
            "`context.{name}` is null; it must be a text, a finite number or a boolean"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_members_that_are_set() {
        let event = Event::new("ann", "view").item_id("tea").timestamp(5).event_id("e1").context("page", "home");
        let expected = r#"{"user_id":"ann","type":"view","item_id":"tea","timestamp":5,"context":{"page":"home"},"event_id":"e1"}"#;
        assert_eq!(serde_json::to_string(&event).unwrap(), expected);
    }

    #[test]
    fn times_before_and_after_1970_are_milliseconds() {
        let half = Duration::from_millis(500);
        assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH + half), Timestamp::Milliseconds(500));
        assert_eq!(Timestamp::from(SystemTime::UNIX_EPOCH - half), Timestamp::Milliseconds(-500));
    }
}
