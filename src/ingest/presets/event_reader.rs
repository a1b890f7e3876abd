//! Reads the events of a file of an analytics tool, as a stream.

use super::event_preset::EventPreset;
use super::json_array::{ArrayElement, JsonArrayReader};
use super::kind_names::SkippedEvents;
use super::preset::Preset;
use super::source_event::ConvertedRecord;
use crate::domain::{Timestamp, WithConsent};
use crate::ingest::event_file::{FileError, FileLineReader};
use crate::ingest::validation::ValidationRules;
use crate::ingest::validation_error::{ValidationError, ValidationErrorCode};
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

/// Maximum length of a record, in bytes. A visit of Matomo holds all its actions.
pub(super) const MAX_RECORD_BYTES: usize = 4 * 1024 * 1024;

/// The valid events of a record.
#[derive(Debug, PartialEq)]
pub struct PresetRecord {
    /// The events.
    pub events: Vec<WithConsent>,
    /// Whether the record also holds events whose names are mapped to no kind. With another mapping,
    /// the record can yield more events.
    pub has_unmapped: bool,
}

/// The records of a file: lines, or the elements of one JSON array.
enum RecordReader {
    Lines(FileLineReader),
    Array(JsonArrayReader),
}

/// Reads a file record by record. A record can yield several events.
pub struct PresetEventReader<'r> {
    records: RecordReader,
    preset: EventPreset,
    rules: &'r ValidationRules,
    received_at: Timestamp,
    /// Errors of the last record that are not returned yet.
    pending_errors: VecDeque<ValidationError>,
    skipped: SkippedEvents,
    records_read: u64,
}

impl<'r> PresetEventReader<'r> {
    /// Opens a file; `-` is the standard input. The extensions `.gz` and `.zst` mark a compressed
    /// file.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(
        file: &Path,
        preset: EventPreset,
        rules: &'r ValidationRules,
        received_at: Timestamp,
    ) -> Result<Self, FileError> {
        let mut lines = FileLineReader::open_with_limit(file, MAX_RECORD_BYTES)?;
        if !preset.preset().reads_parquet() {
            lines.ensure_no_parquet(&format!("--preset {} reads another one", preset.preset().name()))?;
        }
        let records = if preset.preset() == Preset::Matomo && lines.begins_with(b'[')? {
            RecordReader::Array(JsonArrayReader::new(file.to_owned(), lines.into_content(), MAX_RECORD_BYTES))
        } else {
            RecordReader::Lines(lines)
        };
        let pending_errors = VecDeque::new();
        let skipped = SkippedEvents::default();
        Ok(Self { records, preset, rules, received_at, pending_errors, skipped, records_read: 0 })
    }

    /// The events so far that yielded no event, by their names in the file.
    #[must_use]
    pub fn skipped(&self) -> &SkippedEvents {
        &self.skipped
    }

    /// The number of the first line of the last record, from 1.
    #[must_use]
    pub fn line_number(&self) -> u64 {
        match &self.records {
            RecordReader::Lines(lines) => lines.record_line_number(),
            RecordReader::Array(array) => array.record_line_number(),
        }
    }

    /// The bytes of the last record.
    #[must_use]
    pub fn last_row_bytes(&self) -> &[u8] {
        match &self.records {
            RecordReader::Lines(lines) => lines.last_row_bytes(),
            RecordReader::Array(array) => array.last_row_bytes(),
        }
    }

    /// Bytes read from the disk so far, before decompression.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        match &self.records {
            RecordReader::Lines(lines) => lines.bytes_read(),
            RecordReader::Array(array) => array.bytes_read(),
        }
    }

    /// Converts the next record; `None` at the end of the file and after a [`FileError`].
    fn convert_next(&mut self) -> Option<Result<Result<ConvertedRecord, ValidationError>, FileError>> {
        let (preset, rules, received_at, skipped) = (&self.preset, self.rules, self.received_at, &mut self.skipped);
        let mut convert = |text: &[u8]| preset.convert(text, rules, received_at, skipped);
        match &mut self.records {
            RecordReader::Lines(lines) => lines.read_next(|line| Ok(convert(line))),
            RecordReader::Array(array) => match array.next_element() {
                Ok(Some(ArrayElement::Complete(text))) => Some(Ok(Ok(convert(text)))),
                Ok(Some(ArrayElement::TooLong)) => Some(Ok(Err(too_long_error()))),
                Ok(Some(ArrayElement::Truncated)) => Some(Ok(Err(truncated_error()))),
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            },
        }
    }
}

impl Iterator for PresetEventReader<'_> {
    /// The valid events of a record, or an error of a record or of a part of it. Records that only
    /// hold ignored events are left out.
    type Item = Result<Result<PresetRecord, ValidationError>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.pending_errors.pop_front() {
                return Some(Ok(Err(error)));
            }
            let unmapped_before = self.skipped.unmapped_count();
            let record = match self.convert_next()? {
                Ok(Ok(record)) => record,
                Ok(Err(error)) => ConvertedRecord { events: Vec::new(), errors: vec![error] },
                Err(error) => return Some(Err(error)),
            };
            let (index, line) = (self.records_read, self.line_number());
            self.records_read += 1;
            self.pending_errors.extend(record.errors.into_iter().map(|error| error.with_position(index, Some(line))));
            let has_unmapped = self.skipped.unmapped_count() > unmapped_before;
            if !record.events.is_empty() || has_unmapped {
                return Some(Ok(Ok(PresetRecord { events: record.events, has_unmapped })));
            }
        }
    }
}

impl fmt::Debug for PresetEventReader<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PresetEventReader").field("line", &self.line_number()).finish_non_exhaustive()
    }
}

fn too_long_error() -> ValidationError {
    let reason = format!("the record has more than {MAX_RECORD_BYTES} bytes");
    ValidationError::new(None, ValidationErrorCode::TooLong, reason)
}

fn truncated_error() -> ValidationError {
    ValidationError::new(None, ValidationErrorCode::Syntax, "the array never closes; the file is truncated")
}
