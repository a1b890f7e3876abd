//! Reads the item changes of a foreign catalog, as a stream.

use super::event_reader::MAX_RECORD_BYTES;
use super::feed_xml::FeedXmlReader;
use super::google_merchant;
use super::preset::Preset;
use super::shopify::{self, ShopifyRows};
use super::source_fields::{SourceFields, normalised_name};
use super::woocommerce::{self, WoocommerceRows};
use crate::domain::{ItemChange, Timestamp};
use crate::ingest::csv::{CsvHeaderError, CsvRow, resolve_columns};
use crate::ingest::event_file::{FileError, FileLineReader};
use crate::ingest::items::item_change_from_object;
use crate::ingest::table_format::TableFormat;
use crate::ingest::timestamp::{TimeFormat, TimeUnit};
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

/// The rows of a table, or the elements of a feed.
enum ProductReader {
    Table(Box<ProductTable>),
    Xml(Box<FeedXmlReader>),
}

/// A table with a header.
struct ProductTable {
    lines: FileLineReader,
    row: CsvRow,
    /// The normalised names of the columns.
    names: Vec<String>,
}

/// Converts rows to item changes. Some formats spread a product over several rows.
enum RowConverter {
    GoogleMerchant,
    Shopify(ShopifyRows),
    Woocommerce(Box<WoocommerceRows>),
}

/// A line of the file with the fields of a product or an error.
type ReadProduct = (u64, Result<SourceFields, ValidationError>);

/// A line of the file with an item change or an error.
type Converted = (u64, Result<Map<String, Value>, ValidationError>);

/// Iterates over the item changes of a file, in file order. Memory is bounded for files of any size.
pub struct PresetItemReader {
    products: ProductReader,
    converter: RowConverter,
    /// Changes and errors that are not returned yet.
    pending: VecDeque<Converted>,
    received_at: Timestamp,
    /// The line of the last change or error.
    line: u64,
    returned: u64,
    is_finished: bool,
}

impl PresetItemReader {
    /// Opens a file of a catalog preset; `-` is the standard input. `delimiter` is the separator of
    /// a table; `None` detects it.
    ///
    /// # Errors
    /// If the file cannot be opened or is empty, or its header lacks a required column.
    pub fn open(file: &Path, preset: Preset, delimiter: Option<u8>, received_at: Timestamp) -> Result<Self, FileError> {
        let mut lines = FileLineReader::open_with_limit(file, MAX_RECORD_BYTES)?;
        lines.ensure_no_parquet(&format!("--preset {} reads another one; use --items", preset.name()))?;
        let (converter, required): (_, &[&[&str]]) = match preset {
            Preset::Shopify => (RowConverter::Shopify(ShopifyRows::default()), &shopify::REQUIRED_COLUMNS),
            Preset::Woocommerce => (RowConverter::Woocommerce(Box::default()), &woocommerce::REQUIRED_COLUMNS),
            _ => (RowConverter::GoogleMerchant, &google_merchant::REQUIRED_COLUMNS),
        };
        let products = if preset == Preset::GoogleMerchant && lines.begins_with(b'<')? {
            ProductReader::Xml(Box::new(FeedXmlReader::new(file.to_owned(), lines.into_content())))
        } else {
            let format = TableFormat { delimiter, columns: None };
            let (row, names) = lines.read_header(&format, |first| {
                let (row, _, names) = resolve_columns(&format, first, |columns| column_names(columns, required))?;
                Ok((row.delimiter(), (row, names)))
            })?;
            ProductReader::Table(Box::new(ProductTable { lines, row, names }))
        };
        let pending = VecDeque::new();
        Ok(Self { products, converter, pending, received_at, line: 0, returned: 0, is_finished: false })
    }

    /// The line of the last change or error, from 1. A change that several rows make up has the line
    /// of its last row.
    #[must_use]
    pub fn line_number(&self) -> u64 {
        self.line
    }

