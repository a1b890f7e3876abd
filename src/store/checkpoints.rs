//! Checkpoints: the learned state at journal offsets, one file per checkpoint. The offset is part
//! of the file name. [`checkpoint_file`] reads and writes a file.

mod checkpoint_file;

pub(super) use checkpoint_file::read_header;
pub use checkpoint_file::{CheckpointReader, CheckpointWriter, open_checkpoint, write_checkpoint};

use super::{StoreError, sync_directory};
use crate::domain::{Offset, Timestamp};
use checkpoint_file::UNFINISHED_EXTENSION;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Name of the folder of checkpoints in a data directory.
pub(super) const CHECKPOINTS_FOLDER: &str = "checkpoints";
const CHECKPOINT_EXTENSION: &str = "checkpoint";

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
        let others = self.offsets()?.into_iter().filter(|other| *other != offset).map(|other| self.path(other));
        others.into_iter().try_for_each(|path| std::fs::remove_file(&path).map_err(StoreError::io("removing", &path)))
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
                Ok(reader) if reader.offset() == offset => return Some(reader),
                Ok(reader) => {
                    tracing::warn!(path = %path.display(), offset = reader.offset(), "skipped a checkpoint whose offset differs from the one in its file name")
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
        opened.ok().filter(|reader| reader.offset() == offset)
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

#[cfg(test)]
mod tests;
