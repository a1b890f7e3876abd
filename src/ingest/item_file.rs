//! Files that describe items, read as a stream of changes of the catalog.

use super::csv::{CsvHeaderError, CsvRow, require_columns};
use super::event_file::{FileError, FileLineReader};
use super::items::{item_change_from_object, parse_object};
use super::validation::excerpt;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{ItemChange, Timestamp};
use serde_json::{Map, Value};
use std::path::Path;

/// What a column may hold, besides the item's id and what is to be done with it.
const FIELDS: [&str; 9] = ["item_id", "op", "categories", "brand", "price", "tags", "available", "published", "expires"];

/// What stands between the parts of a list in one column.
const BETWEEN: char = '|';

/// The changes that a file tells, in its order: one JSON object a line as `POST /v1/items` takes it, or CSV whose header names the same fields, with `|` between the parts of a
/// list. What it is packed in and what it holds is said by its name, as with events.
#[derive(Debug)]
pub struct ItemFileReader {
    lines: FileLineReader,
    /// `None` for NDJSON.
    table: Option<(CsvRow, Vec<Option<&'static str>>)>,
    names: Vec<(&'static str, String)>,
    received_at: Timestamp,
    read: u64,
}

impl ItemFileReader {
    /// The field that a mapping names, `item` being short for `item_id`.
    #[must_use]
    pub fn field_from_name(name: &str) -> Option<&'static str> {
        FIELDS.into_iter().find(|field| *field == if name == "item" { "item_id" } else { name })
    }

    /// Opens a file; `names` says which fields it holds under other names.
    ///
    /// # Errors
    /// If it cannot be opened, is empty, or its header lacks a column.
    pub fn open(file: &Path, names: Vec<(&'static str, String)>, received_at: Timestamp) -> Result<Self, FileError> {
        let mut items = Self { lines: FileLineReader::open(file)?, table: None, names, received_at, read: 0 };
        if !items.lines.is_json() {
            let mut row = CsvRow::new();
            let names = items.names.clone();
            let fields = items.lines.read_header(|line| {
                let columns = row.read_header(line)?;
                require_columns(&columns, names.iter().map(|(_, name)| name.as_str()))?;
                let own = |column: &[u8]| FIELDS.into_iter().find(|field| field.as_bytes() == column);
                let mapped = |column: &[u8]| names.iter().find(|(_, name)| name.as_bytes() == column).map(|(field, _)| *field);
                let fields: Vec<_> = columns.iter().map(|column| mapped(column).or_else(|| own(column))).collect();
                let has_item = fields.contains(&Some("item_id"));
                if has_item { Ok(fields) } else { Err(CsvHeaderError::MissingColumn("item_id".to_owned(), "item_id".to_owned())) }
            })?;
            items.table = Some((row, fields));
        }
        Ok(items)
    }

    /// The line last read, from 1.
    #[must_use]
    pub fn line_number(&self) -> u64 {
        self.lines.line_number()
    }

    /// How many bytes were read from the disk.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }
}

impl Iterator for ItemFileReader {
    type Item = Result<Result<ItemChange, ValidationError>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (table, names, received_at) = (&mut self.table, &self.names, self.received_at);
        let change = self.lines.read_next(|line| {
            let object = match table {
                Some((row, fields)) => object_of(row, fields, line)?,
                None => renamed(parse_object(line.trim_ascii())?, names),
            };
            item_change_from_object(object, received_at, &mut |_| {})
        })?;
        let index = self.read;
        self.read += 1;
        Some(change.map(|change| change.map_err(|fault| fault.with_position(index, Some(self.lines.line_number())))))
    }
}

fn renamed(mut object: Map<String, Value>, names: &[(&'static str, String)]) -> Map<String, Value> {
    for (field, name) in names {
        if let Some(value) = object.remove(name) {
            object.insert((*field).to_owned(), value);
        }
    }
    object
}

/// A line of CSV as the object that would say the same; an empty column says nothing.
fn object_of(row: &mut CsvRow, fields: &[Option<&'static str>], line: &[u8]) -> Result<Map<String, Value>, ValidationError> {
    row.read_line(line, fields.len())?;
    let mut object = Map::new();
    for (place, field) in fields.iter().enumerate().filter_map(|(place, field)| Some((place, (*field)?))) {
        if let Some(text) = row.text(field, Some(place))? {
            object.insert(field.to_owned(), value(field, text)?);
        }
    }
    Ok(object)
}

fn value(field: &'static str, text: &str) -> Result<Value, ValidationError> {
    Ok(match field {
        "categories" | "tags" => text.split(BETWEEN).map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect(),
        "price" => text.parse::<f64>().map(Value::from).map_err(|_| not("a number", field, text))?,
        "available" => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Value::Bool(true),
            "false" | "no" | "0" => Value::Bool(false),
            _ => return Err(not("true or false", field, text)),
        },
        "published" | "expires" => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
        _ => Value::from(text),
    })
}

fn not(what: &str, field: &'static str, text: &str) -> ValidationError {
    ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be {what}, not `{}`", excerpt(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ItemOperation;

    fn read(name: &str, text: &str, names: &[(&'static str, &str)]) -> Vec<Result<ItemChange, ValidationError>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let names = names.iter().map(|(field, name)| (*field, (*name).to_owned())).collect();
        ItemFileReader::open(&file, names, 7).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let csv = read("a.csv", "itemid,categories,price,available,colour\ntea,hot | cold,4.5,yes,red\n", &[("item_id", "itemid")]);
        let json =
            read("a.ndjson", r#"{"itemid":"tea","categories":["hot","cold"],"price":4.5,"available":true}"#, &[("item_id", "itemid")]);
        assert_eq!(csv, json);
        let Ok(ItemChange { item_id, operation: ItemOperation::Put(item), .. }) = &csv[0] else { panic!("{csv:?}") };
        assert_eq!((item_id.as_str(), item.categories.as_slice()), ("tea", &["hot".to_owned(), "cold".to_owned()][..]));
    }

    #[test]
    fn bad_rows_are_named_by_line() {
        let rows = read("a.csv", "item_id,price\ntea,4\ncup,dear\n,1\npot\n", &[]);
        let faults: Vec<_> = rows.iter().map(|row| row.as_ref().err().map(|fault| (fault.line, fault.field, fault.code))).collect();
        assert_eq!(
            faults,
            [
                None,
                Some((Some(3), Some("price"), ValidationErrorCode::WrongType)),
                Some((Some(4), Some("item_id"), ValidationErrorCode::Missing)),
                Some((Some(5), None, ValidationErrorCode::Missing))
            ]
        );
    }
}
