//! Lines of a stream, numbered and bounded.

use std::io::{self, BufRead, Read};

/// The longest line that is read, in bytes: several times the largest event, so that a file without line ends cannot fill the memory.
pub(super) const MAX_LINE_BYTES: usize = 64 * 1024;

/// Reads a stream line by line into one buffer that is used again and again.
#[derive(Debug)]
pub(super) struct LineReader {
    buffer: Vec<u8>,
    /// The number of the line last read, from 1.
    pub(super) line_number: u64,
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RawLine<'a> {
    /// Its bytes, without the line's end.
    Complete(&'a [u8]),
    /// It has more than [`MAX_LINE_BYTES`] and was passed over.
    TooLong,
}

impl LineReader {
    /// Starts at the first line of a stream; a byte order mark is passed over.
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), line_number: 0 }
    }

    /// The next line of that stream that is not blank, or `None` at the end of the stream.
    ///
    /// # Errors
    /// If the stream cannot be read; [`LineReader::line_number`] is then the line that could not.
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
        let start = if self.line_number == 1 && self.buffer.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
        Ok(Some(RawLine::Complete(self.buffer.get(start..).unwrap_or_default().trim_ascii_end())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lines_and_passes_blank_ones() {
        let (mut lines, mut text) = (LineReader::new(), &b"\xEF\xBB\xBFone\r\n\n  \ntwo"[..]);
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(RawLine::Complete(b"one")));
        assert_eq!(lines.line_number, 1);
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(RawLine::Complete(b"two")));
        assert_eq!(lines.line_number, 4);
        assert_eq!(lines.read_next(&mut text).unwrap(), None);
    }

    #[test]
    fn a_line_without_end_costs_itself_alone() {
        let text = [vec![b'x'; 3 * MAX_LINE_BYTES], b"\nnext\n".to_vec()].concat();
        let (mut lines, mut text) = (LineReader::new(), text.as_slice());
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(RawLine::TooLong));
        assert_eq!(lines.read_next(&mut text).unwrap(), Some(RawLine::Complete(b"next")));
        assert_eq!(lines.line_number, 2);
    }
}
