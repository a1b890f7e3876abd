//! Tests that the stored bytes stay the same as long as the store's format number does.
//!
//! [`write_everything`] stores one fixed value of every type, and every variant of every enum, in a
//! new data directory. The test compares all keys and values of the database, and the files next to
//! it, with `migrations/fixtures/bytes/store.txt`. That file was written by an older build, in
//! which types, fields and modules had other names. No two fields of a type share a value, so that
//! the test notices swapped fields.
//!
//! There is no mode that regenerates the file. A change of the stored bytes needs a migration step;
//! see migrations/README.md.

use super::*;
use crate::domain::{
    AttributeValue, Attributes, AttributesPatch, Consent, ConsentChange, Entry, Event, EventDetails, EventKind, Expiry,
    Impression, ImpressionItem, ImpressionLimitAction, Item, ItemBoost, ItemChange, ItemDetails, ItemDetailsPatch,
    ItemOperation, ItemPatch, ItemVector, ModelChange, ModelChangeCause, ModelOperation, Objective, Origin, OriginHash,
    PlacementChange, PlacementConfig, PlacementKind, PlacementOperation, Purge, RankingRule, RuleChange, RuleCondition,
    RuleConsequence, RuleOperation, SourceName, Step, UserAttributesChange, UserErasure, UserMerge, UserSequence,
    VectorPatch,
};
use crate::registries::{ConsentRecord, PlacementRecord, UserAlias, UserAttributesRecord};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Content of the fixture file. Each row has the form `name = hex`; lines that start with `#` are
/// comments.
const GOLDEN_ROWS: &str = include_str!("../../migrations/fixtures/bytes/store.txt");
/// Content of the fixture file of format 6: the values that this format added.
const GOLDEN_ROWS_OF_FORMAT_6: &str = include_str!("../../migrations/fixtures/bytes/origins.txt");
/// The fixture file of format 8: the values that this format added.
const FIXTURE_OF_FORMAT_8: &str = "migrations/fixtures/bytes/vectors.txt";
/// The fixture file of format 9: the values that this format added.
const FIXTURE_OF_PLACEMENTS: &str = "migrations/fixtures/bytes/placements.txt";
const FIXTURE_OF_DETAILS: &str = "migrations/fixtures/bytes/details.txt";
/// The row of the store's format number.
const FORMAT_ROW: &str = "__sled__default 666f726d6174";
/// The current format number, as stored.
const FORMAT_VALUE: &str = "09000000";

fn owned_text(text: &str) -> String {
    text.to_owned()
}

fn sample_event(number: i64, kind: EventKind) -> Event {
    Event {
        event_id: Some(format!("event{number}")),
        user_id: format!("user{number}"),
        session_id: Some(format!("session{number}")),
        kind,
        item_id: Some(format!("item{number}")),
        value: Some(number as f32 + 0.5),
        timestamp: 1_700_000_000_000 + number,
        properties: Some(format!("{{\"size\":{number}}}")),
        details: None,
    }
}

fn event_without_optional_fields() -> Event {
    Event {
        event_id: None,
        user_id: owned_text("user"),
        session_id: None,
        kind: EventKind::View,
        item_id: None,
        value: None,
        timestamp: -1,
        properties: None,
        details: None,
    }
}

fn events_of_every_kind() -> Vec<Entry> {
    let kinds = [
        EventKind::View,
        EventKind::Click,
        EventKind::Search,
        EventKind::Cart,
        EventKind::Purchase,
        EventKind::Like,
        EventKind::Share,
        EventKind::Comment,
        EventKind::Follow,
        EventKind::Rate,
        EventKind::Play,
        EventKind::Dismiss,
        EventKind::Custom(owned_text("wishlist")),
    ];
    (1..).zip(kinds).map(|(number, kind)| Entry::Event(sample_event(number, kind))).collect()
}

fn sample_impression() -> Entry {
    // The sources of the first version.
    let items = SourceName::ALL
        .iter()
        .filter(|source| **source != SourceName::Profile)
        .map(|source| ImpressionItem::new(format!("item of {}", source.as_str()), *source));
    Entry::Impression(Impression {
        recommendation_id: owned_text("recommendation"),
        user_id: owned_text("user"),
        timestamp: 1_700_000_000_100,
        weights_version: 17,
        items: items.collect(),
        ..Impression::default()
    })
}

