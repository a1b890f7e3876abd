//! Files of recorded behaviour, read as a stream of events.

use super::column_mapping::ColumnMapping;
use super::csv::{CsvEventReader, CsvHeaderError};
use super::decompress::DecompressedFile;
use super::json;
use super::line_reader::{LineReader, MAX_LINE_BYTES, RawLine};
use super::validation::ValidationRules;
use super::validation_error::{ValidationError, ValidationErrorCode};
use crate::domain::{Timestamp, WithConsent};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a file cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be opened.
    #[error("{}: cannot be opened", file.display())]
    Open {
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It ends within a packed stream: a part of it is missing.
    #[error("{}:{line}: the packed stream ends too early; the file is truncated", file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// The line that is torn, from 1.
        line: u64,
    },
    /// It cannot be read on.
    #[error("{}:{line}: cannot be read", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The line that could not be read, from 1.
        line: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It has no header.
    #[error("{}:1: the file is empty; the first line must name the columns", file.display())]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// Its header does not name every column once.
    #[error("{}:{line}: {reason}", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// The header's line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// The lines of a file, unpacked as they are read.
pub(super) struct FileLineReader {
    file: PathBuf,
    unpacked: DecompressedFile,
    lines: LineReader,
    ended: bool,
}

impl FileLineReader {
    pub(super) fn open(file: &Path) -> Result<Self, FileError> {
        let unpacked = DecompressedFile::open(file).map_err(|source| FileError::Open { file: file.to_owned(), source })?;
        Ok(Self { file: file.to_owned(), unpacked, lines: LineReader::new(), ended: false })
    }

    /// Whether its name says that it holds one JSON object a line.
    pub(super) fn is_json(&self) -> bool {
        [".ndjson", ".jsonl"].iter().any(|ending| self.unpacked.inner_name.ends_with(ending))
    }

    /// Reads the header.
    pub(super) fn read_header<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T, CsvHeaderError>) -> Result<T, FileError> {
        let file = || self.file.clone();
        let header = match self.lines.read_next(&mut self.unpacked.reader) {
            Ok(Some(RawLine::Complete(line))) => read(line).map_err(|error| match error {
                CsvHeaderError::MissingColumn(column, needed) => format!("the header lacks the column `{column}`; it must name {needed}"),
                CsvHeaderError::DuplicateColumn(column) => format!("the header names the column `{column}` twice"),
                CsvHeaderError::UnclosedQuote => "a quote in the header is never closed".to_owned(),
            }),
            Ok(Some(RawLine::TooLong)) => Err(too_long()),
            Ok(None) => return Err(FileError::Empty { file: file() }),
            Err(source) => return Err(unreadable(file(), self.lines.line_number, source)),
        };
        let line = self.lines.line_number;
        header.map_err(|reason| FileError::Header { file: file(), line, reason })
    }

    /// Reads the next line, if there is one; after an error there is none.
    pub(super) fn read_next<T>(
        &mut self,
        read: impl FnOnce(&[u8]) -> Result<T, ValidationError>,
    ) -> Option<Result<Result<T, ValidationError>, FileError>> {
        if self.ended {
            return None;
        }
        match self.lines.read_next(&mut self.unpacked.reader) {
            Ok(Some(RawLine::Complete(line))) => Some(Ok(read(line))),
            Ok(Some(RawLine::TooLong)) => Some(Ok(Err(ValidationError::new(None, ValidationErrorCode::TooLong, too_long())))),
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(source) => {
                self.ended = true;
                Some(Err(unreadable(self.file.clone(), self.lines.line_number, source)))
            }
        }
    }

    /// The line last read, from 1.
    pub(super) fn line_number(&self) -> u64 {
        self.lines.line_number
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.unpacked.bytes_read()
    }
}

impl fmt::Debug for FileLineReader {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FileLines").field("file", &self.file).field("line", &self.lines.line_number).finish_non_exhaustive()
    }
}

