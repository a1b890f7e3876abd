//! Reserves disk space, so that the database can be opened even on a full disk. Opening the
//! database writes to the disk: it clears the end of the last log segment and stores an index. If
//! the disk is full, the reserve is released to make room for these writes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{Store, StoreError, StoreOptions, own_file};

/// Name of the file in the data directory that occupies the reserved space.
const FILE: &str = "reserve";
/// The reserve of an empty database, in bytes. For other databases, a part that depends on the size
/// is added.
const BASE_BYTES: u64 = 8 << 20;
/// Opening the database stores an index. The index takes at most the size of the database divided
/// by this number.
const INDEX_DIVISOR: u64 = 32;

/// The reserve of one data directory.
#[derive(Debug)]
pub(super) struct DiskReserve {
    path: PathBuf,
    /// Whether this process keeps a reserve. Commands that open the store without a daemon do not.
    is_kept: AtomicBool,
}

impl DiskReserve {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE), is_kept: AtomicBool::new(false) }
    }

    /// Gives the reserved space back to the file system. Returns whether any space was reserved.
    fn release(&self) -> Result<bool, StoreError> {
        let reserved = self.size();
        if reserved > 0 {
            std::fs::remove_file(&self.path).map_err(StoreError::io("removing", &self.path))?;
        }
        Ok(reserved > 0)
    }

    fn size(&self) -> u64 {
        std::fs::symlink_metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Reserves `wanted` bytes. If less is free, reserves half of the free space and returns an
    /// error.
    fn fill(&self, wanted: u64, free: u64) -> Result<(), StoreError> {
        let reserved = self.size();
        let bytes = wanted.min(free / 2 + reserved);
        if bytes > reserved {
            let file = own_file::open(File::options().create(true).truncate(false).write(true), &self.path)?;
            match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
                // Such a file system cannot reserve space.
                Err(Errno::OPNOTSUPP) => return Ok(()),
                allocated => allocated.map_err(|error| StoreError::io("writing", &self.path)(error.into()))?,
            }
        }
        if self.size() < wanted {
            return Err(StoreError::io("reserving space in", &self.path)(Errno::NOSPC.into()));
        }
        Ok(())
    }
}

impl Store {
    /// Opens the store of a data directory. If the disk is full, releases the space that an earlier
    /// process reserved, so that the store can be opened and read.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with_reserve(dir: impl AsRef<Path>, options: &StoreOptions) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        match Self::open(dir, options) {
            Err(error) if error.is_disk_full() && DiskReserve::new(dir).release()? => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the disk is full; the store is opened with the space set aside for that"
                );
                Self::open(dir, options)
            }
            opened => opened,
        }
    }

    /// Reserves disk space for the next time that the store is opened. If the disk has too little,
    /// the store accepts no writes; [`Store::reopen`] retries.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the disk has too little space, or any other I/O error.
    pub fn keep_reserve(&self) -> Result<(), StoreError> {
        self.shared.reserve.is_kept.store(true, Ordering::Release);
        self.fill_reserve().inspect_err(|_| self.reject_writes())
    }

    /// Reserves disk space, if this process keeps a reserve.
    pub(super) fn fill_reserve(&self) -> Result<(), StoreError> {
        let reserve = &self.shared.reserve;
        if !reserve.is_kept.load(Ordering::Acquire) {
            return Ok(());
        }
        // While the store is closed, its size is unknown.
        let database = self.size_on_disk().unwrap_or(0);
        reserve.fill(BASE_BYTES + database / INDEX_DIVISOR, self.disk_space()?.free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_takes_half_of_the_free_space_until_there_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = DiskReserve::new(dir.path());
        let error = reserve.fill(1 << 20, 600 << 10).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert_eq!(reserve.size(), 300 << 10);
        let error = reserve.fill(1 << 20, 100 << 10).unwrap_err();
        assert!(error.is_disk_full() && error.to_string().contains("reserve"), "{error}");
        assert_eq!(reserve.size(), 350 << 10);
        reserve.fill(1 << 20, 8 << 20).unwrap();
        reserve.fill(1 << 19, 0).unwrap();
        assert_eq!(reserve.size(), 1 << 20, "a reserve does not shrink");
        assert!(reserve.release().unwrap());
        assert!(!reserve.release().unwrap());
    }
}
