//! Reads the elements of a JSON array from a stream, one at a time and of bounded length.

use crate::ingest::decompress::DecompressedFile;
use crate::ingest::event_file::FileError;
use std::path::PathBuf;

/// One element of the array.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ArrayElement<'a> {
    /// The text of the element.
    Complete(&'a [u8]),
    /// The element has more bytes than the limit and was skipped.
    TooLong,
    /// The file ends inside the array.
    Truncated,
}

/// Where the scanner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    BeforeArray,
    BetweenElements,
    InElement,
    AfterArray,
}

/// Finds the ends of the elements, without parsing them.
#[derive(Debug)]
struct ElementScanner {
    place: Place,
    /// Nesting depth in the element.
    depth: u64,
    is_in_string: bool,
    is_escaped: bool,
    /// The current line, from 1.
    line: u64,
    /// The line in which the element begins.
    element_line: u64,
    element: Vec<u8>,
    is_too_long: bool,
    limit: usize,
}

impl ElementScanner {
    /// Scans up to the end of the next element. Returns the number of bytes scanned, and whether the
    /// element is complete.
    fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        for (index, &byte) in bytes.iter().enumerate() {
            let is_end = match self.place {
                Place::BeforeArray => {
                    if byte == b'[' {
                        self.place = Place::BetweenElements;
                    }
                    false
                }
                Place::BetweenElements => self.start_element(byte),
                // The end of a number or word belongs to the array.
                Place::InElement if self.depth == 0 && !self.is_in_string && matches!(byte, b',' | b']') => {
                    self.place = Place::BetweenElements;
                    return (index, true);
                }
                Place::InElement => self.extend_element(byte),
                Place::AfterArray => false,
            };
            self.line += u64::from(byte == b'\n');
            if is_end {
                self.place = Place::BetweenElements;
                return (index + 1, true);
            }
        }
        (bytes.len(), false)
    }

    fn start_element(&mut self, byte: u8) -> bool {
        if byte == b']' {
            self.place = Place::AfterArray;
        } else if byte != b',' && !byte.is_ascii_whitespace() {
            self.place = Place::InElement;
            self.element_line = self.line;
            self.element.clear();
            self.is_too_long = false;
            return self.extend_element(byte);
        }
        false
    }

    /// Adds a byte to the element. Returns whether it is the last one of an object, list or string.
    fn extend_element(&mut self, byte: u8) -> bool {
        if self.element.len() < self.limit {
            self.element.push(byte);
        } else {
            self.is_too_long = true;
        }
        if self.is_in_string {
            let is_quote = byte == b'"' && !self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            self.is_in_string = !is_quote;
            return is_quote && self.depth == 0;
        }
        match byte {
            b'"' => self.is_in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' if self.depth > 0 => {
                self.depth -= 1;
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }
}

/// Reads the elements of an array.
pub(super) struct JsonArrayReader {
    file: PathBuf,
    content: DecompressedFile,
    scanner: ElementScanner,
    is_finished: bool,
}

impl JsonArrayReader {
    /// A reader of a file that begins with `[`. Elements have at most `limit` bytes.
    pub(super) fn new(file: PathBuf, content: DecompressedFile, limit: usize) -> Self {
        let scanner = ElementScanner {
            place: Place::BeforeArray,
            depth: 0,
            is_in_string: false,
            is_escaped: false,
            line: 1,
            element_line: 1,
            element: Vec::new(),
            is_too_long: false,
            limit,
        };
        Self { file, content, scanner, is_finished: false }
    }

    /// The next element; `None` at the end of the array and after an error.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn next_element(&mut self) -> Result<Option<ArrayElement<'_>>, FileError> {
        while !self.is_finished {
            let bytes = match self.content.reader.fill_buf() {
                Ok(bytes) => bytes,
                Err(source) => {
                    self.is_finished = true;
                    return Err(FileError::from_read_error(self.file.clone(), self.scanner.line, source));
                }
            };
            if bytes.is_empty() {
                self.is_finished = true;
                self.scanner.element_line = self.scanner.line;
                return Ok((self.scanner.place != Place::AfterArray).then_some(ArrayElement::Truncated));
            }
            let (used, is_complete) = self.scanner.scan(bytes);
            self.content.reader.consume(used);
            if is_complete {
                let element = &self.scanner.element;
                return Ok(Some(if self.scanner.is_too_long {
                    ArrayElement::TooLong
                } else {
                    ArrayElement::Complete(element)
                }));
            }
        }
        Ok(None)
    }

    /// The number of the first line of the last element, from 1.
    pub(super) fn record_line_number(&self) -> u64 {
        self.scanner.element_line
    }

    pub(super) fn last_row_bytes(&self) -> &[u8] {
        &self.scanner.element
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.content.bytes_read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The elements with their lines; a long element is `-`, and a truncated array ends with `!`.
    fn read_elements(text: &str, limit: usize) -> Vec<(u64, String)> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("visits.json");
        std::fs::write(&file, text).unwrap();
        let mut reader = JsonArrayReader::new(file.clone(), DecompressedFile::open(&file).unwrap(), limit);
        let mut found = Vec::new();
        while let Some(element) = reader.next_element().unwrap() {
            let text = match element {
                ArrayElement::Complete(text) => String::from_utf8(text.to_vec()).unwrap(),
                ArrayElement::TooLong => "-".to_owned(),
                ArrayElement::Truncated => "!".to_owned(),
            };
            found.push((reader.record_line_number(), text));
        }
        found
    }

    #[test]
    fn splits_elements_of_all_types() {
        let found = read_elements("[{\"a\":\"]},\\\"\"},\n 7,null ,\n\n[1,[2]],\"x,]\"\n]\n", 100);
        let expected = [(1, "{\"a\":\"]},\\\"\"}"), (2, "7"), (2, "null "), (4, "[1,[2]]"), (4, "\"x,]\"")];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
        assert_eq!(read_elements("[]", 100), []);
        assert_eq!(read_elements("[{\"a\":1},{\"b\":", 100)[1], (1, "!".to_owned()));
        let long = format!("[{{\"a\":\"{}\"}},{{}}]", "x".repeat(200));
        assert_eq!(read_elements(&long, 100), [(1, "-".to_owned()), (1, "{}".to_owned())]);
    }

    proptest! {
        #[test]
        fn elements_are_found_again(texts in prop::collection::vec("[a\"\\\\\\[\\]{},\n]{0,8}", 0..6)) {
            let elements: Vec<_> = texts.iter().map(|text| serde_json::json!({ "t": [text] }).to_string()).collect();
            let found = read_elements(&format!("[{}]", elements.join(",\n")), 1000);
            prop_assert_eq!(found.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), elements);
        }
    }
}
