//! Reads catalog changes from a file, as a stream.

use super::csv::{CsvHeaderError, CsvRow, require_columns};
use super::event_file::{FileError, FileLineReader};
use super::items::{item_change_from_object, parse_object};
use super::timestamp::TimeFormat;
use super::validation::excerpt;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{ItemChange, Timestamp};
use serde_json::{Map, Number, Value};
use std::path::Path;

/// The fields that a column can hold.
const FIELDS: [&str; 9] = ["item_id", "op", "categories", "brand", "price", "tags", "available", "published", "expires"];

/// Separator of list elements in a CSV column.
const LIST_SEPARATOR: char = '|';

/// Iterates over the item changes of a file, in file order. The file holds NDJSON in the format of
/// `POST /v1/items`, or CSV with the same field names and `|` between list elements. The file name
/// determines format and compression, as in [`EventFileReader`](super::EventFileReader).
#[derive(Debug)]
pub struct ItemFileReader {
    lines: FileLineReader,
    /// `None` for NDJSON.
    csv: Option<(CsvRow, Vec<Option<&'static str>>)>,
    names: Vec<(&'static str, String)>,
    time: TimeFormat,
    received_at: Timestamp,
    rows_read: u64,
}

impl ItemFileReader {
    /// The field with this name in a mapping; `item` is short for `item_id`.
    #[must_use]
    pub fn field_from_name(name: &str) -> Option<&'static str> {
        FIELDS.into_iter().find(|field| *field == if name == "item" { "item_id" } else { name })
    }

    /// Opens a file. `names` lists the fields that have other names in the file, as (field, name).
    /// `time` is the format of `published` and `expires`.
    ///
    /// # Errors
    /// If the file cannot be opened or is empty, or its header lacks a required column.
    pub fn open(file: &Path, names: Vec<(&'static str, String)>, time: TimeFormat, received_at: Timestamp) -> Result<Self, FileError> {
        let mut items = Self { lines: FileLineReader::open(file)?, csv: None, names, time, received_at, rows_read: 0 };
        if !items.lines.is_json() {
            let mut row = CsvRow::new();
            let names = items.names.clone();
            let fields = items.lines.read_header(|line| {
                let columns = row.read_header(line)?;
                require_columns(&columns, names.iter().map(|(_, name)| name.as_str()))?;
                let native = |column: &[u8]| FIELDS.into_iter().find(|field| field.as_bytes() == column);
                let mapped = |column: &[u8]| names.iter().find(|(_, name)| name.as_bytes() == column).map(|(field, _)| *field);
                let fields: Vec<_> = columns.iter().map(|column| mapped(column).or_else(|| native(column))).collect();
                let has_item = fields.contains(&Some("item_id"));
                if has_item { Ok(fields) } else { Err(CsvHeaderError::MissingColumn("item_id".to_owned(), "item_id".to_owned())) }
            })?;
            items.csv = Some((row, fields));
        }
        Ok(items)
    }

    /// The number of the last line read, from 1.
    #[must_use]
    pub fn line_number(&self) -> u64 {
        self.lines.line_number()
    }

    /// The bytes of the last row, without the line end.
    #[must_use]
    pub fn row_bytes(&self) -> &[u8] {
        self.lines.line_bytes()
    }

    /// Bytes read from the disk so far, before decompression.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }
}

impl Iterator for ItemFileReader {
    type Item = Result<Result<ItemChange, ValidationError>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (csv, names, time, received_at) = (&mut self.csv, &self.names, &self.time, self.received_at);
        let change = self.lines.read_next(|line| {
            let object = match csv {
                Some((row, fields)) => object_from_row(row, fields, line)?,
                None => rename_fields(parse_object(line.trim_ascii())?, names),
            };
            item_change_from_object(object, received_at, Some(time), &mut |_| {})
        })?;
        let index = self.rows_read;
        self.rows_read += 1;
        Some(change.map(|change| change.map_err(|error| error.with_position(index, Some(self.lines.line_number())))))
    }
}

fn rename_fields(mut object: Map<String, Value>, names: &[(&'static str, String)]) -> Map<String, Value> {
    for (field, name) in names {
        if let Some(value) = object.remove(name) {
            object.insert((*field).to_owned(), value);
        }
    }
    object
}

/// Converts a line of CSV into the equivalent JSON object. Empty columns are left out.
fn object_from_row(row: &mut CsvRow, fields: &[Option<&'static str>], line: &[u8]) -> Result<Map<String, Value>, ValidationError> {
    row.read_line(line, fields.len())?;
    let mut object = Map::new();
    for (column, field) in fields.iter().enumerate().filter_map(|(column, field)| Some((column, (*field)?))) {
        if let Some(text) = row.text(field, Some(column))? {
            object.insert(field.to_owned(), value(field, text)?);
        }
    }
    Ok(object)
}

fn value(field: &'static str, text: &str) -> Result<Value, ValidationError> {
    Ok(match field {
        "categories" | "tags" => text.split(LIST_SEPARATOR).map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect(),
        "price" => {
            let price: f64 = text.parse().map_err(|_| wrong_type("a number", field, text))?;
            let not_finite = || ValidationError::new("price", ValidationErrorCode::NotFinite, "`price` is not a finite number");
            Value::Number(Number::from_f64(price).ok_or_else(not_finite)?)
        }
        "available" => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Value::Bool(true),
            "false" | "no" | "0" => Value::Bool(false),
            _ => return Err(wrong_type("true or false", field, text)),
        },
        _ => Value::from(text),
    })
}

fn wrong_type(expected: &str, field: &'static str, text: &str) -> ValidationError {
    ValidationError::new(field, ValidationErrorCode::WrongType, format!("`{field}` must be {expected}, not `{}`", excerpt(text)))
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
        ItemFileReader::open(&file, names, TimeFormat::default(), 7).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn csv_and_json_give_the_same_change() {
        let csv = read("a.csv", "itemid,categories,price,available,colour\ntea,hot | cold,4.5,yes,red\n", &[("item_id", "itemid")]);
        let json =
            read("a.ndjson", r#"{"itemid":"tea","categories":["hot","cold"],"price":4.5,"available":true}"#, &[("item_id", "itemid")]);
        assert_eq!(csv, json);
        let Ok(ItemChange { item_id, operation: ItemOperation::Put(item), .. }) = &csv[0] else { panic!("{csv:?}") };
        assert_eq!((item_id.as_str(), item.categories.as_slice()), ("tea", &["hot".to_owned(), "cold".to_owned()][..]));
    }

    #[test]
    fn times_are_detected_as_in_event_files() {
        let rows = "item_id,expires\na,2100000000\nb,2100000000000\nc,2036-07-18T13:20:00Z\nd,7\n";
        let json = r#"{"item_id":"a","expires":2100000000}"#;
        let expires = |change: &Result<ItemChange, ValidationError>| match change {
            Ok(ItemChange { operation: ItemOperation::Put(item), .. }) => Ok(item.expires),
            Ok(_) => Ok(None),
            Err(error) => Err(error.code),
        };
        let found: Vec<_> = read("a.csv", rows, &[]).iter().chain(&read("a.ndjson", json, &[])).map(expires).collect();
        let at = Ok(Some(2_100_000_000_000));
        assert_eq!(found, [at, at, at, Err(ValidationErrorCode::TooEarly), at]);
    }

    #[test]
    fn rejects_bad_rows_by_line() {
        let rows = read("a.csv", "item_id,price\ntea,4\ncup,dear\n,1\npot\nurn,NaN\n", &[]);
        let errors: Vec<_> = rows.iter().map(|row| row.as_ref().err().map(|error| (error.line, error.field, error.code))).collect();
        assert_eq!(
            errors,
            [
                None,
                Some((Some(3), Some("price"), ValidationErrorCode::WrongType)),
                Some((Some(4), Some("item_id"), ValidationErrorCode::Missing)),
                Some((Some(5), None, ValidationErrorCode::Missing)),
                Some((Some(6), Some("price"), ValidationErrorCode::NotFinite))
            ]
        );
    }
}
