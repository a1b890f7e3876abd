//! Parses events from CSV (RFC 4180): the column names come from a header or from the caller, and
//! every other record is one event. The separator is detected unless the caller names it.

use super::column_mapping::{ColumnMapping, EventField};
use super::table_format::TableFormat;
use super::validation::ValidationRules;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Timestamp, WithConsent};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use std::borrow::Cow;

/// The separators that are detected, in the order of preference.
const DETECTABLE_DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// The fields of one record, in reused buffers.
#[derive(Debug)]
pub(super) struct CsvRow {
    parser: Reader,
    delimiter: u8,
    /// The unquoted fields of the last line, concatenated.
    text: Vec<u8>,
    /// The end of each field in `text`.
    ends: Vec<usize>,
}

impl CsvRow {
    pub(super) fn new(delimiter: u8) -> Self {
        let parser = ReaderBuilder::new().delimiter(delimiter).build();
        Self { parser, delimiter, text: Vec::new(), ends: Vec::new() }
    }

    /// The separator of the columns.
    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Splits a header into its column names.
    pub(super) fn read_header(&mut self, line: &[u8]) -> Result<Vec<Vec<u8>>, CsvHeaderError> {
        let is_complete = self.split_fields(line);
        let names = (0..self.ends.len()).map(|column| self.field_bytes(column).trim_ascii().to_vec()).collect();
        match is_complete {
            true => Ok(names),
            false if line.contains(&b'\r') && !line.contains(&b'"') => Err(CsvHeaderError::CarriageReturns),
            false => Err(CsvHeaderError::UnclosedQuote),
        }
    }

    /// Splits a record and checks that it has `expected` columns.
    pub(super) fn read_record(&mut self, line: &[u8], expected: usize) -> Result<(), ValidationError> {
        if !self.split_fields(line) {
            return Err(ValidationError::new(None, ValidationErrorCode::Syntax, "a quote is never closed"));
        }
        let found = self.ends.len();
        if found != expected {
            let code = if found < expected { ValidationErrorCode::Missing } else { ValidationErrorCode::Syntax };
            return Err(ValidationError::new(
                None,
                code,
                format!("the row has {found} columns; the header has {expected}"),
            ));
        }
        Ok(())
    }

    /// Splits a line into fields; `false` if it ends inside quotes.
    fn split_fields(&mut self, line: &[u8]) -> bool {
        // Unquoting never lengthens a line, but the parser needs a buffer with one more byte. A
        // line of n bytes has at most n + 1 fields.
        self.text.resize(line.len() + 1, 0);
        self.ends.resize(line.len() + 1, 0);
        self.parser.reset();
        let (result, _, written, fields) = self.parser.read_record(line, &mut self.text, &mut self.ends);
        debug_assert_ne!(result, ReadRecordResult::OutputFull);
        // A line end completes the record, unless it is inside quotes.
        let output = self.text.get_mut(written..).unwrap_or_default();
        let ends = self.ends.get_mut(fields..).unwrap_or_default();
        let (result, _, _, last) = self.parser.read_record(b"\n", output, ends);
        self.ends.truncate(fields + last);
        result == ReadRecordResult::Record
    }

    fn field_bytes(&self, column: usize) -> &[u8] {
        let start = column.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(column).and_then(|&end| self.text.get(start..end)).unwrap_or_default()
    }

    /// The text of a column; `None` if it is empty or absent. `name` names the field in errors.
    pub(super) fn field_text(
        &self,
        name: &'static str,
        column: Option<usize>,
    ) -> Result<Option<&str>, ValidationError> {
        let bytes = column.map(|column| self.field_bytes(column)).unwrap_or_default();
        let text = std::str::from_utf8(bytes)
            .map_err(|_| ValidationError::new(name, ValidationErrorCode::NotUtf8, format!("`{name}` is not UTF-8")))?;
        Ok((!text.is_empty()).then_some(text))
    }
}

/// Parses lines of CSV into events.
#[derive(Debug)]
pub(super) struct CsvEventReader {
    row: CsvRow,
    mapping: ColumnMapping,
    column_count: usize,
    /// The column of each [`EventField`].
    columns: [Option<usize>; EventField::FIELD_COUNT],
}

/// Why a header is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CsvHeaderError {
    /// A required column is absent: its name, and the names of all required columns.
    MissingColumn(String, String),
    /// The header names a column twice.
    DuplicateColumn(String),
    /// A quote is never closed.
    UnclosedQuote,
    /// The lines end with carriage returns only.
    CarriageReturns,
    /// The number of columns in the first row differs from the number of column names.
    ColumnCount {
        /// The number of named columns.
        named: usize,
        /// The number of columns in the first row.
        found: usize,
    },
}

