//! Numeric identifiers: offsets, times, items, kinds.

/// The position of an entry in the journal. The first entry has offset 0, and offsets are
/// consecutive.
pub type Offset = u64;

/// Milliseconds since 1970-01-01T00:00:00 UTC.
pub type Timestamp = i64;

/// The number of an item. Items are numbered from 0, in the order in which the journal first names
/// them.
pub type ItemIx = u32;

/// The number of an event kind: its index in the table of active kinds. The network has an
/// embedding for each kind id.
pub type KindId = u8;
