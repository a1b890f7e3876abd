//! The entries of the journal.

use super::{
    ConsentChange, Event, Expiry, ItemChange, ModelChange, Offset, PlacementChange, Purge, RuleChange, SourceName,
    Timestamp, UserAttributesChange, UserErasure, UserMerge,
};
use serde::{Deserialize, Serialize};

/// One journal entry. All learned and stored state is derived from the entries in journal order.
/// The stored form is in `stored_entry`.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// An event of a user.
    Event(Event),
    /// A recommendation list that was shown to a user.
    Impression(Impression),
    /// A catalog change of an item.
    Item(ItemChange),
    /// An operation on the model.
    Model(ModelChange),
    /// A merge of two users.
    Merge(UserMerge),
    /// An event that extends the user's sequence, but from which the model does not learn.
    Private(Event),
    /// A change of a user's consent.
    Consent(ConsentChange),
    /// The erasure of a user. When the erasure is complete, this entry is replaced with an
    /// [`Entry::Tombstone`], like the user's other entries.
    Erase(UserErasure),
    /// Replaces an erased, expired or purged entry, so that other entries keep their offsets.
    Tombstone,
    /// The removal of entries that are older than their retention period.
    Expire(Expiry),
    /// The removal of the events and merges of an origin. When the removal is complete, this entry
    /// is replaced with an [`Entry::Tombstone`], too.
    Purge(Purge),
    /// A change of a user's attributes.
    UserAttributes(UserAttributesChange),
    /// A change of a placement.
    Placement(PlacementChange),
    /// A change of a rule.
    Rule(RuleChange),
}

impl Entry {
    /// Whether `expiry` removes this entry, given the entry's kind and timestamp.
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
    /// The event, if the entry is an event or a private event.
    #[must_use]
    pub fn as_event(&self) -> Option<&Event> {
        if let Self::Event(event) | Self::Private(event) = self { Some(event) } else { None }
    }

    /// Whether the journal records the origin of entries of this kind. It does so for events and
    /// merges.
    #[must_use]
    pub fn can_have_origin(&self) -> bool {
        matches!(self, Self::Event(_) | Self::Private(_) | Self::Merge(_))
    }

    /// The ids of the users that the entry names: none, one, or the two users of a merge.
    pub fn user_ids(&self) -> impl Iterator<Item = &str> {
        let users: [Option<&str>; 2] = match self {
            Self::Event(event) | Self::Private(event) => [Some(&event.user_id), None],
            Self::Impression(impression) => [Some(&impression.user_id), None],
            Self::Merge(merge) => [Some(&merge.from), Some(&merge.into)],
            Self::Consent(change) => [Some(&change.user_id), None],
            Self::Erase(erasure) => [Some(&erasure.user_id), None],
            Self::UserAttributes(change) => [Some(&change.user_id), None],
            Self::Item(_)
            | Self::Model(_)
            | Self::Tombstone
            | Self::Expire(_)
            | Self::Purge(_)
            | Self::Placement(_)
            | Self::Rule(_) => [None, None],
        };
        users.into_iter().flatten()
    }

    /// The time of the entry. A tombstone has the earliest possible time.
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
            Self::Purge(purge) => purge.timestamp,
            Self::Placement(change) => change.timestamp,
            Self::Rule(change) => change.timestamp,
            Self::UserAttributes(change) => change.timestamp,
        }
    }
}

/// A recommendation list that was shown to a user, so that later events can be attributed to it.
///
/// Impressions of store formats before 9 have the default values in the skipped fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Impression {
    /// The id of the response.
    pub recommendation_id: String,
    /// The user.
    pub user_id: String,
    /// The time of the response.
    pub timestamp: Timestamp,
    /// The version of the weights that ranked the items.
    pub weights_version: u64,
    /// The displayed items, best first.
    pub items: Vec<ImpressionItem>,
    /// The placement for which the list was requested.
    #[serde(skip)]
    pub placement: Option<String>,
    /// The variant of an experiment.
    #[serde(skip)]
    pub variant: Option<String>,
    /// The offset of the model snapshot that ranked the items: it contains every entry before it.
    #[serde(skip)]
    pub snapshot_offset: Offset,
    /// A digest of the request's parameters. Equal parameters have equal digests.
    #[serde(skip)]
    pub request_digest: u64,
}

impl Impression {
    /// Whether the site reported the list. Then the sources of its items are not known.
    ///
    /// A list that the daemon ranked has the digest of its request, or, before store format 9,
    /// items without position.
    #[must_use]
    pub fn is_reported(&self) -> bool {
        self.request_digest == 0 && self.items.iter().any(|item| item.position > 0)
    }
}

/// One item of an impression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImpressionItem {
    /// The item.
    pub item_id: String,
    /// The source that generated the item.
    pub source: SourceName,
    /// The score of the response.
    #[serde(skip)]
    pub score: f32,
    /// The position in the list, counted from 1 over all its pages; 0 if it is not known.
    #[serde(skip)]
    pub position: u32,
    /// The ids of the rules that moved the item.
    #[serde(skip)]
    pub rules: Vec<String>,
    /// The probability with which the item was drawn for its position.
    #[serde(skip)]
    pub propensity: Option<f32>,
    /// The relevance that the site gave to the item.
    #[serde(skip)]
    pub relevance: Option<f32>,
    /// The model's score before it was combined with the relevance. Only lists with relevance have
    /// it.
    #[serde(skip)]
    pub model_score: Option<f32>,
}

impl ImpressionItem {
    /// An item of which only id and source are known.
    #[must_use]
    pub fn new(item_id: String, source: SourceName) -> Self {
        Self {
            item_id,
            source,
            score: 0.0,
            position: 0,
            rules: Vec::new(),
            propensity: None,
            relevance: None,
            model_score: None,
        }
    }

    /// Whether only id and source are known.
    pub(super) fn is_bare(&self) -> bool {
        self.score.to_bits() == 0 && self.position == 0 && self.rules.is_empty() && self.propensity.is_none()
    }
}
