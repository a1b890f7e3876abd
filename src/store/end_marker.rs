//! How far the journal is known to reach, written beside the database.
//!
//! The database takes damage to its log for the log's end, as it must after a crash: everything
//! behind is gone without a word. This file tells a journal that lost its end from one that never
//! went further. `end: u64 ‖ crc32: u32`, little-endian, overwritten in place once entries are on
//! the disk, and not synced itself: it is never ahead of the journal, and where a loss of power
//! leaves it behind it says less but nothing wrong.

use super::StoreError;
use crate::domain::Offset;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The file's name in the data directory.
const NAME: &str = "end";

/// The file, open.
#[derive(Debug)]
pub(crate) struct EndMarker {
    file: File,
    path: PathBuf,
    found: Result<Option<Offset>, String>,
}

impl EndMarker {
    /// Opens the file of a data directory, creating it if it is not there, and reads what it says.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(NAME);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(StoreError::io("opening", &path))?;
        let mut bytes = Vec::new();
        (&file).take(64).read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
        Ok(Self { file, path, found: read(&bytes) })
    }

    /// What the file said when it was opened: every entry before this offset was on the disk;
    /// `None` if it said nothing yet, the reason if it is damaged.
    pub(crate) fn value_at_open(&self) -> Result<Option<Offset>, &str> {
        self.found.as_ref().copied().map_err(String::as_str)
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down that every entry before `end` is on the disk.
    pub(crate) fn advance(&self, end: Offset) {
        // The entries are safe without it.
        if let Err(error) = self.file.write_all_at(&bytes(end), 0) {
            tracing::warn!(path = %self.path.display(), %error, "how far the journal reaches could not be written down");
        }
    }
}

fn bytes(end: Offset) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (number, sum) = bytes.split_at_mut(8);
    number.copy_from_slice(&end.to_le_bytes());
    sum.copy_from_slice(&crc32fast::hash(&end.to_le_bytes()).to_le_bytes());
    bytes
}

fn read(found: &[u8]) -> Result<Option<Offset>, String> {
    let Some(number) = found.first_chunk::<8>() else {
        return if found.is_empty() { Ok(None) } else { Err(format!("it has {} bytes, not 12", found.len())) };
    };
    let end = Offset::from_le_bytes(*number);
    if bytes(end) == found { Ok(Some(end)) } else { Err("its checksum is another".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_written_and_knows_damage() {
        let dir = tempfile::tempdir().unwrap();
        let reach = EndMarker::open(dir.path()).unwrap();
        assert_eq!(reach.value_at_open(), Ok(None));
        reach.advance(7);
        reach.advance(300);
        assert_eq!(EndMarker::open(dir.path()).unwrap().value_at_open(), Ok(Some(300)));
        let whole = std::fs::read(reach.path()).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged).is_err(), "bit {bit}");
        }
        for length in 1..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length} bytes");
        }
    }
}
