//! Event ids of imported rows.

use clap::ValueEnum;

use crate::domain::Event;
use crate::ingest::{IdKind, KeyedDigest, ValidationRules};

/// Source of the event ids of rows without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum IdSource {
    /// User, session, kind, item, value and time: rows that agree in all of these are one event,
    /// even in different files.
    Columns,
    /// The bytes of the row: rows with the same bytes are one event, even in different files.
    Row,
    /// The digest of the file's content and the line number: each row is a separate event. If the
    /// content of the file changes, all ids change.
    Content,
}

impl IdSource {
    /// The id of an event. `row` holds the bytes of its row, and `line` is the row's line number.
    pub(super) fn event_id(
        self,
        event: &Event,
        row: &[u8],
        file_digest: &str,
        line: u64,
        rules: &ValidationRules,
    ) -> String {
        // A digest without a key is not enough: an attacker could find the user by hashing guesses.
        // So the digest becomes a pseudonym.
        let pseudonym =
            |parts: &[&[u8]]| rules.internal_id(IdKind::Event, KeyedDigest::hex_digest_of_parts(&[0; 16], parts));
        match self {
            Self::Content => format!("{file_digest}-{line}"),
            Self::Row => pseudonym(&[row]),
            Self::Columns => pseudonym(&[
                event.user_id.as_bytes(),
                event.session_id.as_deref().unwrap_or_default().as_bytes(),
                event.kind.name().as_bytes(),
                event.item_id.as_deref().unwrap_or_default().as_bytes(),
                event.value.map(f32::to_le_bytes).as_ref().map_or(&[][..], |bytes| &bytes[..]),
                &event.timestamp.to_le_bytes(),
            ]),
        }
    }
}
