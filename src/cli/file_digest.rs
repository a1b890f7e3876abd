//! Digests of whole files. An import recognises a file by its digest.

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
    /// Size of the decompressed content.
    pub(super) content_bytes: u64,
    /// Size on the disk.
    pub(super) disk_bytes: u64,
    /// Digest of the first `prefix_bytes` bytes of the content; see [`FileDigest::of_file`]. `None`
    /// if no content follows these bytes, or if they do not end at the end of a line.
    pub(super) prefix_digest: Option<String>,
}

/// Digest of the content read so far.
struct RunningDigest {
    digest: KeyedDigest,
    bytes: u64,
    last: Option<u8>,
    prefix_bytes: u64,
    prefix_digest: Option<String>,
}

impl RunningDigest {
    fn update(&mut self, content: &[u8]) {
        let (before, after) = content.split_at(
            usize::try_from(self.prefix_bytes - self.bytes.min(self.prefix_bytes))
                .unwrap_or(usize::MAX)
                .min(content.len()),
        );
        self.append_content(before);
        if self.bytes == self.prefix_bytes
            && self.prefix_digest.is_none()
            && let Some(next) = after.first()
        {
            let is_line_end = self.last == Some(b'\n') || [b'\n', b'\r'].contains(next);
            self.prefix_digest = is_line_end.then(|| self.digest.to_hex());
        }
        self.append_content(after);
    }

    fn append_content(&mut self, content: &[u8]) {
        self.digest.update(content);
        self.bytes += content.len() as u64;
        self.last = content.last().copied().or(self.last);
    }
}

impl FileDigest {
    /// Computes the digest of a file, and the digest of the first `prefix_bytes` bytes of its
    /// content. Reads the file to its end, so an incomplete compressed file is an error.
    ///
    /// # Errors
    /// If the file cannot be read, or its compressed stream is truncated or damaged.
    pub(super) fn of_file(file: &Path, prefix_bytes: u64) -> anyhow::Result<Self> {
        let mut source =
            DecompressedFile::open(file).map_err(|source| FileError::Open { file: file.to_owned(), source })?;
        let size = source.open_file().metadata().with_context(|| format!("cannot read {}", file.display()))?.len();
        let progress = ProgressDisplay::new(size, "bytes checked");
        let mut running = RunningDigest {
            digest: KeyedDigest::new(&[0; 16]),
            bytes: 0,
            last: None,
            prefix_bytes,
            prefix_digest: None,
        };
        let (mut line, mut buffer) = (1, vec![0; 1 << 20]);
        loop {
            let read = match source.reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => buffer.get(..read).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(source) => return Err(FileError::from_read_error(file.to_owned(), line, source).into()),
            };
            running.update(read);
            line += read.iter().filter(|byte| **byte == b'\n').count() as u64;
            progress.update(source.bytes_read());
        }
        progress.finish();
        Ok(Self {
            digest: running.digest.to_hex(),
            content_bytes: running.bytes,
            disk_bytes: size,
            prefix_digest: running.prefix_digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of_content(content: &str, prefix: u64) -> FileDigest {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        FileDigest::of_file(file.path(), prefix).unwrap()
    }

    #[test]
    fn recognises_a_file_that_has_grown_by_whole_lines() {
        let before = digest_of_content("a\nb\n", 0);
        assert_eq!(before.content_bytes, 4);
        assert_eq!(digest_of_content("a\nb\nc\n", 4).prefix_digest, Some(before.digest.clone()));
        assert_ne!(digest_of_content("a\nx\nc\n", 4).prefix_digest, Some(before.digest.clone()));
        assert_eq!(digest_of_content("a\nb\n", 4).prefix_digest, None);
        assert_eq!(digest_of_content("a\nb\n", 4).digest, before.digest);
        // The last line of the smaller file has no line end.
        assert_eq!(digest_of_content("a\nb\nc\n", 3).prefix_digest, Some(digest_of_content("a\nb", 0).digest));
        assert_eq!(digest_of_content("a\nbc\n", 3).prefix_digest, None);
    }
}
