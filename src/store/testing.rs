//! Helpers of the store's tests: entries to store, and ways to damage them.

use crate::domain::{
    AttributeValue, Attributes, AttributesPatch, Consent, ConsentChange, Entry, Event, EventDetails, EventKind, Expiry,
    Impression, ImpressionItem, Item, ItemChange, ItemDetails, ItemDetailsPatch, ItemOperation, ItemPatch, ItemVector,
    ModelChange, ModelChangeCause, ModelOperation, PlacementChange, PlacementConfig, PlacementOperation, RankingRule,
    RuleChange, RuleCondition, RuleConsequence, RuleOperation, SourceName, UserAttributesChange, UserErasure,
    UserMerge, VectorPatch,
};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Creates an event; all its fields are made from `number`.
pub(super) fn event(number: u64) -> Entry {
    named_event(
        Some(format!("event-{number}")),
        &format!("user-{}", number % 7),
        Some(&format!("item-{}", number % 11)),
    )
}

/// Creates an event with the given ids.
pub(super) fn named_event(event_id: Option<String>, user_id: &str, item_id: Option<&str>) -> Entry {
    Entry::Event(Event {
        event_id,
        user_id: user_id.to_owned(),
        session_id: None,
        kind: EventKind::View,
        item_id: item_id.map(str::to_owned),
        value: Some(1.5),
        timestamp: 1_700_000_000_000,
        properties: None,
        details: None,
    })
}

