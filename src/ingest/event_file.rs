//! Reads recorded events from a file, as a stream.

use super::column_mapping::ColumnMapping;
use super::csv::{CsvEventReader, CsvHeaderError};
use super::decompress::DecompressedFile;
use super::json;
use super::line_reader::{LineContent, LineReader, MAX_LINE_BYTES};
use super::table_format::TableFormat;
use super::validation::ValidationRules;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Timestamp, WithConsent};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Errors that end the reading of a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened.
    #[error("{}: cannot be opened", file.display())]
    Open {
        /// The path of the file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file ends inside a compressed stream.
    #[error("{}:{line}: the compressed stream ends too early; the file is truncated", file.display())]
    Truncated {
        /// The path of the file.
        file: PathBuf,
        /// The number of the incomplete line, from 1.
        line: u64,
    },
    /// Reading fails.
    #[error("{}:{line}: cannot be read", file.display())]
    Read {
        /// The path of the file.
        file: PathBuf,
        /// The number of the unreadable line, from 1.
        line: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is empty, so it has no header.
    #[error("{}:1: the file is empty; the first line must name the columns", file.display())]
    Empty {
        /// The path of the file.
        file: PathBuf,
    },
    /// The header is invalid: a required column is missing or repeated.
    #[error("{}:{line}: {reason}", file.display())]
    Header {
        /// The path of the file.
        file: PathBuf,
        /// The line number of the header, from 1.
        line: u64,
        /// What is invalid.
        reason: String,
    },
}

/// Reads the lines or CSV records of a file, which it decompresses on the fly.
pub(super) struct FileLineReader {
    file: PathBuf,
    content: DecompressedFile,
    lines: LineReader,
    /// The separator of CSV; `None` for NDJSON.
    delimiter: Option<u8>,
    is_finished: bool,
}

impl FileLineReader {
    pub(super) fn open(file: &Path) -> Result<Self, FileError> {
        Self::open_with_limit(file, MAX_LINE_BYTES)
    }

    /// Opens a file whose lines or records have at most `limit` bytes.
    pub(super) fn open_with_limit(file: &Path, limit: usize) -> Result<Self, FileError> {
        let content = DecompressedFile::open(file).map_err(|source| match source.kind() {
            ErrorKind::UnexpectedEof => FileError::Truncated { file: file.to_owned(), line: 1 },
            _ => FileError::Open { file: file.to_owned(), source },
        })?;
        let lines = LineReader::with_limit(limit);
        Ok(Self { file: file.to_owned(), content, lines, delimiter: None, is_finished: false })
    }

    /// Whether the first byte that is not blank is this one. Must be called before the first read.
    pub(super) fn begins_with(&mut self, byte: u8) -> Result<bool, FileError> {
        let start = self.content.reader.fill_buf();
        let start = start.map_err(|source| FileError::from_read_error(self.file.clone(), 1, source))?;
        Ok(start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start().first() == Some(&byte))
    }

    /// The content, of which nothing was read yet.
    pub(super) fn into_content(self) -> DecompressedFile {
        self.content
    }

    /// The names of the columns of a Parquet file; `None` for other files.
    pub(super) fn column_names(&self) -> Option<&[String]> {
        self.content.column_names()
    }

    /// Refuses a Parquet file, whose rows have another format than `expected`.
    pub(super) fn ensure_no_parquet(&self, expected: &str) -> Result<(), FileError> {
        match self.column_names() {
            None => Ok(()),
            Some(_) => Err(self.header_error(format!("the file is in Parquet format; {expected}"))),
        }
    }

    /// An error of the header, or of the columns of a Parquet file.
    pub(super) fn header_error(&self, reason: String) -> FileError {
        FileError::Header { file: self.file.clone(), line: 1, reason }
    }

    /// Whether the file name stands for NDJSON (one JSON object per line). Rows of a Parquet file are
    /// read as NDJSON.
    pub(super) fn is_ndjson(&self) -> bool {
        [".ndjson", ".jsonl"].iter().any(|extension| self.content.inner_name.ends_with(extension))
    }

    /// Reads the first record and passes it to `read`, which resolves the columns and returns the
    /// separator. If the file has no header, the record is later read again as a row.
    pub(super) fn read_header<T>(
        &mut self,
        format: &TableFormat,
        read: impl FnOnce(&[u8]) -> Result<(u8, T), CsvHeaderError>,
    ) -> Result<T, FileError> {
        let file = || self.file.clone();
        let header = match self.lines.read_record(&mut self.content.reader, format.delimiter.unwrap_or(b',')) {
            Ok(Some(LineContent::Complete(line))) => read(line).map_err(|error| match error {
                CsvHeaderError::MissingColumn(column, required) => {
                    format!("the header lacks the column `{column}`; it must name {required}, or --map must name others")
                }
                CsvHeaderError::DuplicateColumn(column) => format!("the header names the column `{column}` twice"),
                CsvHeaderError::UnclosedQuote => "a quote in the header is never closed".to_owned(),
                CsvHeaderError::CarriageReturns => {
                    "the lines end with carriage returns only; end them with line feeds".to_owned()
                }
                CsvHeaderError::ColumnCount { named, found } => {
                    format!(
                        "the row has {found} columns; --columns names {named}; name the separator with --delimiter if it was not detected"
                    )
                }
            }),
            Ok(Some(LineContent::TooLong)) => Err(too_long_reason(self.lines.limit())),
            Ok(None) => return Err(FileError::Empty { file: file() }),
            Err(source) => return Err(FileError::from_read_error(file(), self.lines.line_number, source)),
        };
        let line = self.lines.record_line;
        let (delimiter, columns) = header.map_err(|reason| FileError::Header { file: file(), line, reason })?;
        self.delimiter = Some(delimiter);
        if format.columns.is_some() {
            self.lines.unread_record();
        }
        Ok(columns)
    }

    /// Parses the next line or record with `read`; `None` at the end of the file and after a
    /// [`FileError`].
    pub(super) fn read_next<T>(
        &mut self,
        read: impl FnOnce(&[u8]) -> Result<T, ValidationError>,
    ) -> Option<Result<Result<T, ValidationError>, FileError>> {
        if self.is_finished {
            return None;
        }
        let row = match self.delimiter {
            Some(delimiter) => self.lines.read_record(&mut self.content.reader, delimiter),
            None => self.lines.read_next(&mut self.content.reader),
        };
        match row {
            Ok(Some(LineContent::Complete(line))) => Some(Ok(read(line))),
            Ok(Some(LineContent::TooLong)) => Some(Ok(Err(ValidationError::new(
                None,
                ValidationErrorCode::TooLong,
                too_long_reason(self.lines.limit()),
            )))),
            Ok(None) => {
                self.is_finished = true;
                None
            }
            Err(source) => {
                self.is_finished = true;
                Some(Err(FileError::from_read_error(self.file.clone(), self.lines.line_number, source)))
            }
        }
    }

    /// The number of the first line of the last row, from 1.
    pub(super) fn record_line_number(&self) -> u64 {
        self.lines.record_line
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.content.bytes_read()
    }

    /// The bytes of the last row, without the line end.
    pub(super) fn last_row_bytes(&self) -> &[u8] {
        self.lines.last_line_bytes()
    }
}

impl fmt::Debug for FileLineReader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FileLineReader")
            .field("file", &self.file)
            .field("line", &self.lines.line_number)
            .finish_non_exhaustive()
    }
}

