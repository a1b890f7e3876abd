//! A file next to the database that records the known end of the journal.
//!
//! If the database's log is damaged, the database treats the damage as the end of the log, and
//! drops all later data without an error. The store detects the shortened journal by the recorded
//! end. Layout: `end: u64 ‖ crc32: u32`, little-endian. The store overwrites the file in place
//! after it has synced the entries, and does not sync the file itself. So the recorded end is never
//! after the journal's end. After a power loss, the recorded end may be too low. The check may then
//! miss a loss of entries, but it never reports a loss that did not happen.

use super::{StoreError, own_file};
use crate::domain::Offset;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
const END_MARKER_FILE: &str = "end";

/// The open end marker, and its content when the store opened it.
#[derive(Debug)]
pub(crate) struct EndMarker {
    file: File,
    path: PathBuf,
    found: Result<Option<Offset>, String>,
}

impl EndMarker {
    /// Opens or creates the end marker of a data directory, and reads it.
    ///
    /// # Errors
    /// Any I/O error.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(END_MARKER_FILE);
        let file = own_file::open(File::options().create(true).truncate(false).read(true).write(true), &path)?;
        let mut bytes = Vec::new();
        (&file).take(64).read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
        Ok(Self { file, path, found: decode_end(&bytes) })
    }

    /// The end that the file contained when it was opened: every entry before this offset was on
    /// the disk. Returns `None` for a new file, and an error with the reason for a damaged file.
    pub(crate) fn end_at_open(&self) -> Result<Option<Offset>, &str> {
        self.found.as_ref().copied().map_err(String::as_str)
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Records that every entry before `end` is on the disk.
    pub(crate) fn advance_to(&self, end: Offset) {
        // A failure is only logged, because the entries themselves are on the disk.
        if let Err(error) = self.file.write_all_at(&encode_end(end), 0) {
            tracing::warn!(path = %self.path.display(), %error, "the journal's end could not be recorded; a later truncation may stay undetected");
        }
    }
}

fn encode_end(end: Offset) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (number, sum) = bytes.split_at_mut(8);
    number.copy_from_slice(&end.to_le_bytes());
    sum.copy_from_slice(&crc32fast::hash(&end.to_le_bytes()).to_le_bytes());
    bytes
}

fn decode_end(found: &[u8]) -> Result<Option<Offset>, String> {
    let Some(number) = found.first_chunk::<8>() else {
        return if found.is_empty() { Ok(None) } else { Err(format!("it has {} bytes, not 12", found.len())) };
    };
    let end = Offset::from_le_bytes(*number);
    if encode_end(end) == found { Ok(Some(end)) } else { Err("its checksum does not match".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_marker_returns_the_recorded_end_and_detects_damage() {
        let dir = tempfile::tempdir().unwrap();
        let marker = EndMarker::open(dir.path()).unwrap();
        assert_eq!(marker.end_at_open(), Ok(None));
        marker.advance_to(7);
        marker.advance_to(300);
        assert_eq!(EndMarker::open(dir.path()).unwrap().end_at_open(), Ok(Some(300)));
        let whole = std::fs::read(marker.path()).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_end(&damaged).is_err(), "bit {bit}");
        }
        for length in 1..whole.len() {
            assert!(decode_end(&whole[..length]).is_err(), "{length} bytes");
        }
    }
}
