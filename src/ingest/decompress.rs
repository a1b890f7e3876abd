//! Files, unpacked as they are read.

use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes read from the disk, or unpacked, at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// A file's content. One named `.gz` or `.zst` is unpacked as it is read.
pub struct DecompressedFile {
    /// What it holds.
    pub reader: Box<dyn BufRead + Send>,
    /// The file's name without the ending that says how it is packed, in lower case.
    pub inner_name: String,
    /// Whether it is unpacked.
    pub is_compressed: bool,
    /// The same open file, to see how far it has been read.
    place: File,
}

impl DecompressedFile {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(file: &Path) -> io::Result<Self> {
        let source = File::open(file)?;
        let place = source.try_clone()?;
        let source = BufReader::with_capacity(BUFFER_BYTES, source);
        let name = file.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let (content, name): (Box<dyn BufRead + Send>, _) = if let Some(inner) = name.strip_suffix(".gz") {
            (Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(source))), inner.to_owned())
        } else if let Some(inner) = name.strip_suffix(".zst") {
            (Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::stream::read::Decoder::with_buffer(source)?)), inner.to_owned())
        } else {
            (Box::new(source), name)
        };
        let is_packed = file.extension().is_some_and(|ending| ["gz", "zst"].iter().any(|packed| ending.eq_ignore_ascii_case(packed)));
        Ok(Self { reader: content, inner_name: name, is_compressed: is_packed, place })
    }

    /// Passes over so many bytes of the content, before anything of it was read.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn skip(&mut self, bytes: u64) -> io::Result<()> {
        if self.is_compressed {
            io::copy(&mut (&mut self.reader).take(bytes), &mut io::sink()).map(|_| ())
        } else {
            (&self.place).seek(SeekFrom::Start(bytes)).map(|_| ())
        }
    }

    /// The open file itself.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.place
    }

    /// How many bytes were read from the disk so far, packed as they are.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        (&self.place).stream_position().unwrap_or(0)
    }
}
