//! Fuzz tests with mutated valid inputs. No input may cause a panic or unbounded memory use. Parsed
//! input that is written and parsed again must give the same value.
//!
//! `cargo test --test integration fuzz -- --ignored` runs each target for `SEQUOR_FUZZ_SECONDS`
//! (default 600) with the seed `SEQUOR_FUZZ_SEED` (default 0). Without `--ignored` each target runs
//! for a few thousand inputs.

use std::fs;
use std::time::{Duration, Instant};

use sequor::domain::{
    Entry, Event, EventKind, Impression, ImpressionItem, Item, ItemChange, ItemOperation, ItemPatch, ItemVector,
    SourceName, Step, UserSequence, VectorPatch,
};
use sequor::ingest::{EventFileReader, ValidationRules, read_events, read_item, read_item_patch, read_items};
use sequor::store::{Durability, Store, StoreOptions, codec};
use serde_json::{Map, Value, json};

use crate::random::TestRng;

const NOW: i64 = 1_750_000_000_000;

/// Derives new inputs from a corpus.
struct Mutator {
    random: TestRng,
    corpus: Vec<Vec<u8>>,
    tokens: &'static [&'static [u8]],
}

impl Mutator {
    fn random_index(&mut self, length: usize) -> usize {
        self.random.number_below(length as u64 + 1) as usize
    }

    /// A random range of at most 32 bytes.
    fn random_range(&mut self, length: usize) -> std::ops::Range<usize> {
        let begin = self.random_index(length);
        begin..(begin + self.random.number_below(32) as usize).min(length)
    }

    fn next_input(&mut self) -> Vec<u8> {
        let pick = self.random.number_below(self.corpus.len() as u64) as usize;
        let mut input = self.corpus[pick].clone();
        // Usually makes few changes, so that much of the input stays valid.
        for _ in 0..=self.random.number_below(4) * self.random.number_below(3) {
            let at = self.random_index(input.len());
            match self.random.number_below(8) {
                0 if at < input.len() => input[at] ^= 1 << self.random.number_below(8),
                1 if at < input.len() => input[at] = self.random.next_u64() as u8,
                2 => drop(input.drain(self.random_range(input.len()))),
                3 => {
                    let copy = input[self.random_range(input.len())].to_vec();
                    input.splice(at..at, copy);
                }
                4 => {
                    let token = self.tokens[self.random.number_below(self.tokens.len() as u64) as usize];
                    let over = self.random.number_below(2) as usize * token.len();
                    input.splice(at..(at + over).min(input.len()), token.iter().copied());
                }
                5 => {
                    let other = self.random.number_below(self.corpus.len() as u64) as usize;
                    let begin = self.random.number_below(self.corpus[other].len() as u64 + 1) as usize;
                    input.truncate(at);
                    input.extend_from_slice(&self.corpus[other][begin..]);
                }
                6 => input.truncate(at),
                _ => {
                    let digit = input.iter().position(u8::is_ascii_digit);
                    if let Some(random_index) = digit {
                        input.splice(random_index..=random_index, self.random.next_u64().to_string().bytes());
                    }
                }
            }
        }
        input.truncate(1 << 16);
        input
    }
}

/// The peak memory of this process in bytes; 0 if the system does not report it.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or_default() << 10
}

/// Passes mutated inputs to `check`, for the configured time if `long`, otherwise for `few` inputs.
pub(crate) fn run_fuzz(
    name: &str,
    corpus: Vec<Vec<u8>>,
    tokens: &'static [&'static [u8]],
    long: bool,
    few: u64,
    mut check: impl FnMut(&[u8]),
) {
    let setting = |name: &str, default: u64| std::env::var(name).map_or(default, |value| value.parse().unwrap());
    let time = Duration::from_secs(setting("SEQUOR_FUZZ_SECONDS", 600));
    corpus.iter().for_each(|seed| check(seed));
    let mut mutator = Mutator { random: TestRng(setting("SEQUOR_FUZZ_SEED", 0)), corpus, tokens };
    let (before, began, mut inputs) = (peak_memory(), Instant::now(), 0_u64);
    while if long { began.elapsed() < time } else { inputs < few } {
        let input = mutator.next_input();
        let _report = ReportInputOnPanic(&input);
        check(&input);
        inputs += 1;
    }
    let grown = peak_memory().saturating_sub(before) >> 20;
    eprintln!("{name}: {inputs} inputs, {grown} MiB more than before");
    assert!(!long || grown < 512, "{name}: {grown} MiB");
}

