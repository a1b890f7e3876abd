//! Events as CSV: a header that names the columns, then one event a line.
//!
//! Ids hold no line ends, so that no field can: an unclosed quote costs its own line and never the rest of the file.

use super::fault::{Code, Fault};
use super::rules::Rules;
use super::shape::{Field, Shape};
use crate::domain::{Said, Timestamp};
use csv_core::{ReadRecordResult, Reader};
use std::borrow::Cow;

/// One line taken apart, in buffers that are used again and again.
#[derive(Debug)]
pub(super) struct Row {
    parser: Reader,
    /// The fields of the line last read, one after the other.
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Row {
    pub(super) fn new() -> Self {
        Self { parser: Reader::new(), text: Vec::new(), ends: Vec::new() }
    }

    /// Takes a header apart: the names of its columns.
    pub(super) fn header(&mut self, line: &[u8]) -> Result<Vec<Vec<u8>>, HeaderError> {
        let is_whole = self.split(line);
        let names = (0..self.ends.len()).map(|place| self.field(place).trim_ascii().to_vec()).collect();
        if is_whole { Ok(names) } else { Err(HeaderError::Torn) }
    }

    /// Takes a line of so many columns apart.
    pub(super) fn read(&mut self, line: &[u8], expected: usize) -> Result<(), Fault> {
        if !self.split(line) {
            return Err(Fault::new(None, Code::Syntax, "a quote is opened and never closed"));
        }
        let found = self.ends.len();
        if found != expected {
            let code = if found < expected { Code::Missing } else { Code::Syntax };
            return Err(Fault::new(None, code, format!("the row has {found} columns where the header has {expected}")));
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
    pub(super) fn text(&self, name: &'static str, place: Option<usize>) -> Result<Option<&str>, Fault> {
        let bytes = place.map(|place| self.field(place)).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::new(name, Code::NotUtf8, format!("`{name}` is not UTF-8")))?;
        Ok((!text.is_empty()).then_some(text))
    }
}

/// Reads lines of CSV as events.
#[derive(Debug)]
pub(super) struct Table {
    row: Row,
    shape: Shape,
    count: usize,
    /// Where each field stands in a line.
    columns: [Option<usize>; Field::COUNT],
}

/// What a header lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// A column is absent, one of those that must be there.
    Missing(String, String),
    /// A column is named twice.
    Repeated(String),
    /// A quote in it is never closed.
    Torn,
}

/// Where a column stands among those of a header.
fn find(names: &[Vec<u8>], name: &str) -> Result<Option<usize>, HeaderError> {
    let mut places = (0..names.len()).filter(|&place| names.get(place).is_some_and(|found| found == name.as_bytes()));
    let first = places.next();
    if places.next().is_some() { Err(HeaderError::Repeated(name.to_owned())) } else { Ok(first) }
}

/// Refuses a header that does not name each of these once.
pub(super) fn one_of_each<'n>(columns: &[Vec<u8>], mut names: impl Iterator<Item = &'n str>) -> Result<(), HeaderError> {
    names.try_for_each(|name| find(columns, name)?.map(|_| ()).ok_or_else(|| HeaderError::Missing(name.to_owned(), name.to_owned())))
}

impl Table {
    /// Reads the header. The shape names the columns, which come in any order; others are passed over.
    pub(super) fn new(header: &[u8], shape: Shape) -> Result<Self, HeaderError> {
        let mut row = Row::new();
        let names = row.header(header)?;
        let mut columns = [None; Field::COUNT];
        for (field, column) in Field::all().zip(&mut columns) {
            let name = shape.column(field);
            *column = find(&names, name)?;
            if column.is_none() && shape.needs(field) {
                let needed: Vec<_> = Field::all().filter(|field| shape.needs(*field)).map(|field| shape.column(field)).collect();
                return Err(HeaderError::Missing(name.to_owned(), needed.join(", ")));
            }
        }
        Ok(Self { row, shape, count: names.len(), columns })
    }

