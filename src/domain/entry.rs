//! What the journal holds.

use super::{ConsentChange, Event, Expiry, ItemChange, ModelChange, SourceName, Timestamp, UserErasure, UserMerge};
use serde::{Deserialize, Serialize};

/// One journalled fact. Everything that is learned or remembered is a fold of these, in their
/// order. A new variant goes to the end: the journal keeps them by place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A user did something.
    Event(Event),
    /// A list was shown to a user.
    Impression(Impression),
    /// The catalog says something of an item.
    Item(ItemChange),
    /// The model is steered.
    Model(ModelChange),
    /// Two users turn out to be one.
    Merge(UserMerge),
    /// A user did something, to be answered from and not to be learned from.
    Private(Event),
    /// How far a user's consent goes.
    Consent(ConsentChange),
    /// A user is to be forgotten. Once that is done it is a [`Entry::Tombstone`], too.
    Erase(UserErasure),
    /// What stood here was erased, or was kept long enough. It keeps its place, so that the others
    /// keep theirs.
    #[serde(rename = "Blank")]
    Tombstone,
    /// What is older than its kind is kept for is no more.
    Expire(Expiry),
}

impl Entry {
    /// Whether an expiry removes the entry, by the entry's own kind and time.
    #[must_use]
    pub fn is_expired_by(&self, expiry: &Expiry) -> bool {
        match self {
            Self::Event(event) | Self::Private(event) => {
                expiry.events.iter().any(|(kind, before)| *kind == event.kind && event.timestamp < *before)
            }
            Self::Impression(impression) => expiry.impressions.is_some_and(|before| impression.timestamp < before),
            _ => false,
        }
    }
}

impl Entry {
    /// The event, if it is one, learned from or not.
    #[must_use]
    pub fn as_event(&self) -> Option<&Event> {
        if let Self::Event(event) | Self::Private(event) = self { Some(event) } else { None }
    }

    /// The users whom it is about: none, one, or the two of a merge.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        let users: [Option<&str>; 2] = match self {
            Self::Event(event) | Self::Private(event) => [Some(&event.user_id), None],
            Self::Impression(impression) => [Some(&impression.user_id), None],
            Self::Merge(merge) => [Some(&merge.from), Some(&merge.into)],
            Self::Consent(change) => [Some(&change.user_id), None],
            Self::Erase(erasure) => [Some(&erasure.user_id), None],
            Self::Item(_) | Self::Model(_) | Self::Tombstone | Self::Expire(_) => [None, None],
        };
        users.into_iter().flatten()
    }

    /// When it happened: before everything else, for what was erased.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        match self {
            Self::Event(event) | Self::Private(event) => event.timestamp,
            Self::Impression(impression) => impression.timestamp,
            Self::Item(change) => change.timestamp,
            Self::Model(change) => change.timestamp,
            Self::Merge(merge) => merge.timestamp,
            Self::Consent(change) => change.timestamp,
            Self::Erase(erasure) => erasure.timestamp,
            Self::Tombstone => Timestamp::MIN,
            Self::Expire(expiry) => expiry.timestamp,
        }
    }
}

/// A recommendation as it was shown, so that the event that follows can be credited to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Impression {
    /// The id that the answer carried.
    pub recommendation_id: String,
    /// To whom it was shown.
    pub user_id: String,
    /// When.
    pub timestamp: Timestamp,
    /// The version of the weights that ranked it.
    pub weights_version: u64,
    /// The items, best first.
    pub items: Vec<ImpressionItem>,
}

/// One item of an impression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImpressionItem {
    /// The item.
    pub item_id: String,
    /// Which source brought it.
    pub source: SourceName,
}