fn item_changes() -> Vec<Entry> {
    let full = Item {
        categories: vec![owned_text("cups"), owned_text("tea")],
        brand: Some(owned_text("leaf")),
        price: Some(2.5),
        tags: vec![owned_text("green")],
        available: true,
        published: Some(1_600_000_000_000),
        expires: Some(1_800_000_000_000),
        details: None,
    };
    let bare = Item { available: false, ..Item::default() };
    let set = ItemPatch {
        categories: Some(vec![owned_text("pots")]),
        brand: Some(Some(owned_text("root"))),
        price: Some(Some(3.5)),
        tags: Some(vec![owned_text("red"), owned_text("new")]),
        available: Some(true),
        published: Some(Some(1_610_000_000_000)),
        expires: Some(Some(1_810_000_000_000)),
        details: None,
    };
    let cleared = ItemPatch {
        brand: Some(None),
        price: Some(None),
        published: Some(None),
        expires: Some(None),
        ..ItemPatch::default()
    };
    let operations = [
        ItemOperation::Put(full),
        ItemOperation::Put(bare),
        ItemOperation::Patch(set),
        ItemOperation::Patch(cleared),
        ItemOperation::Patch(ItemPatch::default()),
        ItemOperation::Delete,
    ];
    let change = |(number, operation): (i64, ItemOperation)| {
        Entry::Item(ItemChange { item_id: format!("item{number}"), timestamp: 1_700_000_000_200 + number, operation })
    };
    (1..).zip(operations).map(change).collect()
}

fn model_changes() -> Vec<Entry> {
    let operations = [
        (ModelOperation::Rollback { to: 3 }, ModelChangeCause::Operator),
        (ModelOperation::Pause, ModelChangeCause::Loss),
        (ModelOperation::Resume, ModelChangeCause::Quality),
        (ModelOperation::LearningRate { value: 0.05 }, ModelChangeCause::Operator),
        (ModelOperation::Recluster, ModelChangeCause::Operator),
    ];
    let change = |(number, (operation, cause)): (i64, _)| {
        Entry::Model(ModelChange { timestamp: 1_700_000_000_300 + number, operation, cause })
    };
    (1..).zip(operations).map(change).collect()
}

fn consent_changes() -> Vec<Entry> {
    let change = |(number, consent): (i64, _)| {
        Entry::Consent(ConsentChange {
            user_id: format!("user{number}"),
            consent,
            timestamp: 1_700_000_000_400 + number,
        })
    };
    (1..).zip([Consent::None, Consent::Session, Consent::Full]).map(change).collect()
}

fn sample_erasure(number: i64, unlearn: bool) -> UserErasure {
    UserErasure { user_id: format!("erased{number}"), unlearn, timestamp: 1_700_000_000_500 + number }
}

fn sample_expiry(number: i64) -> Expiry {
    Expiry {
        events: vec![(EventKind::Search, number), (EventKind::Custom(owned_text("wishlist")), number + 1)],
        impressions: Some(number + 2),
        timestamp: number + 3,
    }
}

/// The journal records.
fn journal_records() -> Vec<Vec<Entry>> {
    let merge = UserMerge { from: owned_text("visitor"), into: owned_text("user1"), timestamp: 1_700_000_000_600 };
    vec![
        events_of_every_kind(),
        vec![Entry::Event(event_without_optional_fields())],
        vec![sample_impression()],
        item_changes(),
        model_changes(),
        vec![Entry::Merge(merge)],
        vec![Entry::Private(sample_event(20, EventKind::View))],
        consent_changes(),
        vec![Entry::Erase(sample_erasure(1, false)), Entry::Erase(sample_erasure(2, true))],
        vec![Entry::Tombstone],
        vec![Entry::Expire(sample_expiry(10)), Entry::Expire(Expiry::default())],
        // This record is long enough to need several pieces.
        vec![Entry::Event(Event { properties: Some("x".repeat(8000)), ..event_without_optional_fields() })],
    ]
}

fn sample_session_record() -> SessionRecord {
    let step = |item, kind, starts_session, at, value| Step { item, kind, starts_session, at, value };
    let sequence = UserSequence {
        session_number: 5,
        session_start: 6,
        session_id: Some(owned_text("session7")),
        steps: vec![step(Some(8), 9, true, 10, 11.5), step(None, 2, false, 12, -1.0)],
        earlier_sessions: Vec::new(),
        kept_steps: Vec::new(),
    };
    SessionRecord { applied_through: 13, sequence, hidden_state: vec![1, 2, 3] }
}

