//! Reads and decompresses the pages of a Parquet file within limits.
//!
//! The decoder of the crate `parquet` allocates what the header of a page claims, and decompresses
//! gzip without a limit. The pages are therefore read as if they were not compressed, and are
//! decompressed here.

use super::{MAX_DICTIONARY_VALUES, MAX_HELD_BYTES, MAX_PAGE_BYTES, MAX_PAGE_VALUES};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Type as PhysicalType};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length, RowGroupReader};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that are read at once to parse the header of a page.
const HEADER_READ_BYTES: usize = 4096;

/// An open file. Reads name their position, so readers do not disturb each other.
#[derive(Debug)]
pub(super) struct TableFile {
    file: File,
    length: u64,
}

impl TableFile {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    pub(super) fn read_exact_at(&self, buffer: &mut [u8], start: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, start)
    }
}

/// Reads a file from a position on.
#[derive(Debug)]
pub(super) struct PositionedReader {
    file: File,
    position: u64,
}

impl Read for PositionedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Length for TableFile {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for TableFile {
    type T = BufReader<PositionedReader>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let reader = PositionedReader { file: self.file.try_clone()?, position: start };
        Ok(BufReader::with_capacity(HEADER_READ_BYTES, reader))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if length > MAX_PAGE_BYTES {
            return Err(too_large_error("a page", length, MAX_PAGE_BYTES));
        }
        let is_within = start.checked_add(length as u64).is_some_and(|end| end <= self.length);
        if !is_within {
            return Err(invalid("a page lies behind the end of the file"));
        }
        let mut buffer = vec![0; length];
        self.read_exact_at(&mut buffer, start)?;
        Ok(buffer.into())
    }
}

/// A row group whose pages are read within limits.
pub(super) struct BoundedRowGroup<'m> {
    file: Arc<TableFile>,
    metadata: &'m RowGroupMetaData,
    /// Bytes of the decompressed pages that all columns hold.
    held_bytes: Arc<AtomicUsize>,
}

impl<'m> BoundedRowGroup<'m> {
    pub(super) fn new(file: Arc<TableFile>, metadata: &'m RowGroupMetaData) -> Self {
        Self { file, metadata, held_bytes: Arc::default() }
    }
}