/// Iterates over the events of a file, in file order; `-` is the standard input. Files named
/// `.ndjson` or `.jsonl` hold one JSON object per line; all others are CSV. A further extension
/// `.gz` or `.zst` marks a compressed file. A row of a Parquet file is read like a JSON object with
/// the names of its columns, and counts as a line.
///
/// An invalid row yields a [`ValidationError`] with its line, and the stream continues. A
/// [`FileError`] ends the stream.
#[derive(Debug)]
pub struct EventFileReader<'r> {
    lines: FileLineReader,
    /// `None` for NDJSON.
    csv: Option<CsvEventReader>,
    mapping: ColumnMapping,
    rules: &'r ValidationRules,
    received_at: Timestamp,
    rows_read: u64,
    /// The first warning. One warning is enough, because a field name that is misspelt in one line
    /// is usually misspelt in all lines.
    warning: Option<ValidationError>,
}

impl<'r> EventFileReader<'r> {
    /// Opens a file with Sequor's own field names and reads its header. Timestamps more than a day
    /// after `received_at` are rejected. NDJSON events without a timestamp get `received_at`.
    ///
    /// # Errors
    /// If the file cannot be opened or is empty, or its header lacks a required column.
    pub fn open(file: &Path, rules: &'r ValidationRules, received_at: Timestamp) -> Result<Self, FileError> {
        Self::open_with_mapping(file, ColumnMapping::default(), rules, received_at)
    }

