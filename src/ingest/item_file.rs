//! Reads catalog changes from a file, as a stream.

use super::csv::{CsvHeaderError, CsvRow, require_columns, resolve_columns};
use super::event_file::{FileError, FileLineReader};
use super::items::{item_change_from_object, parse_object};
use super::table_format::TableFormat;
use super::timestamp::TimeFormat;
use super::validation::printable_excerpt;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{ItemChange, Timestamp};
use serde_json::{Map, Number, Value};
use std::path::Path;

/// The fields of an item change that a column can hold.
const ITEM_FIELDS: [&str; 12] = [
    "item_id",
    "op",
    "categories",
    "brand",
    "price",
    "tags",
    "available",
    "published",
    "expires",
    "title",
    "url",
    "image",
];

/// Separator of list elements in a CSV column.
const LIST_SEPARATOR: char = '|';

/// Iterates over the item changes of a file, in file order. The file holds NDJSON in the format of
/// `POST /v1/items`, or CSV with the same field names and `|` between list elements. The file name
/// determines format and compression, as in [`EventFileReader`](super::EventFileReader). A row of a
/// Parquet file is read like a JSON object; its texts can have the form of CSV.
#[derive(Debug)]
pub struct ItemFileReader {
    lines: FileLineReader,
    /// `None` for NDJSON.
    csv: Option<(CsvRow, Vec<Option<&'static str>>)>,
    format: ItemFileFormat,
    received_at: Timestamp,
    rows_read: u64,
    /// The attributes of the item of the last CSV row.
    last_item: Option<Map<String, Value>>,
}

/// The format of the item changes in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemFileFormat {
    /// The fields that have other names in the file, as (field, name).
    pub names: Vec<(&'static str, String)>,
    /// The format of `published` and `expires`.
    pub time: TimeFormat,
    /// The separator and column names of a CSV file.
    pub table: TableFormat,
}

impl ItemFileReader {
    /// Finds a field by its name in a column mapping; `item` is short for `item_id`.
    #[must_use]
    pub fn field_from_name(name: &str) -> Option<&'static str> {
        ITEM_FIELDS.into_iter().find(|field| *field == if name == "item" { "item_id" } else { name })
    }

    /// Opens a file.
    ///
    /// # Errors
    /// If the file cannot be opened or is empty, or its header lacks a required column.
    pub fn open(file: &Path, format: ItemFileFormat, received_at: Timestamp) -> Result<Self, FileError> {
        let lines = FileLineReader::open(file)?;
        let names = format.names.iter().map(|(_, name)| name.as_str());
        if let Some(columns) = lines.column_names() {
            let has_item = format.names.iter().any(|(field, _)| *field == "item_id");
            let mut required = names.chain((!has_item).then_some("item_id"));
            if let Some(missing) = required.find(|name| !columns.iter().any(|column| column == name)) {
                let columns: Vec<_> = columns.iter().map(|column| printable_excerpt(column)).collect();
                let reason = format!(
                    "there is no column `{missing}`; the columns are {}; name another one with --map FIELD=NAME",
                    columns.join(", ")
                );
                return Err(lines.header_error(reason));
            }
        }
        let mut items = Self { lines, csv: None, format, received_at, rows_read: 0, last_item: None };
        if !items.lines.is_ndjson() {
            let ItemFileFormat { names, table, .. } = &items.format;
            let read = |first: &[u8]| {
                let (row, _, fields) = resolve_columns(table, first, |columns| item_columns(columns, names))?;
                Ok((row.delimiter(), (row, fields)))
            };
            items.csv = Some(items.lines.read_header(table, read)?);
        }
        Ok(items)
    }

    /// The number of the first line of the last row, from 1.
    #[must_use]
    pub fn line_number(&self) -> u64 {
        self.lines.record_line_number()
    }