fn sample_quarantined_entries() -> [QuarantinedEntry; 2] {
    [
        QuarantinedEntry { offset: 3, reader: QuarantineReader::Learner, reason: owned_text("of the learner") },
        QuarantinedEntry { offset: 4, reader: QuarantineReader::Session, reason: owned_text("of a session") },
    ]
}

fn sample_consents() -> [ConsentRecord; 3] {
    let record = |user: &str, consent, offset| ConsentRecord { user: Arc::from(user), consent: Some(consent), offset };
    [record("user1", Consent::None, 28), record("user2", Consent::Session, 29), record("user3", Consent::Full, 30)]
}

fn sample_alias() -> UserAlias {
    UserAlias { offset: 26, from: Arc::from("visitor"), into: Arc::from("user1") }
}

const SECRET_FINGERPRINT: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn write_payload(file: &mut CheckpointWriter, payload: &[u8]) -> Result<(), StoreError> {
    file.write_all(payload).map_err(StoreError::io("writing", Path::new("checkpoint")))
}

/// Creates a store with a value of every kind.
fn write_everything(dir: &Path) -> Store {
    let store = Store::open(dir, &StoreOptions::default()).unwrap();
    store.check_pseudonym_secret(Some(SECRET_FINGERPRINT)).unwrap();
    store.set_pretrained_state(|file| write_payload(file, b"origin")).unwrap();
    for record in journal_records() {
        store.journal().append(&record, Durability::PowerLoss).unwrap();
    }
    // The committer stores the state derived from the journal: the item names and event ids. It
    // also stores consents, aliases and erasures, which are overwritten below.
    let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
    committer.prepare_for_shutdown().unwrap();
    store.sessions().put([("user7", &sample_session_record())], 14).unwrap();
    store.consents().put(&sample_consents()).unwrap();
    store.aliases().put(&[sample_alias()], &[]).unwrap();
    sample_quarantined_entries().iter().for_each(|entry| store.quarantine().put(entry).unwrap());
    let erasures = [(31, sample_erasure(1, false)), (32, sample_erasure(2, true)), (40, sample_erasure(3, false))];
    erasures.iter().for_each(|(offset, erasure)| store.erasures().record_begun(*offset, erasure).unwrap());
    store.erasures().record_finished(&erasures[..2]).unwrap();
    store.expiries().record_begun(34, &sample_expiry(10)).unwrap();
    store.checkpoints(1).unwrap().write(36, |file| write_payload(file, b"learned state")).unwrap();
    store
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All keys and values of the database by name.
fn database_bytes_by_name(store: &Store) -> BTreeMap<String, String> {
    let db = &store.engine().unwrap().db;
    let mut found = BTreeMap::new();
    for tree in db.tree_names() {
        let name = String::from_utf8_lossy(&tree).into_owned();
        for pair in db.open_tree(&tree).unwrap().iter() {
            let (key, value) = pair.unwrap();
            found.insert(format!("{name} {}", to_hex(&key)), to_hex(&value));
        }
    }
    found
}

/// All keys and values of the database, and all other files of the data directory, by name.
fn stored_bytes_by_name(store: &Store) -> BTreeMap<String, String> {
    let mut found = database_bytes_by_name(store);
    for file in ["end", "ids", "origin", "checkpoints/00000000000000000036.checkpoint"] {
        found.insert(file.to_owned(), to_hex(&std::fs::read(store.dir().join(file)).unwrap()));
    }
    found
}

fn golden_bytes_by_name(file: &str) -> BTreeMap<String, String> {
    let rows = file.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| row.split_once(" = ").unwrap()).map(|(name, bytes)| (name.to_owned(), bytes.to_owned())).collect()
}

#[test]
fn stored_bytes_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let mut golden = golden_bytes_by_name(GOLDEN_ROWS);
    // Formats 6, 8 and 9 add values, which the tests below cover, and format 7 adds the commit log.
    // They change no bytes of older values.
    golden.insert(FORMAT_ROW.to_owned(), FORMAT_VALUE.to_owned());
    assert_same_bytes(&stored_bytes_by_name(&write_everything(dir.path())), &golden);
}

