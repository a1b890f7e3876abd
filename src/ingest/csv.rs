//! Events as CSV: a header that names the columns, then one event a line.
//!
//! Ids hold no line ends, so that no field can: an unclosed quote costs its own line and never the rest of the file.

use super::column_mapping::{ColumnMapping, EventField};
use super::validation::ValidationRules;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Timestamp, WithConsent};
use csv_core::{ReadRecordResult, Reader};
use std::borrow::Cow;

/// One line taken apart, in buffers that are used again and again.
#[derive(Debug)]
pub(super) struct CsvRow {
    parser: Reader,
    /// The fields of the line last read, one after the other.
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl CsvRow {
    pub(super) fn new() -> Self {
        Self { parser: Reader::new(), text: Vec::new(), ends: Vec::new() }
    }

    /// Takes a header apart: the names of its columns.
    pub(super) fn read_header(&mut self, line: &[u8]) -> Result<Vec<Vec<u8>>, CsvHeaderError> {
        let is_whole = self.split(line);
        let names = (0..self.ends.len()).map(|place| self.field(place).trim_ascii().to_vec()).collect();
        if is_whole { Ok(names) } else { Err(CsvHeaderError::UnclosedQuote) }
    }

    /// Takes a line of so many columns apart.
    pub(super) fn read_line(&mut self, line: &[u8], expected: usize) -> Result<(), ValidationError> {
        if !self.split(line) {
            return Err(ValidationError::new(None, ValidationErrorCode::Syntax, "a quote is opened and never closed"));
        }
        let found = self.ends.len();
        if found != expected {
            let code = if found < expected { ValidationErrorCode::Missing } else { ValidationErrorCode::Syntax };
            return Err(ValidationError::new(None, code, format!("the row has {found} columns where the header has {expected}")));
        }
        Ok(())
    }

    /// Takes a line apart; `false` if it ends within quotes.
    fn split(&mut self, line: &[u8]) -> bool {
        // Unquoting never lengthens (the parser wants room for one byte more), and no line has more fields than bytes plus one.
        self.text.resize(line.len() + 1, 0);
        self.ends.resize(line.len() + 1, 0);
        self.parser.reset();
        let (result, _, written, fields) = self.parser.read_record(line, &mut self.text, &mut self.ends);
        debug_assert_ne!(result, ReadRecordResult::OutputFull);
        // A line end closes the record, unless it stands within quotes and belongs to a field.
        let output = self.text.get_mut(written..).unwrap_or_default();
        let ends = self.ends.get_mut(fields..).unwrap_or_default();
        let (result, _, _, last) = self.parser.read_record(b"\n", output, ends);
        self.ends.truncate(fields + last);
        result == ReadRecordResult::Record
    }

    fn field(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(place).and_then(|&end| self.text.get(start..end)).unwrap_or_default()
    }

    /// A column's text; `None` if it is empty or there is no such column.
    pub(super) fn text(&self, name: &'static str, place: Option<usize>) -> Result<Option<&str>, ValidationError> {
        let bytes = place.map(|place| self.field(place)).unwrap_or_default();
        let text = std::str::from_utf8(bytes)
            .map_err(|_| ValidationError::new(name, ValidationErrorCode::NotUtf8, format!("`{name}` is not UTF-8")))?;
        Ok((!text.is_empty()).then_some(text))
    }
}

/// Reads lines of CSV as events.
#[derive(Debug)]
pub(super) struct CsvEventReader {
    row: CsvRow,
    shape: ColumnMapping,
    count: usize,
    /// Where each field stands in a line.
    columns: [Option<usize>; EventField::COUNT],
}

/// What a header lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CsvHeaderError {
    /// A column is absent, one of those that must be there.
    MissingColumn(String, String),
    /// A column is named twice.
    DuplicateColumn(String),
    /// A quote in it is never closed.
    UnclosedQuote,
}

/// Where a column stands among those of a header.
fn find(names: &[Vec<u8>], name: &str) -> Result<Option<usize>, CsvHeaderError> {
    let mut places = (0..names.len()).filter(|&place| names.get(place).is_some_and(|found| found == name.as_bytes()));
    let first = places.next();
    if places.next().is_some() { Err(CsvHeaderError::DuplicateColumn(name.to_owned())) } else { Ok(first) }
}

/// Refuses a header that does not name each of these once.
pub(super) fn require_columns<'n>(columns: &[Vec<u8>], mut names: impl Iterator<Item = &'n str>) -> Result<(), CsvHeaderError> {
    names.try_for_each(|name| {
        find(columns, name)?.map(|_| ()).ok_or_else(|| CsvHeaderError::MissingColumn(name.to_owned(), name.to_owned()))
    })
}

impl CsvEventReader {
    /// Reads the header. The shape names the columns, which come in any order; others are passed over.
    pub(super) fn new(header: &[u8], shape: ColumnMapping) -> Result<Self, CsvHeaderError> {
        let mut row = CsvRow::new();
        let names = row.read_header(header)?;
        let mut columns = [None; EventField::COUNT];
        for (field, column) in EventField::all().zip(&mut columns) {
            let name = shape.column(field);
            *column = find(&names, name)?;
            if column.is_none() && shape.requires(field) {
                let needed: Vec<_> = EventField::all().filter(|field| shape.requires(*field)).map(|field| shape.column(field)).collect();
                return Err(CsvHeaderError::MissingColumn(name.to_owned(), needed.join(", ")));
            }
        }
        Ok(Self { row, shape, count: names.len(), columns })
    }

