//! The consent of a user to store events and to learn from them.

use super::{Event, Timestamp};
use serde::{Deserialize, Serialize};

/// A consent level. Each level permits everything that the lower levels permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Nothing is stored. A response depends only on the request.
    None,
    /// The user's events are stored, but only to recommend items to this user. The model does not
    /// learn from them.
    Session,
    /// Events are stored, and the model learns from them.
    #[default]
    Full,
}

impl Consent {
    /// All levels, in ascending order.
    pub const ALL: [Self; 3] = [Self::None, Self::Session, Self::Full];

    /// The level's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Session => "session",
            Self::Full => "full",
        }
    }

    /// The level with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// A value from a client (for example an event), with the consent level that the client states for
/// this value only.
#[derive(Debug, Clone, PartialEq)]
pub struct WithConsent<T = Event> {
    /// The value.
    pub value: T,
    /// The stated consent. If `None`, the user's stored consent applies, or else the default
    /// consent of the settings.
    pub consent: Option<Consent>,
}

impl<T> WithConsent<T> {
    /// Applies `convert` to the value and keeps the consent.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> WithConsent<U> {
        WithConsent { value: convert(self.value), consent: self.consent }
    }
}

impl<T> From<T> for WithConsent<T> {
    fn from(value: T) -> Self {
        Self { value, consent: None }
    }
}

/// A change of a user's consent, which applies from this journal entry on. Earlier data stays; only
/// an erasure removes earlier data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentChange {
    /// The user.
    pub user_id: String,
    /// The new level.
    pub consent: Consent,
    /// The time of the change.
    pub timestamp: Timestamp,
}