/// A strategy for arbitrary entries. Some are larger than a page of the database.
pub(super) fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![Just(EventKind::View), Just(EventKind::Purchase), ".{0,8}".prop_map(EventKind::Custom)];
    let properties = prop_oneof![8 => Just(None), 4 => ".{0,40}".prop_map(Some), 1 => (0_usize..40_000).prop_map(|n| Some("x".repeat(n)))];
    let text = || proptest::option::of(".{0,12}");
    let ids =
        (proptest::option::of(".{1,12}"), ".{1,12}", proptest::option::of(".{1,12}"), proptest::option::of(".{1,12}"));
    let details = proptest::option::of(any_event_details());
    let event = (ids, kind, proptest::option::of(-1e6_f32..1e6), any::<i64>(), properties, details).prop_map(
        |((event_id, user_id, session_id, item_id), kind, value, timestamp, properties, details)| {
            let details = details.map(Box::new);
            Entry::Event(Event { event_id, user_id, session_id, kind, item_id, value, timestamp, properties, details })
        },
    );
    let shown = (".{1,12}", 0.0_f32..9.0, 0_u32..3, proptest::collection::vec(".{1,8}", 0..2), text()).prop_map(
        |(item_id, score, position, rules, propensity)| ImpressionItem {
            score,
            position,
            rules,
            relevance: propensity.as_ref().map(|_| 0.25),
            propensity: propensity.map(|_| 0.5),
            ..ImpressionItem::new(item_id, SourceName::Clusters)
        },
    );
    let old = ".{1,12}".prop_map(|item_id| ImpressionItem::new(item_id, SourceName::Clusters));
    let items = prop_oneof![proptest::collection::vec(shown, 0..5), proptest::collection::vec(old, 0..5)];
    let impression = (".{1,12}", ".{1,12}", any::<i64>(), any::<u64>(), items, text(), 0_u64..2).prop_map(
        |(recommendation_id, user_id, timestamp, weights_version, items, placement, request_digest)| {
            let (variant, snapshot_offset) = (None, request_digest);
            Entry::Impression(Impression {
                recommendation_id,
                user_id,
                timestamp,
                weights_version,
                items,
                placement,
                variant,
                snapshot_offset,
                request_digest,
            })
        },
    );
    let put = (
        proptest::collection::vec(".{0,12}", 0..3),
        text(),
        proptest::option::of(0.0..1e9),
        any::<bool>(),
        proptest::option::of(any::<i64>()),
        proptest::option::of(any_item_details()),
    )
        .prop_map(|(categories, brand, price, available, expires, details)| {
            ItemOperation::Put(Item {
                tags: categories.clone(),
                categories,
                brand,
                price,
                available,
                published: None,
                expires,
                details: details.and_then(ItemDetails::into_shared),
            })
        });
    let patch = (proptest::option::of(text()), proptest::option::of(any::<bool>()), any_details_patch()).prop_map(
        |(brand, available, details)| {
            let details = details.into_boxed();
            ItemOperation::Patch(ItemPatch { brand, available, details, ..ItemPatch::default() })
        },
    );
    let vector = proptest::collection::vec(-1e6_f32..1e6, 1..20);
    let vectors = proptest::collection::vec(("[a-z0-9_]{1,9}", vector), 1..4).prop_map(|vectors| {
        let vector = |(name, values): (String, Vec<f32>)| ItemVector { name, values };
        ItemOperation::PutWithVectors(Item::default(), vectors.into_iter().map(vector).collect())
    });
    let without_vectors = any_details_patch().prop_map(|details| {
        let patch = ItemPatch { details: details.into_boxed(), ..ItemPatch::default() };
        ItemOperation::PatchWithVectors(patch, VectorPatch::RemoveAll)
    });
    let operations = prop_oneof![put, patch, Just(ItemOperation::Delete), vectors, without_vectors];
    let change = (".{1,12}", any::<i64>(), operations)
        .prop_map(|(item_id, timestamp, operation)| Entry::Item(ItemChange { item_id, timestamp, operation }));
    let operation = prop_oneof![
        any::<u64>().prop_map(|to| ModelOperation::Rollback { to }),
        Just(ModelOperation::Pause),
        Just(ModelOperation::Resume),
        (1e-6_f32..10.0).prop_map(|value| ModelOperation::LearningRate { value }),
        Just(ModelOperation::Recluster),
    ];
    let cause =
        prop_oneof![Just(ModelChangeCause::Operator), Just(ModelChangeCause::Loss), Just(ModelChangeCause::Quality)];
    let model_change = (any::<i64>(), operation, cause)
        .prop_map(|(timestamp, operation, cause)| Entry::Model(ModelChange { timestamp, operation, cause }));
    let merge = (".{1,8}", ".{1,8}", any::<i64>())
        .prop_map(|(from, into, timestamp)| Entry::Merge(UserMerge { from, into, timestamp }));
    let consent = (".{1,8}", proptest::sample::select(&Consent::ALL[..]), any::<i64>())
        .prop_map(|(user_id, consent, timestamp)| Entry::Consent(ConsentChange { user_id, consent, timestamp }));
    let erasure = (".{1,8}", any::<bool>(), any::<i64>())
        .prop_map(|(user_id, unlearn, timestamp)| Entry::Erase(UserErasure { user_id, unlearn, timestamp }));
    let expiry = (".{0,8}", any::<i64>(), proptest::option::of(any::<i64>()), any::<i64>()).prop_map(
        |(kind, before, impressions, timestamp)| {
            Entry::Expire(Expiry {
                events: vec![(EventKind::Custom(kind), before), (EventKind::Search, before)],
                impressions,
                timestamp,
            })
        },
    );
    let placement =
        ("[a-z]{1,3}", proptest::option::of(1..1000_usize), any::<i64>()).prop_map(|(name, limit, timestamp)| {
            let config = PlacementConfig { limit, ..PlacementConfig::default() };
            let operation = limit.map_or(PlacementOperation::Delete, |_| PlacementOperation::Put(config));
            Entry::Placement(PlacementChange { name, timestamp, operation })
        });
    let rule = ("[a-z]{1,3}", any::<bool>(), any::<i64>()).prop_map(|(id, is_enabled, timestamp)| {
        let consequence = RuleConsequence::Hide { filter: format!("brand = {id}") };
        let rule = RankingRule {
            condition: RuleCondition::default(),
            consequence,
            valid_from: Some(timestamp),
            valid_until: None,
            priority: 3,
            is_enabled,
        };
        Entry::Rule(RuleChange { id, timestamp, operation: RuleOperation::Put(rule) })
    });
    let attributes = (".{1,8}", any_attributes_patch(), any::<i64>()).prop_map(|(user_id, patch, timestamp)| {
        Entry::UserAttributes(UserAttributesChange { user_id, patch, timestamp })
    });
    prop_oneof![
        8 => event, 2 => impression, 2 => change, 1 => model_change, 1 => merge, 1 => consent, 1 => erasure,
        1 => expiry, 1 => attributes, 1 => placement, 1 => rule, 1 => Just(Entry::Tombstone)
    ]
}

