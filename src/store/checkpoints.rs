//! Checkpoint files. A checkpoint contains the learned state at one journal offset; the offset is
//! part of the file name.
//!
//! Layout: `magic: 8 bytes ‖ format: u32 ‖ offset: u64 ‖ payload length: u64 ‖ crc32(payload ‖ the
//! header before it): u32 ‖ payload`, integers little-endian. Payloads are written and read as
//! streams, because a payload may be as large as the state in memory. A checkpoint is written under
//! a temporary name, synced, and then renamed. So a file with the final name is complete, unless
//! the disk has damaged it.

use super::{StoreError, own_file, sync_directory};
use crate::domain::{Offset, Timestamp};
use crc32fast::Hasher;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Take, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const CHECKPOINT_MAGIC: [u8; 8] = *b"SQRCKPT\n";
/// Version of the checkpoint layout.
const CHECKPOINT_FORMAT: u32 = 1;
const HEADER_BYTES: usize = 32;
/// Name of the folder of checkpoints in a data directory.
pub(super) const CHECKPOINTS_FOLDER: &str = "checkpoints";
const CHECKPOINT_EXTENSION: &str = "checkpoint";
/// File name extension of a checkpoint that is being written.
const UNFINISHED_EXTENSION: &str = "unfinished";
/// Size of the I/O buffers, in bytes.
const IO_BUFFER_BYTES: usize = 1 << 18;

/// A stored state that a rollback can restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RestorePoint {
    /// The first journal offset that the state does not contain.
    pub offset: Offset,
    /// Size of the file, in bytes.
    pub bytes: u64,
    /// Time at which the file was written, in milliseconds since 1970.
    pub written_at: Timestamp,
}