    /// Reads one line as an event.
    ///
    /// # Errors
    /// The first fault, without a place.
    pub(super) fn read_event(&mut self, line: &[u8], rules: &Rules, received_at: Timestamp) -> Result<Said, Fault> {
        self.row.read(line, self.count)?;
        let text = |field: Field| {
            let column = self.columns.get(field as usize).copied().flatten();
            Ok(self.row.text(field.name(), column)?.map(Cow::Borrowed))
        };
        rules.check(self.shape.draft(text)?, received_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;
    use crate::ingest::TimeUnit;
    use proptest::prelude::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn table(header: &str) -> Table {
        Table::new(header.as_bytes(), Shape::default()).unwrap()
    }

    fn fault(line: &[u8]) -> (Option<&'static str>, Code) {
        let fault = table("user,item,event,timestamp,value").read_event(line, &Rules::default(), NOW).unwrap_err();
        (fault.field, fault.code)
    }

    #[test]
    fn columns_come_in_any_order() {
        let mut table = table("timestamp, session ,value,colour,event,item,user");
        let event = table.read_event(br#"1396314941.5,s,,red,play,"i,""1""",u"#, &Rules::default(), NOW).unwrap().what;
        assert_eq!((event.user_id.as_str(), event.item_id.as_deref(), event.session_id.as_deref()), ("u", Some(r#"i,"1""#), Some("s")));
        assert_eq!((event.kind, event.value, event.timestamp), (Kind::Play, None, 1_396_314_941_500));
    }

    #[test]
    fn a_header_must_name_each_column_once() {
        assert_eq!(
            Table::new(b"user,item,event", Shape::default()).unwrap_err(),
            HeaderError::Missing("timestamp".to_owned(), "user, event, item, timestamp".to_owned())
        );
        assert_eq!(Table::new(b"user,item,event,timestamp,user", Shape::default()).unwrap_err(), HeaderError::Repeated("user".to_owned()));
        assert_eq!(Table::new(b"\"user,item", Shape::default()).unwrap_err(), HeaderError::Torn);
    }

    #[test]
    fn columns_of_others_are_mapped() {
        let shape = || Shape::new(TimeUnit::Any, Some("view".to_owned())).with(Field::User, "visitorid".to_owned());
        let mut table = Table::new(b"visitorid,item,timestamp", shape()).unwrap();
        let event = table.read_event(b"u,i,1", &Rules::default(), NOW).unwrap().what;
        assert_eq!((event.user_id.as_str(), event.kind), ("u", Kind::View));
        assert_eq!(
            Table::new(b"user,item,timestamp", shape()).unwrap_err(),
            HeaderError::Missing("visitorid".to_owned(), "visitorid, item, timestamp".to_owned())
        );
        let valued = shape().with(Field::Value, "price".to_owned());
        assert_eq!(
            Table::new(b"visitorid,item,timestamp", valued).unwrap_err(),
            HeaderError::Missing("price".to_owned(), "visitorid, item, price, timestamp".to_owned())
        );
    }

    #[test]
    fn bad_rows_are_named() {
        assert_eq!(fault(b"u,i,view"), (None, Code::Missing));
        assert_eq!(fault(b"u,i,view,1,2,3"), (None, Code::Syntax));
        assert_eq!(fault(b"u,\"i,view,1,2"), (None, Code::Syntax));
        assert_eq!(fault(b",i,view,1,2"), (Some("user_id"), Code::Missing));
        assert_eq!(fault(b"u,,view,1,2"), (Some("item_id"), Code::Missing));
        assert_eq!(fault(b"u,i,,1,2"), (Some("type"), Code::Missing));
        assert_eq!(fault(b"u,i,glance,1,2"), (Some("type"), Code::UnknownKind));
        assert_eq!(fault(b"u,i,view,,2"), (Some("timestamp"), Code::Missing));
        assert_eq!(fault(b"u,i,view,soon,2"), (Some("timestamp"), Code::BadTimestamp));
        assert_eq!(fault(b"u,i,view,99999999999,2"), (Some("timestamp"), Code::TooLate));
        assert_eq!(fault(b"u,i,view,1,two"), (Some("value"), Code::WrongType));
        assert_eq!(fault(b"u,i,view,1,NaN"), (Some("value"), Code::NotFinite));
        assert_eq!(fault(b"\xff,i,view,1,2"), (Some("user_id"), Code::NotUtf8));
    }

    #[test]
    fn a_torn_line_leaves_the_next_one_whole() {
        let mut table = table("user,item,event,timestamp");
        assert!(table.read_event(b"\"u,i,view,1", &Rules::default(), NOW).is_err());
        assert!(table.read_event(b"u,i,view,1", &Rules::default(), NOW).is_ok());
    }

    proptest! {
        #[test]
        fn any_line_is_answered(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = table("user,item,event,timestamp").read_event(&line, &Rules::default(), NOW);
        }

        #[test]
        fn quoted_ids_survive(user in "\\PC{1,40}", item in "[a-z\",; ]{1,40}") {
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let line = format!("{},{},view,1", quoted(&user), quoted(&item));
            let event = table("user,item,event,timestamp").read_event(line.as_bytes(), &Rules::default(), NOW).unwrap().what;
            prop_assert_eq!((event.user_id, event.item_id), (user, Some(item)));
        }
    }
}