/// Resolves the columns of a file. `first` is the file's first record: a row if `format` names the
/// columns, otherwise the header. `resolve` is called with the column names and finds the columns
/// that the caller needs.
///
/// # Errors
/// If `resolve` fails with every possible separator. Returns the error of the separator that splits
/// the record into the most columns.
pub(super) fn resolve_columns<T>(
    format: &TableFormat,
    first: &[u8],
    resolve: impl Fn(&[Vec<u8>]) -> Result<T, CsvHeaderError>,
) -> Result<(CsvRow, usize, T), CsvHeaderError> {
    let mut best: Option<(usize, CsvHeaderError)> = None;
    for delimiter in format.delimiter.map_or_else(|| DETECTABLE_DELIMITERS.to_vec(), |delimiter| vec![delimiter]) {
        let mut row = CsvRow::new(delimiter);
        let found = row.read_header(first);
        let column_count = row.ends.len();
        let resolved = match &format.columns {
            // The first record is a row. The separator that splits it into the expected number of
            // columns is the right one.
            Some(columns) if column_count == columns.len() || format.delimiter.is_some() => {
                resolve(&columns.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>())
            }
            Some(columns) => Err(CsvHeaderError::ColumnCount { named: columns.len(), found: column_count }),
            None => found.and_then(|names| resolve(&names)),
        };
        match resolved {
            Ok(resolved) => return Ok((row, format.columns.as_ref().map_or(column_count, Vec::len), resolved)),
            Err(error) if best.as_ref().is_none_or(|(columns, _)| column_count > *columns) => {
                best = Some((column_count, error))
            }
            Err(_) => {}
        }
    }
    Err(best.map_or(CsvHeaderError::UnclosedQuote, |(_, error)| error))
}

/// The index of the column `name`, if the header has it.
fn find_column(names: &[Vec<u8>], name: &str) -> Result<Option<usize>, CsvHeaderError> {
    let mut matches =
        (0..names.len()).filter(|&column| names.get(column).is_some_and(|found| found == name.as_bytes()));
    let first = matches.next();
    if matches.next().is_some() { Err(CsvHeaderError::DuplicateColumn(name.to_owned())) } else { Ok(first) }
}

/// Checks that a header names each of these columns exactly once.
pub(super) fn require_columns<'n>(
    columns: &[Vec<u8>],
    mut names: impl Iterator<Item = &'n str>,
) -> Result<(), CsvHeaderError> {
    names.try_for_each(|name| {
        find_column(columns, name)?
            .map(|_| ())
            .ok_or_else(|| CsvHeaderError::MissingColumn(name.to_owned(), name.to_owned()))
    })
}

/// The names of the columns that a file of events must have.
fn required_columns(mapping: &ColumnMapping) -> Vec<String> {
    let required = EventField::all_in_order().filter(|field| mapping.requires_column(*field));
    let described = |field| match (mapping.csv_column(field), mapping.other_csv_column(field)) {
        (name, Some(other)) => format!("{name} (or {other})"),
        (name, None) => name.to_owned(),
    };
    required.map(described).collect()
}

/// The column of each [`EventField`].
fn event_columns(
    names: &[Vec<u8>],
    mapping: &ColumnMapping,
) -> Result<[Option<usize>; EventField::FIELD_COUNT], CsvHeaderError> {
    let mut columns = [None; EventField::FIELD_COUNT];
    for (field, column) in EventField::all_in_order().zip(&mut columns).filter(|(field, _)| mapping.reads(*field)) {
        let (name, other) = (mapping.csv_column(field), mapping.other_csv_column(field));
        *column = find_column(names, name)?;
        if let (None, Some(other)) = (&column, other) {
            *column = find_column(names, other)?;
        }
        if column.is_none() && mapping.requires_column(field) {
            return Err(CsvHeaderError::MissingColumn(name.to_owned(), required_columns(mapping).join(", ")));
        }
    }
    Ok(columns)
}

impl CsvEventReader {
    /// Parses the header. `mapping` names the columns. The columns can have any order; other
    /// columns are ignored.
    pub(super) fn new(header: &[u8], mapping: ColumnMapping) -> Result<Self, CsvHeaderError> {
        let (row, column_count, columns) =
            resolve_columns(mapping.table_format(), header, |names| event_columns(names, &mapping))?;
        Ok(Self { row, mapping, column_count, columns })
    }

    /// The separator of the columns.
    pub(super) fn delimiter(&self) -> u8 {
        self.row.delimiter()
    }