/// Prints the input if the test panics.
struct ReportInputOnPanic<'a>(&'a [u8]);

impl Drop for ReportInputOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input: {:?}\n{}", self.0, String::from_utf8_lossy(self.0));
        }
    }
}

/// Defines a short test and an ignored long-running one for a fuzz target.
macro_rules! fuzz_target {
    ($some:ident, $many:ident, $fuzz:ident) => {
        #[test]
        fn $some() {
            $fuzz(false);
        }

        #[test]
        #[ignore = "runs for SEQUOR_FUZZ_SECONDS"]
        fn $many() {
            $fuzz(true);
        }
    };
}

pub(crate) use fuzz_target;

fuzz_target!(parsed_events_round_trip, fuzz_events, fuzz_event_parser);
fuzz_target!(parsed_items_round_trip, fuzz_items, fuzz_item_parser);
fuzz_target!(parsed_csv_round_trips, fuzz_tables, fuzz_csv_parser);
fuzz_target!(decoded_bytes_round_trip, fuzz_codec, fuzz_binary_codec);
fuzz_target!(corrupt_journals_are_detected, fuzz_journal, fuzz_journal_records);

fn byte_seeds<const N: usize>(seeds: [&str; N]) -> Vec<Vec<u8>> {
    seeds.into_iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

pub(crate) const JSON_TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"1e999",
    b"-0",
    b"1e-45",
    b"3.4028236e38",
    b"0.1",
    b"\n",
    b"\r\n",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc3\xa9",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"\"user_id\":",
    b"\"item_id\":",
    b"\"type\":",
    b"\"properties\":{\"a\":[[]]}",
    b"\"timestamp\":",
    b"\"value\":",
    b"\"op\":\"patch\",",
    b"\"2024-02-29T23:59:60+23:59\"",
    b"                                ",
];

/// The time of an event as text, which is accepted in 1970 too.
fn time_text(event: &Event) -> String {
    jiff::Timestamp::from_millisecond(event.timestamp).unwrap().to_string()
}

/// Formats an event as a client would.
fn event_to_json(event: &Event) -> String {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Option<Value>| drop(value.map(|value| fields.insert(name.to_owned(), value)));
    set("event_id", event.event_id.clone().map(Value::from));
    set("user_id", Some(json!(event.user_id)));
    set("session_id", event.session_id.clone().map(Value::from));
    set("type", Some(json!(event.kind.name())));
    set("item_id", event.item_id.clone().map(Value::from));
    set("timestamp", Some(json!(time_text(event))));
    set("value", event.value.map(|value| json!(f64::from(value))));
    let text = Value::Object(fields).to_string();
    // The bytes are kept as received, including their order and whitespace.
    match &event.properties {
        Some(properties) => format!("{},\"properties\":{properties}}}", text.strip_suffix('}').unwrap()),
        None => text,
    }
}

fn fuzz_event_parser(long: bool) {
    let corpus = byte_seeds([
        r#"{"event_id":"e1","user_id":"ann","session_id":"s1","type":"view","item_id":"tea","value":2.5,"timestamp":1700000000000}"#,
        r#"[{"user_id":"ann","type":"purchase","item_id":"cup","timestamp":"2024-05-01T12:00:00.5+02:00"},{"user_id":"bob","type":"search"}]"#,
        "{\"user_id\":\"a\",\"type\":\"view\",\"item_id\":\"x\"}\n{\"user_id\":\"b\",\"type\":\"cart\",\"item_id\":\"y\",\"value\":1e3}\r\n\n",
        r#"{"user_id":"ann","type":"click","item_id":"t\u00e9\ud83c\udf75","properties":{"a":{"b":[1,2.0,null,true,"x"]},"c":"d"}}"#,
    ]);
    let rules = ValidationRules::default();
    run_fuzz("events", corpus, JSON_TOKENS, long, 4_000, |input| {
        let Ok(reading) = read_events(input, &rules, NOW) else { return };
        let accepted: Vec<Event> = reading.records.into_iter().flatten().map(|record| record.value).collect();
        if accepted.is_empty() {
            return;
        }
        let lines: Vec<_> = accepted.iter().map(event_to_json).collect();
        for body in [format!("[{}]", lines.join(",")), lines.join("\n")] {
            let copy = read_events(body.as_bytes(), &rules, NOW).unwrap();
            assert_eq!(
                copy.records,
                accepted.iter().cloned().map(|event| Ok(event.into())).collect::<Vec<_>>(),
                "{body}"
            );
            assert_eq!(copy.warnings, []);
        }
    });
}