    /// The bytes of the last row, without the line end.
    #[must_use]
    pub fn last_row_bytes(&self) -> &[u8] {
        self.lines.last_row_bytes()
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
        let (csv, ItemFileFormat { names, time, .. }, received_at) = (&mut self.csv, &self.format, self.received_at);
        let (last_item, is_table) = (&mut self.last_item, self.lines.column_names().is_some());
        let change = self.lines.read_next(|line| {
            let object = match csv {
                Some((row, fields)) => merge_with_previous_row(last_item, object_from_row(row, fields, line)?),
                None if is_table => table_object(rename_fields(parse_object(line.trim_ascii())?, names))?,
                None => rename_fields(parse_object(line.trim_ascii())?, names),
            };
            item_change_from_object(object, received_at, Some(time), &mut |_| {})
        })?;
        let index = self.rows_read;
        self.rows_read += 1;
        Some(
            change.map(|change| {
                change.map_err(|error| error.with_position(index, Some(self.lines.record_line_number())))
            }),
        )
    }
}

/// The field of each column.
fn item_columns(
    columns: &[Vec<u8>],
    names: &[(&'static str, String)],
) -> Result<Vec<Option<&'static str>>, CsvHeaderError> {
    require_columns(columns, names.iter().map(|(_, name)| name.as_str()))?;
    let native = |column: &[u8]| ITEM_FIELDS.into_iter().find(|field| field.as_bytes() == column);
    let mapped = |column: &[u8]| names.iter().find(|(_, name)| name.as_bytes() == column).map(|(field, _)| *field);
    let fields: Vec<_> = columns.iter().map(|column| mapped(column).or_else(|| native(column))).collect();
    let has_item = fields.contains(&Some("item_id"));
    if has_item { Ok(fields) } else { Err(CsvHeaderError::MissingColumn("item_id".to_owned(), "item_id".to_owned())) }
}

/// Adds the attributes of the previous row if both rows have the same item. Some catalogs have one
/// row per product variant, and only a product's first row fills the product's columns. If rows
/// were not merged, the last variant's row would erase these attributes.
fn merge_with_previous_row(last_item: &mut Option<Map<String, Value>>, row: Map<String, Value>) -> Map<String, Value> {
    let is_put = |row: &Map<String, Value>| row.get("op").is_none_or(|op| op == "put");
    let is_continued =
        |last: &Map<String, Value>| last.get("item_id") == row.get("item_id") && is_put(last) && is_put(&row);
    let mut merged = last_item.take().filter(is_continued).unwrap_or_default();
    merged.extend(row);
    last_item.insert(merged).clone()
}

fn rename_fields(mut object: Map<String, Value>, names: &[(&'static str, String)]) -> Map<String, Value> {
    for (field, name) in names {
        if let Some(value) = object.remove(name) {
            object.insert((*field).to_owned(), value);
        }
    }
    object
}

/// Converts the texts of a row of a table as those of CSV. An id can be a number.
fn table_object(object: Map<String, Value>) -> Result<Map<String, Value>, ValidationError> {
    let convert = |(name, value): (String, Value)| {
        let field = ITEM_FIELDS.into_iter().find(|field| *field == name);
        let value = match (field, value) {
            (Some("item_id"), Value::Number(id)) => Value::from(id.to_string()),
            (Some(field), Value::String(text)) => attribute_value(field, &text)?,
            (_, value) => value,
        };
        Ok((name, value))
    };
    object.into_iter().map(convert).collect()
}

/// Converts a line of CSV into the equivalent JSON object. Empty columns are left out.
fn object_from_row(
    row: &mut CsvRow,
    fields: &[Option<&'static str>],
    line: &[u8],
) -> Result<Map<String, Value>, ValidationError> {
    row.read_record(line, fields.len())?;
    let mut object = Map::new();
    for (column, field) in fields.iter().enumerate().filter_map(|(column, field)| Some((column, (*field)?))) {
        if let Some(text) = row.field_text(field, Some(column))? {
            object.insert(field.to_owned(), attribute_value(field, text)?);
        }
    }
    Ok(object)
}

fn attribute_value(field: &'static str, text: &str) -> Result<Value, ValidationError> {
    Ok(match field {
        "categories" | "tags" => {
            text.split(LIST_SEPARATOR).map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect()
        }
        "price" => {
            let price: f64 = text.parse().map_err(|_| wrong_type_error("a number", field, text))?;
            let not_finite =
                || ValidationError::new("price", ValidationErrorCode::NotFinite, "`price` is not a finite number");
            Value::Number(Number::from_f64(price).ok_or_else(not_finite)?)
        }
        "available" => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Value::Bool(true),
            "false" | "no" | "0" => Value::Bool(false),
            _ => return Err(wrong_type_error("true or false", field, text)),
        },
        _ => Value::from(text),
    })
}

fn wrong_type_error(expected: &str, field: &'static str, text: &str) -> ValidationError {
    ValidationError::new(
        field,
        ValidationErrorCode::WrongType,
        format!("`{field}` must be {expected}, not `{}`", printable_excerpt(text)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ItemOperation;

    fn read_changes(
        name: &str,
        text: &str,
        names: &[(&'static str, &str)],
    ) -> Vec<Result<ItemChange, ValidationError>> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let names = names.iter().map(|(field, name)| (*field, (*name).to_owned())).collect();
        ItemFileReader::open(&file, ItemFileFormat { names, ..ItemFileFormat::default() }, 7)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    #[test]
    fn csv_and_json_give_the_same_change() {
        let csv = read_changes(
            "a.csv",
            "itemid,categories,price,available,colour\ntea,hot | cold,4.5,yes,red\n",
            &[("item_id", "itemid")],
        );
        let json = read_changes(
            "a.ndjson",
            r#"{"itemid":"tea","categories":["hot","cold"],"price":4.5,"available":true}"#,
            &[("item_id", "itemid")],
        );
        assert_eq!(csv, json);
        let Ok(ItemChange { item_id, operation: ItemOperation::Put(item), .. }) = &csv[0] else { panic!("{csv:?}") };
        assert_eq!((item_id.as_str(), item.categories.as_slice()), ("tea", &["hot".to_owned(), "cold".to_owned()][..]));
    }

    /// Shopify's product export: the rows of further variants leave the product's columns empty,
    /// and descriptions contain line ends.
    #[test]
    fn rows_of_variants_keep_the_attributes_of_the_product() {
        let rows =
            "Handle;Body;Vendor;Price\nshirt;\"<p>\nblue, \"\"new\"\"\n</p>\";leaf;4\nshirt;;;5\nhat;;;3\nshirt;;;6\n";
        let changes = read_changes("a.csv", rows, &[("item_id", "Handle"), ("brand", "Vendor"), ("price", "Price")]);
        let items = changes.iter().map(|change| match change {
            Ok(ItemChange { item_id, operation: ItemOperation::Put(item), .. }) => {
                (item_id.as_str(), item.brand.as_deref(), item.price)
            }
            other => panic!("{other:?}"),
        });
        let expected = [
            ("shirt", Some("leaf"), Some(4.0)),
            ("shirt", Some("leaf"), Some(5.0)),
            ("hat", None, Some(3.0)),
            ("shirt", None, Some(6.0)),
        ];
        assert_eq!(items.collect::<Vec<_>>(), expected);
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
        let found: Vec<_> =
            read_changes("a.csv", rows, &[]).iter().chain(&read_changes("a.ndjson", json, &[])).map(expires).collect();
        let at = Ok(Some(2_100_000_000_000));
        assert_eq!(found, [at, at, at, Err(ValidationErrorCode::TooEarly), at]);
    }

    #[test]
    fn rejects_bad_rows_by_line() {
        let rows = read_changes("a.csv", "item_id,price\ntea,4\ncup,dear\n,1\npot\nurn,NaN\n", &[]);
        let errors: Vec<_> =
            rows.iter().map(|row| row.as_ref().err().map(|error| (error.line, error.field, error.code))).collect();
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
