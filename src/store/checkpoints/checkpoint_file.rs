//! One checkpoint file.
//!
//! Layout: `magic: 8 bytes ‖ format: u32 ‖ offset: u64 ‖ payload length: u64 ‖ crc32(payload ‖
//! preceding header fields): u32 ‖ payload`, integers little-endian. Payloads are written and read
//! as streams, because a payload may be as large as the state in memory. A checkpoint is written
//! under a temporary name, synced, and then renamed. So a file with the final name is complete,
//! unless the disk has damaged it.

use crate::domain::Offset;
use crate::store::{StoreError, own_file, sync_directory};
use crc32fast::Hasher;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const CHECKPOINT_MAGIC: [u8; 8] = *b"SQRCKPT\n";
/// Version of the checkpoint layout.
const CHECKPOINT_FORMAT: u32 = 1;
pub(super) const HEADER_BYTES: usize = 32;
/// File name extension of a checkpoint that is being written.
pub(super) const UNFINISHED_EXTENSION: &str = "unfinished";
/// Size of the I/O buffers, in bytes.
pub(super) const IO_BUFFER_BYTES: usize = 1 << 18;

/// Writer of a checkpoint's payload. It collects the encoder's small writes in a buffer, because
/// both the checksum and the file are far cheaper per byte for large pieces.
#[derive(Debug)]
pub struct CheckpointWriter {
    file: File,
    /// Payload bytes that are neither in the file nor in the checksum yet.
    buffer: Vec<u8>,
    hasher: Hasher,
    /// Number of payload bytes in the file.
    length: u64,
}

impl CheckpointWriter {
    fn new(file: File) -> Self {
        Self { file, buffer: Vec::with_capacity(IO_BUFFER_BYTES), hasher: Hasher::new(), length: 0 }
    }

    fn finish(mut self, offset: Offset) -> io::Result<u64> {
        self.write_buffer()?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&encode_header(offset, self.length, self.hasher))?;
        self.file.sync_all()?;
        Ok(self.length)
    }

    /// Moves the buffered bytes to the file and the checksum.
    fn write_buffer(&mut self) -> io::Result<()> {
        let written = write_and_hash(&mut self.file, &mut self.hasher, &mut self.length, &self.buffer);
        self.buffer.clear();
        written
    }

    /// Writes bytes that do not fit into the rest of the buffer.
    #[cold]
    fn write_beyond_buffer(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_buffer()?;
        if bytes.len() >= IO_BUFFER_BYTES {
            return write_and_hash(&mut self.file, &mut self.hasher, &mut self.length, bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

fn write_and_hash(file: &mut File, hasher: &mut Hasher, length: &mut u64, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    hasher.update(bytes);
    *length += bytes.len() as u64;
    Ok(())
}

impl Write for CheckpointWriter {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > IO_BUFFER_BYTES - self.buffer.len().min(IO_BUFFER_BYTES) {
            return self.write_beyond_buffer(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_buffer()
    }
}

/// Reader of the payload of a verified checkpoint.
#[derive(Debug)]
pub struct CheckpointReader {
    offset: Offset,
    file: BufReader<File>,
    /// Number of unread payload bytes.
    remaining: u64,
}

impl CheckpointReader {
    /// The first journal offset that the checkpoint does not contain.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.offset
    }

    /// Number of unread payload bytes.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

impl Read for CheckpointReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(bytes.len());
        let read = self.file.read(bytes.get_mut(..limit).unwrap_or_default())?;
        self.remaining -= read as u64;
        Ok(read)
    }

    // The decoder reads a few bytes at a time. The provided method would make several calls for
    // each of these reads; this one copies from the buffer.
    #[inline]
    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let Some(remaining) = self.remaining.checked_sub(bytes.len() as u64) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        self.file.read_exact(bytes)?;
        self.remaining = remaining;
        Ok(())
    }
}

/// Encodes the header of a checkpoint. `hasher` has already processed the payload.
fn encode_header(offset: Offset, length: u64, mut hasher: Hasher) -> Vec<u8> {
    let mut header =
        [CHECKPOINT_MAGIC.as_slice(), &CHECKPOINT_FORMAT.to_le_bytes(), &offset.to_le_bytes(), &length.to_le_bytes()]
            .concat();
    hasher.update(&header);
    header.extend_from_slice(&hasher.finalize().to_le_bytes());
    header
}

/// Durably writes one checkpoint file. An existing file of the same name stays until the new file
/// is complete. `fill` writes the payload, in pieces of any size. Returns the length of the payload
/// in bytes.
///
/// # Errors
/// Any error of `fill` or of the disk.
pub fn write_checkpoint<E>(
    path: &Path,
    offset: Offset,
    fill: impl FnOnce(&mut CheckpointWriter) -> Result<(), E>,
) -> Result<u64, E>
where
    E: From<StoreError>,
{
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".");
    unfinished.push(UNFINISHED_EXTENSION);
    let unfinished = PathBuf::from(unfinished);
    let written = write_unfinished(offset, &unfinished, fill);
    if written.is_err() {
        // An error is ignored: if the file remains, the next write replaces it.
        let _ = std::fs::remove_file(&unfinished);
    }
    let length = written?;
    std::fs::rename(&unfinished, path).map_err(StoreError::io("renaming", &unfinished))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    sync_directory(folder.unwrap_or(Path::new(".")))?;
    Ok(length)
}

