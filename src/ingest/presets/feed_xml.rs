//! Reads the products of an RSS 2.0 or Atom feed from a stream.

use super::event_reader::MAX_RECORD_BYTES;
use super::source_fields::{SourceFields, normalised_name};
use crate::ingest::decompress::DecompressedFile;
use crate::ingest::event_file::FileError;
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, BytesStart, Event};
use std::io::{self, BufRead, Read};
use std::path::PathBuf;

/// The bytes of the feed. It counts lines, and limits the bytes of one XML event: otherwise a feed
/// with a single text would fill the memory.
struct BoundedSource {
    content: DecompressedFile,
    line: u64,
    remaining: usize,
}

impl Read for BoundedSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for BoundedSource {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.remaining == 0 {
            return Err(io::Error::other(format!("an element or text has more than {MAX_RECORD_BYTES} bytes")));
        }
        let bytes = self.content.reader.fill_buf()?;
        Ok(bytes.get(..bytes.len().min(self.remaining)).unwrap_or_default())
    }

    fn consume(&mut self, used: usize) {
        // The bytes are still in the buffer, so this call reads nothing.
        if let Ok(bytes) = self.content.reader.fill_buf() {
            let lines = memchr::memchr_iter(b'\n', bytes.get(..used).unwrap_or_default()).count();
            self.line += lines as u64;
        }
        self.remaining = self.remaining.saturating_sub(used);
        self.content.reader.consume(used);
    }
}

/// A product of the feed: the line of its start tag and its fields.
#[derive(Debug, PartialEq)]
pub(super) struct FeedProduct {
    pub(super) line: u64,
    /// `None` if the product has more bytes than the limit.
    pub(super) fields: Option<SourceFields>,
}

/// The product that is being read.
#[derive(Default)]
struct OpenFeedProduct {
    line: u64,
    /// The nesting depth of the product's element.
    depth: usize,
    /// Fields with a namespace prefix, such as `g:price`.
    prefixed: SourceFields,
    plain: SourceFields,
    /// The name of the open field, whether it has a prefix, and its text so far.
    field: Option<(String, bool, String)>,
    bytes: usize,
}

impl OpenFeedProduct {
    fn add_text(&mut self, text: &str) {
        self.bytes += text.len();
        if let Some((.., field)) = self.field.as_mut().filter(|_| self.bytes <= MAX_RECORD_BYTES) {
            field.push_str(text);
        }
    }

    fn start_field(&mut self, start: &BytesStart<'_>) {
        let (local, prefix) = start.name().decompose();
        let link = start.try_get_attribute("href").ok().flatten();
        let link =
            link.and_then(|link| link.normalized_value(XmlVersion::default()).ok().map(|link| link.into_owned()));
        self.field = Some((normalised_name(local.into_inner()), prefix.is_some(), link.unwrap_or_default()));
    }

    fn end_field(&mut self) {
        if let Some((name, has_prefix, text)) = self.field.take() {
            let fields = if has_prefix { &mut self.prefixed } else { &mut self.plain };
            fields.add(name, &text);
        }
    }

    fn finish(mut self) -> FeedProduct {
        self.prefixed.fill_from(self.plain);
        FeedProduct { line: self.line, fields: (self.bytes <= MAX_RECORD_BYTES).then_some(self.prefixed) }
    }
}

/// Reads the products of a feed.
pub(super) struct FeedXmlReader {
    file: PathBuf,
    reader: quick_xml::Reader<BoundedSource>,
    buffer: Vec<u8>,
    /// The number of open elements.
    depth: usize,
    is_finished: bool,
}

impl FeedXmlReader {
    /// A reader of a feed from its beginning.
    pub(super) fn new(file: PathBuf, content: DecompressedFile) -> Self {
        let source = BoundedSource { content, line: 1, remaining: MAX_RECORD_BYTES };
        let mut reader = quick_xml::Reader::from_reader(source);
        // Addresses in feeds often have an ampersand that is not escaped.
        reader.config_mut().allow_dangling_amp = true;
        Self { file, reader, buffer: Vec::new(), depth: 0, is_finished: false }
    }

    /// The next product; `None` at the end of the feed and after an error.
    ///
    /// # Errors
    /// If the file cannot be read or is not well-formed XML.
    pub(super) fn next_product(&mut self) -> Result<Option<FeedProduct>, FileError> {
        if self.is_finished {
            return Ok(None);
        }
        let product = self.read_product();
        if !matches!(product, Ok(Some(_))) {
            self.is_finished = true;
        }
        let line = self.line_number();
        product.map_err(|source| FileError::from_read_error(self.file.clone(), line, source))
    }

    fn read_product(&mut self) -> io::Result<Option<FeedProduct>> {
        let mut product: Option<OpenFeedProduct> = None;
        loop {
            self.buffer.clear();
            self.reader.get_mut().remaining = MAX_RECORD_BYTES;
            let line = self.reader.get_ref().line;
            match self.reader.read_event_into(&mut self.buffer).map_err(into_io_error)? {
                Event::Start(start) => {
                    self.depth += 1;
                    match &mut product {
                        Some(product) if self.depth == product.depth + 1 => product.start_field(&start),
                        None if ["item", "entry"].contains(&start.local_name().into_inner()) => {
                            product = Some(OpenFeedProduct { line, depth: self.depth, ..OpenFeedProduct::default() });
                        }
                        _ => {}
                    }
                }
                Event::Empty(start) => {
                    if let Some(product) = product.as_mut().filter(|product| self.depth == product.depth) {
                        product.start_field(&start);
                        product.end_field();
                    }
                }
                Event::End(_) => {
                    let closed = self.depth;
                    self.depth = self.depth.saturating_sub(1);
                    if let Some(product) = product.as_mut().filter(|product| closed == product.depth + 1) {
                        product.end_field();
                    }
                    if let Some(product) = product.take_if(|product| closed == product.depth) {
                        return Ok(Some(product.finish()));
                    }
                }
                Event::Text(text) => add_field_text(product.as_mut(), self.depth, &text.into_inner()),
                Event::CData(text) => add_field_text(product.as_mut(), self.depth, &text.into_inner()),
                Event::GeneralRef(reference) => {
                    add_field_text(product.as_mut(), self.depth, &resolved_reference(&reference));
                }
                Event::Eof if self.depth > 0 => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the XML ends inside an element"));
                }
                Event::Eof => return Ok(None),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    /// The current line, from 1.
    pub(super) fn line_number(&self) -> u64 {
        self.reader.get_ref().line
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.reader.get_ref().content.bytes_read()
    }
}

/// Adds text to the open field, unless the text is in an element inside the field.
fn add_field_text(product: Option<&mut OpenFeedProduct>, depth: usize, text: &str) {
    if let Some(product) = product.filter(|product| depth == product.depth + 1) {
        product.add_text(text);
    }
}

/// The character of a reference such as `&amp;` or `&#8364;`. An unknown reference stays as it is.
fn resolved_reference(reference: &BytesRef<'_>) -> String {
    match reference.resolve_char_ref() {
        Ok(Some(character)) => character.to_string(),
        _ => {
            let name = reference.borrow().into_inner();
            resolve_predefined_entity(&name).map_or_else(|| format!("&{name};"), str::to_owned)
        }
    }
}

fn into_io_error(error: quick_xml::Error) -> io::Error {
    match error {
        quick_xml::Error::Io(error) => io::Error::new(error.kind(), error.to_string()),
        error => io::Error::new(io::ErrorKind::InvalidData, format!("not well-formed XML: {error}")),
    }
}