/// The events of a file, in its order. Files named `.ndjson` or `.jsonl` hold one JSON object a line, all others are CSV with a header;
/// with `.gz` or `.zst` after the name they are unpacked as they are read.
///
/// A bad row is a [`ValidationError`] with its line and does not end the stream; a [`FileError`] does.
#[derive(Debug)]
pub struct EventFileReader<'r> {
    lines: FileLineReader,
    /// `None` for NDJSON.
    table: Option<CsvEventReader>,
    shape: ColumnMapping,
    rules: &'r ValidationRules,
    received_at: Timestamp,
    read: u64,
    /// One is enough to tell: a field misspelt in one line is misspelt in all.
    warning: Option<ValidationError>,
}

impl<'r> EventFileReader<'r> {
    /// Opens a file of the project's own shape and reads its header. `received_at` is the moment against which "too far in the future" is judged, and the date of
    /// NDJSON events that carry none.
    ///
    /// # Errors
    /// If it cannot be opened, is empty, or its header lacks a column.
    pub fn open(file: &Path, rules: &'r ValidationRules, received_at: Timestamp) -> Result<Self, FileError> {
        Self::open_with_mapping(file, ColumnMapping::default(), rules, received_at)
    }

    /// Opens a file of that shape.
    ///
    /// # Errors
    /// As [`EventFileReader::open`].
    pub fn open_with_mapping(
        file: &Path,
        shape: ColumnMapping,
        rules: &'r ValidationRules,
        received_at: Timestamp,
    ) -> Result<Self, FileError> {
        let mut lines = FileLineReader::open(file)?;
        let table = if lines.is_json() { None } else { Some(lines.read_header(|header| CsvEventReader::new(header, shape.clone()))?) };
        Ok(Self { lines, table, shape, rules, received_at, read: 0, warning: None })
    }

    /// The first field that no event has, in an event that was taken all the same; `None` if none was met so far.
    #[must_use]
    pub fn first_warning(&self) -> Option<&ValidationError> {
        self.warning.as_ref()
    }

    /// The line last read, from 1.
    #[must_use]
    pub fn line_number(&self) -> u64 {
        self.lines.line_number()
    }

    /// How many bytes were read from the disk, packed as they are.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.lines.bytes_read()
    }
}

impl Iterator for EventFileReader<'_> {
    type Item = Result<Result<WithConsent, ValidationError>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.read;
        let (table, shape, rules, received_at, warning) = (&mut self.table, &self.shape, self.rules, self.received_at, &mut self.warning);
        let event = self.lines.read_next(|line| match table {
            Some(table) => table.read_event(line, rules, received_at),
            None if shape.is_native() => json::read_event(line.trim_ascii(), rules, received_at, &mut |found| {
                warning.get_or_insert(found.with_position(index, None));
            }),
            None => json::read_mapped_event(line.trim_ascii(), shape, rules, received_at),
        })?;
        self.read += 1;
        if let Some(warning) = self.warning.as_mut().filter(|warning| warning.index == index) {
            warning.line = Some(self.lines.line_number());
        }
        Some(event.map(|event| event.map_err(|fault| fault.with_position(index, Some(self.lines.line_number())))))
    }
}

fn too_long() -> String {
    format!("the line has more than {MAX_LINE_BYTES} bytes")
}

