//! Reads numbered lines of bounded length from a stream.

use std::io::{self, BufRead, Read};

/// Longest line, in bytes: several times the largest event. The bound keeps a file without line
/// ends from filling the memory.
pub(super) const MAX_LINE_BYTES: usize = 64 * 1024;

/// Reads a stream line by line into one reused buffer.
#[derive(Debug)]
pub(super) struct LineReader {
    buffer: Vec<u8>,
    /// The number of the last line read, from 1.
    pub(super) line_number: u64,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RawLine<'a> {
    /// The bytes of the line, without the line end.
    Complete(&'a [u8]),
    /// The line has more than [`MAX_LINE_BYTES`] and was skipped.
    TooLong,
}

impl LineReader {
    /// Starts at the first line of a stream. A byte order mark is skipped.
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), line_number: 0 }
    }

    /// The next line that is not blank, or `None` at the end of the stream.
    ///
    /// # Errors
    /// If the stream cannot be read. [`LineReader::line_number`] then names the failing line.
    pub(super) fn read_next(&mut self, mut source: impl BufRead) -> io::Result<Option<RawLine<'_>>> {
        loop {
            self.line_number += 1;
            self.buffer.clear();
            let read = (&mut source).take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(None);
            }
            if read > MAX_LINE_BYTES && self.buffer.last() != Some(&b'\n') {
                source.skip_until(b'\n')?;
                return Ok(Some(RawLine::TooLong));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        Ok(Some(RawLine::Complete(self.line_bytes())))
    }

    /// The bytes of the last line, without the line end and without a byte order mark.
    pub(super) fn line_bytes(&self) -> &[u8] {
        let start = if self.line_number == 1 && self.buffer.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        self.buffer.get(start..).unwrap_or_default().trim_ascii_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lines_and_skips_blank_lines() {
        let (mut lines, mut text) = (LineReader::new(), &b"\xEF\xBB\xBFone\r\n\n  \ntwo"[..]);
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(RawLine::Complete(b"one")));
        assert_eq!(lines.line_number, 1);
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(RawLine::Complete(b"two")));
        assert_eq!(lines.line_number, 4);
        assert_eq!(lines.read_next(&mut text).unwrap(), None);
    }

    #[test]
    fn skips_an_overlong_line() {
        let text = [vec![b'x'; 3 * MAX_LINE_BYTES], b"\nnext\n".to_vec()].concat();
        let (mut lines, mut text) = (LineReader::new(), text.as_slice());
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(RawLine::TooLong));
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(RawLine::Complete(b"next")));
        assert_eq!(lines.line_number, 2);
    }
}