fn write_unfinished<E>(
    offset: Offset,
    path: &Path,
    fill: impl FnOnce(&mut CheckpointWriter) -> Result<(), E>,
) -> Result<u64, E>
where
    E: From<StoreError>,
{
    let mut file = own_file::create(path)?;
    // Reserves space for the header, whose content is known only after the payload.
    file.write_all(&[0; HEADER_BYTES]).map_err(StoreError::io("writing", path))?;
    let mut writer = CheckpointWriter::new(file);
    fill(&mut writer)?;
    Ok(writer.finish(offset).map_err(StoreError::io("writing", path))?)
}

/// Reads and verifies one checkpoint file. The returned reader is at the start of the payload.
///
/// # Errors
/// [`StoreError::Io`] if the file cannot be read or is damaged.
pub fn open_checkpoint(path: &Path) -> Result<CheckpointReader, StoreError> {
    open_and_verify(path).map_err(StoreError::io("reading", path))
}

/// Reads the header of a checkpoint file, which contains the checksum of the payload.
///
/// # Errors
/// [`StoreError::Io`] if the file cannot be read.
pub(in crate::store) fn read_header(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    let read = File::open(path).and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut header));
    read.map(|_| header).map_err(StoreError::io("reading", path))
}

fn open_and_verify(path: &Path) -> io::Result<CheckpointReader> {
    let mut file = BufReader::with_capacity(IO_BUFFER_BYTES, File::open(path)?);
    let mut header_bytes = Vec::with_capacity(HEADER_BYTES);
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut header_bytes)?;
    let damaged = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    let Some(rest) = header_bytes.strip_prefix(&CHECKPOINT_MAGIC) else {
        return damaged("it does not start with the magic bytes of a checkpoint".to_owned());
    };
    match rest.first_chunk().map(|format| u32::from_le_bytes(*format)) {
        None | Some(CHECKPOINT_FORMAT) => {}
        Some(format) => return damaged(format!("its format is {format}, not {CHECKPOINT_FORMAT}")),
    }
    let number = |start: usize| {
        header_bytes.get(start..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    let (offset, claimed) = (number(12), number(20));
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; IO_BUFFER_BYTES];
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        length += bytes.len() as u64;
    }
    if encode_header(offset, length, hasher) != header_bytes {
        return damaged(match header_bytes.len() == HEADER_BYTES && length == claimed {
            true => "it is damaged: its checksum does not match".to_owned(),
            false => format!("it is truncated or damaged: its payload has {length} bytes instead of {claimed}"),
        });
    }
    file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    Ok(CheckpointReader { offset, file, remaining: length })
}
