//! The rows of a Parquet file as a stream of JSON lines.

use super::pages::{BoundedRowGroup, TableFile, unsupported_compression};
use super::row_json::{FieldShape, write_line};
use super::{MAX_COLUMNS, MAX_FOOTER_BYTES};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::Length;
use parquet::record::Row;
use parquet::record::reader::{ReaderIter, TreeBuilder};
use std::fs::File;
use std::io::{self, BufRead, ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes at the start and at the end of a file.
const MAGIC: &[u8; 4] = b"PAR1";

/// The bytes at the end of a file whose footer is encrypted.
const ENCRYPTED_MAGIC: &[u8; 4] = b"PARE";

/// The bytes after the footer: its length and the magic.
const TRAILER_BYTES: u64 = 8;

/// The columns of a file, and how much of the file was read.
#[derive(Debug)]
pub(in crate::ingest) struct ParquetColumns {
    names: Vec<String>,
    file_bytes: u64,
    row_count: u64,
    rows_read: Arc<AtomicU64>,
}

impl ParquetColumns {
    /// The names of the columns, of which some can be nested.
    pub(in crate::ingest) fn names(&self) -> &[String] {
        &self.names
    }

    /// The share of the file's bytes that corresponds to the rows read so far.
    pub(in crate::ingest) fn bytes_read(&self) -> u64 {
        let share = u128::from(self.file_bytes) * u128::from(self.rows_read.load(Ordering::Relaxed))
            / u128::from(self.row_count.max(1));
        u64::try_from(share).unwrap_or(self.file_bytes)
    }
}

/// Reads a file row by row. Each row is a line with a JSON object, without empty fields. An empty
/// `timestamp` is an empty text.
pub(in crate::ingest) struct ParquetLines {
    file: Arc<TableFile>,
    metadata: ParquetMetaData,
    shape: FieldShape,
    /// The index of the next row group.
    next_group: usize,
    rows: Option<ReaderIter>,
    rows_read: Arc<AtomicU64>,
    line: Vec<u8>,
    /// The bytes of the line that were returned.
    consumed: usize,
    /// The reason why the file cannot be read to its end.
    failure: Option<String>,
}

impl ParquetLines {
    /// Opens a file and reads its footer.
    ///
    /// # Errors
    /// If the file is not a complete Parquet file, exceeds a limit or uses an unsupported
    /// compression. The error says what to do.
    pub(in crate::ingest) fn open(file: File) -> io::Result<Self> {
        let file = Arc::new(TableFile::new(file)?);
        check_trailer(&file)?;
        let metadata = guarded(|| ParquetMetaDataReader::new().parse_and_finish(&*file))
            .map_err(|reason| invalid(format!("its footer is damaged: {reason}")))?;
        let shape = guarded(|| Ok(check_metadata(&file, &metadata))).map_err(invalid)?.map_err(invalid)?;
        Ok(Self {
            file,
            metadata,
            shape,
            next_group: 0,
            rows: None,
            rows_read: Arc::default(),
            line: Vec::new(),
            consumed: 0,
            failure: None,
        })
    }

    /// The columns, and the progress of this reader.
    pub(in crate::ingest) fn columns(&self) -> ParquetColumns {
        let info = self.metadata.file_metadata();
        let names = info.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
        let (file_bytes, row_count) = (self.file.len(), u64::try_from(info.num_rows()).unwrap_or(0));
        ParquetColumns { names, file_bytes, row_count, rows_read: Arc::clone(&self.rows_read) }
    }

    /// The next row; `None` at the end of the file.
    fn next_row(&mut self) -> Result<Option<Row>, String> {
        loop {
            if let Some(rows) = &mut self.rows {
                match guarded(|| rows.next().transpose())? {
                    Some(row) => return Ok(Some(row)),
                    None => self.rows = None,
                }
            }
            let Some(group) = self.metadata.row_groups().get(self.next_group) else { return Ok(None) };
            self.next_group += 1;
            let (reader, schema) = (BoundedRowGroup::new(Arc::clone(&self.file), group), group.schema_descr_ptr());
            self.rows = Some(guarded(|| TreeBuilder::new().as_iter(schema, &reader))?);
        }
    }

    /// Reads the next row into the line.
    fn read_line(&mut self) -> io::Result<()> {
        self.line.clear();
        self.consumed = 0;
        let row = self.next_row().map_err(|reason| {
            invalid(format!("row group {} of {}: {reason}", self.next_group, self.metadata.num_row_groups()))
        })?;
        if let Some(row) = row {
            write_line(&mut self.line, &row, &self.shape)?;
            self.rows_read.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl BufRead for ParquetLines {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(reason) = &self.failure {
            return Err(invalid(reason.clone()));
        }
        if self.consumed >= self.line.len() {
            let read = guarded(|| Ok(self.read_line())).unwrap_or_else(|reason| Err(invalid(reason)));
            if let Err(error) = read {
                self.failure = Some(error.to_string());
                return Err(error);
            }
        }
        Ok(self.line.get(self.consumed..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
    }
}

impl Read for ParquetLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Checks the end of a file, before anything is allocated for its footer.
fn check_trailer(file: &TableFile) -> io::Result<()> {
    let truncated =
        || invalid("it does not end with PAR1: the file is truncated, or its writer has not closed it".to_owned());
    let footer_end = file.len().checked_sub(TRAILER_BYTES).filter(|end| *end >= MAGIC.len() as u64);
    let footer_end = footer_end.ok_or_else(truncated)?;
    let (mut length, mut magic) = ([0; 4], [0; 4]);
    file.read_exact_at(&mut length, footer_end)?;
    file.read_exact_at(&mut magic, footer_end + 4)?;
    if &magic == ENCRYPTED_MAGIC {
        return Err(invalid("its footer is encrypted; write the file without encryption".to_owned()));
    }
    if &magic != MAGIC {
        return Err(truncated());
    }
    let length = u64::from(u32::from_le_bytes(length));
    if length > footer_end - MAGIC.len() as u64 {
        return Err(invalid(format!("its footer of {length} bytes is larger than the file; the file is truncated")));
    }
    if length > MAX_FOOTER_BYTES {
        let limit = MAX_FOOTER_BYTES >> 20;
        let reason = format!(
            "its footer has {length} bytes; at most {limit} MiB are read; write the file with larger row groups or without statistics"
        );
        return Err(invalid(reason));
    }
    Ok(())
}

/// Checks the description of the row groups. Returns the shape of a row.
fn check_metadata(file: &TableFile, metadata: &ParquetMetaData) -> Result<FieldShape, String> {
    let (info, groups) = (metadata.file_metadata(), metadata.row_groups());
    let columns = info.schema_descr().num_columns();
    if columns == 0 || columns > MAX_COLUMNS {
        return Err(format!("it has {columns} columns; 1 to {MAX_COLUMNS} are allowed; write fewer columns"));
    }
    let rows = groups.iter().map(|group| i128::from(group.num_rows())).sum::<i128>();
    if groups.iter().any(|group| group.num_rows() < 0) || rows != i128::from(info.num_rows()) {
        return Err("its footer is damaged: the numbers of rows contradict each other".to_owned());
    }
    groups.iter().try_for_each(|group| check_row_group(file, group, columns))?;
    Ok(FieldShape::of_schema(info.schema()))
}

fn check_row_group(file: &TableFile, group: &RowGroupMetaData, columns: usize) -> Result<(), String> {
    if group.num_columns() != columns {
        return Err("its footer is damaged: a row group lacks columns".to_owned());
    }
    for column in group.columns() {
        if let Some(reason) = unsupported_compression(column.compression()) {
            return Err(reason);
        }
        if column.file_path().is_some() {
            return Err("its columns are in other files; write one file".to_owned());
        }
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end = start.checked_add(column.compressed_size());
        let is_within = start >= 0 && column.compressed_size() >= 0 && end.is_some_and(|end| end as u64 <= file.len());
        if !is_within {
            let name = column.column_path().string();
            return Err(format!("the column `{name}` lies behind the end of the file; the file is truncated"));
        }
    }
    Ok(())
}

/// Calls the crate `parquet`, which panics for some damaged files.
fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| match error {
            ParquetError::General(reason) | ParquetError::EOF(reason) => reason,
            other => other.to_string(),
        }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown reason");
            Err(format!("the file is damaged: {text}"))
        }
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}