#[test]
fn bytes_of_origins_and_purges_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    store.origin_hasher(SECRET_FINGERPRINT).unwrap();
    let hash = OriginHash::new;
    let origin = |key, address, minute| Some(Origin { key, address, minute });
    let mut batch = JournalBatch::default();
    let like = event_without_optional_fields;
    batch.push(Entry::Event(like()), origin(hash(0x0102_0304_0506_0708), hash(0x1112_1314_1516_1718), 0x2122_2324));
    batch.push(Entry::Private(like()), origin(hash(0x0102_0304_0506_0708), hash(0x1112_1314_1516_1718), 0x2122_2324));
    batch.push(Entry::Event(like()), origin(hash(0x3132_3334_3536_3738), None, 1));
    batch.push(Entry::Event(like()), None);
    batch.push(Entry::Event(like()), origin(None, hash(0x4142_4344_4546_4748), 2));
    store.journal().append_batch(&batch, Durability::PowerLoss).unwrap();
    let purge = Purge { key: hash(0x51), address: hash(0x52), since: 0x53, until: 0x54, timestamp: 0x55 };
    store.journal().append(&[Entry::Purge(purge.clone())], Durability::PowerLoss).unwrap();
    store.purges().record_begun(5, &purge).unwrap();
    store.purges().set_finished_count(3).unwrap();
    let mut golden = golden_bytes_by_name(GOLDEN_ROWS_OF_FORMAT_6);
    golden.insert(FORMAT_ROW.to_owned(), FORMAT_VALUE.to_owned());
    assert_same_bytes(&database_bytes_by_name(&store), &golden);
    let read: Vec<_> = store.journal().entries(0).unwrap().with_origins().map(Result::unwrap).collect();
    assert_eq!(read[5].1, Entry::Purge(purge.clone()));
    assert_eq!(read[2].2, origin(hash(0x3132_3334_3536_3738), None, 1));
    assert_eq!(store.purges().in_progress().unwrap(), [(5, purge)]);
}

#[test]
fn bytes_of_item_vectors_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let vector = |name, values| ItemVector { name: owned_text(name), values };
    let item = Item { price: Some(2.5), ..Item::default() };
    let changes = vec![(owned_text("text"), Some(vec![0.25])), (owned_text("image"), None)];
    let operations = [
        ItemOperation::PutWithVectors(item, vec![vector("image", vec![1.5, -2.5]), vector("text", vec![3.5])]),
        ItemOperation::PatchWithVectors(ItemPatch::default(), VectorPatch::RemoveAll),
        ItemOperation::PatchWithVectors(ItemPatch::default(), VectorPatch::Change(changes)),
    ];
    let change = |(number, operation): (i64, ItemOperation)| {
        Entry::Item(ItemChange { item_id: format!("item{number}"), timestamp: 1_700_000_000_200 + number, operation })
    };
    let entries: Vec<_> = (1..).zip(operations).map(change).collect();
    store.journal().append(&entries, Durability::PowerLoss).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE_OF_FORMAT_8);
    let mut golden = golden_bytes_by_name(&std::fs::read_to_string(fixture).unwrap());
    golden.insert(FORMAT_ROW.to_owned(), FORMAT_VALUE.to_owned());
    assert_same_bytes(&database_bytes_by_name(&store), &golden);
    let read: Vec<_> = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
    assert_eq!(read, entries);
}

