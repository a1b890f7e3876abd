//! Writes journal entries as JSON lines, in the formats that the parsers of this module read.

use super::timestamp::END_OF_1970_MS;
use crate::domain::{
    AttributeValue, AttributeView, Attributes, AttributesPatch, Consent, Entry, Event, Expiry, Impression,
    ImpressionItem, ImpressionLimitAction, Item, ItemChange, ItemDetails, ItemDetailsPatch, ItemOperation, ItemPatch,
    ModelChange, ModelOperation, Objective, Offset, OriginHash, PlacementChange, PlacementOperation, Purge, Timestamp,
    UserAttributesChange, UserMerge, VectorPatch, WithConsent,
};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The names of the kinds of journal entry, as used in the field `entry`.
pub const ENTRY_KINDS: [&str; 13] = [
    "event",
    "impression",
    "item",
    "model",
    "merge",
    "consent",
    "erase",
    "blank",
    "expire",
    "purge",
    "attributes",
    "placement",
    "rule",
];

/// The name of the kind of an entry, one of [`ENTRY_KINDS`].
#[must_use]
pub fn entry_kind_name(entry: &Entry) -> &'static str {
    match entry {
        Entry::Event(_) | Entry::Private(_) => "event",
        Entry::Impression(_) => "impression",
        Entry::Item(_) => "item",
        Entry::Model(_) => "model",
        Entry::Merge(_) => "merge",
        Entry::Consent(_) => "consent",
        Entry::Erase(_) => "erase",
        Entry::Tombstone => "blank",
        Entry::Expire(_) => "expire",
        Entry::Purge(_) => "purge",
        Entry::Placement(_) => "placement",
        Entry::Rule(_) => "rule",
        Entry::UserAttributes(_) => "attributes",
    }
}

/// Appends an entry as one JSON line with its `offset`.
///
/// | `entry` | Content |
/// |---|---|
/// | `event` | an event that `POST /v1/events` reads back unchanged |
/// | `item` | an item change that `POST /v1/items` reads back unchanged |
/// | `impression` | the recommendations shown |
/// | `model` | an operation on the model |
/// | `merge` | the two merged user ids |
/// | `consent` | a user's consent level |
/// | `erase` | the user to erase, until the erasure is complete |
/// | `blank` | an erased, expired or purged entry |
/// | `expire` | by kind, the time before which events have expired |
/// | `purge` | the origin whose events are removed, until the purge is complete |
/// | `placement` | a change of a placement |
/// | `rule` | a change of a rule |
/// | `attributes` | a change of a user's attributes; `null` removes an attribute, or all of them |
///
/// # Errors
/// If the entry cannot be written as JSON. Serialisation succeeds for every entry that a parser
/// created.
pub fn write_entry(offset: Offset, entry: &Entry, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let name = entry_kind_name(entry);
    match entry {
        Entry::Event(event) => {
            write_json_line(ExportLine { offset, entry: name, rest: EventLine::new(event, None)? }, lines)
        }
        Entry::Private(event) => write_json_line(
            ExportLine { offset, entry: name, rest: EventLine::new(event, Some(Consent::Session))? },
            lines,
        ),
        Entry::Impression(impression) => {
            write_json_line(ExportLine { offset, entry: name, rest: ImpressionLine::new(impression) }, lines)
        }
        Entry::Item(change) => write_json_line(ExportLine { offset, entry: name, rest: ItemLine::new(change) }, lines),
        Entry::Model(change) => {
            write_json_line(ExportLine { offset, entry: name, rest: ModelLine::new(change) }, lines)
        }
        Entry::Merge(UserMerge { from, into, timestamp }) => write_json_line(
            ExportLine { offset, entry: name, rest: MergeLine { from, into, timestamp: *timestamp } },
            lines,
        ),
        Entry::Consent(change) => write_json_line(ExportLine { offset, entry: name, rest: change }, lines),
        Entry::Erase(erasure) => write_json_line(ExportLine { offset, entry: name, rest: erasure }, lines),
        Entry::Tombstone => write_json_line(ExportLine { offset, entry: name, rest: BlankLine {} }, lines),
        Entry::Expire(expiry) => {
            write_json_line(ExportLine { offset, entry: name, rest: ExpiryLine::new(expiry) }, lines)
        }
        Entry::Purge(purge) => write_json_line(ExportLine { offset, entry: name, rest: PurgeLine::new(purge) }, lines),
        Entry::Placement(change) => {
            write_json_line(ExportLine { offset, entry: name, rest: PlacementLine::new(change) }, lines)
        }
        Entry::Rule(change) => write_json_line(ExportLine { offset, entry: name, rest: change }, lines),
        Entry::UserAttributes(change) => {
            write_json_line(ExportLine { offset, entry: name, rest: UserAttributesLine::new(change) }, lines)
        }
    }
}