/// The checkpoints of a data directory.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    dir: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Opens the directory, or creates it, and removes unfinished checkpoints.
    pub(super) fn open(dir: &Path, keep: usize) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir).map_err(StoreError::io("creating", dir))?;
        if let Some(parent) = dir.parent() {
            sync_directory(parent)?;
        }
        let checkpoints = Self { dir: dir.to_owned(), keep: keep.max(1) };
        for path in checkpoints
            .file_paths()?
            .filter(|path| path.extension().is_some_and(|extension| extension == UNFINISHED_EXTENSION))
        {
            std::fs::remove_file(&path).map_err(StoreError::io("removing", &path))?;
        }
        Ok(checkpoints)
    }

    /// The checkpoints of a data directory, for reading. The store need not be open.
    #[must_use]
    pub fn in_data_dir(data_dir: &Path) -> Self {
        Self::read_only(&data_dir.join(CHECKPOINTS_FOLDER))
    }

    /// Opens a folder of checkpoints for reading. Creates and removes no files, because another
    /// process may be writing to the folder.
    pub(super) fn read_only(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), keep: 1 }
    }

    /// Keeps the `count` checkpoints that were written last and removes all others.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a file cannot be removed.
    pub fn keep_last_written(&self, count: usize) -> Result<(), StoreError> {
        let mut points = self.list()?;
        points.sort_by_key(|point| point.written_at);
        let surplus = points.len().saturating_sub(count);
        let mut files = points.into_iter().take(surplus).map(|point| self.path(point.offset));
        files.try_for_each(|path| std::fs::remove_file(&path).map_err(StoreError::io("removing", &path)))
    }

    /// Removes all checkpoints except the one at `offset`.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a file cannot be removed.
    pub fn keep_only(&self, offset: Offset) -> Result<(), StoreError> {
        let later = self.offsets()?.into_iter().filter(|other| *other != offset).map(|other| self.path(other));
        later.into_iter().try_for_each(|path| std::fs::remove_file(&path).map_err(StoreError::io("removing", &path)))
    }

    /// Removes all checkpoints before `offset`.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a file cannot be removed.
    pub fn drop_before(&self, offset: Offset) -> Result<(), StoreError> {
        let earlier = self.offsets()?.into_iter().filter(|other| *other < offset).map(|other| self.path(other));
        earlier.into_iter().try_for_each(|path| std::fs::remove_file(&path).map_err(StoreError::io("removing", &path)))
    }

    /// Durably writes a checkpoint that contains the journal up to `offset`, and then removes the
    /// oldest checkpoints beyond the configured number. `fill` writes the payload, in pieces of any
    /// size. Returns the length of the payload in bytes. Replaces an existing checkpoint of this
    /// offset.
    ///
    /// Each run of the daemon writes checkpoints at increasing offsets. A checkpoint after `offset`
    /// therefore comes from another run, under other settings. The configured number applies
    /// separately to the checkpoints up to `offset` and to those after `offset`.
    ///
    /// # Errors
    /// Any error of `fill` or of the disk. The existing checkpoints are then unchanged.
    pub fn write<E>(&self, offset: Offset, fill: impl FnOnce(&mut CheckpointWriter) -> Result<(), E>) -> Result<u64, E>
    where
        E: From<StoreError>,
    {
        let length = write_checkpoint(&self.path(offset), offset, fill)?;
        self.remove_surplus(offset)?;
        Ok(length)
    }

    /// Returns a reader of the newest valid checkpoint that contains no entry after `journal_end`;
    /// `None` if there is no such checkpoint. Skips and logs checkpoints that are damaged or ahead
    /// of the journal.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the directory cannot be read.
    pub fn open_newest(&self, journal_end: Offset) -> Result<Option<CheckpointReader>, StoreError> {
        Ok(self.open_newest_first(journal_end)?.next())
    }

    /// Readers of all checkpoints that [`Checkpoints::open_newest`] accepts, newest first.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the directory cannot be read.
    pub fn open_newest_first(&self, journal_end: Offset) -> Result<impl Iterator<Item = CheckpointReader>, StoreError> {
        let read = move |offset: Offset| {
            let path = self.path(offset);
            if offset > journal_end {
                tracing::warn!(path = %path.display(), journal_end, "skipped a checkpoint that is ahead of the journal");
                return None;
            }
            match open_checkpoint(&path) {
                Ok(reader) if reader.offset == offset => return Some(reader),
                Ok(reader) => {
                    tracing::warn!(path = %path.display(), offset = reader.offset, "skipped a checkpoint whose file name has another offset")
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "skipped a damaged checkpoint"),
            }
            None
        };
        Ok(self.offsets()?.into_iter().rev().filter_map(read))
    }

    /// All checkpoint files, ascending by offset, including damaged ones.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the directory cannot be read.
    pub fn list(&self) -> Result<Vec<RestorePoint>, StoreError> {
        let point = |offset| {
            let file = self.path(offset).metadata().ok()?;
            let since = file.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            let written_at = since.and_then(|since| Timestamp::try_from(since.as_millis()).ok()).unwrap_or_default();
            Some(RestorePoint { offset, bytes: file.len(), written_at })
        };
        Ok(self.offsets()?.into_iter().filter_map(point).collect())
    }

    /// Returns a reader of the checkpoint with exactly this offset; `None` if there is no valid
    /// checkpoint with this offset.
    #[must_use]
    pub fn open_at(&self, offset: Offset) -> Option<CheckpointReader> {
        let path = self.path(offset);
        if !path.exists() {
            return None;
        }
        let opened = open_checkpoint(&path)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "skipped a damaged checkpoint"));
        opened.ok().filter(|reader| reader.offset == offset)
    }

    /// The offsets of all checkpoint files, ascending, including those of damaged files.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the directory cannot be read.
    pub fn offsets(&self) -> Result<Vec<Offset>, StoreError> {
        let offset_of = |path: PathBuf| {
            let offset = path.file_stem()?.to_str()?.parse().ok()?;
            (self.path(offset) == path).then_some(offset)
        };
        let mut offsets: Vec<Offset> = self.file_paths()?.filter_map(offset_of).collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    fn remove_surplus(&self, written: Offset) -> Result<(), StoreError> {
        let (up_to_written, later): (Vec<_>, Vec<_>) =
            self.offsets()?.into_iter().partition(|offset| *offset <= written);
        let surplus = |offsets: Vec<Offset>| offsets.into_iter().rev().skip(self.keep);
        surplus(up_to_written)
            .chain(surplus(later))
            .map(|offset| self.path(offset))
            .try_for_each(|path| std::fs::remove_file(&path).map_err(StoreError::io("removing", &path)))
    }

    pub(super) fn path(&self, offset: Offset) -> PathBuf {
        // The offset is padded with zeros, so that file names sort by offset.
        self.dir.join(format!("{offset:020}.{CHECKPOINT_EXTENSION}"))
    }

    fn file_paths(&self) -> Result<impl Iterator<Item = PathBuf>, StoreError> {
        let listed = self
            .dir
            .read_dir()
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>());
        let listed =
            listed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(Vec::new()) } else { Err(error) });
        listed.map(Vec::into_iter).map_err(StoreError::io("listing", &self.dir))
    }
}

/// Writer of a checkpoint's payload.
#[derive(Debug)]
pub struct CheckpointWriter {
    file: BufWriter<File>,
    hasher: Hasher,
    length: u64,
}

impl CheckpointWriter {
    fn finish(mut self, offset: Offset) -> io::Result<u64> {
        self.file.flush()?;
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&encode_header(offset, self.length, self.hasher))?;
        file.sync_all()?;
        Ok(self.length)
    }
}

impl Write for CheckpointWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Reader of the payload of a verified checkpoint.
#[derive(Debug)]
pub struct CheckpointReader {
    offset: Offset,
    payload: Take<BufReader<File>>,
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
        self.payload.limit()
    }
}

impl Read for CheckpointReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.payload.read(bytes)
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
    let file = own_file::create(path)?;
    let mut writer =
        CheckpointWriter { file: BufWriter::with_capacity(IO_BUFFER_BYTES, file), hasher: Hasher::new(), length: 0 };
    // Reserves space for the header, whose content is known only after the payload.
    writer.file.write_all(&[0; HEADER_BYTES]).map_err(StoreError::io("writing", path))?;
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
pub(super) fn read_header(path: &Path) -> Result<Vec<u8>, StoreError> {
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
    Ok(CheckpointReader { offset, payload: file.take(length) })
}

#[cfg(test)]
mod tests;