impl RowGroupReader for BoundedRowGroup<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.metadata
    }

    fn num_columns(&self) -> usize {
        self.metadata.num_columns()
    }

    fn get_column_page_reader(&self, index: usize) -> Result<Box<dyn PageReader>> {
        let column = self.metadata.columns().get(index).ok_or_else(|| invalid("a column is missing"))?;
        let rows = usize::try_from(self.metadata.num_rows()).map_err(|_| invalid("a number of rows is negative"))?;
        let stored = column.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        Ok(Box::new(BoundedPageReader {
            pages: SerializedPageReader::new(Arc::clone(&self.file), &stored, rows, None)?,
            compression: column.compression(),
            smallest_value_bytes: smallest_value_bytes(column),
            held_bytes: Arc::clone(&self.held_bytes),
            dictionary_bytes: 0,
            page_bytes: 0,
        }))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// Decompresses the pages of a column.
struct BoundedPageReader {
    /// Reads the pages as they are stored.
    pages: SerializedPageReader<TableFile>,
    compression: Compression,
    smallest_value_bytes: usize,
    held_bytes: Arc<AtomicUsize>,
    dictionary_bytes: usize,
    page_bytes: usize,
}

impl BoundedPageReader {
    /// Decompresses a page.
    fn decompressed(&mut self, page: Page) -> Result<Page> {
        Ok(match page {
            Page::DictionaryPage { buf, num_values, encoding, is_sorted } => {
                let buf = decompress(self.compression, buf)?;
                self.check_dictionary(&buf, num_values)?;
                self.hold(buf.len(), true)?;
                Page::DictionaryPage { buf, num_values, encoding, is_sorted }
            }
            Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics } => {
                check_value_count(num_values, MAX_PAGE_VALUES)?;
                let buf = decompress(self.compression, buf)?;
                self.hold(buf.len(), false)?;
                Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics }
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                num_nulls,
                num_rows,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                statistics,
            } => {
                check_value_count(num_values, MAX_PAGE_VALUES)?;
                let levels = (def_levels_byte_len as usize).saturating_add(rep_levels_byte_len as usize);
                if levels > buf.len() {
                    return Err(invalid("the levels of a page exceed the page"));
                }
                // Levels are never compressed.
                let buf = if is_compressed && self.compression != Compression::UNCOMPRESSED {
                    let values = decompress(self.compression, buf.slice(levels..))?;
                    [buf.slice(..levels), values].concat().into()
                } else {
                    buf
                };
                self.hold(buf.len(), false)?;
                Page::DataPageV2 {
                    buf,
                    num_values,
                    encoding,
                    num_nulls,
                    num_rows,
                    def_levels_byte_len,
                    rep_levels_byte_len,
                    is_compressed: false,
                    statistics,
                }
            }
        })
    }

    /// Counts the bytes of a page, which replaces the previous one.
    fn hold(&mut self, bytes: usize, is_dictionary: bool) -> Result<()> {
        let before = if is_dictionary { &mut self.dictionary_bytes } else { &mut self.page_bytes };
        self.held_bytes.fetch_sub(std::mem::replace(before, bytes), Ordering::Relaxed);
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held > MAX_HELD_BYTES {
            return Err(too_large_error("the pages of a row group that are read together", held, MAX_HELD_BYTES));
        }
        Ok(())
    }

    /// The decoder allocates all values of a dictionary.
    fn check_dictionary(&self, buffer: &Bytes, num_values: u32) -> Result<()> {
        check_value_count(num_values, MAX_DICTIONARY_VALUES)?;
        if (num_values as usize).saturating_mul(self.smallest_value_bytes) > buffer.len() {
            return Err(invalid("a dictionary has fewer values than it states"));
        }
        Ok(())
    }
}

