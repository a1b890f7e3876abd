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
    /// The bytes of the row: identical rows are one event, even in different files.
    Row,
    /// The digest of the file's content and the line number: each row is an event, and a file with
    /// another content has other ids.
    Content,
}

impl IdSource {
    /// The id of an event that was read from `row` in a line of a file.
    pub(super) fn event_id(
        self,
        event: &Event,
        row: &[u8],
        file_digest: &str,
        line: u64,
        rules: &ValidationRules,
    ) -> String {
        // A pseudonym, because an attacker could guess the user from a digest without a key.
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