    /// Opens a file with the field names and time format of `mapping`.
    ///
    /// # Errors
    /// As [`EventFileReader::open`].
    pub fn open_with_mapping(
        file: &Path,
        mapping: ColumnMapping,
        rules: &'r ValidationRules,
        received_at: Timestamp,
    ) -> Result<Self, FileError> {
        let mut lines = FileLineReader::open(file)?;
        let mapping = match lines.column_names().map(|columns| mapping.clone().resolved_in_table(columns)) {
            None => mapping,
            Some(Ok(mapping)) => mapping,
            Some(Err(reason)) => return Err(lines.header_error(reason)),
        };
        let read = |header: &[u8]| CsvEventReader::new(header, mapping.clone()).map(|csv| (csv.delimiter(), csv));
        let csv = if lines.is_ndjson() { None } else { Some(lines.read_header(mapping.table_format(), read)?) };
        Ok(Self { lines, csv, mapping, rules, received_at, rows_read: 0, warning: None })
    }

    /// The first warning about an unknown field in an accepted event, if any so far.
    #[must_use]
    pub fn first_warning(&self) -> Option<&ValidationError> {
        self.warning.as_ref()
    }

    /// The number of the first line of the last row, from 1.
    #[must_use]
    pub fn line_number(&self) -> u64 {
        self.lines.record_line_number()
    }

    /// The bytes of the last row, without the line end.
    #[must_use]
    pub fn last_row_bytes(&self) -> &[u8] {
        self.lines.last_row_bytes()
    }

    /// Bytes read from the disk so far, before decompression.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }
}

impl Iterator for EventFileReader<'_> {
    type Item = Result<Result<WithConsent, ValidationError>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.rows_read;
        let (csv, mapping, rules, received_at, warning) =
            (&mut self.csv, &self.mapping, self.rules, self.received_at, &mut self.warning);
        let event = self.lines.read_next(|line| match csv {
            Some(csv) => csv.read_event(line, rules, received_at),
            None if mapping.is_native() => {
                json::read_event(line.trim_ascii(), rules, received_at, Some(mapping.time_format()), &mut |found| {
                    warning.get_or_insert(found.with_position(index, None));
                })
            }
            None => json::read_mapped_event(line.trim_ascii(), mapping, rules, received_at),
        })?;
        self.rows_read += 1;
        if let Some(warning) = self.warning.as_mut().filter(|warning| warning.index == index) {
            warning.line = Some(self.lines.record_line_number());
        }
        Some(
            event.map(|event| event.map_err(|error| error.with_position(index, Some(self.lines.record_line_number())))),
        )
    }
}

fn too_long_reason(limit: usize) -> String {
    format!("the line has more than {limit} bytes")
}

