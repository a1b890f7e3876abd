//! Exported events as a Parquet file: one row per event.

use anyhow::{Context, ensure};
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as PhysicalType};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

/// A row group has at most this many rows.
const ROW_GROUP_ROWS: usize = 1 << 16;

/// A row group ends after the event with which its texts have this many bytes. Both limits bound the
/// memory of the writer.
const ROW_GROUP_TEXT_BYTES: usize = 32 << 20;

/// An event as a line of an export.
#[derive(Debug, Deserialize)]
struct ExportedEvent<'l> {
    offset: i64,
    #[serde(borrow)]
    event_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    user_id: Cow<'l, str>,
    #[serde(borrow)]
    session_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    r#type: Cow<'l, str>,
    #[serde(borrow)]
    item_id: Option<Cow<'l, str>>,
    value: Option<f64>,
    #[serde(borrow)]
    timestamp: ExportedTime<'l>,
    #[serde(borrow)]
    consent: Option<Cow<'l, str>>,
    #[serde(borrow)]
    recommendation_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    currency: Option<Cow<'l, str>>,
    quantity: Option<i32>,
    #[serde(borrow)]
    properties: Option<&'l RawValue>,
    #[serde(borrow)]
    context: Option<&'l RawValue>,
}

/// A number of milliseconds since 1970, or text for a time in 1970.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ExportedTime<'l> {
    Milliseconds(i64),
    Text(#[serde(borrow)] Cow<'l, str>),
}

impl ExportedTime<'_> {
    fn milliseconds(&self) -> anyhow::Result<i64> {
        match self {
            Self::Milliseconds(at) => Ok(*at),
            Self::Text(text) => Ok(text.parse::<jiff::Timestamp>()?.as_millisecond()),
        }
    }
}

/// The values of a column of which some rows have none.
#[derive(Debug)]
struct OptionalColumn<T> {
    values: Vec<T>,
    /// 1 for each row with a value, otherwise 0.
    levels: Vec<i16>,
}

impl<T> Default for OptionalColumn<T> {
    fn default() -> Self {
        Self { values: Vec::new(), levels: Vec::new() }
    }
}

impl<T> OptionalColumn<T> {
    fn push(&mut self, value: Option<T>) {
        self.levels.push(value.is_some().into());
        self.values.extend(value);
    }
}

/// The columns of the rows that wait for their row group, in the order of the schema.
#[derive(Debug, Default)]
struct EventColumns {
    offsets: Vec<i64>,
    event_ids: OptionalColumn<ByteArray>,
    user_ids: Vec<ByteArray>,
    session_ids: OptionalColumn<ByteArray>,
    types: Vec<ByteArray>,
    item_ids: OptionalColumn<ByteArray>,
    values: OptionalColumn<f32>,
    timestamps: Vec<i64>,
    consents: OptionalColumn<ByteArray>,
    recommendation_ids: OptionalColumn<ByteArray>,
    currencies: OptionalColumn<ByteArray>,
    quantities: OptionalColumn<i32>,
    properties: OptionalColumn<ByteArray>,
    contexts: OptionalColumn<ByteArray>,
    text_bytes: usize,
}