    /// Parses one line into an event.
    ///
    /// # Errors
    /// The first error of the line; the caller adds its position.
    pub(super) fn read_event(
        &mut self,
        line: &[u8],
        rules: &ValidationRules,
        received_at: Timestamp,
    ) -> Result<WithConsent, ValidationError> {
        self.row.read_record(line, self.column_count)?;
        let text = |field: EventField| {
            let column = self.columns.get(field as usize).copied().flatten();
            Ok(self.row.field_text(field.json_name(), column)?.map(Cow::Borrowed))
        };
        rules.validate_event(self.mapping.raw_event_from_fields(text)?, received_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventKind;
    use crate::ingest::TimeFormat;
    use proptest::prelude::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn reader_with_header(header: &str) -> CsvEventReader {
        CsvEventReader::new(header.as_bytes(), ColumnMapping::default()).unwrap()
    }

    fn row_error(line: &[u8]) -> (Option<&'static str>, ValidationErrorCode) {
        let error = reader_with_header("user,item,event,timestamp,value")
            .read_event(line, &ValidationRules::default(), NOW)
            .unwrap_err();
        (error.field, error.code)
    }

    #[test]
    fn accepts_columns_in_any_order() {
        let mut reader = reader_with_header("timestamp, session ,value,colour,event,item,user");
        let event = reader
            .read_event(br#"1396314941.5,s,,red,play,"i,""1""",u"#, &ValidationRules::default(), NOW)
            .unwrap()
            .value;
        assert_eq!(
            (event.user_id.as_str(), event.item_id.as_deref(), event.session_id.as_deref()),
            ("u", Some(r#"i,"1""#), Some("s"))
        );
        assert_eq!((event.kind, event.value, event.timestamp), (EventKind::Play, None, 1_396_314_941_500));
    }

    #[test]
    fn rejects_a_header_with_missing_or_duplicate_columns() {
        assert_eq!(
            CsvEventReader::new(b"user,item,event", ColumnMapping::default()).unwrap_err(),
            CsvHeaderError::MissingColumn(
                "timestamp".to_owned(),
                "user (or user_id), event (or type), item (or item_id), timestamp".to_owned()
            )
        );
        assert_eq!(
            CsvEventReader::new(b"user,item,event,timestamp,user", ColumnMapping::default()).unwrap_err(),
            CsvHeaderError::DuplicateColumn("user".to_owned())
        );
        assert_eq!(
            CsvEventReader::new(b"\"user,item", ColumnMapping::default()).unwrap_err(),
            CsvHeaderError::UnclosedQuote
        );
    }

    #[test]
    fn detects_the_separator() {
        for separator in [",", "\t", ";", "|"] {
            let line = |fields: &[&str]| fields.join(separator).into_bytes();
            let mut reader =
                CsvEventReader::new(&line(&["user", "item", "event", "timestamp", "more"]), ColumnMapping::default())
                    .unwrap();
            let event = reader
                .read_event(&line(&["u", "i", "view", "1600000000", ""]), &ValidationRules::default(), NOW)
                .unwrap()
                .value;
            assert_eq!((event.user_id.as_str(), event.timestamp), ("u", 1_600_000_000_000), "{separator}");
        }
        let error = CsvEventReader::new(b"user;item;event;at", ColumnMapping::default()).unwrap_err();
        assert!(matches!(error, CsvHeaderError::MissingColumn(column, _) if column == "timestamp"));
    }

    #[test]
    fn reads_a_file_without_a_header() {
        let columns = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let mapping = |names| {
            ColumnMapping::default().with_table_format(TableFormat { delimiter: None, columns: columns(names) })
        };
        let mut reader =
            CsvEventReader::new(b"u::x;i;view;1600000000", mapping(&["user", "item", "event", "timestamp"])).unwrap();
        let event = reader.read_event(b"u::x;i;view;1600000000", &ValidationRules::default(), NOW).unwrap().value;
        assert_eq!((event.user_id.as_str(), event.item_id.as_deref()), ("u::x", Some("i")));
        let error = CsvEventReader::new(b"u,i,view,1600000000,3", mapping(&["user", "item", "event", "timestamp"]))
            .unwrap_err();
        assert_eq!(error, CsvHeaderError::ColumnCount { named: 4, found: 5 });
    }

    #[test]
    fn columns_can_have_their_names_in_json() {
        let read = |header: &str, mapping: ColumnMapping| {
            let mut reader = CsvEventReader::new(header.as_bytes(), mapping).ok()?;
            let event = reader.read_event(b"u,view,i,1600000000,s", &ValidationRules::default(), NOW).unwrap().value;
            Some((event.user_id, event.item_id.unwrap(), event.session_id))
        };
        let expected = |session: Option<&str>| Some(("u".to_owned(), "i".to_owned(), session.map(str::to_owned)));
        let plain = ColumnMapping::default();
        assert_eq!(read("user_id,type,item_id,timestamp,session_id", plain.clone()), expected(Some("s")));
        // A column with the name in CSV counts if both are there.
        assert_eq!(read("user,event,item,timestamp,item_id", plain), expected(None));
        let mapped = ColumnMapping::default().with_column(EventField::Item, "sku".to_owned());
        assert_eq!(read("user_id,type,item_id,timestamp,session_id", mapped), None);
    }

    #[test]
    fn maps_foreign_column_names() {
        let mapping = || {
            ColumnMapping::new(TimeFormat::default(), Some("view".to_owned()))
                .with_column(EventField::User, "visitorid".to_owned())
        };
        let mut reader = CsvEventReader::new(b"visitorid,item,timestamp", mapping()).unwrap();
        let event = reader.read_event(b"u,i,1600000000", &ValidationRules::default(), NOW).unwrap().value;
        assert_eq!((event.user_id.as_str(), event.kind), ("u", EventKind::View));
        assert_eq!(
            CsvEventReader::new(b"user,item,timestamp", mapping()).unwrap_err(),
            CsvHeaderError::MissingColumn("visitorid".to_owned(), "visitorid, item (or item_id), timestamp".to_owned())
        );
        let with_value = mapping().with_column(EventField::Value, "price".to_owned());
        assert_eq!(
            CsvEventReader::new(b"visitorid,item,timestamp", with_value).unwrap_err(),
            CsvHeaderError::MissingColumn(
                "price".to_owned(),
                "visitorid, item (or item_id), price, timestamp".to_owned()
            )
        );
    }

    #[test]
    fn names_field_and_code_of_invalid_rows() {
        assert_eq!(row_error(b"u,i,view"), (None, ValidationErrorCode::Missing));
        assert_eq!(row_error(b"u,i,view,1600000000,2,3"), (None, ValidationErrorCode::Syntax));
        assert_eq!(row_error(b"u,\"i,view,1600000000,2"), (None, ValidationErrorCode::Syntax));
        assert_eq!(row_error(b",i,view,1600000000,2"), (Some("user_id"), ValidationErrorCode::Missing));
        assert_eq!(row_error(b"u,,view,1600000000,2"), (Some("item_id"), ValidationErrorCode::Missing));
        assert_eq!(row_error(b"u,i,,1600000000,2"), (Some("type"), ValidationErrorCode::Missing));
        assert_eq!(row_error(b"u,i,glance,1600000000,2"), (Some("type"), ValidationErrorCode::UnknownKind));
        assert_eq!(row_error(b"u,i,view,,2"), (Some("timestamp"), ValidationErrorCode::Missing));
        assert_eq!(row_error(b"u,i,view,soon,2"), (Some("timestamp"), ValidationErrorCode::BadTimestamp));
        assert_eq!(row_error(b"u,i,view,99999999999,2"), (Some("timestamp"), ValidationErrorCode::TooLate));
        assert_eq!(row_error(b"u,i,view,1600000000,two"), (Some("value"), ValidationErrorCode::WrongType));
        assert_eq!(row_error(b"u,i,view,1600000000,NaN"), (Some("value"), ValidationErrorCode::NotFinite));
        assert_eq!(row_error(b"\xff,i,view,1600000000,2"), (Some("user_id"), ValidationErrorCode::NotUtf8));
    }

    #[test]
    fn reads_the_line_after_an_unclosed_quote() {
        let mut reader = reader_with_header("user,item,event,timestamp");
        assert!(reader.read_event(b"\"u,i,view,1600000000", &ValidationRules::default(), NOW).is_err());
        assert!(reader.read_event(b"u,i,view,1600000000", &ValidationRules::default(), NOW).is_ok());
    }

    proptest! {
        #[test]
        fn parses_any_line_without_panic(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = reader_with_header("user,item,event,timestamp").read_event(&line, &ValidationRules::default(), NOW);
        }

        #[test]
        fn round_trips_quoted_ids(user in "\\PC{1,40}", item in "[a-z\",; ]{1,40}") {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let line = format!("{},{},view,1600000000", quoted(&user), quoted(&item));
            let event = reader_with_header("user,item,event,timestamp").read_event(line.as_bytes(), &ValidationRules::default(), NOW).unwrap().value;
            prop_assert_eq!((event.user_id, event.item_id), (user, Some(item)));
        }
    }
}
