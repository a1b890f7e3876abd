use super::{MAX_FOOTER_BYTES, ParquetLines};
use crate::domain::{EventKind, ItemOperation, Timestamp};
use crate::ingest::{
    ColumnMapping, EventField, EventFileReader, EventPreset, FileError, ItemFileFormat, ItemFileReader, Preset,
    PresetEventReader, PresetItemReader, TimeFormat, TimeUnit, ValidationErrorCode, ValidationRules,
};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::BufRead;
use std::path::{Path, PathBuf};

const NOW: Timestamp = 1_800_000_000_000;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/parquet_samples").join(name)
}

fn feed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/feeds").join(name)
}

/// The rows of a file, or the reason why it cannot be read to its end.
fn read_rows(file: &Path) -> Result<Vec<String>, String> {
    let lines = ParquetLines::open(File::open(file).unwrap()).map_err(|error| error.to_string())?;
    lines.lines().collect::<Result<_, _>>().map_err(|error| error.to_string())
}

fn write_temp_file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn utc_mapping() -> ColumnMapping {
    ColumnMapping::new(TimeFormat::new(TimeUnit::Auto, Some("UTC")).unwrap(), None)
}

#[test]
fn every_type_of_pyarrow_becomes_json() {
    let rows = read_rows(&sample("types.parquet")).unwrap();
    let rows: Vec<Value> = rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect();
    let moment = "2026-03-02T10:00:00.123456";
    assert_eq!(
        rows[0],
        json!({
            "text": "Zoë", "large_text": "a\"b\\", "category": "tea", "small": -7, "unsigned": u64::MAX, "flag": true,
            "half": 0.5, "single": 0.1, "double": 0.1, "infinite": "inf", "price": -12.3, "whole": 5,
            "date": "2026-03-02", "time_ms": "01:02:03.004", "time_ns": "01:02:03.000004",
            "at_s": "2026-03-02T10:00:00Z", "at_ms": "2026-03-02T10:00:00.123Z", "at_us": format!("{moment}Z"),
            "at_ns": format!("{moment}Z"), "local_us": moment,
            "bytes": "plain", "uuid": "00000010-0000-0000-0000-000000000005",
            "list": ["a", null, "b"], "nested": [[1, 2], null, []],
            "group": { "a": 1, "b": { "c": "x", "d": [format!("{moment}Z")] } },
            "groups": [{ "k": "x" }, { "k": "y", "v": 2 }],
            "map": { "a": 1, "b": null }, "numbered": { "7": "x" },
            "properties": { "a": 1 }, "user_id": "12",
        })
    );
    assert_eq!(
        rows[1],
        json!({
            "date": "1969-12-31", "bytes": "/wA=", "list": [], "groups": [], "map": {},
            "properties": "not JSON",
        })
    );
}