    /// Bytes read from the disk so far, before decompression.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.products {
            ProductReader::Table(table) => table.lines.bytes_read(),
            ProductReader::Xml(feed) => feed.bytes_read(),
        }
    }

    /// Reads the next product or row with its line; `None` at the end.
    fn read_fields(&mut self) -> Option<Result<ReadProduct, FileError>> {
        match &mut self.products {
            ProductReader::Table(table) => {
                let ProductTable { lines, row, names } = table.as_mut();
                let fields = lines.read_next(|line| row_fields(row, names, line))?;
                let line = lines.record_line_number();
                Some(fields.map(|fields| (line, fields)))
            }
            ProductReader::Xml(feed) => match feed.next_product() {
                Ok(product) => product.map(|product| Ok((product.line, product.fields.ok_or_else(too_long_error)))),
                Err(error) => Some(Err(error)),
            },
        }
    }

    /// Converts a row, and adds the results to the pending ones.
    fn convert(&mut self, line: u64, fields: &SourceFields) {
        match &mut self.converter {
            RowConverter::GoogleMerchant => self.pending.push_back((line, google_merchant::convert(fields))),
            RowConverter::Shopify(rows) => {
                let (finished, outcome) = rows.push(line, fields);
                self.pending.extend(finished.map(|(line, change)| (line, Ok(change))));
                self.pending.extend(outcome.err().map(|error| (line, Err(error))));
            }
            RowConverter::Woocommerce(rows) => {
                self.pending.extend(rows.convert(fields).transpose().map(|change| (line, change)));
            }
        }
    }
}

impl Iterator for PresetItemReader {
    type Item = Result<Result<ItemChange, ValidationError>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.pending.is_empty() && !self.is_finished {
            match self.read_fields() {
                Some(Ok((line, Ok(fields)))) => self.convert(line, &fields),
                Some(Ok((line, Err(error)))) => self.pending.push_back((line, Err(error))),
                Some(Err(error)) => {
                    self.is_finished = true;
                    return Some(Err(error));
                }
                None => {
                    self.is_finished = true;
                    if let RowConverter::Shopify(rows) = &mut self.converter {
                        self.pending.extend(rows.finish().map(|(line, change)| (line, Ok(change))));
                    }
                }
            }
        }
        let (line, change) = self.pending.pop_front()?;
        (self.line, self.returned) = (line, self.returned + 1);
        let time = TimeFormat::of_unit(TimeUnit::Iso8601);
        let change =
            change.and_then(|object| item_change_from_object(object, self.received_at, Some(&time), &mut |_| {}));
        Some(Ok(change.map_err(|error| error.with_position(self.returned - 1, Some(line)))))
    }
}

impl fmt::Debug for PresetItemReader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PresetItemReader").field("line", &self.line).finish_non_exhaustive()
    }
}

/// The normalised names of the columns. Each element of `required` lists alternatives.
fn column_names(columns: &[Vec<u8>], required: &[&[&str]]) -> Result<Vec<String>, CsvHeaderError> {
    let names: Vec<_> = columns.iter().map(|name| normalised_name(&String::from_utf8_lossy(name))).collect();
    let is_present = |alternatives: &&[&str]| names.iter().any(|name| alternatives.contains(&name.as_str()));
    match required.iter().find(|alternatives| !is_present(alternatives)) {
        None => Ok(names),
        Some(missing) => {
            let all: Vec<_> = required.iter().map(|alternatives| alternatives.join(" or ")).collect();
            Err(CsvHeaderError::MissingColumn(missing.join(" or "), all.join(", ")))
        }
    }
}

fn row_fields(row: &mut CsvRow, names: &[String], line: &[u8]) -> Result<SourceFields, ValidationError> {
    row.read_record(line, names.len())?;
    let mut fields = SourceFields::default();
    for (column, name) in names.iter().enumerate() {
        if let Some(text) = row.field_text("row", Some(column))? {
            fields.add(name.clone(), text);
        }
    }
    Ok(fields)
}

fn too_long_error() -> ValidationError {
    let reason = format!("the product has more than {MAX_RECORD_BYTES} bytes");
    ValidationError::new(None, ValidationErrorCode::TooLong, reason)
}