/// Formats an item change as a client would, without the item id.
fn item_operation_to_json(operation: &ItemOperation) -> Map<String, Value> {
    let all = |patch: &ItemPatch| {
        let Value::Object(mut fields) = json!(patch) else { panic!("a patch serialises to an object") };
        // Absent attributes stay unchanged; null removes an attribute.
        let named = [
            ("categories", patch.categories.is_some()),
            ("brand", patch.brand.is_some()),
            ("price", patch.price.is_some()),
            ("tags", patch.tags.is_some()),
            ("available", patch.available.is_some()),
            ("published", patch.published.is_some()),
            ("expires", patch.expires.is_some()),
        ];
        fields.retain(|name, _| named.contains(&(name, true)));
        fields
    };
    let mut fields = match operation {
        ItemOperation::Put(item) | ItemOperation::PutWithVectors(item, _) => match json!(item) {
            Value::Object(fields) => fields,
            other => panic!("{other}"),
        },
        ItemOperation::Patch(patch) | ItemOperation::PatchWithVectors(patch, _) => all(patch),
        ItemOperation::Delete => Map::new(),
    };
    let vectors = match operation {
        ItemOperation::PutWithVectors(_, vectors) => {
            Some(vectors.iter().map(|vector| (vector.name.clone(), json!(vector.values))).collect())
        }
        ItemOperation::PatchWithVectors(_, VectorPatch::Change(changes)) => {
            Some(changes.iter().map(|(name, values)| (name.clone(), json!(values))).collect())
        }
        ItemOperation::PatchWithVectors(_, VectorPatch::RemoveAll) => Some(Value::Null),
        _ => None,
    };
    fields.extend(vectors.map(|vectors| ("vectors".to_owned(), vectors)));
    let op = match operation {
        ItemOperation::Put(_) | ItemOperation::PutWithVectors(..) => "put",
        ItemOperation::Patch(_) | ItemOperation::PatchWithVectors(..) => "patch",
        ItemOperation::Delete => "delete",
    };
    fields.insert("op".to_owned(), json!(op));
    fields
}

fn fuzz_item_parser(long: bool) {
    let corpus = byte_seeds([
        r#"{"item_id":"tea","categories":["green","loose"],"brand":"b","price":4.5,"tags":["t"],"available":true,"published":1700000000000,"expires":null}"#,
        r#"[{"item_id":"cup","op":"patch","price":null,"available":false},{"item_id":"pot","op":"delete"}]"#,
        "{\"item_id\":\"a\",\"price\":0.1}\n{\"item_id\":\"b\",\"expires\":\"2030-01-01T00:00:00Z\"}",
        r#"[{"item_id":"a","vectors":{"text":[0.5,-1e-3]}},{"item_id":"b","op":"patch","vectors":{"text":null,"image_2":[1]}},{"item_id":"c","op":"patch","vectors":null}]"#,
    ]);
    run_fuzz("items", corpus, JSON_TOKENS, long, 4_000, |input| {
        let _ = (read_item(input, &mut |_| {}), read_item_patch(input, &mut |_| {}));
        let Ok(reading) = read_items(input, 1000, NOW) else { return };
        let accepted: Vec<ItemChange> = reading.records.into_iter().flatten().collect();
        if accepted.is_empty() {
            return;
        }
        let as_json = |change: &ItemChange| {
            let mut fields = item_operation_to_json(&change.operation);
            fields.insert("item_id".to_owned(), json!(change.item_id));
            Value::Object(fields)
        };
        let body = Value::from(accepted.iter().map(as_json).collect::<Vec<_>>()).to_string();
        let copy = read_items(body.as_bytes(), 1000, NOW).unwrap();
        assert_eq!(copy.records, accepted.into_iter().map(Ok).collect::<Vec<_>>(), "{body}");
    });
}