#[test]
fn types_of_old_writers_are_read() {
    let rows = read_rows(&sample("legacy.parquet")).unwrap();
    assert_eq!(rows, [r#"{"at":"2026-03-02T10:00:00.123Z","list":["a",null,"b"]}"#, r#"{"list":[]}"#]);
}

#[test]
fn the_files_of_four_libraries_have_the_same_events() {
    let rules = ValidationRules::default();
    for name in ["pandas", "fastparquet", "polars", "duckdb"] {
        let file = sample(&format!("{name}.parquet"));
        let mut reader = EventFileReader::open_with_mapping(&file, utc_mapping(), &rules, NOW).unwrap();
        let events: Vec<_> = reader.by_ref().map(|event| event.unwrap().unwrap().value).collect();
        assert_eq!(events.len(), 40, "{name}");
        for (number, event) in (0..).zip(&events) {
            let item = if number % 4 == 0 { "9007199254740993".to_owned() } else { (number % 5).to_string() };
            assert_eq!((&event.user_id, &event.item_id), (&(1000 + number % 7).to_string(), &Some(item)), "{name}");
            assert_eq!(event.timestamp, 1_772_445_600_123 + number * 60_000, "{name}");
            let is_purchase = number % 3 == 0;
            assert_eq!(event.kind, if is_purchase { EventKind::Purchase } else { EventKind::View }, "{name}");
            assert_eq!(event.value, is_purchase.then_some(1.5 * number as f32), "{name}");
        }
        assert_eq!((reader.line_number(), reader.bytes_read()), (40, fs::metadata(&file).unwrap().len()), "{name}");
    }
}

#[test]
fn times_without_a_zone_are_rejected_by_row() {
    let rules = ValidationRules::default();
    let events = EventFileReader::open(&sample("pandas.parquet"), &rules, NOW).unwrap();
    let errors: Vec<_> = events.map(|event| event.unwrap().unwrap_err()).collect();
    assert_eq!((errors.len(), errors[6].line, errors[6].code), (40, Some(7), ValidationErrorCode::BadTimestamp));
    assert!(errors[6].reason.contains("--time-zone"), "{}", errors[6].reason);
}

#[test]
fn an_event_with_an_absent_time_is_rejected() {
    let rows = read_rows(&sample("absent_time.parquet")).unwrap();
    assert_eq!(rows[1], r#"{"user_id":"a","type":"view","item_id":"y","timestamp":""}"#);
    let rules = ValidationRules::default();
    let reader =
        EventFileReader::open_with_mapping(&sample("absent_time.parquet"), utc_mapping(), &rules, NOW).unwrap();
    let results: Vec<_> = reader.map(|event| event.unwrap().is_ok()).collect();
    assert_eq!(results, [true, false]);
}

#[test]
fn ids_can_be_whole_decimals_and_floats() {
    // Data frames store integers as floats if some are absent, and databases as decimals.
    let rows = read_rows(&sample("number_ids.parquet")).unwrap();
    assert_eq!(
        rows,
        [
            r#"{"user_id":"12","session_id":"3","item_id":"42"}"#,
            r#"{"user_id":"1180591620717411303424","session_id":3.25,"item_id":2.5}"#,
            r#"{"user_id":"7"}"#,
        ]
    );
}

#[test]
fn a_missing_column_is_named_with_the_columns_of_the_file() {
    let rules = ValidationRules::default();
    let mapping = utc_mapping().with_column(EventField::Item, "sku".to_owned());
    let error = EventFileReader::open_with_mapping(&sample("pandas.parquet"), mapping, &rules, NOW).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "pandas.parquet:1: there is no column `sku`; the columns are user, item, event, timestamp, value; name another one with --map item=NAME"
        ),
        "{error}"
    );
}

#[test]
fn an_export_of_bigquery_has_the_events_of_its_json_lines() {
    let rules = ValidationRules::default();
    let read = |name: &str| {
        let preset = EventPreset::new(Preset::Ga4, &[("quick_look".to_owned(), "view".to_owned())]).unwrap();
        let reader = PresetEventReader::open(&feed(name), preset, &rules, NOW).unwrap();
        reader.map(|record| record.unwrap().unwrap()).collect::<Vec<_>>()
    };
    let events = read("ga4-events.parquet");
    assert_eq!(events.iter().map(|record| record.events.len()).sum::<usize>(), 11);
    assert_eq!(events, read("ga4-events.jsonl"));
}

#[test]
fn other_presets_refuse_a_parquet_file() {
    let rules = ValidationRules::default();
    let preset = EventPreset::new(Preset::Snowplow, &[]).unwrap();
    let error = PresetEventReader::open(&sample("pandas.parquet"), preset, &rules, NOW).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("is in Parquet format; --preset snowplow reads another one"), "{error}");
    let error = PresetItemReader::open(&sample("items.parquet"), Preset::Shopify, None, NOW).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("--preset shopify reads another one; use --items"), "{error}");
}

