//! Reads numbered lines, or CSV records that may span several lines, of bounded length from a
//! stream.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

/// Default maximum length of a line or record, in bytes: several times the largest event. Without a
/// limit, a file that has no line ends would fill the memory.
pub(super) const MAX_LINE_BYTES: usize = 64 * 1024;

/// Reads a stream line by line into one reused buffer.
#[derive(Debug)]
pub(super) struct LineReader {
    buffer: Vec<u8>,
    /// The number of the last line read, from 1.
    pub(super) line_number: u64,
    /// The number of the first line of the last record.
    pub(super) record_line: u64,
    /// Lines that were read ahead; `None` is a line that was too long.
    pending: VecDeque<Option<Vec<u8>>>,
    /// Maximum length of a line or record, in bytes.
    limit: usize,
}

/// One line or record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LineContent<'a> {
    /// The bytes, without the line end.
    Complete(&'a [u8]),
    /// The line has more bytes than the limit and was skipped.
    TooLong,
}

/// Outcome of reading one line into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadOutcome {
    Read,
    TooLong,
    End,
}

impl LineReader {
    /// Starts at the first line of a stream. A byte order mark is skipped. Lines and records have at
    /// most `limit` bytes.
    pub(super) fn with_limit(limit: usize) -> Self {
        Self { buffer: Vec::new(), line_number: 0, record_line: 0, pending: VecDeque::new(), limit }
    }

    /// Maximum length of a line or record, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The next line that is not blank, without its line end, or `None` at the end of the stream.
    ///
    /// # Errors
    /// If the stream cannot be read. [`LineReader::line_number`] then names the failing line.
    pub(super) fn read_next(&mut self, source: impl BufRead) -> io::Result<Option<LineContent<'_>>> {
        Ok(match self.read_nonblank_line(source)? {
            ReadOutcome::End => None,
            ReadOutcome::TooLong => Some(LineContent::TooLong),
            ReadOutcome::Read => Some(LineContent::Complete(self.last_line_bytes())),
        })
    }

    /// The next CSV record, or `None` at the end of the stream. A field in quotes may contain line
    /// ends (RFC 4180).
    ///
    /// A quote that is never closed must not swallow the rest of the file. A quote counts as never
    /// closed if the record becomes too long, the stream ends, or the closing quote stands within a
    /// field. Then only the record's first line is returned. It ends inside quotes, so the caller
    /// rejects it. The following lines are read again as separate records.
    ///
    /// # Errors
    /// As [`LineReader::read_next`].
    pub(super) fn read_record(
        &mut self,
        mut source: impl BufRead,
        delimiter: u8,
    ) -> io::Result<Option<LineContent<'_>>> {
        match self.read_nonblank_line(&mut source)? {
            ReadOutcome::End => return Ok(None),
            ReadOutcome::TooLong => return Ok(Some(LineContent::TooLong)),
            ReadOutcome::Read => {}
        }
        let mut quotes = QuoteScanner::new(delimiter);
        if quotes.scan_line(&self.buffer) == RecordEnd::Open {
            self.read_continuation(source, quotes)?;
        }
        Ok(Some(LineContent::Complete(self.last_line_bytes())))
    }

    /// Appends a record's further lines to the buffer. If the record's quote is never closed, the
    /// buffer keeps only the first line.
    fn read_continuation(&mut self, mut source: impl BufRead, mut quotes: QuoteScanner) -> io::Result<()> {
        let mut record = std::mem::take(&mut self.buffer);
        let (first_line, first_bytes, mut ahead) = (self.line_number, record.len(), VecDeque::new());
        loop {
            let line = self.read_line(&mut source)?;
            if line == ReadOutcome::End {
                break;
            }
            let text = std::mem::take(&mut self.buffer);
            record.extend_from_slice(&text);
            ahead.push_back((line == ReadOutcome::Read).then_some(text));
            let end =
                ahead.back().and_then(Option::as_deref).map_or(RecordEnd::Malformed, |text| quotes.scan_line(text));
            match end {
                RecordEnd::Complete if record.len() <= self.limit => {
                    self.buffer = record;
                    return Ok(());
                }
                RecordEnd::Open if record.len() <= self.limit => {}
                _ => break,
            }
        }
        record.truncate(first_bytes);
        self.buffer = record;
        self.line_number = first_line;
        ahead.append(&mut self.pending);
        self.pending = ahead;
        Ok(())
    }

    /// Puts the last record back, so that the next read returns it again.
    pub(super) fn unread_record(&mut self) {
        let lines: Vec<_> =
            self.buffer.split_inclusive(|byte| *byte == b'\n').map(|line| Some(line.to_vec())).collect();
        lines.into_iter().rev().for_each(|line| self.pending.push_front(line));
        self.line_number = self.record_line.saturating_sub(1);
    }

    /// The bytes of the last line or record, without the line end and without a byte order mark.
    pub(super) fn last_line_bytes(&self) -> &[u8] {
        let start = if self.record_line == 1 && self.buffer.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        let bytes = self.buffer.get(start..).unwrap_or_default();
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes.strip_suffix(b"\r").unwrap_or(bytes)
    }

    fn read_nonblank_line(&mut self, mut source: impl BufRead) -> io::Result<ReadOutcome> {
        loop {
            let line = self.read_line(&mut source)?;
            self.record_line = self.line_number;
            if line != ReadOutcome::Read || !self.buffer.trim_ascii().is_empty() {
                return Ok(line);
            }
        }
    }

    /// Reads a line, with its line end, into the buffer.
    fn read_line(&mut self, mut source: impl BufRead) -> io::Result<ReadOutcome> {
        self.line_number += 1;
        self.buffer.clear();
        if let Some(line) = self.pending.pop_front() {
            self.buffer = line.unwrap_or_default();
            return Ok(if self.buffer.is_empty() { ReadOutcome::TooLong } else { ReadOutcome::Read });
        }
        let read = (&mut source).take(self.limit as u64 + 1).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            // An empty rest at the end of the stream is not a line, so it is not counted: a writer
            // may append a line later.
            self.line_number -= 1;
            return Ok(ReadOutcome::End);
        }
        if read > self.limit && self.buffer.last() != Some(&b'\n') {
            source.skip_until(b'\n')?;
            self.buffer.clear();
            return Ok(ReadOutcome::TooLong);
        }
        Ok(ReadOutcome::Read)
    }
}

