//! Packs a data directory into a `.tar.gz` file, and unpacks such files.

use super::dir_lock::DataDirLock;
use super::{StoreError, switchover};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType};

/// Size of the I/O buffers, in bytes.
const IO_BUFFER_BYTES: usize = 1 << 18;

/// The files and folders of a data directory that a backup contains. All others are only useful to
/// the running daemon.
pub(super) const BACKUP_PARTS: [&str; 5] = ["store", "checkpoints", "restore-points", "origin", "end"];

/// An archive may unpack to this number of bytes plus [`MAX_UNPACKED_BYTES_PER_ARCHIVE_BYTE`] times
/// its own size. A database compresses at most tenfold, so an archive that unpacks to more is not a
/// backup.
const MAX_UNPACKED_BASE_BYTES: u64 = 64 << 20;
/// The number of unpacked bytes that each byte of an archive adds to the limit.
const MAX_UNPACKED_BYTES_PER_ARCHIVE_BYTE: u64 = 100;

/// A reader that returns an error after a given number of bytes.
struct BoundedReader<R> {
    inner: R,
    remaining: u64,
}

impl<R: Read> Read for BoundedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.remaining = self.remaining.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it unpacks to more than {MAX_UNPACKED_BYTES_PER_ARCHIVE_BYTE} times its size, so it is not a backup"),
            )
        })?;
        Ok(read)
    }
}

/// Durably packs the data directory `dir` into a new file. No process may have the data directory
/// open.
///
/// # Errors
/// [`StoreError::Io`] if the file exists, or if a file cannot be read or written.
pub(super) fn pack_archive(dir: &Path, file: &Path) -> Result<(), StoreError> {
    let written = File::create_new(file).and_then(|archive| {
        let packed = GzEncoder::new(BufWriter::with_capacity(IO_BUFFER_BYTES, archive), Compression::fast());
        let mut builder = Builder::new(packed);
        for part in BACKUP_PARTS {
            let path = dir.join(part);
            if path.is_dir() {
                builder.append_dir_all(part, &path)?;
            } else if path.is_file() {
                builder.append_path_with_name(&path, part)?;
            }
        }
        let mut archive = builder.into_inner()?.finish()?;
        archive.flush()?;
        archive.get_ref().sync_all()
    });
    written.map_err(StoreError::io("packing", file))
}

/// Durably unpacks an archive of [`pack_archive`] into an existing empty directory.
///
/// # Errors
/// [`StoreError::InvalidBackup`] if the archive contains a link, a special file or a path that does
/// not belong to a backup. [`StoreError::Io`] if the archive is damaged or incomplete or unpacks to
/// far more than its size, or if a file cannot be written.
pub(super) fn unpack_archive(file: &Path, dir: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::io("unpacking", file)(source);
    let archive = File::open(file).map_err(failed)?;
    let packed = archive.metadata().map_err(failed)?.len();
    let remaining = packed.saturating_mul(MAX_UNPACKED_BYTES_PER_ARCHIVE_BYTE).saturating_add(MAX_UNPACKED_BASE_BYTES);
    let inner = MultiGzDecoder::new(BufReader::with_capacity(IO_BUFFER_BYTES, archive));
    let mut archive = Archive::new(BoundedReader { inner, remaining });
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let first = path.components().find(|part| matches!(part, Component::Normal(_)));
        let is_part = first.is_none_or(|first| BACKUP_PARTS.iter().any(|part| first.as_os_str() == *part));
        let target = dir.join(&path);
        match entry.header().entry_type() {
            EntryType::Directory if is_inside && is_part => {
                std::fs::create_dir_all(&target).map_err(StoreError::io("creating", &target))?
            }
            EntryType::Regular if is_inside && is_part => {
                let written = File::create_new(&target).and_then(|mut file| {
                    std::io::copy(&mut entry, &mut file)?;
                    file.sync_all()
                });
                written.map_err(StoreError::io("writing", &target))?;
            }
            _ => {
                return Err(StoreError::InvalidBackup {
                    path: file.to_owned(),
                    reason: format!(
                        "it contains a link, a special file or a path that is no part of a backup: {}",
                        path.display()
                    ),
                });
            }
        }
    }
    // The gzip checksum follows the last file of the archive. It is verified only if the stream is
    // read to its end.
    let mut rest = archive.into_inner();
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(failed)?;
    Ok(())
}