/// A change of a placement of every type, a change of a rule with every consequence, and deletions.
fn placement_and_rule_changes() -> Vec<Entry> {
    let boost = |number: u8| ItemBoost { filter: format!("price < {number}"), factor: f32::from(number) + 0.5 };
    let placement = |(number, kind): (i64, PlacementKind)| {
        let config = PlacementConfig {
            kind,
            limit: Some(11),
            filter: Some(owned_text("brand = leaf")),
            exclude_seen: Some(true),
            diversity: Some(12),
            purchased_for_ms: Some(13),
            dismissed_for_ms: Some(14),
            boosts: vec![boost(15)],
            exclude_events: vec![(owned_text("purchase"), 16)],
            max_impressions: Some((17, 18)),
            impression_limit_action: ImpressionLimitAction::Drop,
            objective: None,
        };
        let operation = PlacementOperation::Put(config);
        Entry::Placement(PlacementChange { name: format!("place{number}"), timestamp: number, operation })
    };
    let consequences = [
        RuleConsequence::Promote { item_id: owned_text("tea"), position: 21 },
        RuleConsequence::Boost(boost(22)),
        RuleConsequence::Hide { filter: owned_text("has brand") },
        RuleConsequence::Require { filter: owned_text("available"), min_share: Some(0.25), max_share: Some(0.75) },
    ];
    let rule = |(number, consequence): (i64, RuleConsequence)| {
        let rule = RankingRule {
            condition: RuleCondition {
                placements: vec![owned_text("home")],
                context_filter: Some(owned_text("tags has x")),
            },
            consequence,
            valid_from: Some(31),
            valid_until: Some(32),
            priority: -33,
            is_enabled: true,
        };
        Entry::Rule(RuleChange { id: format!("rule{number}"), timestamp: number, operation: RuleOperation::Put(rule) })
    };
    let placements = (41..).zip(PlacementKind::ALL).map(placement);
    let rules = (51..).zip(consequences).map(rule);
    let deletions = [
        Entry::Placement(PlacementChange {
            name: owned_text("gone"),
            timestamp: 61,
            operation: PlacementOperation::Delete,
        }),
        Entry::Rule(RuleChange { id: owned_text("gone"), timestamp: 62, operation: RuleOperation::Delete }),
    ];
    placements.chain(rules).chain(deletions).collect()
}

#[test]
fn bytes_of_placements_and_rules_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let entries = placement_and_rule_changes();
    store.journal().append(&entries, Durability::PowerLoss).unwrap();
    let record = |(offset, entry): (u64, &Entry)| PlacementRecord { offset, entry: entry.clone() };
    let records: Vec<_> = (0..).zip(&entries).map(record).collect();
    store.placements().put(&records).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE_OF_PLACEMENTS);
    let mut golden = golden_bytes_by_name(&std::fs::read_to_string(fixture).unwrap());
    golden.insert(FORMAT_ROW.to_owned(), FORMAT_VALUE.to_owned());
    assert_same_bytes(&database_bytes_by_name(&store), &golden);
    let read: Vec<_> = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
    assert_eq!(read, entries);
    assert_eq!(store.placements().load().unwrap(), records[..12]);
}

/// A placement with a field that [`FIXTURE_OF_PLACEMENTS`] does not have is another variant.
#[test]
fn a_placement_that_demotes_items_keeps_its_action() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let impression_limit_action = ImpressionLimitAction::Demote;
    let config =
        PlacementConfig { max_impressions: Some((3, 4)), impression_limit_action, ..PlacementConfig::default() };
    let operation = PlacementOperation::Put(config);
    let entry = Entry::Placement(PlacementChange { name: owned_text("home"), timestamp: 5, operation });
    store.journal().append(std::slice::from_ref(&entry), Durability::PowerLoss).unwrap();
    let record = PlacementRecord { offset: 0, entry: entry.clone() };
    store.placements().put(std::slice::from_ref(&record)).unwrap();
    assert_eq!(
        store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect::<Vec<_>>(),
        std::slice::from_ref(&entry)
    );
    assert_eq!(store.placements().load().unwrap(), [record]);
    let bytes = codec::encode(&entry).unwrap();
    // The variant, the fields of the variant 15, the action, and no objective.
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "11000000",
        "0400000000000000686f6d65",
        "0500000000000000",
        "00000000",
        "01000000",
        "0000000000000000000000000000000000000000000001",
        "03000000000000000400000000000000",
        "01000000",
        "00",
    ];
    assert_eq!(hex, expected.concat());
}

#[test]
fn bytes_of_objectives_follow_those_of_the_placement() {
    for change in placement_and_rule_changes() {
        let Entry::Placement(PlacementChange { name, timestamp, operation: PlacementOperation::Put(config) }) = change
        else {
            continue;
        };
        let entry_with = |objective| {
            let operation = PlacementOperation::Put(PlacementConfig { objective, ..config.clone() });
            Entry::Placement(PlacementChange { name: name.clone(), timestamp, operation })
        };
        let plain = codec::encode(&entry_with(None)).unwrap();
        for (number, objective) in (0..).zip(Objective::ALL) {
            let entry = entry_with(Some(objective));
            let bytes = codec::encode(&entry).unwrap();
            assert_eq!(codec::decode::<Entry>(&bytes).unwrap(), entry);
            // The number of the variant, the change as before, the action, the number of the objective.
            let expected = [&17_u32.to_le_bytes()[..], &plain[4..], &[0; 4], &[1], &u32::to_le_bytes(number)].concat();
            assert_eq!(bytes, expected);
        }
    }
}