/// Appends an entry as one JSON line like [`write_entry`], with the consent level that the sender
/// gave and with the offset 0.
///
/// # Errors
/// As [`write_entry`].
pub fn write_entry_with_consent(entry: &WithConsent<Entry>, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match &entry.value {
        Entry::Event(event) => write_json_line(
            ExportLine { offset: 0, entry: entry_kind_name(&entry.value), rest: EventLine::new(event, entry.consent)? },
            lines,
        ),
        other => write_entry(0, other, lines),
    }
}

fn write_json_line<T: Serialize>(line: ExportLine<T>, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *lines, &line)?;
    lines.push(b'\n');
    Ok(())
}

#[derive(Serialize)]
struct ExportLine<T> {
    offset: Offset,
    entry: &'static str,
    #[serde(flatten)]
    rest: T,
}

/// An erased, expired or purged entry.
#[derive(Serialize)]
struct BlankLine {}

/// A purge. Hashes are written as hexadecimal digits, because JSON readers round large numbers.
#[derive(Serialize)]
struct PurgeLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address_hash: Option<String>,
    since: Timestamp,
    until: Timestamp,
    timestamp: Timestamp,
}

impl PurgeLine {
    fn new(purge: &Purge) -> Self {
        let hex = |hash: OriginHash| format!("{hash:016x}");
        let Purge { key, address, since, until, timestamp } = *purge;
        Self { key_hash: key.map(hex), address_hash: address.map(hex), since, until, timestamp }
    }
}

#[derive(Serialize)]
struct ExpiryLine<'e> {
    /// By kind of event, the time before which events have expired.
    events: BTreeMap<&'e str, Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impressions: Option<Timestamp>,
    timestamp: Timestamp,
}

impl<'e> ExpiryLine<'e> {
    fn new(Expiry { events, impressions, timestamp }: &'e Expiry) -> Self {
        let events = events.iter().map(|(kind, before)| (kind.name(), *before)).collect();
        Self { events, impressions: *impressions, timestamp: *timestamp }
    }
}

#[derive(Serialize)]
struct MergeLine<'m> {
    from: &'m str,
    into: &'m str,
    timestamp: Timestamp,
}

/// The values of changed attributes by name; `None` for a removed attribute. `None` instead of the
/// map: all attributes are removed.
type ChangedAttributes<'e> = Option<BTreeMap<&'e str, Option<AttributeView<'e>>>>;

fn changed_attributes(patch: &AttributesPatch) -> ChangedAttributes<'_> {
    let AttributesPatch::Change(changes) = patch else { return None };
    Some(changes.iter().map(|(name, value)| (&**name, value.as_ref().map(AttributeValue::view))).collect())
}

#[derive(Serialize)]
struct PlacementLine<'e> {
    #[serde(flatten)]
    change: &'e PlacementChange,
    /// Present unless it is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    impression_limit_action: Option<ImpressionLimitAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    objective: Option<&'static str>,
}

impl<'e> PlacementLine<'e> {
    fn new(change: &'e PlacementChange) -> Self {
        let impression_limit_action = match &change.operation {
            PlacementOperation::Put(config) => Some(config.impression_limit_action),
            PlacementOperation::Delete => None,
        };
        let is_stated = |action: &ImpressionLimitAction| *action != ImpressionLimitAction::default();
        let objective = change.operation.objective().map(Objective::name);
        Self { change, impression_limit_action: impression_limit_action.filter(is_stated), objective }
    }
}

#[derive(Serialize)]
struct UserAttributesLine<'e> {
    user_id: &'e str,
    attributes: ChangedAttributes<'e>,
    timestamp: Timestamp,
}

impl<'e> UserAttributesLine<'e> {
    fn new(UserAttributesChange { user_id, patch, timestamp }: &'e UserAttributesChange) -> Self {
        Self { user_id, attributes: changed_attributes(patch), timestamp: *timestamp }
    }
}