    /// Reads one line as an event.
    ///
    /// # Errors
    /// The first fault, without a place.
    pub(super) fn read_event(
        &mut self,
        line: &[u8],
        rules: &ValidationRules,
        received_at: Timestamp,
    ) -> Result<WithConsent, ValidationError> {
        self.row.read_line(line, self.count)?;
        let text = |field: EventField| {
            let column = self.columns.get(field as usize).copied().flatten();
            Ok(self.row.text(field.json_name(), column)?.map(Cow::Borrowed))
        };
        rules.validate_event(self.shape.raw_event(text)?, received_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventKind;
    use crate::ingest::TimeUnit;
    use proptest::prelude::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn table(header: &str) -> CsvEventReader {
        CsvEventReader::new(header.as_bytes(), ColumnMapping::default()).unwrap()
    }

    fn fault(line: &[u8]) -> (Option<&'static str>, ValidationErrorCode) {
        let fault = table("user,item,event,timestamp,value").read_event(line, &ValidationRules::default(), NOW).unwrap_err();
        (fault.field, fault.code)
    }

    #[test]
    fn columns_come_in_any_order() {
        let mut table = table("timestamp, session ,value,colour,event,item,user");
        let event = table.read_event(br#"1396314941.5,s,,red,play,"i,""1""",u"#, &ValidationRules::default(), NOW).unwrap().value;
        assert_eq!((event.user_id.as_str(), event.item_id.as_deref(), event.session_id.as_deref()), ("u", Some(r#"i,"1""#), Some("s")));
        assert_eq!((event.kind, event.value, event.timestamp), (EventKind::Play, None, 1_396_314_941_500));
    }

    #[test]
    fn a_header_must_name_each_column_once() {
        assert_eq!(
            CsvEventReader::new(b"user,item,event", ColumnMapping::default()).unwrap_err(),
            CsvHeaderError::MissingColumn("timestamp".to_owned(), "user, event, item, timestamp".to_owned())
        );
        assert_eq!(
            CsvEventReader::new(b"user,item,event,timestamp,user", ColumnMapping::default()).unwrap_err(),
            CsvHeaderError::DuplicateColumn("user".to_owned())
        );
        assert_eq!(CsvEventReader::new(b"\"user,item", ColumnMapping::default()).unwrap_err(), CsvHeaderError::UnclosedQuote);
    }

    #[test]
    fn columns_of_others_are_mapped() {
        let shape = || ColumnMapping::new(TimeUnit::Auto, Some("view".to_owned())).with_column(EventField::User, "visitorid".to_owned());
        let mut table = CsvEventReader::new(b"visitorid,item,timestamp", shape()).unwrap();
        let event = table.read_event(b"u,i,1", &ValidationRules::default(), NOW).unwrap().value;
        assert_eq!((event.user_id.as_str(), event.kind), ("u", EventKind::View));
        assert_eq!(
            CsvEventReader::new(b"user,item,timestamp", shape()).unwrap_err(),
            CsvHeaderError::MissingColumn("visitorid".to_owned(), "visitorid, item, timestamp".to_owned())
        );
        let valued = shape().with_column(EventField::Value, "price".to_owned());
        assert_eq!(
            CsvEventReader::new(b"visitorid,item,timestamp", valued).unwrap_err(),
            CsvHeaderError::MissingColumn("price".to_owned(), "visitorid, item, price, timestamp".to_owned())
        );
    }

    #[test]
    fn bad_rows_are_named() {
        assert_eq!(fault(b"u,i,view"), (None, ValidationErrorCode::Missing));
        assert_eq!(fault(b"u,i,view,1,2,3"), (None, ValidationErrorCode::Syntax));
        assert_eq!(fault(b"u,\"i,view,1,2"), (None, ValidationErrorCode::Syntax));
        assert_eq!(fault(b",i,view,1,2"), (Some("user_id"), ValidationErrorCode::Missing));
        assert_eq!(fault(b"u,,view,1,2"), (Some("item_id"), ValidationErrorCode::Missing));
        assert_eq!(fault(b"u,i,,1,2"), (Some("type"), ValidationErrorCode::Missing));
        assert_eq!(fault(b"u,i,glance,1,2"), (Some("type"), ValidationErrorCode::UnknownKind));
        assert_eq!(fault(b"u,i,view,,2"), (Some("timestamp"), ValidationErrorCode::Missing));
        assert_eq!(fault(b"u,i,view,soon,2"), (Some("timestamp"), ValidationErrorCode::BadTimestamp));
        assert_eq!(fault(b"u,i,view,99999999999,2"), (Some("timestamp"), ValidationErrorCode::TooLate));
        assert_eq!(fault(b"u,i,view,1,two"), (Some("value"), ValidationErrorCode::WrongType));
        assert_eq!(fault(b"u,i,view,1,NaN"), (Some("value"), ValidationErrorCode::NotFinite));
        assert_eq!(fault(b"\xff,i,view,1,2"), (Some("user_id"), ValidationErrorCode::NotUtf8));
    }

    #[test]
    fn a_torn_line_leaves_the_next_one_whole() {
        let mut table = table("user,item,event,timestamp");
        assert!(table.read_event(b"\"u,i,view,1", &ValidationRules::default(), NOW).is_err());
        assert!(table.read_event(b"u,i,view,1", &ValidationRules::default(), NOW).is_ok());
    }

    proptest! {
        #[test]
        fn any_line_is_answered(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = table("user,item,event,timestamp").read_event(&line, &ValidationRules::default(), NOW);
        }

        #[test]
        fn quoted_ids_survive(user in "\\PC{1,40}", item in "[a-z\",; ]{1,40}") {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let line = format!("{},{},view,1", quoted(&user), quoted(&item));
            let event = table("user,item,event,timestamp").read_event(line.as_bytes(), &ValidationRules::default(), NOW).unwrap().value;
            prop_assert_eq!((event.user_id, event.item_id), (user, Some(item)));
        }
    }
}
