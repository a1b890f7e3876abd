//! Numeric identifiers: offsets, times, items, kinds.

/// The position of an entry in the journal: 0 for the first one ever, then consecutive.
pub type Offset = u64;

/// Milliseconds since 1970-01-01T00:00:00 UTC.
pub type Timestamp = i64;

/// The dense number of an item, in the order in which the journal first names items.
pub type ItemIx = u32;

/// The dense number of an event kind: its index in the configured kinds. The network has an
/// embedding per kind.
pub type KindId = u8;