impl Iterator for BoundedPageReader {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for BoundedPageReader {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.pages.get_next_page()?.map(|page| self.decompressed(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

impl Drop for BoundedPageReader {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.dictionary_bytes + self.page_bytes, Ordering::Relaxed);
    }
}

/// The bytes that a value of a dictionary has at least.
fn smallest_value_bytes(column: &ColumnChunkMetaData) -> usize {
    match column.column_type() {
        PhysicalType::BOOLEAN => 0,
        PhysicalType::INT32 | PhysicalType::FLOAT | PhysicalType::BYTE_ARRAY => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
        PhysicalType::INT96 => 12,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => usize::try_from(column.column_descr().type_length()).unwrap_or(0),
    }
}

/// The reason why the pages of a column cannot be decompressed, if there is one.
pub(super) fn unsupported_compression(compression: Compression) -> Option<String> {
    match compression {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => None,
        other => Some(format!(
            "its compression {other} is not supported; write the file with snappy, gzip, zstd or no compression"
        )),
    }
}

fn decompress(compression: Compression, stored: Bytes) -> Result<Bytes> {
    // A page without values can have no compressed bytes.
    if stored.is_empty() {
        return Ok(stored);
    }
    match compression {
        Compression::UNCOMPRESSED => Ok(stored),
        Compression::SNAPPY => {
            let failed = |error: snap::Error| invalid(&format!("a page cannot be decompressed: {error}"));
            let length = snap::raw::decompress_len(&stored).map_err(failed)?;
            if length > MAX_PAGE_BYTES {
                return Err(too_large_error("a decompressed page", length, MAX_PAGE_BYTES));
            }
            Ok(snap::raw::Decoder::new().decompress_vec(&stored).map_err(failed)?.into())
        }
        Compression::GZIP(_) => read_within_limit(MultiGzDecoder::new(&stored[..])),
        Compression::ZSTD(_) => read_within_limit(zstd::stream::read::Decoder::with_buffer(&stored[..])?),
        other => Err(invalid(&unsupported_compression(other).unwrap_or_default())),
    }
}

fn read_within_limit(reader: impl Read) -> Result<Bytes> {
    let mut page = Vec::new();
    let read = reader.take(MAX_PAGE_BYTES as u64 + 1).read_to_end(&mut page);
    read.map_err(|error| invalid(&format!("a page cannot be decompressed: {error}")))?;
    if page.len() > MAX_PAGE_BYTES {
        return Err(too_large_error("a decompressed page", page.len(), MAX_PAGE_BYTES));
    }
    Ok(page.into())
}

fn check_value_count(count: u32, limit: u32) -> Result<()> {
    if count <= limit {
        return Ok(());
    }
    Err(invalid(&format!("a page has {count} values; at most {limit} are read; write the file with smaller pages")))
}

fn too_large_error(what: &str, bytes: usize, limit: usize) -> ParquetError {
    let limit = limit >> 20;
    invalid(&format!(
        "{what} has {bytes} bytes or more; at most {limit} MiB are read; write the file with smaller pages or row groups"
    ))
}

fn invalid(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use std::io::Write;

    #[test]
    fn a_page_is_decompressed_up_to_the_limit() {
        for (bytes, is_within) in [(MAX_PAGE_BYTES, true), (MAX_PAGE_BYTES + 1, false)] {
            let page = vec![0; bytes];
            let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&page).unwrap();
            let gzip = gzip.finish().unwrap();
            for (compression, stored) in [
                (Compression::GZIP(Default::default()), gzip.clone()),
                (Compression::ZSTD(Default::default()), zstd::encode_all(&page[..], 1).unwrap()),
                (Compression::SNAPPY, snap::raw::Encoder::new().compress_vec(&page).unwrap()),
            ] {
                let found = decompress(compression, stored.into());
                match found {
                    Ok(found) => assert!(is_within && found.len() == bytes, "{compression}"),
                    Err(error) => assert!(!is_within && error.to_string().contains("at most 128 MiB"), "{error}"),
                }
            }
        }
    }

    #[test]
    fn the_pages_of_a_row_group_share_a_limit() {
        let file = Arc::new(TableFile::new(tempfile::tempfile().unwrap()).unwrap());
        let held_bytes = Arc::new(AtomicUsize::new(0));
        let column = || BoundedPageReader {
            pages: empty_column(&file),
            compression: Compression::UNCOMPRESSED,
            smallest_value_bytes: 4,
            held_bytes: Arc::clone(&held_bytes),
            dictionary_bytes: 0,
            page_bytes: 0,
        };
        let (mut first, mut second) = (column(), column());
        first.hold(MAX_HELD_BYTES - 10, false).unwrap();
        second.hold(10, true).unwrap();
        assert!(second.hold(1, false).unwrap_err().to_string().contains("at most 1024 MiB"));
        drop(second);
        first.hold(MAX_HELD_BYTES, false).unwrap();
        drop(first);
        assert_eq!(held_bytes.load(Ordering::Relaxed), 0);
        assert!(column().check_dictionary(&Bytes::from_static(&[0; 8]), 2).is_ok());
        assert!(column().check_dictionary(&Bytes::from_static(&[0; 8]), 3).is_err());
        assert!(column().check_dictionary(&Bytes::from(vec![0; 1 << 25]), MAX_DICTIONARY_VALUES + 1).is_err());
    }

    /// The pages of a column without pages.
    fn empty_column(file: &Arc<TableFile>) -> SerializedPageReader<TableFile> {
        let schema = parquet::schema::parser::parse_message_type("message m { required int32 a; }").unwrap();
        let schema = parquet::schema::types::SchemaDescriptor::new(Arc::new(schema));
        let column = ColumnChunkMetaData::builder(schema.column(0)).build().unwrap();
        SerializedPageReader::new(Arc::clone(file), &column, 0, None).unwrap()
    }
}
