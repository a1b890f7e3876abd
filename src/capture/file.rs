//! Files of recorded behaviour, read as a stream of events.

use super::csv::{HeaderError, Table};
use super::fault::{Code, Fault};
use super::json;
use super::lines::{Line, Lines, MAX_LINE_BYTES};
use super::rules::Rules;
use crate::domain::{Event, Timestamp};
use flate2::read::MultiGzDecoder;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

/// Bytes read from the disk, or unpacked, at a time.
const BUFFER_BYTES: usize = 128 * 1024;

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
    /// It ends within a gzip stream: a part of it is missing.
    #[error("{}:{line}: the gzip stream ends too early; the file is truncated", file.display())]
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

/// The events of a file, in its order. Files named `.ndjson` or `.jsonl` hold one JSON object a line, all others are CSV with a header;
/// with `.gz` after the name they are unpacked as they are read.
///
/// A bad row is a [`Fault`] with its line and does not end the stream; a [`FileError`] does.
pub struct FileEvents<'r> {
    file: PathBuf,
    lines: Lines<Box<dyn BufRead + Send>>,
    /// `None` for NDJSON.
    table: Option<Table>,
    rules: &'r Rules,
    received_at: Timestamp,
    read: u64,
    ended: bool,
    /// One is enough to tell: a field misspelt in one line is misspelt in all.
    warning: Option<Fault>,
}

impl<'r> FileEvents<'r> {
    /// Opens a file and reads its header. `received_at` is the moment against which "too far in the future" is judged, and the date of
    /// NDJSON events that carry none.
    ///
    /// # Errors
    /// If it cannot be opened, is empty, or its header lacks a column.
    pub fn open(file: &Path, rules: &'r Rules, received_at: Timestamp) -> Result<Self, FileError> {
        let source = File::open(file).map_err(|source| FileError::Open { file: file.to_owned(), source })?;
        let name = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let (name, reader): (_, Box<dyn BufRead + Send>) = match name.strip_suffix(".gz") {
            Some(inner) => (
                inner,
                Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, source)))),
            ),
            None => (name.as_str(), Box::new(BufReader::with_capacity(BUFFER_BYTES, source))),
        };
        let is_json = name.ends_with(".ndjson") || name.ends_with(".jsonl");
        let mut events = Self {
            file: file.to_owned(),
            lines: Lines::new(reader),
            table: None,
            rules,
            received_at,
            read: 0,
            ended: false,
            warning: None,
        };
        if !is_json {
            events.table = Some(events.header()?);
        }
        Ok(events)
    }

    fn header(&mut self) -> Result<Table, FileError> {
        let file = || self.file.clone();
        let header = match self.lines.next() {
            Ok(Some(Line::Whole(line))) => Table::new(line).map_err(|error| match error {
                HeaderError::Missing(column) => {
                    format!("the header lacks the column `{column}`; it needs user, item, event, timestamp and may have value, session, event_id")
                }
                HeaderError::Repeated(column) => format!("the header names the column `{column}` twice"),
                HeaderError::Torn => "a quote in the header is never closed".to_owned(),
            }),
            Ok(Some(Line::TooLong)) => Err(too_long()),
            Ok(None) => return Err(FileError::Empty { file: file() }),
            Err(source) => return Err(unreadable(file(), self.lines.number, source)),
        };
        let line = self.lines.number;
        header.map_err(|reason| FileError::Header { file: file(), line, reason })
    }

    /// The first field that no event has, in an event that was taken all the same; `None` if none was met so far.
    #[must_use]
    pub fn warning(&self) -> Option<&Fault> {
        self.warning.as_ref()
    }

    /// The line last read, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.lines.number
    }
}