/// Durably copies the files of the data directory `from` into the existing empty directory `to`.
/// The directory `from` is not changed.
///
/// # Errors
/// [`StoreError::InvalidBackup`] if `from` has no store, [`StoreError::Locked`] if a process has
/// the store open, [`StoreError::Io`] if a file cannot be read or written.
pub(super) fn copy_data_dir(from: &Path, to: &Path) -> Result<(), StoreError> {
    let store = if from.is_dir() { switchover::active_database_path(from)? } else { from.join("store") };
    if !store.is_dir() {
        let reason = "it is neither a `.tar.gz` file nor a directory with a store".to_owned();
        return Err(StoreError::InvalidBackup { path: from.to_owned(), reason });
    }
    let _lock = DataDirLock::acquire_shared(from)?;
    for part in BACKUP_PARTS {
        let (path, target) = (if part == "store" { store.clone() } else { from.join(part) }, to.join(part));
        if path.is_dir() {
            copy_files(&path, &target)?;
        } else if path.is_file() {
            copy_file(&path, &target)?;
        }
    }
    super::sync_directory(to)
}

fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
    let copied = File::open(from).and_then(|mut bytes| {
        let mut file = File::create_new(to)?;
        std::io::copy(&mut bytes, &mut file)?;
        file.sync_all()
    });
    copied.map_err(StoreError::io("copying", from))
}

fn copy_files(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::create_dir(to).map_err(StoreError::io("creating", to))?;
    let listed: Result<Vec<PathBuf>, _> =
        from.read_dir().and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    for path in listed.map_err(StoreError::io("listing", from))? {
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.is_dir() {
            copy_files(&path, &target)?;
        } else {
            copy_file(&path, &target)?;
        }
    }
    super::sync_directory(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_unpacked_archive_equals_the_directory_and_damaged_archives_are_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, file) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("it.tar.gz"));
        fs::create_dir_all(from.join("store/blobs")).unwrap();
        fs::write(from.join("store/blobs/1"), vec![7; 300_000]).unwrap();
        fs::write(from.join("end"), "").unwrap();
        fs::write(from.join("lock"), "").unwrap();
        pack_archive(&from, &file).unwrap();
        assert!(pack_archive(&from, &file).is_err(), "nothing is overwritten");
        fs::create_dir(&to).unwrap();
        unpack_archive(&file, &to).unwrap();
        let copied = dir.path().join("copied");
        fs::create_dir(&copied).unwrap();
        copy_data_dir(&from, &copied).unwrap();
        for to in [to, copied] {
            assert_eq!(
                (fs::read(to.join("store/blobs/1")).unwrap(), fs::read(to.join("end")).unwrap()),
                (vec![7; 300_000], Vec::new())
            );
            assert!(!to.join("lock").exists());
        }

        let whole = fs::read(&file).unwrap();
        for damage in 0..2 {
            let mut bytes = whole.clone();
            if damage == 0 {
                // The last bytes of a gzip stream are its checksum and its length.
                let at = bytes.len() - 6;
                bytes[at] ^= 1;
            } else {
                bytes.truncate(bytes.len() - 9);
            }
            let (damaged, to) = (dir.path().join(format!("{damage}.tar.gz")), dir.path().join(format!("to{damage}")));
            fs::write(&damaged, bytes).unwrap();
            fs::create_dir(&to).unwrap();
            assert!(unpack_archive(&damaged, &to).is_err());
        }

        let foreign = dir.path().join("foreign.tar.gz");
        let mut builder = Builder::new(GzEncoder::new(File::create(&foreign).unwrap(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "store", "/etc").unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        let refused = unpack_archive(&foreign, &dir.path().join("to0")).unwrap_err();
        assert!(matches!(refused, StoreError::InvalidBackup { .. }), "{refused}");
    }
}