fn fuzz_csv_parser(long: bool) {
    const CSV_TOKENS: &[&[u8]] = &[
        b",",
        b"\"",
        b"\"\"",
        b"\n",
        b"\r\n",
        b"\r",
        b"user",
        b"item",
        b"event",
        b"timestamp",
        b"value",
        b"session",
        b"event_id",
        b"\0",
        b"\xff",
        b"nan",
        b"inf",
        b"1e11",
        b"-1",
        b"2024-01-01T00:00:00Z",
    ];
    let corpus = byte_seeds([
        "user,item,event,timestamp\nann,tea,view,1700000000\nbob,cup,cart,1700000000123\n",
        "timestamp,event_id,value,event,item,session,user\r\n2024-05-01T12:00:00Z,e1,2.5,purchase,\"a,b\",s,\"q\"\"q\"\r\n",
        "user,item,event,timestamp,more\nann,tea,view,1700000000.5,x\n\nbob,,search,1,\n",
    ]);
    let rules = ValidationRules::default();
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let events = EventFileReader::open(&path, &rules, NOW).ok()?;
        Some(events.filter_map(|read| Some(read.ok()?.ok()?.value)).collect::<Vec<Event>>())
    };
    run_fuzz("tables", corpus, CSV_TOKENS, long, 3_000, |input| {
        let Some(accepted) = read("mutated.csv", input) else { return };
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let row = |event: &Event| {
            let time = time_text(event);
            let value = event.value.map(|value| f64::from(value).to_string()).unwrap_or_default();
            let texts = [&Some(event.user_id.clone()), &event.item_id, &event.session_id, &event.event_id];
            let texts = texts.map(|text| text.as_deref().map(quoted).unwrap_or_default()).join(",");
            format!("{texts},{},{time},{value}\n", event.kind.name())
        };
        let table: String = std::iter::once("user,item,session,event_id,event,timestamp,value\n".to_owned())
            .chain(accepted.iter().map(row))
            .collect();
        assert_eq!(read("again.csv", table.as_bytes()), Some(accepted), "{table}");
        let _ = read("mutated.ndjson", input);
        let _ = read("mutated.csv.gz", input);
    });
}

fn one_entry_of_each_kind() -> Vec<Entry> {
    let event = |id: Option<&str>, kind: EventKind| Event {
        event_id: id.map(str::to_owned),
        user_id: "ann".to_owned(),
        session_id: id.map(str::to_owned),
        kind,
        item_id: Some("tea".to_owned()),
        value: Some(1.5),
        timestamp: NOW,
        properties: Some("{\"a\":1}".to_owned()),
        details: None,
    };
    let shown = |name: &str, source| ImpressionItem::new(name.to_owned(), source);
    let impression = Impression {
        recommendation_id: "r1".to_owned(),
        user_id: "ann".to_owned(),
        timestamp: NOW,
        weights_version: 7,
        items: vec![shown("tea", SourceName::Clusters), shown("cup", SourceName::Trending)],
        ..Impression::default()
    };
    let change = |operation| Entry::Item(ItemChange { item_id: "tea".to_owned(), timestamp: NOW, operation });
    let vector = ItemVector { name: "text".to_owned(), values: vec![0.5, -1.0] };
    let item = Item { categories: vec!["a".to_owned()], price: Some(2.0), published: Some(NOW), ..Item::default() };
    vec![
        Entry::Event(event(Some("e1"), EventKind::View)),
        Entry::Event(event(None, EventKind::Custom("wishlist".to_owned()))),
        Entry::Impression(impression),
        change(ItemOperation::Put(item)),
        change(ItemOperation::Patch(ItemPatch { brand: Some(None), available: Some(true), ..ItemPatch::default() })),
        change(ItemOperation::Delete),
        change(ItemOperation::PutWithVectors(Item::default(), vec![vector])),
        change(ItemOperation::PatchWithVectors(ItemPatch::default(), VectorPatch::RemoveAll)),
    ]
}

const BINARY_TOKENS: &[&[u8]] = &[
    b"\0\0\0\0\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x01",
    b"\0",
    b"\0\0\0\x04\0\0\0\0",
    b"\xff",
];

fn fuzz_binary_codec(long: bool) {
    let step = |item| Step { item, kind: 3, starts_session: true, at: NOW, value: f32::NAN };
    let session = UserSequence {
        session_number: 2,
        session_start: 9,
        session_id: Some("s".to_owned()),
        steps: vec![step(Some(1)), step(None)],
        earlier_sessions: Vec::new(),
        kept_steps: Vec::new(),
    };
    let mut corpus = vec![
        codec::encode(&one_entry_of_each_kind()).unwrap(),
        codec::encode(&(5_u64, &session)).unwrap(),
        codec::encode(&vec!["tea", "cup"]).unwrap(),
    ];
    corpus.extend(one_entry_of_each_kind().iter().map(|entry| codec::encode(entry).unwrap()));
    fn check_round_trip<T: serde::Serialize + serde::de::DeserializeOwned>(input: &[u8]) {
        if let Ok(value) = codec::decode::<T>(input) {
            assert!(codec::encode(&value).unwrap() == input, "a decoded value encodes to different bytes");
        }
        let streamed =
            codec::decode_from::<T, _>(&mut &*input, input.len() as u64).map(|value| codec::encode(&value).unwrap());
        match codec::decode_prefix::<T>(input) {
            Ok((value, rest)) => {
                assert!(streamed.unwrap() == codec::encode(&value).unwrap() && rest.len() <= input.len())
            }
            Err(_) => assert!(streamed.is_err() || input.len() > 1 << 20),
        }
    }
    run_fuzz("codec", corpus, BINARY_TOKENS, long, 10_000, |input| {
        check_round_trip::<Vec<Entry>>(input);
        check_round_trip::<Entry>(input);
        check_round_trip::<(u64, UserSequence)>(input);
        check_round_trip::<Vec<String>>(input);
    });
}

