//! Outside formats in, validated [`Event`](crate::domain::Event)s and [`ItemChange`](crate::domain::ItemChange)s out.
//!
//! Every format fills a [`RawEvent`] and every draft meets the same [`ValidationRules`]: what is refused in a request is refused in a file, for the
//! same reason and under the same [`ValidationErrorCode`]. A refusal is a [`ValidationError`] that names the place, the field and the reason, and never spoils
//! its neighbours. Time comes in as `received_at`; nothing here reads a clock.

mod access;
mod csv;
mod digest;
mod export;
mod fault;
mod file;
mod file_items;
mod frame;
mod items;
mod json;
mod lines;
mod packed;
mod pseudonym;
mod record_batch;
mod reorder;
mod rules;
mod segment;
mod shape;
mod split;
mod timestamp;

pub use access::{AccessLogError, AccessLogOutcome, AccessLogParser, AccessLogSettings, SkipReason};
pub use digest::KeyedDigest;
pub use export::{ENTRY_KINDS, entry_kind_name, write_entry, write_entry_with_consent};
pub use fault::{ValidationError, ValidationErrorCode};
pub use file::{EventFileReader, FileError};
pub use file_items::ItemFileReader;
pub use frame::BodyError;
pub use items::{MAX_CATEGORIES, MAX_TAGS, check_id, read_item, read_item_patch, read_items};
pub use json::read_events;
pub use packed::DecompressedFile;
pub use pseudonym::{IdKind, Pseudonymiser};
pub use record_batch::ParsedBatch;
pub use reorder::ReorderBuffer;
pub use rules::{MAX_FUTURE_MS, MAX_ID_BYTES, MAX_PROPERTIES_BYTES, MAX_PROPERTIES_DEPTH, RawEvent, ValidationRules};
pub use segment::{ParsedSegmentBatch, SegmentCall, SegmentEventMapping, read_segment_batch, read_segment_call};
pub use shape::{ColumnMapping, EventField};
pub use timestamp::TimeUnit;