impl FileError {
    /// Converts an I/O error in a line. An unexpected end of the data means that the file is
    /// truncated.
    pub(crate) fn from_read_error(file: PathBuf, line: u64, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::UnexpectedEof => Self::Truncated { file, line },
            _ => Self::Read { file, line, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::fs;
    use std::io::Write;

    const NOW: Timestamp = 1_700_000_000_000;

    fn write_temp_file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn gzip_compress(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn csv_with_rows(count: usize) -> String {
        let mut text = "user,item,event,timestamp\n".to_owned();
        for row in 0..count {
            text.push_str(&format!(
                "user{},item{},view,{}\n",
                row % 977,
                row.wrapping_mul(2_654_435_761) % 10_007,
                1_400_000_000 + row
            ));
        }
        text
    }

    #[test]
    fn the_file_name_determines_the_format() {
        let csv = csv_with_rows(3);
        let json = "{\"user_id\":\"u\",\"type\":\"view\",\"item_id\":\"i\"}\n\n{\"user_id\":\"u\",\"type\":\"view\"}\n";
        let two_streams = [gzip_compress(csv.as_bytes()), gzip_compress(b"u,i,view,1400000000\n")].concat();
        for (name, bytes, count, errors) in [
            ("a.csv", csv.clone().into_bytes(), 3, 0),
            ("a.csv.gz", two_streams, 4, 0),
            ("a.csv.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap(), 3, 0),
            ("a.NDJSON", json.as_bytes().to_vec(), 2, 1),
            ("a.jsonl.gz", gzip_compress(json.as_bytes()), 2, 1),
        ] {
            let (_folder, path) = write_temp_file(name, &bytes);
            let rules = ValidationRules::default();
            let events: Vec<_> = EventFileReader::open(&path, &rules, NOW).unwrap().map(Result::unwrap).collect();
            assert_eq!((events.len(), events.iter().filter(|event| event.is_err()).count()), (count, errors), "{name}");
        }
    }

    #[test]
    fn warns_once_about_an_unknown_field() {
        let good = r#"{"user_id":"u","type":"view","item_id":"i"}"#;
        let misspelt = r#"{"user_id":"u","type":"view","item_id":"i","sesion_id":"s"}"#;
        let (_folder, path) = write_temp_file("a.ndjson", format!("{good}\n\n{misspelt}\n{misspelt}\n").as_bytes());
        let rules = ValidationRules::default();
        let mut events = EventFileReader::open(&path, &rules, NOW).unwrap();
        assert!(events.by_ref().all(|event| matches!(event, Ok(Ok(_)))));
        let warning = events.first_warning().unwrap();
        assert_eq!((warning.index, warning.line, warning.code), (1, Some(3), ValidationErrorCode::UnknownField));
    }

    #[test]
    fn rejects_bad_rows_by_line_and_accepts_the_rest() {
        let (_folder, path) =
            write_temp_file("a.csv", b"user,item,event,timestamp\n\nu,i,view,1600000001\nu,i,view\nu,\xff,view,1600000001\nu,\"i,view,1600000001\nu,i,view,1600000002\n");
        let rules = ValidationRules::default();
        let events: Vec<_> = EventFileReader::open(&path, &rules, NOW).unwrap().map(Result::unwrap).collect();
        let positions: Vec<_> =
            events.iter().map(|event| event.as_ref().err().map(|error| (error.index, error.line))).collect();
        assert_eq!(positions, [None, Some((1, Some(4))), Some((2, Some(5))), Some((3, Some(6))), None]);
    }

    #[test]
    fn truncated_gzip_yields_its_events_and_then_an_error() {
        let complete = gzip_compress(csv_with_rows(5000).as_bytes());
        let (_folder, path) = write_temp_file("a.csv.gz", &complete[..complete.len() / 2]);
        let rules = ValidationRules::default();
        let mut events = EventFileReader::open(&path, &rules, NOW).unwrap();
        let accepted = events.by_ref().take_while(Result::is_ok).count();
        assert!(accepted > 100, "{accepted}");
        let (_folder, path) = write_temp_file("a.csv.gz", &complete[..complete.len() - 4]);
        let error = EventFileReader::open(&path, &rules, NOW).unwrap().find_map(Result::err).unwrap();
        assert!(
            error.to_string().ends_with("a.csv.gz:5002: the compressed stream ends too early; the file is truncated"),
            "{error}"
        );
    }

    #[test]
    fn truncated_zstd_yields_its_events_and_then_an_error() {
        let complete = zstd::encode_all(csv_with_rows(50_000).as_bytes(), 1).unwrap();
        let (_folder, path) = write_temp_file("a.csv.zst", &complete[..complete.len() / 2]);
        let rules = ValidationRules::default();
        let mut events = EventFileReader::open(&path, &rules, NOW).unwrap();
        assert!(events.by_ref().take_while(Result::is_ok).count() > 100);
        let error = EventFileReader::open(&path, &rules, NOW).unwrap().find_map(Result::err).unwrap();
        assert!(matches!(error, FileError::Truncated { .. }), "{error}");
        assert!(events.next().is_none());
    }

    #[test]
    fn errors_name_the_file() {
        let rules = ValidationRules::default();
        let error = |name: &str, bytes: &[u8]| {
            let (_folder, path) = write_temp_file(name, bytes);
            EventFileReader::open(&path, &rules, NOW).map(|_| ()).unwrap_err().to_string()
        };
        assert!(error("a.csv", b"").contains("a.csv:1: the file is empty"));
        assert!(error("a.csv", b"user,item,event\n").contains("a.csv:1: the header lacks the column `timestamp`"));
        assert!(error("a.csv.gz", b"user,item").contains("a.csv.gz:1: "));
        let absent = EventFileReader::open(Path::new("/nonexistent.csv"), &rules, NOW).map(|_| ()).unwrap_err();
        assert!(matches!(absent, FileError::Open { .. }), "{absent}");
    }
}
