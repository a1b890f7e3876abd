//! What a user lets be done with what they do.

use super::{Event, Timestamp};
use serde::{Deserialize, Serialize};

/// How far a user's consent goes: each level contains those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// Nothing is kept: an answer follows from what the request itself tells.
    None,
    /// The user's own sequence is kept, to answer from; nobody else's answers learn from it.
    Session,
    /// It is kept and learned from.
    #[default]
    Full,
}

impl Consent {
    /// Every level, from the least to the furthest.
    pub const ALL: [Self; 3] = [Self::None, Self::Session, Self::Full];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Session => "session",
            Self::Full => "full",
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// What a sender tells, with how far the consent to just this goes, if that is told, too.
#[derive(Debug, Clone, PartialEq)]
pub struct WithConsent<T = Event> {
    /// What is told.
    pub value: T,
    /// How far the consent goes; `None` leaves it to what the user said, or else to the settings.
    pub consent: Option<Consent>,
}

impl<T> WithConsent<T> {
    /// The same consent to something made of it.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> WithConsent<U> {
        WithConsent { value: make(self.value), consent: self.consent }
    }
}

impl<T> From<T> for WithConsent<T> {
    fn from(what: T) -> Self {
        Self { value: what, consent: None }
    }
}

/// From here on a user's consent goes as far as this. What was kept before stays: to have that
/// removed, the user is erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentChange {
    /// Whose.
    pub user_id: String,
    /// How far.
    pub consent: Consent,
    /// When it was said.
    pub timestamp: Timestamp,
}
