//! The stored forms of journal entries and item operations.
//!
//! The encoding is positional, so a stored type never gets another field. Fields that a format adds
//! are `#[serde(skip)]` in the domain types. Entries that use such fields are stored as another
//! variant, which holds the added fields behind the old ones.

use super::{
    ConsentChange, Entry, Event, EventDetails, Expiry, Impression, ImpressionItem, ImpressionLimitAction, Item,
    ItemChange, ItemDetails, ItemDetailsPatch, ItemOperation, ItemPatch, ItemVector, ModelChange, Objective, Offset,
    PlacementChange, PlacementConfig, PlacementOperation, Purge, RuleChange, UserAttributesChange, UserErasure,
    UserMerge, VectorPatch,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// [`Entry`] as the journal stores it. New variants must be added at the end, because the encoding
/// numbers variants by position.
#[derive(Serialize, Deserialize)]
enum StoredEntry<'e> {
    Event(Cow<'e, Event>),
    Impression(Cow<'e, Impression>),
    Item(Cow<'e, ItemChange>),
    Model(Cow<'e, ModelChange>),
    Merge(Cow<'e, UserMerge>),
    Private(Cow<'e, Event>),
    Consent(Cow<'e, ConsentChange>),
    Erase(Cow<'e, UserErasure>),
    Tombstone,
    Expire(Cow<'e, Expiry>),
    Purge(Cow<'e, Purge>),
    DetailedEvent(Cow<'e, Event>, Cow<'e, EventDetails>),
    DetailedPrivate(Cow<'e, Event>, Cow<'e, EventDetails>),
    DetailedImpression(Cow<'e, Impression>, ImpressionDetails<'e>),
    UserAttributes(Cow<'e, UserAttributesChange>),
    Placement(Cow<'e, PlacementChange>),
    Rule(Cow<'e, RuleChange>),
    DetailedPlacement(Cow<'e, PlacementChange>, PlacementDetails),
    ImpressionWithRelevance(Cow<'e, Impression>, ImpressionDetails<'e>, Vec<ItemRelevance>),
}

/// The fields of a placement that [`StoredEntry::Placement`] does not have.
#[derive(Serialize, Deserialize)]
struct PlacementDetails {
    impression_limit_action: ImpressionLimitAction,
    objective: Option<Objective>,
}

impl PlacementDetails {
    /// The details of a change; `None` if they have the default values.
    fn of(change: &PlacementChange) -> Option<Self> {
        let PlacementOperation::Put(PlacementConfig { impression_limit_action, objective, .. }) = change.operation
        else {
            return None;
        };
        let is_default = impression_limit_action == ImpressionLimitAction::default() && objective.is_none();
        (!is_default).then_some(Self { impression_limit_action, objective })
    }

    fn add_to(self, mut change: PlacementChange) -> PlacementChange {
        if let PlacementOperation::Put(config) = &mut change.operation {
            config.impression_limit_action = self.impression_limit_action;
            config.objective = self.objective;
        }
        change
    }
}

/// What lists with relevance add to an item of an impression.
#[derive(Serialize, Deserialize)]
struct ItemRelevance {
    relevance: Option<f32>,
    model_score: Option<f32>,
}

/// The fields that format 9 added to an impression. With the usual values, an item takes 9 bytes.
#[derive(Serialize, Deserialize)]
struct ImpressionDetails<'e> {
    placement: Option<Cow<'e, str>>,
    variant: Option<Cow<'e, str>>,
    snapshot_offset: Offset,
    request_digest: u64,
    items: Vec<ImpressionItemDetails<'e>>,
}

#[derive(Serialize, Deserialize)]
struct ImpressionItemDetails<'e> {
    score: f32,
    position: u32,
    /// The rules that moved the item and its propensity; `None` without both.
    influence: Option<(Cow<'e, [String]>, Option<f32>)>,
}

impl<'e> ImpressionDetails<'e> {
    /// The details of an impression; `None` if they are those of an impression of an older format.
    fn of(impression: &'e Impression) -> Option<Self> {
        let Impression { placement, variant, snapshot_offset, request_digest, items, .. } = impression;
        let is_old = placement.is_none()
            && variant.is_none()
            && (*snapshot_offset, *request_digest) == (0, 0)
            && items.iter().all(ImpressionItem::is_bare);
        (!is_old).then(|| Self::new(impression))
    }

    fn new(impression: &'e Impression) -> Self {
        let of_item = |shown: &'e ImpressionItem| ImpressionItemDetails {
            score: shown.score,
            position: shown.position,
            influence: (!shown.rules.is_empty() || shown.propensity.is_some())
                .then_some((Cow::Borrowed(shown.rules.as_slice()), shown.propensity)),
        };
        Self {
            placement: impression.placement.as_deref().map(Cow::Borrowed),
            variant: impression.variant.as_deref().map(Cow::Borrowed),
            snapshot_offset: impression.snapshot_offset,
            request_digest: impression.request_digest,
            items: impression.items.iter().map(of_item).collect(),
        }
    }

    fn add_to(self, impression: Impression) -> Impression {
        let items = impression.items.into_iter().zip(self.items).map(|(shown, details)| {
            let (rules, propensity) = details.influence.unwrap_or_default();
            let ImpressionItemDetails { score, position, .. } = details;
            ImpressionItem { score, position, rules: rules.into_owned(), propensity, ..shown }
        });
        Impression {
            placement: self.placement.map(Cow::into_owned),
            variant: self.variant.map(Cow::into_owned),
            snapshot_offset: self.snapshot_offset,
            request_digest: self.request_digest,
            items: items.collect(),
            ..impression
        }
    }
}

/// The relevance of each item of an impression; `None` if no item has one.
fn relevance_of_items(impression: &Impression) -> Option<Vec<ItemRelevance>> {
    let of_item =
        |&ImpressionItem { relevance, model_score, .. }: &ImpressionItem| ItemRelevance { relevance, model_score };
    let has_relevance = |shown: &ImpressionItem| shown.relevance.is_some() || shown.model_score.is_some();
    impression.items.iter().any(has_relevance).then(|| impression.items.iter().map(of_item).collect())
}

fn with_relevance(mut impression: Impression, relevance: Vec<ItemRelevance>) -> Impression {
    for (shown, ItemRelevance { relevance, model_score }) in impression.items.iter_mut().zip(relevance) {
        (shown.relevance, shown.model_score) = (relevance, model_score);
    }
    impression
}

impl<'e> From<&'e Entry> for StoredEntry<'e> {
    fn from(entry: &'e Entry) -> Self {
        match entry {
            Entry::Event(event) => match event.details.as_deref() {
                None => Self::Event(Cow::Borrowed(event)),
                Some(details) => Self::DetailedEvent(Cow::Borrowed(event), Cow::Borrowed(details)),
            },
            Entry::Private(event) => match event.details.as_deref() {
                None => Self::Private(Cow::Borrowed(event)),
                Some(details) => Self::DetailedPrivate(Cow::Borrowed(event), Cow::Borrowed(details)),
            },
            Entry::Impression(impression) => {
                match (ImpressionDetails::of(impression), relevance_of_items(impression)) {
                    (_, Some(relevance)) => {
                        let details = ImpressionDetails::new(impression);
                        Self::ImpressionWithRelevance(Cow::Borrowed(impression), details, relevance)
                    }
                    (None, None) => Self::Impression(Cow::Borrowed(impression)),
                    (Some(details), None) => Self::DetailedImpression(Cow::Borrowed(impression), details),
                }
            }
            Entry::Item(change) => Self::Item(Cow::Borrowed(change)),
            Entry::Model(change) => Self::Model(Cow::Borrowed(change)),
            Entry::Merge(merge) => Self::Merge(Cow::Borrowed(merge)),
            Entry::Consent(change) => Self::Consent(Cow::Borrowed(change)),
            Entry::Erase(erasure) => Self::Erase(Cow::Borrowed(erasure)),
            Entry::Tombstone => Self::Tombstone,
            Entry::Expire(expiry) => Self::Expire(Cow::Borrowed(expiry)),
            Entry::Purge(purge) => Self::Purge(Cow::Borrowed(purge)),
            Entry::UserAttributes(change) => Self::UserAttributes(Cow::Borrowed(change)),
            Entry::Placement(change) => match PlacementDetails::of(change) {
                None => Self::Placement(Cow::Borrowed(change)),
                Some(details) => Self::DetailedPlacement(Cow::Borrowed(change), details),
            },
            Entry::Rule(change) => Self::Rule(Cow::Borrowed(change)),
        }
    }
}

impl From<StoredEntry<'_>> for Entry {
    fn from(stored: StoredEntry<'_>) -> Self {
        let with_details = |event: Cow<'_, Event>, details: Cow<'_, EventDetails>| Event {
            details: Some(Box::new(details.into_owned())),
            ..event.into_owned()
        };
        match stored {
            StoredEntry::Event(event) => Self::Event(event.into_owned()),
            StoredEntry::Impression(impression) => Self::Impression(impression.into_owned()),
            StoredEntry::Item(change) => Self::Item(change.into_owned()),
            StoredEntry::Model(change) => Self::Model(change.into_owned()),
            StoredEntry::Merge(merge) => Self::Merge(merge.into_owned()),
            StoredEntry::Private(event) => Self::Private(event.into_owned()),
            StoredEntry::Consent(change) => Self::Consent(change.into_owned()),
            StoredEntry::Erase(erasure) => Self::Erase(erasure.into_owned()),
            StoredEntry::Tombstone => Self::Tombstone,
            StoredEntry::Expire(expiry) => Self::Expire(expiry.into_owned()),
            StoredEntry::Purge(purge) => Self::Purge(purge.into_owned()),
            StoredEntry::DetailedEvent(event, details) => Self::Event(with_details(event, details)),
            StoredEntry::DetailedPrivate(event, details) => Self::Private(with_details(event, details)),
            StoredEntry::DetailedImpression(impression, details) => {
                Self::Impression(details.add_to(impression.into_owned()))
            }
            StoredEntry::UserAttributes(change) => Self::UserAttributes(change.into_owned()),
            StoredEntry::Placement(change) => Self::Placement(change.into_owned()),
            StoredEntry::Rule(change) => Self::Rule(change.into_owned()),
            StoredEntry::DetailedPlacement(change, details) => Self::Placement(details.add_to(change.into_owned())),
            StoredEntry::ImpressionWithRelevance(impression, details, relevance) => {
                Self::Impression(with_relevance(details.add_to(impression.into_owned()), relevance))
            }
        }
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredEntry::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StoredEntry::deserialize(deserializer).map(Self::from)
    }
}

/// [`ItemOperation`] as the journal stores it. New variants must be added at the end.
#[derive(Serialize, Deserialize)]
enum StoredItemOperation<'o> {
    Put(Cow<'o, Item>),
    Patch(Cow<'o, ItemPatch>),
    Delete,
    PutWithVectors(Cow<'o, Item>, Cow<'o, [ItemVector]>),
    PatchWithVectors(Cow<'o, ItemPatch>, Cow<'o, VectorPatch>),
    PutWithDetails(Cow<'o, Item>, Option<Cow<'o, [ItemVector]>>, Cow<'o, ItemDetails>),
    PatchWithDetails(Cow<'o, ItemPatch>, Option<Cow<'o, VectorPatch>>, Cow<'o, ItemDetailsPatch>),
}

impl<'o> From<&'o ItemOperation> for StoredItemOperation<'o> {
    fn from(operation: &'o ItemOperation) -> Self {
        let (item, vectors) = match operation {
            ItemOperation::Put(item) => (item, None),
            ItemOperation::PutWithVectors(item, vectors) => (item, Some(Cow::Borrowed(vectors.as_slice()))),
            ItemOperation::Delete => return Self::Delete,
            ItemOperation::Patch(patch) => return Self::from_patch(patch, None),
            ItemOperation::PatchWithVectors(patch, vectors) => return Self::from_patch(patch, Some(vectors)),
        };
        match (item.details.as_deref(), vectors) {
            (None, None) => Self::Put(Cow::Borrowed(item)),
            (None, Some(vectors)) => Self::PutWithVectors(Cow::Borrowed(item), vectors),
            (Some(details), vectors) => Self::PutWithDetails(Cow::Borrowed(item), vectors, Cow::Borrowed(details)),
        }
    }
}

impl<'o> StoredItemOperation<'o> {
    fn from_patch(patch: &'o ItemPatch, vectors: Option<&'o VectorPatch>) -> Self {
        let vectors = vectors.map(Cow::Borrowed);
        match (patch.details.as_deref(), vectors) {
            (None, None) => Self::Patch(Cow::Borrowed(patch)),
            (None, Some(vectors)) => Self::PatchWithVectors(Cow::Borrowed(patch), vectors),
            (Some(details), vectors) => Self::PatchWithDetails(Cow::Borrowed(patch), vectors, Cow::Borrowed(details)),
        }
    }
}

impl From<StoredItemOperation<'_>> for ItemOperation {
    fn from(stored: StoredItemOperation<'_>) -> Self {
        match stored {
            StoredItemOperation::Put(item) => Self::Put(item.into_owned()),
            StoredItemOperation::Patch(patch) => Self::Patch(patch.into_owned()),
            StoredItemOperation::Delete => Self::Delete,
            StoredItemOperation::PutWithVectors(item, vectors) => {
                Self::PutWithVectors(item.into_owned(), vectors.into_owned())
            }
            StoredItemOperation::PatchWithVectors(patch, vectors) => {
                Self::PatchWithVectors(patch.into_owned(), vectors.into_owned())
            }
            StoredItemOperation::PutWithDetails(item, vectors, details) => {
                let item = Item { details: details.into_owned().into_shared(), ..item.into_owned() };
                match vectors {
                    None => Self::Put(item),
                    Some(vectors) => Self::PutWithVectors(item, vectors.into_owned()),
                }
            }
            StoredItemOperation::PatchWithDetails(patch, vectors, details) => {
                let patch = ItemPatch { details: details.into_owned().into_boxed(), ..patch.into_owned() };
                match vectors {
                    None => Self::Patch(patch),
                    Some(vectors) => Self::PatchWithVectors(patch, vectors.into_owned()),
                }
            }
        }
    }
}

impl Serialize for ItemOperation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        StoredItemOperation::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ItemOperation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StoredItemOperation::deserialize(deserializer).map(Self::from)
    }
}
