//! The rows of an imported file, and the batches in which they are sent.

use std::path::Path;

use crate::domain::{Entry, Timestamp, WithConsent};
use crate::ingest::{
    ColumnMapping, EventFileReader, EventPreset, FileError, ItemFileFormat, ItemFileReader, Preset, PresetEventReader,
    PresetItemReader, PresetRecord, SkippedEvents, ValidationError, ValidationRules, write_entry_with_consent,
};

/// Size limit of a request body: half the default of `server.max_body_bytes`.
const MAX_BATCH_BYTES: usize = 512 * 1024;

/// The kind of records in the files, and the format of the files.
pub(super) enum ImportKind {
    Events(Box<ColumnMapping>),
    Items(ItemFileFormat),
    PresetEvents(EventPreset),
    /// The preset, and the separator of a table.
    PresetItems(Preset, Option<u8>),
}

/// A parsed row.
pub(super) enum ImportRow {
    Event(WithConsent),
    Record(PresetRecord),
    Item(Entry),
}

/// Reader of the rows of a file.
pub(super) enum ImportRows<'r> {
    Events(Box<EventFileReader<'r>>),
    Items(Box<ItemFileReader>),
    PresetEvents(Box<PresetEventReader<'r>>),
    PresetItems(Box<PresetItemReader>),
}

impl<'r> ImportRows<'r> {
    /// Opens a file. `received_at` is the time of arrival.
    pub(super) fn open(
        file: &Path,
        kind: &ImportKind,
        rules: &'r ValidationRules,
        received_at: Timestamp,
    ) -> Result<Self, FileError> {
        Ok(match kind {
            ImportKind::Events(mapping) => Self::Events(Box::new(EventFileReader::open_with_mapping(
                file,
                mapping.as_ref().clone(),
                rules,
                received_at,
            )?)),
            ImportKind::Items(format) => {
                Self::Items(Box::new(ItemFileReader::open(file, format.clone(), received_at)?))
            }
            ImportKind::PresetEvents(preset) => {
                Self::PresetEvents(Box::new(PresetEventReader::open(file, preset.clone(), rules, received_at)?))
            }
            ImportKind::PresetItems(preset, delimiter) => {
                Self::PresetItems(Box::new(PresetItemReader::open(file, *preset, *delimiter, received_at)?))
            }
        })
    }

    pub(super) fn next(&mut self) -> Option<Result<Result<ImportRow, ValidationError>, FileError>> {
        match self {
            Self::Events(events) => Some(events.next()?.map(|event| event.map(ImportRow::Event))),
            Self::PresetEvents(records) => Some(records.next()?.map(|record| record.map(ImportRow::Record))),
            Self::Items(items) => {
                Some(items.next()?.map(|item| item.map(|change| ImportRow::Item(Entry::Item(change)))))
            }
            Self::PresetItems(items) => {
                Some(items.next()?.map(|item| item.map(|change| ImportRow::Item(Entry::Item(change)))))
            }
        }
    }

    pub(super) fn line_number(&self) -> u64 {
        match self {
            Self::Events(events) => events.line_number(),
            Self::Items(items) => items.line_number(),
            Self::PresetEvents(records) => records.line_number(),
            Self::PresetItems(items) => items.line_number(),
        }
    }

    /// The bytes of the last row, without the line end.
    pub(super) fn last_row_bytes(&self) -> &[u8] {
        match self {
            Self::Events(events) => events.last_row_bytes(),
            Self::Items(items) => items.last_row_bytes(),
            Self::PresetEvents(records) => records.last_row_bytes(),
            // Items have no event id, so their bytes are never needed.
            Self::PresetItems(_) => &[],
        }
    }

    /// The events that yielded no event so far, by their names in the file.
    pub(super) fn skipped(&self) -> Option<&SkippedEvents> {
        if let Self::PresetEvents(records) = self { Some(records.skipped()) } else { None }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        match self {
            Self::Events(events) => events.bytes_read(),
            Self::Items(items) => items.bytes_read(),
            Self::PresetEvents(records) => records.bytes_read(),
            Self::PresetItems(items) => items.bytes_read(),
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