/// Tracks the quotes of a CSV record by the rules of `csv-core`: a quote opens a quoted field only
/// at the start of the field.
#[derive(Debug)]
struct QuoteScanner {
    delimiter: u8,
    state: QuoteState,
    is_first_line: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuoteState {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field. It either ends the field or is the first half of a doubled
    /// quote.
    QuoteInQuoted,
}

/// Whether a record ends at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordEnd {
    Complete,
    /// The line ends inside quotes.
    Open,
    /// Text follows the closing quote of a quoted field that began in an earlier line.
    Malformed,
}

impl QuoteScanner {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, state: QuoteState::FieldStart, is_first_line: true }
    }

    fn scan_line(&mut self, line: &[u8]) -> RecordEnd {
        for &byte in line.trim_ascii_end() {
            self.state = match (self.state, byte) {
                (QuoteState::FieldStart | QuoteState::QuoteInQuoted, b'"') => QuoteState::Quoted,
                (QuoteState::Quoted, b'"') => QuoteState::QuoteInQuoted,
                (QuoteState::Quoted, _) => QuoteState::Quoted,
                (_, byte) if byte == self.delimiter => QuoteState::FieldStart,
                (QuoteState::QuoteInQuoted, _) if !self.is_first_line => return RecordEnd::Malformed,
                _ => QuoteState::Unquoted,
            };
        }
        self.is_first_line = false;
        if self.state == QuoteState::Quoted { RecordEnd::Open } else { RecordEnd::Complete }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_lines_and_skips_blank_lines() {
        let (mut lines, mut text) = (LineReader::with_limit(MAX_LINE_BYTES), &b"\xEF\xBB\xBFone\r\n\n  \ntwo"[..]);
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(LineContent::Complete(b"one")));
        assert_eq!(lines.line_number, 1);
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(LineContent::Complete(b"two")));
        assert_eq!(lines.line_number, 4);
        assert_eq!(lines.read_next(&mut text).unwrap(), None);
    }

    #[test]
    fn skips_an_overlong_line() {
        let text = [vec![b'x'; 3 * MAX_LINE_BYTES], b"\nnext\n".to_vec()].concat();
        let (mut lines, mut text) = (LineReader::with_limit(MAX_LINE_BYTES), text.as_slice());
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(LineContent::TooLong));
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(LineContent::Complete(b"next")));
        assert_eq!(lines.line_number, 2);
    }

    /// The records of a text with the number of their first line; `None` is a line that is too
    /// long.
    fn read_all_records(mut text: &[u8]) -> Vec<(u64, Option<String>)> {
        let (mut lines, mut records) = (LineReader::with_limit(MAX_LINE_BYTES), Vec::new());
        while let Some(record) = lines.read_record(&mut text, b',').unwrap() {
            let bytes = if let LineContent::Complete(bytes) = record {
                Some(String::from_utf8_lossy(bytes).into_owned())
            } else {
                None
            };
            records.push((lines.record_line, bytes));
        }
        records
    }

    #[test]
    fn a_quoted_field_may_contain_line_ends() {
        let found = read_all_records(b"a,\"b\r\n\"\"c\"\"\n\nd\",e\r\n\nf,\"g\nh\"\ni\n");
        let expected = [(1, "a,\"b\r\n\"\"c\"\"\n\nd\",e"), (6, "f,\"g\nh\""), (8, "i")];
        assert_eq!(found, expected.map(|(line, text)| (line, Some(text.to_owned()))));
    }

    #[test]
    fn an_open_quote_does_not_swallow_the_lines_after_it() {
        let text = |found: Vec<(u64, Option<String>)>| {
            found.into_iter().map(|(line, text)| (line, text.unwrap_or_default())).collect::<Vec<_>>()
        };
        let owned =
            |lines: &[(u64, &str)]| lines.iter().map(|(line, text)| (*line, (*text).to_owned())).collect::<Vec<_>>();
        // Three causes: the stream ends, a quote closes within a field, or the record is too long.
        assert_eq!(text(read_all_records(b"a,\"b\nc\n\nd\n")), owned(&[(1, "a,\"b"), (2, "c"), (4, "d")]));
        assert_eq!(text(read_all_records(b"a,\"b\nc\n\"d\",e\n")), owned(&[(1, "a,\"b"), (2, "c"), (3, "\"d\",e")]));
        let long = format!("a,\"b\n{}e\"\n", "c\n".repeat(MAX_LINE_BYTES));
        let found = read_all_records(long.as_bytes());
        assert_eq!((found.len(), found[1].clone()), (MAX_LINE_BYTES + 2, (2, Some("c".to_owned()))));
        let long = format!("a,\"b\n{}\nlast\n", "c".repeat(2 * MAX_LINE_BYTES));
        assert_eq!(
            read_all_records(long.as_bytes()),
            [(1, Some("a,\"b".to_owned())), (2, None), (3, Some("last".to_owned()))]
        );
    }

    proptest! {
        #[test]
        fn every_line_belongs_to_one_record(text in "[a\",\n]{0,60}") {
            let found = read_all_records(text.as_bytes());
            let kept: String = found.iter().flat_map(|(_, record)| record.iter()).flat_map(|record| record.chars()).filter(|character| *character != '\n').collect();
            prop_assert_eq!(kept, text.replace('\n', ""));
            prop_assert!(found.is_sorted_by_key(|(line, _)| *line));
        }
    }
}