impl EventColumns {
    fn push(&mut self, event: &ExportedEvent<'_>) -> anyhow::Result<()> {
        self.timestamps.push(event.timestamp.milliseconds().context("invalid `timestamp`")?);
        self.offsets.push(event.offset);
        let mut text_bytes = 0;
        let mut text = |text: &str| {
            text_bytes += text.len();
            ByteArray::from(text)
        };
        self.event_ids.push(event.event_id.as_deref().map(&mut text));
        self.user_ids.push(text(&event.user_id));
        self.session_ids.push(event.session_id.as_deref().map(&mut text));
        self.types.push(text(&event.r#type));
        self.item_ids.push(event.item_id.as_deref().map(&mut text));
        self.values.push(event.value.map(narrowed));
        self.consents.push(event.consent.as_deref().map(&mut text));
        self.recommendation_ids.push(event.recommendation_id.as_deref().map(&mut text));
        self.currencies.push(event.currency.as_deref().map(&mut text));
        self.quantities.push(event.quantity);
        self.properties.push(event.properties.map(RawValue::get).map(&mut text));
        self.contexts.push(event.context.map(RawValue::get).map(&mut text));
        self.text_bytes += text_bytes;
        Ok(())
    }

    /// Writes the rows as a row group.
    fn write_row_group<W: Write + Send>(&self, writer: &mut SerializedFileWriter<W>) -> anyhow::Result<()> {
        let mut group = writer.next_row_group()?;
        write_required::<Int64Type, W>(&mut group, &self.offsets)?;
        write_optional::<ByteArrayType, W>(&mut group, &self.event_ids)?;
        write_required::<ByteArrayType, W>(&mut group, &self.user_ids)?;
        write_optional::<ByteArrayType, W>(&mut group, &self.session_ids)?;
        write_required::<ByteArrayType, W>(&mut group, &self.types)?;
        write_optional::<ByteArrayType, W>(&mut group, &self.item_ids)?;
        write_optional::<FloatType, W>(&mut group, &self.values)?;
        write_required::<Int64Type, W>(&mut group, &self.timestamps)?;
        write_optional::<ByteArrayType, W>(&mut group, &self.consents)?;
        write_optional::<ByteArrayType, W>(&mut group, &self.recommendation_ids)?;
        write_optional::<ByteArrayType, W>(&mut group, &self.currencies)?;
        write_optional::<Int32Type, W>(&mut group, &self.quantities)?;
        write_optional::<ByteArrayType, W>(&mut group, &self.properties)?;
        write_optional::<ByteArrayType, W>(&mut group, &self.contexts)?;
        group.close()?;
        Ok(())
    }
}

/// The value of the event. The export writes it so that this conversion loses nothing.
#[expect(clippy::cast_possible_truncation, reason = "the exported number was a 32-bit one")]
fn narrowed(value: f64) -> f32 {
    value as f32
}

/// The schema of the file; docs/feeds.md describes it.
fn table_schema() -> anyhow::Result<TypePtr> {
    let column = |name: &str, physical, logical: Option<LogicalType>, repetition| -> anyhow::Result<TypePtr> {
        let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        Ok(Arc::new(builder.with_logical_type(logical).build()?))
    };
    let text = |name: &str, repetition| column(name, PhysicalType::BYTE_ARRAY, Some(LogicalType::String), repetition);
    let (required, optional) = (Repetition::REQUIRED, Repetition::OPTIONAL);
    let time = Some(LogicalType::timestamp(true, TimeUnit::MILLIS));
    let columns = vec![
        column("offset", PhysicalType::INT64, None, required)?,
        text("event_id", optional)?,
        text("user_id", required)?,
        text("session_id", optional)?,
        text("type", required)?,
        text("item_id", optional)?,
        column("value", PhysicalType::FLOAT, None, optional)?,
        column("timestamp", PhysicalType::INT64, time, required)?,
        text("consent", optional)?,
        text("recommendation_id", optional)?,
        text("currency", optional)?,
        column("quantity", PhysicalType::INT32, None, optional)?,
        text("properties", optional)?,
        text("context", optional)?,
    ];
    Ok(Arc::new(Type::group_type_builder("events").with_fields(columns).build()?))
}

fn write_required<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
) -> anyhow::Result<()> {
    write_column::<T, W>(group, values, None)
}

fn write_optional<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    column: &OptionalColumn<T::T>,
) -> anyhow::Result<()> {
    write_column::<T, W>(group, &column.values, Some(&column.levels))
}

/// Writes the next column of a row group.
fn write_column<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &[T::T],
    levels: Option<&[i16]>,
) -> anyhow::Result<()> {
    let mut column = group.next_column()?.context("the schema has fewer columns than a row")?;
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()?;
    Ok(())
}

/// Writes exported events to a Parquet file.
pub(super) struct EventTableWriter<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: EventColumns,
    group_rows: usize,
}

impl<W: Write + Send> EventTableWriter<W> {
    /// Starts a file in `sink`.
    pub(super) fn new(sink: W) -> anyhow::Result<Self> {
        Self::with_group_rows(sink, ROW_GROUP_ROWS)
    }

