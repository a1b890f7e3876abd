//! Events as CSV: a header that names the columns, then one event a line.
//!
//! Ids hold no line ends, so that no field can: an unclosed quote costs its own line and never the rest of the file.

use super::fault::{Code, Fault};
use super::rules::{Draft, Rules};
use super::timestamp;
use crate::domain::{Event, Timestamp};
use csv_core::{ReadRecordResult, Reader};

/// The columns that every file has.
const REQUIRED: [&str; 4] = ["user", "item", "event", "timestamp"];

/// Takes lines of CSV apart, in buffers that are used again and again.
#[derive(Debug)]
pub(super) struct Table {
    parser: Reader,
    /// The fields of the line last read, one after the other.
    text: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    columns: Columns,
}

/// Where each column stands in a line.
#[derive(Debug, Default)]
struct Columns {
    count: usize,
    user: usize,
    item: usize,
    event: usize,
    timestamp: usize,
    value: Option<usize>,
    session: Option<usize>,
    event_id: Option<usize>,
}

/// What a header lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// A column is absent.
    Missing(&'static str),
    /// A column is named twice.
    Repeated(&'static str),
    /// A quote in it is never closed.
    Torn,
}

impl Table {
    /// Reads the header. The columns `user`, `item`, `event`, `timestamp` and perhaps `value`, `session` and `event_id` are known, in any
    /// order; others are passed over.
    pub(super) fn new(header: &[u8]) -> Result<Self, HeaderError> {
        let mut table = Self { parser: Reader::new(), text: Vec::new(), ends: Vec::new(), columns: Columns::default() };
        if !table.split(header) {
            return Err(HeaderError::Torn);
        }
        let names: Vec<&[u8]> = (0..table.ends.len()).map(|place| table.field(place).trim_ascii()).collect();
        let find = |name: &'static str| {
            let mut places = (0..names.len()).filter(|&place| names.get(place).is_some_and(|found| *found == name.as_bytes()));
            let first = places.next();
            if places.next().is_some() { Err(HeaderError::Repeated(name)) } else { Ok(first) }
        };
        let [user, item, event, timestamp] = REQUIRED.map(|name| find(name)?.ok_or(HeaderError::Missing(name)));
        let columns = Columns {
            count: names.len(),
            user: user?,
            item: item?,
            event: event?,
            timestamp: timestamp?,
            value: find("value")?,
            session: find("session")?,
            event_id: find("event_id")?,
        };
        Ok(Self { columns, ..table })
    }

    /// Reads one line as an event.
    ///
    /// # Errors
    /// The first fault, without a place.
    pub(super) fn read_event(&mut self, line: &[u8], rules: &Rules, received_at: Timestamp) -> Result<Event, Fault> {
        if !self.split(line) {
            return Err(Fault::new(None, Code::Syntax, "a quote is opened and never closed"));
        }
        let (found, expected) = (self.ends.len(), self.columns.count);
        if found != expected {
            let code = if found < expected { Code::Missing } else { Code::Syntax };
            return Err(Fault::new(None, code, format!("the row has {found} columns where the header has {expected}")));
        }
        let at = self.text("timestamp", Some(self.columns.timestamp))?.ok_or_else(|| missing("timestamp"))?;
        let value = self.text("value", self.columns.value)?;
        let draft = Draft {
            event_id: self.text("event_id", self.columns.event_id)?.map(Into::into),
            user_id: self.text("user_id", Some(self.columns.user))?.map(Into::into),
            session_id: self.text("session_id", self.columns.session)?.map(Into::into),
            kind: self.text("type", Some(self.columns.event))?.map(Into::into),
            item_id: self.text("item_id", Some(self.columns.item))?.map(Into::into),
            value: value.map(|text| text.parse().map_err(|_| not_a_number())).transpose()?,
            timestamp: Some(timestamp::from_column(at)?),
            properties: None,
        };
        rules.check(draft, received_at)
    }

    /// Takes a line apart; `false` if it ends within quotes.
    fn split(&mut self, line: &[u8]) -> bool {
        // Unquoting never lengthens, and no line has more fields than bytes plus one.
        self.text.resize(line.len().max(1), 0);
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
    fn text(&self, name: &'static str, place: Option<usize>) -> Result<Option<&str>, Fault> {
        let bytes = place.map(|place| self.field(place)).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::new(name, Code::NotUtf8, format!("`{name}` is not UTF-8")))?;
        Ok((!text.is_empty()).then_some(text))
    }
}

fn missing(field: &'static str) -> Fault {
    Fault::new(field, Code::Missing, format!("`{field}` is missing"))
}

fn not_a_number() -> Fault {
    Fault::new("value", Code::WrongType, "`value` must be a number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Kind;
    use proptest::prelude::*;

    const NOW: Timestamp = 1_700_000_000_000;

    fn table(header: &str) -> Table {
        Table::new(header.as_bytes()).unwrap()
    }

    fn fault(line: &[u8]) -> (Option<&'static str>, Code) {
        let fault = table("user,item,event,timestamp,value").read_event(line, &Rules::default(), NOW).unwrap_err();
        (fault.field, fault.code)
    }

    #[test]
    fn columns_come_in_any_order() {
        let mut table = table("timestamp, session ,value,colour,event,item,user");
        let event = table.read_event(br#"1396314941.5,s,,red,play,"i,""1""",u"#, &Rules::default(), NOW).unwrap();
        assert_eq!((event.user_id.as_str(), event.item_id.as_deref(), event.session_id.as_deref()), ("u", Some(r#"i,"1""#), Some("s")));
        assert_eq!((event.kind, event.value, event.timestamp), (Kind::Play, None, 1_396_314_941_500));
    }

    #[test]
    fn a_header_must_name_each_column_once() {
        assert_eq!(Table::new(b"user,item,event").unwrap_err(), HeaderError::Missing("timestamp"));
        assert_eq!(Table::new(b"user,item,event,timestamp,user").unwrap_err(), HeaderError::Repeated("user"));
        assert_eq!(Table::new(b"\"user,item").unwrap_err(), HeaderError::Torn);
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
            let event = table("user,item,event,timestamp").read_event(line.as_bytes(), &Rules::default(), NOW).unwrap();
            prop_assert_eq!((event.user_id, event.item_id), (user, Some(item)));
        }
    }
}