#[test]
fn a_catalog_is_read() {
    let format = ItemFileFormat { names: vec![("item_id", "sku".to_owned())], ..ItemFileFormat::default() };
    let changes: Vec<_> = ItemFileReader::open(&sample("items.parquet"), format, NOW)
        .unwrap()
        .map(|item| item.unwrap().unwrap())
        .collect();
    let found: Vec<_> = changes
        .iter()
        .map(|change| match &change.operation {
            ItemOperation::Put(item) => {
                (change.item_id.as_str(), item.categories.len(), item.price, item.available, item.details.is_some())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        found,
        [("1", 2, Some(4.5), true, true), ("2", 1, None, false, true), ("3", 0, Some(12.0), true, false)]
    );
    let error = ItemFileReader::open(&sample("items.parquet"), ItemFileFormat::default(), NOW).unwrap_err();
    assert!(error.to_string().contains("there is no column `item_id`"), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let rules = ValidationRules::default();
    for name in ["types.parquet", "polars.parquet", "legacy.parquet"] {
        let bytes = fs::read(sample(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            let error = read_rows(&path).unwrap_err();
            assert!(error.contains("truncated") || error.contains("damaged"), "{name}, {length} bytes: {error}");
            let opened = EventFileReader::open(&path, &rules, NOW);
            assert!(matches!(opened, Err(FileError::Open { .. })), "{name}, {length} bytes");
        }
    }
}

#[test]
fn no_damaged_byte_stops_the_program() {
    for (name, step) in [("types.parquet", 3), ("polars.parquet", 1), ("duckdb.parquet", 1), ("legacy.parquet", 1)] {
        let bytes = fs::read(sample(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let mut failures = 0;
        for position in (0..bytes.len()).step_by(step) {
            for mask in [0x01, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[position] ^= mask;
                fs::write(&path, &damaged).unwrap();
                // Without checksums, some damage only changes values.
                failures += usize::from(read_rows(&path).is_err());
            }
        }
        assert!(failures > bytes.len() / step / 4, "{name}: {failures}");
    }
}

#[test]
fn unsupported_files_are_refused_with_a_way_out() {
    let error = read_rows(&sample("lz4.parquet")).unwrap_err();
    assert!(error.contains("compression LZ4") && error.contains("write the file with snappy"), "{error}");
    let bytes = fs::read(sample("polars.parquet")).unwrap();
    let trailer = |length: u32, magic: &[u8]| [&bytes[..bytes.len() - 8], &length.to_le_bytes(), magic].concat();
    for (content, message) in [
        (trailer(9, b"PARE"), "encrypted"),
        (trailer(u32::MAX, b"PAR1"), "larger than the file"),
        (b"user,item\n".to_vec(), "does not begin with PAR1"),
    ] {
        let (_folder, path) = write_temp_file("a.parquet", &content);
        let error = EventFileReader::open(&path, &ValidationRules::default(), NOW).unwrap_err();
        assert!(format!("{:?}", anyhow::Error::from(error)).contains(message), "{message}");
    }
    let (_folder, path) = write_temp_file("a.parquet.gz", b"\x1F\x8B");
    let error = EventFileReader::open(&path, &ValidationRules::default(), NOW).unwrap_err();
    assert!(format!("{:?}", anyhow::Error::from(error)).contains("decompress the file"));

    let (_folder, path) = write_temp_file("a.parquet", b"PAR1");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(MAX_FOOTER_BYTES + 100).unwrap();
    let length = u32::try_from(MAX_FOOTER_BYTES + 1).unwrap().to_le_bytes();
    std::os::unix::fs::FileExt::write_all_at(&file, &[&length[..], b"PAR1"].concat(), MAX_FOOTER_BYTES + 92).unwrap();
    let error = read_rows(&path).unwrap_err();
    assert!(error.contains("at most 16 MiB"), "{error}");
}

#[test]
fn the_content_decides_and_not_the_name() {
    let bytes = fs::read(sample("pandas.parquet")).unwrap();
    let (_folder, path) = write_temp_file("events.csv", &bytes);
    let rules = ValidationRules::default();
    assert_eq!(EventFileReader::open_with_mapping(&path, utc_mapping(), &rules, NOW).unwrap().count(), 40);
}