fn any_attribute_value() -> impl Strategy<Value = AttributeValue> {
    prop_oneof![
        ".{0,8}".prop_map(|text| AttributeValue::Text(text.into())),
        (-1e9..1e9).prop_map(AttributeValue::Number),
        any::<bool>().prop_map(AttributeValue::Boolean),
        proptest::collection::vec(".{0,8}", 0..3)
            .prop_map(|texts| AttributeValue::Texts(texts.into_iter().map(Arc::from).collect())),
        proptest::collection::vec(-1e9..1e9, 0..3).prop_map(|numbers| AttributeValue::Numbers(numbers.into())),
    ]
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    proptest::collection::vec(("[a-c]", any_attribute_value()), 0..3)
        .prop_map(|values| Attributes::from_values(values.into_iter().map(|(name, value)| (name.into(), value))))
}

fn any_attributes_patch() -> impl Strategy<Value = AttributesPatch> {
    let changes = proptest::collection::vec(("[a-c]", proptest::option::of(any_attribute_value())), 0..3);
    prop_oneof![
        Just(AttributesPatch::RemoveAll),
        changes.prop_map(|changes| {
            AttributesPatch::Change(changes.into_iter().map(|(name, value)| (name.into(), value)).collect())
        })
    ]
}

fn any_item_details() -> impl Strategy<Value = ItemDetails> {
    (proptest::option::of(".{0,8}"), proptest::option::of(".{0,8}"), any_attributes()).prop_map(
        |(title, url, attributes)| ItemDetails {
            title: title.map(Arc::from),
            image: url.as_deref().map(Arc::from),
            url: url.map(Arc::from),
            attributes,
        },
    )
}

fn any_details_patch() -> impl Strategy<Value = ItemDetailsPatch> {
    (proptest::option::of(proptest::option::of(".{0,8}")), proptest::option::of(any_attributes_patch())).prop_map(
        |(title, attributes)| ItemDetailsPatch {
            title: title.map(|title| title.map(Arc::from)),
            attributes,
            ..ItemDetailsPatch::default()
        },
    )
}

fn any_event_details() -> impl Strategy<Value = EventDetails> {
    (proptest::option::of(".{1,8}"), proptest::option::of("[A-Z]{3}"), proptest::option::of(1_u32..9), any_attributes())
        .prop_map(|(recommendation_id, currency, quantity, context)| EventDetails {
            recommendation_id,
            currency,
            quantity,
            context,
        })
}

/// A strategy for lists of arbitrary entries.
pub(super) fn any_entries(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Entry>> {
    proptest::collection::vec(any_entry(), count)
}

/// Flips a bit of a stored value directly in the database.
pub(super) fn flip_bit(tree: &sled::Tree, key: &[u8], index: usize) {
    let mut value = tree.get(key).unwrap().unwrap().to_vec();
    value[index] ^= 4;
    tree.insert(key, value).unwrap();
}

/// Copies a directory to a temporary directory.
pub(super) fn copy_directory(dir: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    copy_files(dir, to.path());
    to
}

/// Copies a directory's files into another directory.
pub(super) fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_files(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
