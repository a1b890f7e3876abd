//! Parses and validates input formats: bytes in, [`Event`](crate::domain::Event)s and
//! [`ItemChange`](crate::domain::ItemChange)s out.
//!
//! The parser of each event format creates [`RawEvent`]s, which [`ValidationRules`] checks. A
//! request and a file are therefore rejected for the same reasons, under the same
//! [`ValidationErrorCode`]. A [`ValidationError`] names the record's position, the field and the
//! reason. It rejects only that record; the other records of the batch are accepted. The caller
//! passes the time as `received_at`; nothing here reads a clock.
//!
//! - `framing`, `json_scanner`, `record_batch`: split a request body into records.
//! - `json`, `csv`, `items`, `user_attributes`, `segment`, `access_log`: parse one format each.
//! - `attributes`: free attributes and contexts. `product_fields`: products in foreign messages.
//! - `column_mapping`, `table_format`, `timestamp`: field names and time formats of foreign files.
//! - `validation`, `validation_error`, `pseudonymiser`, `digest`: rules, rejections, hashed ids.
//! - `presets`: the file formats of analytics tools and shop systems.
//! - `event_file`, `item_file`, `line_reader`, `decompress`, `reorder_buffer`: read files.
//! - `parquet_file`: reads the rows of Parquet files as JSON lines.
//! - `message_format`: messages of a queue.
//! - `export`: writes journal entries as JSON lines.

mod access_log;
mod attributes;
mod column_mapping;
mod csv;
mod decompress;
mod digest;
mod event_file;
mod export;
mod framing;
mod item_file;
mod items;
mod json;
mod json_scanner;
mod line_reader;
mod message_format;
mod number_text;
#[cfg(feature = "parquet")]
mod parquet_file;
mod presets;
mod product_fields;
mod pseudonymiser;
mod record_batch;
mod reorder_buffer;
mod segment;
mod table_format;
mod timestamp;
mod user_attributes;
mod validation;
mod validation_error;

pub use access_log::{AccessLogError, AccessLogOutcome, AccessLogParser, AccessLogSettings, SkipReason};
pub use attributes::{parse_context, with_context_parameter};
pub use column_mapping::{ColumnMapping, EventField};
pub use decompress::{DecompressedFile, PARQUET_MISSING, STANDARD_INPUT_NAME};
pub use digest::KeyedDigest;
pub use event_file::{EventFileReader, FileError};
pub use export::{ENTRY_KINDS, entry_kind_name, write_entry, write_entry_with_consent};
pub use framing::BodyError;
pub use item_file::{ItemFileFormat, ItemFileReader};
pub use items::{MAX_CATEGORIES, MAX_TAGS, check_id, read_item, read_item_patch, read_items};
pub use json::read_events;
pub use message_format::MessageFormat;
pub use presets::{
    ConvertedRecord, EventPreset, Preset, PresetEventReader, PresetItemReader, PresetRecord, SkippedEvents,
};
pub use pseudonymiser::{IdKind, Pseudonymiser};
pub use record_batch::ParsedBatch;
pub use reorder_buffer::ReorderBuffer;
pub use segment::{ParsedSegmentBatch, SegmentCall, SegmentEventMapping, read_segment_batch, read_segment_call};
pub use table_format::TableFormat;
pub use timestamp::{TimeFormat, TimeUnit, TimeZoneError};
pub use user_attributes::read_user_attributes;
pub use validation::{
    MAX_FUTURE_MS, MAX_ID_BYTES, MAX_PROPERTIES_BYTES, MAX_PROPERTIES_DEPTH, RawEvent, ValidationRules,
};
pub use validation_error::{ValidationError, ValidationErrorCode};