impl Iterator for FileEvents<'_> {
    type Item = Result<Result<Event, Fault>, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let index = self.read;
        let event = match self.lines.next() {
            Ok(Some(Line::Whole(line))) => match &mut self.table {
                Some(table) => table.read_event(line, self.rules, self.received_at),
                None => json::read_event(line.trim_ascii(), self.rules, self.received_at, &mut |warning| {
                    self.warning.get_or_insert(warning.at(index, None));
                }),
            },
            Ok(Some(Line::TooLong)) => Err(Fault::new(None, Code::TooLong, too_long())),
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(source) => {
                self.ended = true;
                return Some(Err(unreadable(self.file.clone(), self.lines.number, source)));
            }
        };
        self.read += 1;
        if let Some(warning) = self.warning.as_mut().filter(|warning| warning.index == index) {
            warning.line = Some(self.lines.number);
        }
        Some(Ok(event.map_err(|fault| fault.at(index, Some(self.lines.number)))))
    }
}

impl fmt::Debug for FileEvents<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("FileEvents").field("file", &self.file).field("line", &self.lines.number).finish_non_exhaustive()
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
            ("a.NDJSON", json.as_bytes().to_vec(), 2, 1),
            ("a.jsonl.gz", gzip(json.as_bytes()), 2, 1),
        ] {
            let (_folder, path) = file(name, &bytes);
            let rules = Rules::default();
            let events: Vec<_> = FileEvents::open(&path, &rules, NOW).unwrap().map(Result::unwrap).collect();
            assert_eq!((events.len(), events.iter().filter(|event| event.is_err()).count()), (count, faults), "{name}");
        }
    }

    #[test]
    fn a_misspelt_field_is_told_once() {
        let good = r#"{"user_id":"u","type":"view","item_id":"i"}"#;
        let odd = r#"{"user_id":"u","type":"view","item_id":"i","sesion_id":"s"}"#;
        let (_folder, path) = file("a.ndjson", format!("{good}\n\n{odd}\n{odd}\n").as_bytes());
        let rules = Rules::default();
        let mut events = FileEvents::open(&path, &rules, NOW).unwrap();
        assert!(events.by_ref().all(|event| matches!(event, Ok(Ok(_)))));
        let warning = events.warning().unwrap();
        assert_eq!((warning.index, warning.line, warning.code), (1, Some(3), Code::UnknownField));
    }

    #[test]
    fn bad_rows_are_told_by_line_and_the_rest_is_taken() {
        let (_folder, path) =
            file("a.csv", b"user,item,event,timestamp\n\nu,i,view,1\nu,i,view\nu,\xff,view,1\nu,\"i,view,1\nu,i,view,2\n");
        let rules = Rules::default();
        let events: Vec<_> = FileEvents::open(&path, &rules, NOW).unwrap().map(Result::unwrap).collect();
        let places: Vec<_> = events.iter().map(|event| event.as_ref().err().map(|fault| (fault.index, fault.line))).collect();
        assert_eq!(places, [None, Some((1, Some(4))), Some((2, Some(5))), Some((3, Some(6))), None]);
    }

    #[test]
    fn a_truncated_gzip_gives_its_events_and_then_an_error() {
        let whole = gzip(rows(5000).as_bytes());
        let (_folder, path) = file("a.csv.gz", &whole[..whole.len() / 2]);
        let rules = Rules::default();
        let mut events = FileEvents::open(&path, &rules, NOW).unwrap();
        let taken = events.by_ref().take_while(Result::is_ok).count();
        assert!(taken > 100, "{taken}");
        let (_folder, path) = file("a.csv.gz", &whole[..whole.len() - 4]);
        let error = FileEvents::open(&path, &rules, NOW).unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().ends_with("a.csv.gz:5002: the gzip stream ends too early; the file is truncated"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
        let rules = Rules::default();
        let error = |name: &str, bytes: &[u8]| {
            let (_folder, path) = file(name, bytes);
            FileEvents::open(&path, &rules, NOW).map(|_| ()).unwrap_err().to_string()
        };
        assert!(error("a.csv", b"").contains("a.csv:1: the file is empty"));
        assert!(error("a.csv", b"user,item,event\n").contains("a.csv:1: the header lacks the column `timestamp`"));
        assert!(error("a.csv.gz", b"user,item").contains("a.csv.gz:1: "));
        let absent = FileEvents::open(Path::new("/nonexistent.csv"), &rules, NOW).map(|_| ()).unwrap_err();
        assert!(matches!(absent, FileError::Open { .. }), "{absent}");
    }
}
