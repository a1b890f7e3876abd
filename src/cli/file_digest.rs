//! Digests of whole files, by which an import recognises a file.

use anyhow::Context;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::progress_display::ProgressDisplay;
use crate::ingest::{DecompressedFile, FileError, KeyedDigest};

/// Digest and size of a file.
#[derive(Debug, Clone)]
pub(super) struct FileDigest {
    /// Digest of the decompressed content.
    pub(super) digest: String,
    /// Bytes on the disk.
    pub(super) size: u64,
}

impl FileDigest {
    /// Reads a file to its end, which also shows whether a compressed file is complete.
    ///
    /// # Errors
    /// If the file cannot be read, or its compressed stream is truncated or damaged.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let mut source = DecompressedFile::open(file).map_err(|source| FileError::Open { file: file.to_owned(), source })?;
        let size = source.file().metadata().with_context(|| format!("cannot read {}", file.display()))?.len();
        let progress = ProgressDisplay::new(size, "bytes checked");
        let (mut digest, mut line, mut buffer) = (KeyedDigest::new(&[0; 16]), 1, vec![0; 1 << 20]);
        loop {
            let read = match source.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => return Err(FileError::reading(file.to_owned(), line, source).into()),
            };
            digest.update(read);
            line += read.iter().filter(|byte| **byte == b'\n').count() as u64;
            progress.update(source.bytes_read());
        }
        progress.finish();
        Ok(Self { digest: digest.hex(), size })
    }
}