    fn with_group_rows(sink: W, group_rows: usize) -> anyhow::Result<Self> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(sink, table_schema()?, Arc::new(properties))?;
        Ok(Self { writer, columns: EventColumns::default(), group_rows })
    }

    /// Adds the event of a line of an export.
    pub(super) fn push_line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let event: ExportedEvent<'_> = serde_json::from_slice(line).context("a line of the export is not an event")?;
        ensure!(event.offset >= 0, "the offset {} is negative", event.offset);
        self.columns.push(&event)?;
        if self.columns.offsets.len() >= self.group_rows || self.columns.text_bytes >= ROW_GROUP_TEXT_BYTES {
            self.write_row_group()?;
        }
        Ok(())
    }

    fn write_row_group(&mut self) -> anyhow::Result<()> {
        std::mem::take(&mut self.columns).write_row_group(&mut self.writer)
    }

    /// Writes the last row group and the footer.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        if !self.columns.offsets.is_empty() {
            self.write_row_group()?;
        }
        self.writer.close()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AttributeValue, Attributes, Consent, Entry, Event, EventDetails, EventKind, WithConsent};
    use crate::ingest::{EventFileReader, ValidationRules, write_entry_with_consent};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;
    use std::fs::File;

    const NOW: i64 = 1_700_000_000_000;

    fn any_name() -> impl Strategy<Value = String> {
        "[^\\p{Cc}]{1,20}"
    }

    fn any_event() -> impl Strategy<Value = WithConsent> {
        let number = proptest::num::f32::NORMAL | proptest::num::f32::SUBNORMAL | proptest::num::f32::ZERO;
        let ids = (any_name(), proptest::option::of(any_name()), proptest::option::of(any_name()), any_name());
        let properties = proptest::option::of("[^\\p{Cc}]{0,20}");
        let consent = proptest::option::of(proptest::sample::select(&Consent::ALL[..]));
        let details = proptest::option::of((proptest::option::of(any_name()), any_name(), 1..9_u32));
        (ids, proptest::option::of(number), 0..NOW, properties, consent, details).prop_map(
            |((user_id, event_id, session_id, item_id), value, timestamp, properties, consent, details)| {
                let properties =
                    properties.map(|text| format!(r#"{{"a": {}, "b":[1.50,{{}}]}}"#, serde_json::json!(text)));
                let details = details.map(|(recommendation_id, text, quantity)| {
                    let context = [
                        ("a".into(), AttributeValue::Number(f64::from(quantity) / 7.0)),
                        ("b".into(), AttributeValue::Text(text.into())),
                    ];
                    let context = Attributes::from_values(context);
                    Box::new(EventDetails {
                        recommendation_id,
                        currency: Some("EUR".to_owned()),
                        quantity: Some(quantity),
                        context,
                    })
                });
                let event = Event {
                    event_id,
                    user_id,
                    session_id,
                    kind: EventKind::Rate,
                    item_id: Some(item_id),
                    value,
                    timestamp,
                    properties,
                    details,
                };
                WithConsent { value: event, consent }
            },
        )
    }

    fn write_events(events: &[WithConsent], file: &File, group_rows: usize) {
        let mut table = EventTableWriter::with_group_rows(file, group_rows).unwrap();
        for event in events {
            let mut line = Vec::new();
            write_entry_with_consent(&event.clone().map(Entry::Event), &mut line).unwrap();
            table.push_line(&line).unwrap();
        }
        table.finish().unwrap();
    }

    proptest! {
        #[test]
        fn an_import_reads_the_exported_events(events in proptest::collection::vec(any_event(), 0..12), group_rows in 1..6_usize) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("events.parquet");
            write_events(&events, &File::create(&path).unwrap(), group_rows);
            let rules = ValidationRules::default();
            let found = EventFileReader::open(&path, &rules, NOW).unwrap().map(|event| event.unwrap().unwrap());
            prop_assert_eq!(found.collect::<Vec<_>>(), events);
        }
    }

    #[test]
    fn row_groups_are_bounded_in_rows_and_in_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut table = EventTableWriter::with_group_rows(file.as_file(), 3).unwrap();
        let line = |text: &str| {
            format!(
                r#"{{"offset":0,"user_id":"u","type":"view","timestamp":1600000000000,"properties":{{"a":"{text}"}}}}"#
            )
        };
        for _ in 0..4 {
            table.push_line(line("").as_bytes()).unwrap();
        }
        table.push_line(line(&"x".repeat(ROW_GROUP_TEXT_BYTES)).as_bytes()).unwrap();
        table.push_line(line("").as_bytes()).unwrap();
        table.finish().unwrap();
        let reader = SerializedFileReader::new(file.reopen().unwrap()).unwrap();
        let groups: Vec<_> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
        assert_eq!(groups, [3, 2, 1]);
    }

    #[test]
    fn a_line_that_is_no_event_is_an_error() {
        let mut table = EventTableWriter::new(Vec::new()).unwrap();
        assert!(table.push_line(b"{\"offset\":0,\"entry\":\"item\"}").is_err());
        let line = r#"{"offset":-1,"user_id":"u","type":"view","timestamp":1600000000000}"#;
        assert!(table.push_line(line.as_bytes()).unwrap_err().to_string().contains("-1 is negative"));
    }
}
