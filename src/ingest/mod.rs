//! Outside formats in, validated [`Event`](crate::domain::Event)s and [`ItemChange`](crate::domain::ItemChange)s out.
//!
//! Every format fills a [`Draft`] and every draft meets the same [`Rules`]: what is refused in a request is refused in a file, for the
//! same reason and under the same [`Code`]. A refusal is a [`Fault`] that names the place, the field and the reason, and never spoils
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
mod reorder;
mod rules;
mod segment;
mod shape;
mod split;
mod timestamp;

pub use access::{AccessError, AccessLog, AccessSettings, Other, Seen};
pub use digest::Digest;
pub use export::{ENTRIES, entry_name, write_entry, write_said};
pub use fault::{Code, Fault};
pub use file::{FileError, FileEvents};
pub use file_items::FileItems;
pub use frame::BodyError;
pub use items::{MAX_CATEGORIES, MAX_TAGS, check_id, read_item, read_items, read_patch};
pub use json::{Reading, read_body};
pub use packed::Unpacked;
pub use pseudonym::{Names, Pseudonyms};
pub use reorder::Reorder;
pub use rules::{Draft, MAX_DEPTH, MAX_EARLY_MS, MAX_ID_BYTES, MAX_PROPERTIES_BYTES, Rules};
pub use segment::{Call, EventNames, Messages, read_batch, read_call};
pub use shape::{Field, Shape, TimeUnit};
