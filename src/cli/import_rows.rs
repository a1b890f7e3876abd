//! The rows of an imported file, and the batches in which they are sent.

use crate::domain::{Entry, WithConsent};
use crate::ingest::{
    ColumnMapping, EventFileReader, FileError, ItemFileFormat, ItemFileReader, ValidationError,
    write_entry_with_consent,
};

/// Size limit of a request body: half the default of `server.max_body_bytes`.
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// The kind of records in the files, and the format of the files.
pub(super) enum ImportKind {
    Events(Box<ColumnMapping>),
    Items(ItemFileFormat),
}

/// A parsed row.
pub(super) enum ImportRow {
    Event(WithConsent),
    Item(Entry),
}

/// Reader of the rows of a file.
pub(super) enum ImportRows<'r> {
    Events(Box<EventFileReader<'r>>),
    Items(Box<ItemFileReader>),
}

impl ImportRows<'_> {
    pub(super) fn next(&mut self) -> Option<Result<Result<ImportRow, ValidationError>, FileError>> {
        match self {
            Self::Events(events) => Some(events.next()?.map(|event| event.map(ImportRow::Event))),
            Self::Items(items) => {
                Some(items.next()?.map(|item| item.map(|change| ImportRow::Item(Entry::Item(change)))))
            }
        }
    }

    pub(super) fn line_number(&self) -> u64 {
        match self {
            Self::Events(events) => events.line_number(),
            Self::Items(items) => items.line_number(),
        }
    }

    /// The bytes of the last row, without the line end.
    pub(super) fn last_row_bytes(&self) -> &[u8] {
        match self {
            Self::Events(events) => events.last_row_bytes(),
            Self::Items(items) => items.last_row_bytes(),
        }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        match self {
            Self::Events(events) => events.bytes_read(),
            Self::Items(items) => items.bytes_read(),
        }
    }
}

/// A batch: entries and their line numbers.
#[derive(Default)]
pub(super) struct ImportBatch {
    pub(super) lines: Vec<u64>,
    pub(super) entries: Vec<WithConsent<Entry>>,
    bytes: usize,
    scratch: Vec<u8>,
}

impl ImportBatch {
    pub(super) fn push(&mut self, line: u64, entry: WithConsent<Entry>) -> anyhow::Result<()> {
        self.scratch.clear();
        write_entry_with_consent(&entry, &mut self.scratch)?;
        self.bytes += self.scratch.len();
        self.lines.push(line);
        self.entries.push(entry);
        Ok(())
    }

    pub(super) fn is_full(&self, limit: u64) -> bool {
        self.lines.len() as u64 >= limit || self.bytes >= MAX_BATCH_BYTES
    }
}
