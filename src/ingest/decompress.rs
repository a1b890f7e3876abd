//! Reads files that may be compressed.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::path::Path;

/// The file name that stands for the standard input.
pub const STANDARD_INPUT_NAME: &str = "-";

/// Bytes per read from the disk, and per decompressed block.
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// A file that is decompressed on the fly if its name ends in `.gz` or `.zst`.
pub struct DecompressedFile {
    /// The decompressed content.
    pub reader: Box<dyn BufRead + Send>,
    /// The file name in lower case, without the extension `.gz` or `.zst`.
    pub inner_name: String,
    /// Whether the file is compressed.
    pub is_compressed: bool,
    /// A second handle to the open file, which shares its position with the reader.
    handle: File,
}

impl DecompressedFile {
    /// Opens a file, or the standard input for `-`.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(file: &Path) -> io::Result<Self> {
        if file == Path::new(STANDARD_INPUT_NAME) {
            return Self::open_standard_input();
        }
        let source = File::open(file)?;
        let handle = source.try_clone()?;
        let source = BufReader::with_capacity(READ_BUFFER_BYTES, source);
        let name = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
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
        Ok(Self { reader, inner_name, is_compressed, handle })
    }

    /// Reads the standard input. The first bytes of the input determine whether it is compressed,
    /// and whether it is NDJSON.
    fn open_standard_input() -> io::Result<Self> {
        let handle = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut source = BufReader::with_capacity(READ_BUFFER_BYTES, handle.try_clone()?);
        let start = source.fill_buf()?;
        let (is_gzip, is_zstd) = (start.starts_with(b"\x1F\x8B"), start.starts_with(b"\x28\xB5\x2F\xFD"));
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
        Ok(Self { reader, inner_name: inner_name.to_owned(), is_compressed: is_gzip || is_zstd, handle })
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
        (&self.handle).stream_position().unwrap_or(0)
    }
}