/// Writes the checksum of the payload into a value: `version ‖ crc32(key ‖ version ‖ payload) ‖
/// payload`.
fn update_checksum(key: &[u8], value: &mut [u8]) {
    if let Some((head, payload)) = value.split_at_mut_checked(5) {
        let sum = crc32fast::hash(&[key, &[1], payload].concat());
        head[0] = 1;
        head[1..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Opens the database directly. A closed database keeps its lock until its last thread has ended,
/// so this waits for the lock.
fn open_database(path: &std::path::Path) -> sled::Db {
    let log = fs::File::options().read(true).write(true).open(path.join("db")).unwrap();
    log.lock().unwrap();
    drop(log);
    sled::open(path).unwrap()
}

/// Corrupts journal records directly in the database. Some records get a valid checksum again;
/// others are removed, repeated or exchanged. The store must then open and read correctly, or
/// report an error.
fn fuzz_journal_records(long: bool) {
    let home = tempfile::tempdir().unwrap();
    let open = || Store::open(home.path(), &StoreOptions::default());
    let as_json: Vec<Entry> = (0..40).flat_map(|_| one_entry_of_each_kind()).collect();
    let store = open().unwrap();
    for (random_index, some) in [&as_json[..6], &as_json[..240], &as_json[..1], &as_json[..100]].into_iter().enumerate()
    {
        store.journal().append(some, Durability::ProcessCrash).unwrap();
        assert!(random_index > 0 || store.journal().next_offset().unwrap() == 6);
    }
    store.close().unwrap();
    let database = || open_database(&home.path().join("store"));
    let original: Vec<(Vec<u8>, Vec<u8>)> = {
        let tree = database().open_tree("journal").unwrap();
        tree.iter().map(|read| read.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
    };
    let corpus = original.iter().map(|(_, value)| value.clone()).collect();
    let mut random = TestRng(1);
    let (mut opened, mut rejected) = (0, 0);
    run_fuzz("journal", corpus, BINARY_TOKENS, long, 150, |input| {
        {
            let tree = database().open_tree("journal").unwrap();
            tree.clear().unwrap();
            original.iter().for_each(|(key, value)| drop(tree.insert(key, value.as_slice()).unwrap()));
            let (key, value) = &original[random.number_below(original.len() as u64) as usize];
            match random.number_below(6) {
                0 => drop(tree.remove(key).unwrap()),
                1 => drop(
                    tree.insert(&original[random.number_below(original.len() as u64) as usize].0, value.as_slice())
                        .unwrap(),
                ),
                2 => drop(tree.insert(&input[..input.len().min(12)], value.as_slice()).unwrap()),
                3 => drop(tree.insert(key, input).unwrap()),
                _ => {
                    // The first piece of a record begins with the number of pieces.
                    let mut corrupted = input.to_vec();
                    let first = key[..8].to_vec();
                    if corrupted.len() > 4 && key[8..] == [0; 4] {
                        update_checksum(&first, &mut corrupted[4..]);
                    }
                    tree.insert(key, corrupted).unwrap();
                }
            }
        }
        let Ok(store) = open() else {
            rejected += 1;
            return;
        };
        opened += 1;
        let journal = store.journal();
        for from in [0, 5, 246, 300] {
            let read: Vec<_> = journal.entries(from).unwrap().collect();
            assert!(read.iter().rev().skip(1).all(Result::is_ok), "reading continued after an error");
            let offsets: Vec<_> = read.iter().flatten().map(|(offset, _)| *offset).collect();
            assert!(
                offsets.iter().zip(from..).all(|(found, expected)| *found == expected),
                "entries are missing without an error"
            );
        }
    });
    assert!(opened > 0 && rejected > 0, "{opened} opened, {rejected} rejected");
}