/// Attributes with a value of every type.
fn sample_attributes() -> Attributes {
    let text = |text: &str| Arc::<str>::from(text);
    Attributes::from_values([
        (text("a"), AttributeValue::Text(text("x"))),
        (text("b"), AttributeValue::Number(2.5)),
        (text("c"), AttributeValue::Boolean(true)),
        (text("d"), AttributeValue::Texts([text("y"), text("z")].into())),
        (text("e"), AttributeValue::Numbers([3.5].into())),
    ])
}

fn sample_attributes_patch() -> AttributesPatch {
    AttributesPatch::Change(vec![("a".into(), Some(AttributeValue::Number(4.5))), ("b".into(), None)])
}

/// The entries that format 9 added.
fn detailed_entries() -> Vec<Entry> {
    let details = EventDetails {
        recommendation_id: Some(owned_text("r1")),
        currency: Some(owned_text("EUR")),
        quantity: Some(0x0102_0304),
        context: sample_attributes(),
    };
    let event = Event { details: details.into_boxed(), ..event_without_optional_fields() };
    let plain = ImpressionItem { score: 0.5, position: 7, ..ImpressionItem::new(owned_text("i1"), SourceName::New) };
    let moved = ImpressionItem {
        rules: vec![owned_text("rule")],
        propensity: Some(0.25),
        ..ImpressionItem::new(owned_text("i2"), SourceName::Network)
    };
    let impression = Impression {
        recommendation_id: owned_text("r2"),
        user_id: owned_text("user"),
        timestamp: 0x11,
        weights_version: 0x12,
        items: vec![plain, moved],
        placement: Some(owned_text("home")),
        variant: Some(owned_text("b")),
        snapshot_offset: 0x13,
        request_digest: 0x14,
    };
    let details = ItemDetails {
        title: Some("title".into()),
        url: Some("url".into()),
        image: Some("image".into()),
        attributes: sample_attributes(),
    };
    let item = Item { details: details.into_shared(), ..Item::default() };
    let details = ItemDetailsPatch {
        title: Some(None),
        url: Some(Some("new url".into())),
        image: None,
        attributes: Some(sample_attributes_patch()),
    };
    let patch = ItemPatch { details: details.into_boxed(), ..ItemPatch::default() };
    let vector = ItemVector { name: owned_text("text"), values: vec![1.5] };
    let operations = [
        ItemOperation::Put(item.clone()),
        ItemOperation::PutWithVectors(item, vec![vector]),
        ItemOperation::Patch(patch.clone()),
        ItemOperation::PatchWithVectors(patch, VectorPatch::RemoveAll),
    ];
    let item_change = |operation| Entry::Item(ItemChange { item_id: owned_text("item"), timestamp: 0x21, operation });
    let user_change =
        |patch| Entry::UserAttributes(UserAttributesChange { user_id: owned_text("user"), patch, timestamp: 0x31 });
    let mut entries = vec![Entry::Event(event.clone()), Entry::Private(event), Entry::Impression(impression)];
    entries.extend(operations.map(item_change));
    entries.extend([AttributesPatch::RemoveAll, sample_attributes_patch()].map(user_change));
    entries
}

#[test]
fn bytes_of_details_are_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
    let (entries, attributes) = (detailed_entries(), Arc::new(sample_attributes()));
    store.journal().append(&entries, Durability::PowerLoss).unwrap();
    let record = UserAttributesRecord { user: Arc::from("user"), attributes, offset: 0x41 };
    store.user_attributes().put(std::slice::from_ref(&record)).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE_OF_DETAILS);
    let mut golden = golden_bytes_by_name(&std::fs::read_to_string(fixture).unwrap());
    golden.insert(FORMAT_ROW.to_owned(), FORMAT_VALUE.to_owned());
    assert_same_bytes(&database_bytes_by_name(&store), &golden);
    let read: Vec<_> = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
    assert_eq!(read, entries);
    assert_eq!(store.user_attributes().load().unwrap(), [record]);
}

