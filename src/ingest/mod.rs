//! Outside formats in, validated [`Event`](crate::domain::Event)s and [`ItemChange`](crate::domain::ItemChange)s out.
//!
//! Every format fills a [`RawEvent`] and every draft meets the same [`ValidationRules`]: what is refused in a request is refused in a file, for the
//! same reason and under the same [`ValidationErrorCode`]. A refusal is a [`ValidationError`] that names the place, the field and the reason, and never spoils
//! its neighbours. Time comes in as `received_at`; nothing here reads a clock.

mod access_log;
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
mod pseudonymiser;
mod record_batch;
mod reorder_buffer;
mod segment;
mod timestamp;
mod validation;
mod validation_error;

pub use access_log::{AccessLogError, AccessLogOutcome, AccessLogParser, AccessLogSettings, SkipReason};
pub use column_mapping::{ColumnMapping, EventField};
pub use decompress::DecompressedFile;
pub use digest::KeyedDigest;
pub use event_file::{EventFileReader, FileError};
pub use export::{ENTRY_KINDS, entry_kind_name, write_entry, write_entry_with_consent};
pub use framing::BodyError;
pub use item_file::ItemFileReader;
pub use items::{MAX_CATEGORIES, MAX_TAGS, check_id, read_item, read_item_patch, read_items};
pub use json::read_events;
pub use pseudonymiser::{IdKind, Pseudonymiser};
pub use record_batch::ParsedBatch;
pub use reorder_buffer::ReorderBuffer;
pub use segment::{ParsedSegmentBatch, SegmentCall, SegmentEventMapping, read_segment_batch, read_segment_call};
pub use timestamp::TimeUnit;
pub use validation::{MAX_FUTURE_MS, MAX_ID_BYTES, MAX_PROPERTIES_BYTES, MAX_PROPERTIES_DEPTH, RawEvent, ValidationRules};
pub use validation_error::{ValidationError, ValidationErrorCode};