fn unreadable(file: PathBuf, line: u64, source: io::Error) -> FileError {
    match source.kind() {
        ErrorKind::UnexpectedEof => FileError::Truncated { file, line },
        _ => FileError::Read { file, line, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::fs;
    use std::io::Write;

    const NOW: Timestamp = 1_700_000_000_000;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn rows(count: usize) -> String {
        let mut text = "user,item,event,timestamp\n".to_owned();
        for row in 0..count {
            text.push_str(&format!("user{},item{},view,{}\n", row % 977, row.wrapping_mul(2_654_435_761) % 10_007, 1_400_000_000 + row));
        }
        text
    }

    #[test]
    fn the_name_says_the_format() {
        let csv = rows(3);
        let json = "{\"user_id\":\"u\",\"type\":\"view\",\"item_id\":\"i\"}\n\n{\"user_id\":\"u\",\"type\":\"view\"}\n";
        let two_streams = [gzip(csv.as_bytes()), gzip(b"u,i,view,1400000000\n")].concat();
        for (name, bytes, count, faults) in [
            ("a.csv", csv.clone().into_bytes(), 3, 0),
            ("a.csv.gz", two_streams, 4, 0),
            ("a.csv.zst", zstd::encode_all(csv.as_bytes(), 1).unwrap(), 3, 0),
            ("a.NDJSON", json.as_bytes().to_vec(), 2, 1),
            ("a.jsonl.gz", gzip(json.as_bytes()), 2, 1),
        ] {
            let (_folder, path) = file(name, &bytes);
            let rules = ValidationRules::default();
            let events: Vec<_> = EventFileReader::open(&path, &rules, NOW).unwrap().map(Result::unwrap).collect();
            assert_eq!((events.len(), events.iter().filter(|event| event.is_err()).count()), (count, faults), "{name}");
        }
    }

    #[test]
    fn a_misspelt_field_is_told_once() {
        let good = r#"{"user_id":"u","type":"view","item_id":"i"}"#;
        let odd = r#"{"user_id":"u","type":"view","item_id":"i","sesion_id":"s"}"#;
        let (_folder, path) = file("a.ndjson", format!("{good}\n\n{odd}\n{odd}\n").as_bytes());
        let rules = ValidationRules::default();
        let mut events = EventFileReader::open(&path, &rules, NOW).unwrap();
        assert!(events.by_ref().all(|event| matches!(event, Ok(Ok(_)))));
        let warning = events.first_warning().unwrap();
        assert_eq!((warning.index, warning.line, warning.code), (1, Some(3), ValidationErrorCode::UnknownField));
    }

    #[test]
    fn bad_rows_are_told_by_line_and_the_rest_is_taken() {
        let (_folder, path) =
            file("a.csv", b"user,item,event,timestamp\n\nu,i,view,1\nu,i,view\nu,\xff,view,1\nu,\"i,view,1\nu,i,view,2\n");
        let rules = ValidationRules::default();
        let events: Vec<_> = EventFileReader::open(&path, &rules, NOW).unwrap().map(Result::unwrap).collect();
        let places: Vec<_> = events.iter().map(|event| event.as_ref().err().map(|fault| (fault.index, fault.line))).collect();
        assert_eq!(places, [None, Some((1, Some(4))), Some((2, Some(5))), Some((3, Some(6))), None]);
    }

    #[test]
    fn a_truncated_gzip_gives_its_events_and_then_an_error() {
        let whole = gzip(rows(5000).as_bytes());
        let (_folder, path) = file("a.csv.gz", &whole[..whole.len() / 2]);
        let rules = ValidationRules::default();
        let mut events = EventFileReader::open(&path, &rules, NOW).unwrap();
        let taken = events.by_ref().take_while(Result::is_ok).count();
        assert!(taken > 100, "{taken}");
        let (_folder, path) = file("a.csv.gz", &whole[..whole.len() - 4]);
        let error = EventFileReader::open(&path, &rules, NOW).unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().ends_with("a.csv.gz:5002: the packed stream ends too early; the file is truncated"), "{error}");
    }

    #[test]
    fn a_truncated_zstd_gives_its_events_and_then_an_error() {
        let whole = zstd::encode_all(rows(50_000).as_bytes(), 1).unwrap();
        let (_folder, path) = file("a.csv.zst", &whole[..whole.len() / 2]);
        let rules = ValidationRules::default();
        let mut events = EventFileReader::open(&path, &rules, NOW).unwrap();
        assert!(events.by_ref().take_while(Result::is_ok).count() > 100);
        let error = EventFileReader::open(&path, &rules, NOW).unwrap().find_map(Result::err).unwrap();
        assert!(matches!(error, FileError::Truncated { .. }), "{error}");
        assert!(events.next().is_none());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
        let rules = ValidationRules::default();
        let error = |name: &str, bytes: &[u8]| {
            let (_folder, path) = file(name, bytes);
            EventFileReader::open(&path, &rules, NOW).map(|_| ()).unwrap_err().to_string()
        };
        assert!(error("a.csv", b"").contains("a.csv:1: the file is empty"));
        assert!(error("a.csv", b"user,item,event\n").contains("a.csv:1: the header lacks the column `timestamp`"));
        assert!(error("a.csv.gz", b"user,item").contains("a.csv.gz:1: "));
        let absent = EventFileReader::open(Path::new("/nonexistent.csv"), &rules, NOW).map(|_| ()).unwrap_err();
        assert!(matches!(absent, FileError::Open { .. }), "{absent}");
    }
}
