//! Reads the rows of a Parquet file as lines of JSON, so that every reader of JSON lines reads them.
//!
//! - `row_lines`: opens a file and returns its rows, row group by row group.
//! - `row_json`: writes a row as a JSON object.
//! - `pages`: reads and decompresses pages within limits.
//!
//! Memory is bounded: a column of the present row group holds one dictionary and one page, and all
//! of them together have at most [`MAX_HELD_BYTES`]. The number of columns and the size of the
//! footer are limited as well.

mod pages;
mod row_json;
mod row_lines;
#[cfg(test)]
mod tests;

pub(super) use row_lines::{ParquetColumns, ParquetLines};

/// Largest page, before and after decompression, in bytes. DuckDB writes pages of up to 100 MB.
const MAX_PAGE_BYTES: usize = 128 << 20;

/// Largest total size of the decompressed pages that the columns of a row group hold, in bytes.
const MAX_HELD_BYTES: usize = 1 << 30;

/// Largest number of values in a page. Repeated values need hardly any bytes, so the size of a page
/// does not bound it.
const MAX_PAGE_VALUES: u32 = 1 << 26;

/// Largest number of values in a dictionary.
const MAX_DICTIONARY_VALUES: u32 = 1 << 22;

/// Largest footer, in bytes. It describes the schema and the row groups.
const MAX_FOOTER_BYTES: u64 = 16 << 20;

/// Largest number of columns, with those of nested fields.
const MAX_COLUMNS: usize = 2000;
