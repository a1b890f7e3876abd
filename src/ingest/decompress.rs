//! Reads files that may be compressed, and Parquet files as JSON lines.

#[cfg(feature = "parquet")]
use super::parquet_file::{ParquetColumns, ParquetLines};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file name that stands for the standard input.
pub const STANDARD_INPUT_NAME: &str = "-";

/// Bytes per read from the disk, and per decompressed block.
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// The bytes at the start of a Parquet file.
const PARQUET_MAGIC: &[u8; 4] = b"PAR1";

/// The bytes at the start of compressed files.
const GZIP_MAGIC: &[u8] = b"\x1F\x8B";
const ZSTD_MAGIC: &[u8] = b"\x28\xB5\x2F\xFD";

/// The extension of a Parquet file.
const PARQUET_EXTENSION: &str = ".parquet";

/// Why a build without the feature `parquet` cannot read or write Parquet files.
pub const PARQUET_MISSING: &str =
    "this program was built without Parquet; build it with `cargo build --release --features parquet`";

/// A file that is decompressed on the fly if its name ends in `.gz` or `.zst`. A Parquet file, which
/// its first bytes show, is read as JSON lines: one object per row.
pub struct DecompressedFile {
    /// The decompressed content.
    pub reader: Box<dyn BufRead + Send>,
    /// The file name in lower case, without the extension `.gz` or `.zst`. The rows of a Parquet
    /// file have the extension `.ndjson`.
    pub inner_name: String,
    /// Whether the file is compressed.
    pub is_compressed: bool,
    /// A second handle to the open file, which shares its position with the reader.
    handle: File,
    #[cfg(feature = "parquet")]
    parquet: Option<ParquetColumns>,
}