#[derive(Serialize)]
struct EventLine<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'e str>,
    user_id: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'e str>,
    r#type: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<RoundTripFloat>,
    timestamp: ApiTimestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    consent: Option<Consent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recommendation_id: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantity: Option<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    context: BTreeMap<&'e str, AttributeView<'e>>,
}

impl<'e> EventLine<'e> {
    fn new(event: &'e Event, consent: Option<Consent>) -> Result<Self, serde_json::Error> {
        // JSON allows line ends only between tokens, so a space can replace each of them.
        let details = event.details.as_deref();
        let properties = event.properties.as_ref().map(|text| RawValue::from_string(text.replace(['\n', '\r'], " ")));
        Ok(Self {
            event_id: event.event_id.as_deref(),
            user_id: &event.user_id,
            session_id: event.session_id.as_deref(),
            r#type: event.kind.name(),
            item_id: event.item_id.as_deref(),
            value: event.value.map(RoundTripFloat::new),
            timestamp: ApiTimestamp::new(event.timestamp),
            consent,
            properties: properties.transpose()?,
            recommendation_id: details.and_then(|details| details.recommendation_id.as_deref()),
            currency: details.and_then(|details| details.currency.as_deref()),
            quantity: details.and_then(|details| details.quantity),
            context: details.map(|details| details.context.views()).unwrap_or_default(),
        })
    }
}

/// A timestamp in a form that the API accepts: a number of milliseconds, or text for a time in
/// 1970. The API rejects a number for a time in 1970, because the number probably has another unit.
#[derive(Serialize)]
#[serde(untagged)]
enum ApiTimestamp {
    Milliseconds(Timestamp),
    Text(String),
}

impl ApiTimestamp {
    fn new(at: Timestamp) -> Self {
        let text = (0..END_OF_1970_MS).contains(&at).then(|| jiff::Timestamp::from_millisecond(at).ok()).flatten();
        text.map_or(Self::Milliseconds(at), |at| Self::Text(at.to_string()))
    }
}

/// An `f32` in decimal. A parser that reads it as `f64` and converts it to `f32` gets the same
/// value.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum RoundTripFloat {
    Short(f32),
    Exact(f64),
}

impl RoundTripFloat {
    #[expect(clippy::cast_possible_truncation, reason = "the comparison detects any loss")]
    pub(super) fn new(value: f32) -> Self {
        let narrowed = value.to_string().parse::<f64>().map(|wide| wide as f32);
        if narrowed == Ok(value) { Self::Short(value) } else { Self::Exact(value.into()) }
    }
}

#[derive(Serialize)]
struct ImpressionLine<'e> {
    recommendation_id: &'e str,
    user_id: &'e str,
    timestamp: Timestamp,
    weights_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_offset: Option<Offset>,
    /// As hexadecimal digits, because JSON readers round large numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_digest: Option<String>,
    items: Vec<ImpressionItemLine<'e>>,
}

#[derive(Serialize)]
struct ImpressionItemLine<'e> {
    item_id: &'e str,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<RoundTripFloat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rules: &'e [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    propensity: Option<RoundTripFloat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relevance: Option<RoundTripFloat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_score: Option<RoundTripFloat>,
}

impl<'e> ImpressionItemLine<'e> {
    fn new(shown: &'e ImpressionItem) -> Self {
        let is_known = shown.position > 0;
        Self {
            item_id: &shown.item_id,
            source: shown.source.as_str(),
            score: is_known.then(|| RoundTripFloat::new(shown.score)),
            position: is_known.then_some(shown.position),
            rules: &shown.rules,
            propensity: shown.propensity.map(RoundTripFloat::new),
            relevance: shown.relevance.map(RoundTripFloat::new),
            model_score: shown.model_score.map(RoundTripFloat::new),
        }
    }
}