#[test]
fn an_item_of_an_impression_grows_by_nine_bytes() {
    let shown = |position| ImpressionItem { score: 0.5, position, ..ImpressionItem::new("i".into(), SourceName::New) };
    let encoded_len = |items| {
        let impression = Impression { items, request_digest: 1, ..Impression::default() };
        codec::encode(&Entry::Impression(impression)).unwrap().len()
    };
    let (one, twenty) = (encoded_len(vec![shown(1)]), encoded_len((1..=20).map(shown).collect()));
    let old = Impression { items: vec![ImpressionItem::new("i".into(), SourceName::New)], ..Impression::default() };
    let empty = codec::encode(&Entry::Impression(Impression::default())).unwrap().len();
    let old_item_len = codec::encode(&Entry::Impression(old)).unwrap().len() - empty;
    assert_eq!((twenty - one) / 19 - old_item_len, 9);
}

#[test]
fn bytes_of_relevance_follow_those_of_the_impression() {
    let shown = ImpressionItem { score: 0.5, position: 1, ..ImpressionItem::new(owned_text("i"), SourceName::New) };
    let plain = Impression { items: vec![shown.clone(), shown], request_digest: 1, ..Impression::default() };
    let mut relevant = plain.clone();
    (relevant.items[0].relevance, relevant.items[0].model_score) = (Some(1.5), Some(-2.0));
    let (plain, relevant) = (codec::encode(&Entry::Impression(plain)).unwrap(), Entry::Impression(relevant));
    let bytes = codec::encode(&relevant).unwrap();
    assert_eq!(codec::decode::<Entry>(&bytes).unwrap(), relevant);
    let both = [&[1][..], &1.5_f32.to_le_bytes(), &[1], &(-2.0_f32).to_le_bytes(), &[0, 0]].concat();
    assert_eq!(bytes, [&18_u32.to_le_bytes()[..], &plain[4..], &2_u64.to_le_bytes(), &both].concat());
}

fn assert_same_bytes(found: &BTreeMap<String, String>, golden: &BTreeMap<String, String>) {
    let mut differences = String::new();
    for name in found.keys().chain(golden.keys().filter(|name| !found.contains_key(*name))) {
        let [is, was] = [found, golden].map(|rows| rows.get(name).map_or("absent", String::as_str));
        if is != was {
            writeln!(differences, "{name}\n   is {is}\n  was {was}").unwrap();
        }
    }
    assert!(differences.is_empty(), "stored bytes have changed:\n{differences}");
}

#[test]
fn every_stored_value_reads_back_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    drop(write_everything(dir.path()));
    let store = Store::open_existing(dir.path(), &StoreOptions::default()).unwrap();
    let journal: Vec<_> = store.journal().entries(0).unwrap().map(|read| read.unwrap().1).collect();
    assert_eq!(journal, journal_records().concat());
    assert_eq!(store.sessions().get("user7").unwrap(), Some(sample_session_record()));
    assert_eq!(store.sessions().watermark().unwrap(), 14);
    assert_eq!(store.consents().load().unwrap(), sample_consents());
    assert_eq!(store.aliases().load().unwrap(), [sample_alias()]);
    assert_eq!(store.quarantine().all().unwrap(), sample_quarantined_entries());
    assert_eq!(store.erasures().in_progress().unwrap(), [(40, sample_erasure(3, false))]);
    let done: BTreeMap<_, _> = store.erasures().erased_users().unwrap().into_iter().collect();
    let expected =
        [1, 2].map(|number| (ErasedUserDigest::from_user_id(&format!("erased{number}")), 1_700_000_000_500 + number));
    assert_eq!(done, BTreeMap::from(expected));
    assert!(
        store.erasures().is_pending(PendingTask::Compaction).unwrap()
            && store.erasures().is_pending(PendingTask::Unlearning).unwrap()
    );
    assert_eq!(store.expiries().in_progress().unwrap(), [(34, sample_expiry(10)), (35, Expiry::default())]);
    assert_eq!(store.expiries().last_begun().unwrap(), Some(sample_expiry(10)));
    let names = store.items().load().unwrap();
    assert_eq!((names.get("item1"), names.get("item13")), (Some(0), Some(12)));
    store.check_pseudonym_secret(Some(SECRET_FINGERPRINT)).unwrap();
}