impl DecompressedFile {
    /// Opens a file, or the standard input for `-`.
    ///
    /// # Errors
    /// If the file cannot be opened, or if it is a Parquet file that is damaged or that this build
    /// cannot read.
    pub fn open(file: &Path) -> io::Result<Self> {
        if file == Path::new(STANDARD_INPUT_NAME) {
            return Self::open_standard_input();
        }
        let source = File::open(file)?;
        let name = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if is_parquet(&source, &name)? {
            return Self::open_parquet(source, &name);
        }
        let handle = source.try_clone()?;
        let source = BufReader::with_capacity(READ_BUFFER_BYTES, source);
        let (reader, inner_name): (Box<dyn BufRead + Send>, _) = if let Some(inner) = name.strip_suffix(".gz") {
            (Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, MultiGzDecoder::new(source))), inner.to_owned())
        } else if let Some(inner) = name.strip_suffix(".zst") {
            (
                Box::new(BufReader::with_capacity(
                    READ_BUFFER_BYTES,
                    zstd::stream::read::Decoder::with_buffer(source)?,
                )),
                inner.to_owned(),
            )
        } else {
            (Box::new(source), name)
        };
        let is_compressed = file
            .extension()
            .is_some_and(|extension| ["gz", "zst"].iter().any(|known| extension.eq_ignore_ascii_case(known)));
        Ok(Self {
            reader,
            inner_name,
            is_compressed,
            handle,
            #[cfg(feature = "parquet")]
            parquet: None,
        })
    }

    #[cfg(feature = "parquet")]
    fn open_parquet(file: File, name: &str) -> io::Result<Self> {
        let lines = ParquetLines::open(file.try_clone()?)?;
        let parquet = Some(lines.columns());
        let inner_name = format!("{name}.ndjson");
        Ok(Self { reader: Box::new(lines), inner_name, is_compressed: true, handle: file, parquet })
    }

    #[cfg(not(feature = "parquet"))]
    fn open_parquet(_: File, _: &str) -> io::Result<Self> {
        Err(io::Error::new(ErrorKind::Unsupported, PARQUET_MISSING))
    }

    /// Reads the standard input. The first bytes of the input determine whether it is compressed,
    /// and whether it is NDJSON.
    fn open_standard_input() -> io::Result<Self> {
        let handle = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut source = BufReader::with_capacity(READ_BUFFER_BYTES, handle.try_clone()?);
        let start = source.fill_buf()?;
        if start.starts_with(PARQUET_MAGIC) {
            let reason =
                "Parquet cannot be read from the standard input, because its footer is read first; name a file";
            return Err(io::Error::new(ErrorKind::InvalidInput, reason));
        }
        let (is_gzip, is_zstd) = (start.starts_with(GZIP_MAGIC), start.starts_with(ZSTD_MAGIC));
        let mut reader: Box<dyn BufRead + Send> = if is_gzip {
            Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, MultiGzDecoder::new(source)))
        } else if is_zstd {
            Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, zstd::stream::read::Decoder::with_buffer(source)?))
        } else {
            Box::new(source)
        };
        let start = reader.fill_buf()?;
        let is_json = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start).trim_ascii_start().starts_with(b"{");
        let inner_name = if is_json { "stdin.ndjson" } else { "stdin.csv" };
        Ok(Self {
            reader,
            inner_name: inner_name.to_owned(),
            is_compressed: is_gzip || is_zstd,
            handle,
            #[cfg(feature = "parquet")]
            parquet: None,
        })
    }

    /// The names of the columns of a Parquet file; `None` for other files.
    #[must_use]
    pub fn column_names(&self) -> Option<&[String]> {
        #[cfg(feature = "parquet")]
        return self.parquet.as_ref().map(ParquetColumns::names);
        #[cfg(not(feature = "parquet"))]
        None
    }

    /// Skips the first `bytes` bytes of the decompressed content. Must be called before the first
    /// read.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn skip_bytes(&mut self, bytes: u64) -> io::Result<()> {
        if self.is_compressed {
            io::copy(&mut (&mut self.reader).take(bytes), &mut io::sink()).map(|_| ())
        } else {
            (&self.handle).seek(SeekFrom::Start(bytes)).map(|_| ())
        }
    }

    /// The open file.
    #[must_use]
    pub fn open_file(&self) -> &File {
        &self.handle
    }

    /// Bytes read from the disk so far, before decompression.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        #[cfg(feature = "parquet")]
        if let Some(columns) = &self.parquet {
            return columns.bytes_read();
        }
        (&self.handle).stream_position().unwrap_or(0)
    }
}

/// Whether a file is a Parquet file.
///
/// # Errors
/// If the name says so and the content does not, or if the name is that of a compressed file.
/// Whether a file has the format Parquet.
///
/// # Errors
/// If the name of the file does not fit its first bytes.
fn is_parquet(file: &File, name: &str) -> io::Result<bool> {
    let mut start = [0; 4];
    let has_magic = match file.read_exact_at(&mut start, 0) {
        Ok(()) => &start == PARQUET_MAGIC,
        // Pipes have no positions; shorter files have other formats.
        Err(_) => false,
    };
    if has_magic {
        return Ok(true);
    }
    let compressed = [".gz", ".zst"].iter().find_map(|extension| name.strip_suffix(extension));
    let reason = if compressed.is_none() && start.starts_with(GZIP_MAGIC) {
        "it is compressed with gzip; its name must end in .gz"
    } else if compressed.is_none() && start.starts_with(ZSTD_MAGIC) {
        "it is compressed with Zstandard; its name must end in .zst"
    } else if name.ends_with(PARQUET_EXTENSION) {
        "it is not a Parquet file, because it does not begin with PAR1; its name must end in another extension"
    } else if compressed.is_some_and(|inner| inner.ends_with(PARQUET_EXTENSION)) {
        "Parquet cannot be read from a compressed file, because its footer is read first; decompress the file"
    } else {
        return Ok(false);
    };
    Err(io::Error::new(ErrorKind::InvalidData, reason))
}