impl<'e> ImpressionLine<'e> {
    fn new(impression: &'e Impression) -> Self {
        // Impressions of store formats before 9 have no digest.
        let has_digest = impression.request_digest != 0;
        Self {
            recommendation_id: &impression.recommendation_id,
            user_id: &impression.user_id,
            timestamp: impression.timestamp,
            weights_version: impression.weights_version,
            placement: impression.placement.as_deref(),
            variant: impression.variant.as_deref(),
            snapshot_offset: has_digest.then_some(impression.snapshot_offset),
            request_digest: has_digest.then(|| format!("{:016x}", impression.request_digest)),
            items: impression.items.iter().map(ImpressionItemLine::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct ModelLine {
    act: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Offset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<RoundTripFloat>,
    cause: &'static str,
    timestamp: Timestamp,
}

impl ModelLine {
    fn new(change: &ModelChange) -> Self {
        let to = if let ModelOperation::Rollback { to } = change.operation { Some(to) } else { None };
        let value = match change.operation {
            ModelOperation::LearningRate { value } => Some(RoundTripFloat::new(value)),
            ModelOperation::TrainingShare { halvings } => Some(RoundTripFloat::new(0.5_f32.powi(i32::from(halvings)))),
            _ => None,
        };
        Self { act: change.operation.name(), to, value, cause: change.cause.name(), timestamp: change.timestamp }
    }
}

#[derive(Serialize)]
struct ItemLine<'e> {
    op: &'static str,
    item_id: &'e str,
    timestamp: Timestamp,
    #[serde(flatten)]
    attributes: ExportedItemAttributes<'e>,
}

/// The values of each changed vector by name; `None` for a removed vector.
type ChangedVectors<'e> = BTreeMap<&'e str, Option<Vec<RoundTripFloat>>>;

/// Attributes of an item. Unset attributes are absent; removed attributes are `null`.
#[derive(Default, Serialize)]
struct ExportedItemAttributes<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<&'e [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    brand: Option<Option<&'e str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Option<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'e [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<Option<ApiTimestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Option<ApiTimestamp>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vectors: Option<Option<ChangedVectors<'e>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Option<&'e str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Option<&'e str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Option<&'e str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<ChangedAttributes<'e>>,
}

impl<'e> ItemLine<'e> {
    fn new(change: &'e ItemChange) -> Self {
        let (op, attributes) = match &change.operation {
            ItemOperation::Put(item) => ("put", ExportedItemAttributes::from_item(item)),
            ItemOperation::Patch(patch) => ("patch", ExportedItemAttributes::from_patch(patch)),
            ItemOperation::Delete => ("delete", ExportedItemAttributes::default()),
            ItemOperation::PutWithVectors(item, vectors) => {
                let vectors = vectors.iter().map(|vector| (vector.name.as_str(), Some(vector.values.as_slice())));
                ("put", ExportedItemAttributes::from_item(item).with_vectors(vectors))
            }
            ItemOperation::PatchWithVectors(patch, VectorPatch::RemoveAll) => {
                ("patch", ExportedItemAttributes { vectors: Some(None), ..ExportedItemAttributes::from_patch(patch) })
            }
            ItemOperation::PatchWithVectors(patch, VectorPatch::Change(changes)) => {
                let vectors = changes.iter().map(|(name, values)| (name.as_str(), values.as_deref()));
                ("patch", ExportedItemAttributes::from_patch(patch).with_vectors(vectors))
            }
        };
        Self { op, item_id: &change.item_id, timestamp: change.timestamp, attributes }
    }
}

impl<'e> ExportedItemAttributes<'e> {
    fn from_item(item: &'e Item) -> Self {
        Self {
            categories: Some(&item.categories),
            brand: item.brand.as_deref().map(Some),
            price: item.price.map(Some),
            tags: Some(&item.tags),
            available: Some(item.available),
            published: item.published.map(ApiTimestamp::new).map(Some),
            expires: item.expires.map(ApiTimestamp::new).map(Some),
            ..Self::default()
        }
        .with_details(item.details.as_deref())
    }

    fn with_details(self, details: Option<&'e ItemDetails>) -> Self {
        let Some(ItemDetails { title, url, image, attributes }) = details else { return self };
        let values = |attributes: &'e Attributes| attributes.iter().map(|(name, value)| (&**name, Some(value.view())));
        Self {
            title: title.as_deref().map(Some),
            url: url.as_deref().map(Some),
            image: image.as_deref().map(Some),
            attributes: (!attributes.is_empty()).then(|| Some(values(attributes).collect())),
            ..self
        }
    }

    fn with_details_patch(self, patch: Option<&'e ItemDetailsPatch>) -> Self {
        let Some(ItemDetailsPatch { title, url, image, attributes }) = patch else { return self };
        Self {
            title: title.as_ref().map(Option::as_deref),
            url: url.as_ref().map(Option::as_deref),
            image: image.as_ref().map(Option::as_deref),
            attributes: attributes.as_ref().map(changed_attributes),
            ..self
        }
    }

    /// Adds vectors by name; a vector without values is removed.
    fn with_vectors(self, vectors: impl Iterator<Item = (&'e str, Option<&'e [f32]>)>) -> Self {
        let numbers = |values: &[f32]| values.iter().copied().map(RoundTripFloat::new).collect();
        let vectors = vectors.map(|(name, values)| (name, values.map(numbers)));
        Self { vectors: Some(Some(vectors.collect())), ..self }
    }

    fn from_patch(patch: &'e ItemPatch) -> Self {
        Self {
            categories: patch.categories.as_deref(),
            brand: patch.brand.as_ref().map(Option::as_deref),
            price: patch.price,
            tags: patch.tags.as_deref(),
            available: patch.available,
            published: patch.published.map(|at| at.map(ApiTimestamp::new)),
            expires: patch.expires.map(|at| at.map(ApiTimestamp::new)),
            ..Self::default()
        }
        .with_details_patch(patch.details.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ValidationRules, read_events, read_items};
    use super::*;
    use crate::domain::{EventDetails, EventKind, ItemVector, PlacementConfig, SourceName};
    use proptest::prelude::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn exported_line(entry: &Entry) -> String {
        let mut lines = Vec::new();
        write_entry(7, entry, &mut lines).unwrap();
        String::from_utf8(lines).unwrap()
    }

    fn any_name() -> impl Strategy<Value = String> {
        "[^\\p{Cc}]{1,20}"
    }

    proptest! {
        #[test]
        fn round_trips_events(
            (event_id, user_id, session_id, item_id) in (proptest::option::of(any_name()), any_name(), proptest::option::of(any_name()), any_name()),
            value in proptest::option::of(proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO),
            timestamp in 0..NOW, properties in proptest::option::of("[^\\p{Cc}]{0,20}"), (has_details, recommendation_id) in (any::<bool>(), proptest::option::of(any_name())), consent in proptest::option::of(proptest::sample::select(&Consent::ALL[..])),
        ) {
            let properties = properties.map(|text| serde_json::json!({ "a": text, "b": [1.50, {}] }).to_string());
            let context = Attributes::from_values([("a".into(), AttributeValue::Number(timestamp as f64 / 7.0)), ("b".into(), AttributeValue::Text("x".into()))]);
            let details = EventDetails { recommendation_id, currency: Some("EUR".to_owned()), quantity: Some(3), context };
            let details = has_details.then(|| Box::new(details));
            let event = Event { event_id, user_id, session_id, kind: EventKind::Rate, item_id: Some(item_id), value, timestamp, properties, details };
            let mut line = Vec::new();
            write_entry_with_consent(&WithConsent { value: Entry::Event(event.clone()), consent }, &mut line).unwrap();
            let line = String::from_utf8(line).unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            let batch = read_events(line.as_bytes(), &ValidationRules::default(), NOW).unwrap();
            prop_assert_eq!((batch.records, batch.warnings), (vec![Ok(WithConsent { value: event, consent })], vec![]), "{}", line);
        }

        #[test]
        fn round_trips_item_changes(
            item_id in any_name(), operation in 0..6, names in proptest::collection::hash_set(any_name(), 0..4), text in proptest::option::of(any_name()),
            price in proptest::option::of(0.0..1e12_f64), available in any::<bool>(), at in proptest::option::of(0..NOW), is_set in any::<bool>(),
            values in proptest::collection::vec(proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO, 1..9),
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let texts = AttributeValue::Texts(names.iter().map(|name| name.as_str().into()).collect());
            let numbers = AttributeValue::Numbers(values.iter().map(|value| f64::from(*value)).collect());
            let attributes = Attributes::from_values([("list".into(), texts.clone()), ("numbers".into(), numbers)]);
            let title = text.as_deref().map(Into::into);
            let details = is_set.then(|| ItemDetails { title: title.clone(), url: None, image: Some("/x".into()), attributes });
            let details = details.and_then(ItemDetails::into_shared);
            let changes = vec![("gone".into(), None), ("list".into(), Some(texts))];
            let attributes = Some(if available { AttributesPatch::Change(changes) } else { AttributesPatch::RemoveAll });
            let changed = ItemDetailsPatch { title: Some(title), url: Some(None), image: None, attributes }.into_boxed();
            let operation = match operation {
                0 => ItemOperation::Put(Item { categories: names.clone(), brand: text, price, tags: names, available, published: at, expires: None, details }),
                1 => ItemOperation::Patch(ItemPatch {
                    categories: is_set.then_some(names), brand: is_set.then_some(text), price: Some(price), tags: None, available: Some(available),
                    published: is_set.then_some(at), expires: None, details: changed,
                }),
                2 => ItemOperation::PutWithVectors(
                    Item { price, ..Item::default() },
                    vec![ItemVector { name: "image".to_owned(), values: values.clone() }, ItemVector { name: "text_2".to_owned(), values }],
                ),
                3 => ItemOperation::PatchWithVectors(
                    ItemPatch::default(),
                    VectorPatch::Change(vec![("image".to_owned(), None), ("text".to_owned(), Some(values))]),
                ),
                4 => ItemOperation::PatchWithVectors(ItemPatch::default(), VectorPatch::RemoveAll),
                _ => ItemOperation::Delete,
            };
            let change = ItemChange { item_id, timestamp: NOW, operation };
            let line = exported_line(&Entry::Item(change.clone()));
            let batch = read_items(line.as_bytes(), 9, NOW).unwrap();
            prop_assert_eq!((batch.records, batch.warnings), (vec![Ok(change)], vec![]), "{}", line);
        }
    }

    #[test]
    fn writes_one_line_with_the_entry_kind() {
        let event = Event {
            event_id: None,
            user_id: "u".to_owned(),
            session_id: None,
            kind: EventKind::View,
            item_id: Some("i".to_owned()),
            value: Some(0.1),
            timestamp: 1,
            properties: Some("{\r\n \"a\": 1\n}".to_owned()),
            details: None,
        };
        assert_eq!(
            exported_line(&Entry::Event(event)),
            "{\"offset\":7,\"entry\":\"event\",\"user_id\":\"u\",\"type\":\"view\",\"item_id\":\"i\",\"value\":0.1,\"timestamp\":\"1970-01-01T00:00:00.001Z\",\"properties\":{   \"a\": 1 }}\n"
        );
        let impression = Entry::Impression(Impression {
            recommendation_id: "r".to_owned(),
            user_id: "u".to_owned(),
            timestamp: 2,
            weights_version: 3,
            items: vec![ImpressionItem::new("i".to_owned(), SourceName::Trending)],
            ..Impression::default()
        });
        assert_eq!(
            exported_line(&impression),
            "{\"offset\":7,\"entry\":\"impression\",\"recommendation_id\":\"r\",\"user_id\":\"u\",\"timestamp\":2,\"weights_version\":3,\
             \"items\":[{\"item_id\":\"i\",\"source\":\"trending\"}]}\n"
        );
    }

    #[test]
    fn an_action_of_a_placement_is_exported_unless_it_is_the_default() {
        for (impression_limit_action, expected) in
            [(ImpressionLimitAction::Drop, false), (ImpressionLimitAction::Demote, true)]
        {
            let config = PlacementConfig { impression_limit_action, ..PlacementConfig::default() };
            let operation = PlacementOperation::Put(config);
            let line =
                exported_line(&Entry::Placement(PlacementChange { name: "home".to_owned(), timestamp: 1, operation }));
            assert_eq!(line.contains("\"impression_limit_action\":\"demote\""), expected, "{line}");
        }
    }

    #[test]
    fn rejects_exported_entries_of_another_kind() {
        let body = "{\"offset\":7,\"entry\":\"item\",\"op\":\"delete\",\"item_id\":\"i\"}";
        let error =
            read_events(body.as_bytes(), &ValidationRules::default(), NOW).unwrap().records.remove(0).unwrap_err();
        assert_eq!(error.field, Some("entry"));
        let body = "{\"offset\":7,\"entry\":\"event\",\"item_id\":\"i\"}";
        let error = read_items(body.as_bytes(), 9, NOW).unwrap().records.remove(0).unwrap_err();
        assert_eq!(error.field, Some("entry"));
    }
}
