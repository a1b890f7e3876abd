//! The commit log: a small write-ahead file of the journal records that the database may not have
//! synced yet.
//!
//! Syncing the embedded database for every commit is expensive: a flush wakes all its worker
//! threads. So a commit writes its record to the database without a flush, and appends the record
//! to the commit log, which is one `write` and one `fdatasync`. When the log is full, the database
//! is synced once, and the log is cleared. After a crash, the next opening appends the records that
//! the database lost.
//!
//! ```text
//! log    = frame ‖ frame ‖ … ‖ zeros
//! frame  = record length: u32 ‖ entries: u32 ‖ first offset: u64 ‖ checksum: u32 ‖ record
//! ```
//!
//! All numbers are little-endian. The checksum is the CRC-32 of the other header fields and the
//! record. A reader stops at the first invalid frame, which is the end of the log or an append that
//! a crash interrupted. The log file is in the database's directory, so it is replaced and removed
//! together with the database.

use super::{Durability, StoreError, own_file};
use crate::domain::Offset;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Name of the file in the database's directory.
const COMMIT_LOG_FILE: &str = "commits";
/// Maximum size of the log, in bytes. An opening after a crash appends at most this many bytes.
const MAX_LOG_BYTES: u64 = 4 << 20;
/// The file grows in steps of this many zero bytes. An append within the file changes no metadata,
/// which makes its sync cheaper.
const GROWTH_BYTES: u64 = 64 << 10;
/// Length of a frame's header, in bytes.
const HEADER_BYTES: usize = 20;

/// A journal record of the commit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoggedRecord {
    /// Offset of the record's first entry.
    pub(super) first: Offset,
    /// Number of entries.
    pub(super) entries: u32,
    /// The encoded record.
    pub(super) record: Vec<u8>,
}

/// The open commit log of a database.
#[derive(Debug)]
pub(super) struct CommitLog {
    file: File,
    path: PathBuf,
    /// Length of the valid frames, in bytes. The next frame starts here.
    used: u64,
    /// Length of the file, in bytes.
    length: u64,
}

impl CommitLog {
    /// Opens or creates the log in the directory of a database, and reads its records.
    ///
    /// # Errors
    /// Any I/O error.
    pub(super) fn open(directory: &Path) -> Result<(Self, Vec<LoggedRecord>), StoreError> {
        let path = directory.join(COMMIT_LOG_FILE);
        let file = own_file::open(File::options().create(true).truncate(false).read(true).write(true), &path)?;
        let mut bytes = Vec::new();
        (&file).take(MAX_LOG_BYTES).read_to_end(&mut bytes).map_err(StoreError::io("reading", &path))?;
        let (records, used) = read_frames(&bytes);
        let mut log = Self { file, path, used: used as u64, length: bytes.len() as u64 };
        if records.is_empty() {
            // An interrupted append may have left bytes. The next appends must not make a later part
            // of them valid again.
            log.clear()?;
        }
        Ok((log, records))
    }

    /// Path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the log has no room for a record of `record_bytes` bytes.
    pub(super) fn is_full(&self, record_bytes: usize) -> bool {
        self.used + (HEADER_BYTES + record_bytes) as u64 > MAX_LOG_BYTES
    }

    /// Appends a record of `entries` entries that starts at offset `first`.
    ///
    /// # Errors
    /// Any I/O error. The log may then contain the record or not.
    pub(super) fn append(
        &mut self,
        first: Offset,
        entries: u32,
        record: &[u8],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let frame = encode_frame(first, entries, record);
        let end = self.used + frame.len() as u64;
        let mut written = Ok(());
        if end > self.length {
            let length = end.next_multiple_of(GROWTH_BYTES);
            let zeros = vec![0; usize::try_from(length - self.length).unwrap_or_default()];
            written = self.file.write_all_at(&zeros, self.length);
            self.length = length;
        }
        written = written.and_then(|()| self.file.write_all_at(&frame, self.used));
        if durability == Durability::PowerLoss {
            written = written.and_then(|()| self.file.sync_data());
        }
        self.used = end;
        written.map_err(StoreError::io("writing", &self.path))
    }

    /// Removes all records. The database must have synced them. The removal itself is not synced:
    /// if a crash undoes it, the next opening finds the records in the database and skips them.
    ///
    /// # Errors
    /// Any I/O error.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        if self.length > 0 {
            self.file.set_len(0).map_err(StoreError::io("truncating", &self.path))?;
        }
        (self.used, self.length) = (0, 0);
        Ok(())
    }
}

fn checksum(header: &[u8], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(record);
    hasher.finalize()
}

fn encode_frame(first: Offset, entries: u32, record: &[u8]) -> Vec<u8> {
    // The conversion cannot fail: a full log takes no record of four gigabytes.
    let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(HEADER_BYTES + record.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&entries.to_le_bytes());
    frame.extend_from_slice(&first.to_le_bytes());
    frame.extend_from_slice(&checksum(&frame, record).to_le_bytes());
    frame.extend_from_slice(record);
    frame
}

/// Reads the valid frames at the start of `bytes`. Returns their records and their total length.
fn read_frames(bytes: &[u8]) -> (Vec<LoggedRecord>, usize) {
    let (mut records, mut rest) = (Vec::new(), bytes);
    while let Some((record, after)) = read_frame(rest) {
        records.push(record);
        rest = after;
    }
    (records, bytes.len() - rest.len())
}

/// Reads the frame at the start of `bytes`; `None` if it is invalid.
fn read_frame(bytes: &[u8]) -> Option<(LoggedRecord, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (entries, rest) = rest.split_first_chunk::<4>()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (record, after) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let header = bytes.get(..HEADER_BYTES - size_of::<u32>())?;
    // Every record has at least an envelope, so zeros are no frame.
    let is_valid = !record.is_empty() && checksum(header, record) == u32::from_le_bytes(*sum);
    let (first, entries) = (Offset::from_le_bytes(*first), u32::from_le_bytes(*entries));
    is_valid.then(|| (LoggedRecord { first, entries, record: record.to_vec() }, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn logged(first: Offset, entries: u32, record: Vec<u8>) -> LoggedRecord {
        LoggedRecord { first, entries, record }
    }

    fn append(log: &mut CommitLog, LoggedRecord { first, entries, record }: &LoggedRecord) {
        log.append(*first, *entries, record, Durability::ProcessCrash).unwrap();
    }

    fn any_records() -> impl Strategy<Value = Vec<LoggedRecord>> {
        let record = (any::<u64>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 1..300));
        proptest::collection::vec(record.prop_map(|(first, entries, record)| logged(first, entries, record)), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_opened_log_holds_the_appended_records(before in any_records(), kept in any_records(), after in any_records()) {
            let dir = tempfile::tempdir().unwrap();
            let (mut log, found) = CommitLog::open(dir.path()).unwrap();
            prop_assert_eq!(found, []);
            before.iter().for_each(|record| append(&mut log, record));
            log.clear().unwrap();
            kept.iter().for_each(|record| append(&mut log, record));
            let (mut log, found) = CommitLog::open(dir.path()).unwrap();
            prop_assert_eq!(&found, &kept);
            after.iter().for_each(|record| append(&mut log, record));
            prop_assert_eq!(CommitLog::open(dir.path()).unwrap().1, [kept, after].concat());
        }

        #[test]
        fn a_torn_or_damaged_log_holds_the_records_before_the_damage(
            records in any_records(),
            cut in any::<prop::sample::Index>(),
            bit in any::<prop::sample::Index>(),
        ) {
            let frames: Vec<_> = records.iter().map(|r| encode_frame(r.first, r.entries, &r.record)).collect();
            let bytes = frames.concat();
            let whole_frames_in = |length: usize| {
                frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }).filter(|end| *end <= length).count()
            };
            let cut = cut.index(bytes.len() + 1);
            prop_assert_eq!(&read_frames(&bytes[..cut]).0, &records[..whole_frames_in(cut)]);
            if !bytes.is_empty() {
                let bit = bit.index(bytes.len() * 8);
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(&read_frames(&damaged).0, &records[..whole_frames_in(bit / 8)]);
            }
        }
    }

    #[test]
    fn an_opening_removes_the_rest_of_an_interrupted_append() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(COMMIT_LOG_FILE);
        let frames = [encode_frame(0, 1, b"first"), encode_frame(1, 1, b"second")];
        let mut bytes = frames.concat();
        bytes[HEADER_BYTES] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (mut log, found) = CommitLog::open(dir.path()).unwrap();
        assert_eq!((found, std::fs::metadata(&path).unwrap().len()), (Vec::new(), 0));
        // Without the removal, the second frame would follow this one.
        append(&mut log, &logged(0, 1, b"other".to_vec()));
        assert_eq!(CommitLog::open(dir.path()).unwrap().1, [logged(0, 1, b"other".to_vec())]);
    }

    #[test]
    fn the_bytes_of_a_frame_are_those_of_format_7() {
        let length_entries_and_first = [6, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        // The CRC-32 of these bytes and the record is 0x7159d0bc.
        let frame = [&length_entries_and_first[..], &[0xbc, 0xd0, 0x59, 0x71], b"record"].concat();
        assert_eq!(encode_frame(5, 2, b"record"), frame);
        assert_eq!(read_frames(&frame), (vec![logged(5, 2, b"record".to_vec())], frame.len()));
    }

    #[test]
    fn the_log_is_full_before_it_exceeds_its_maximum_size() {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, _) = CommitLog::open(dir.path()).unwrap();
        let record = vec![7; 100_000];
        let mut first = 0;
        while !log.is_full(record.len()) {
            log.append(first, 1, &record, Durability::ProcessCrash).unwrap();
            first += 1;
        }
        assert_eq!(first, MAX_LOG_BYTES / (record.len() + HEADER_BYTES) as u64);
        assert!(std::fs::metadata(&log.path).unwrap().len() <= MAX_LOG_BYTES);
        assert!(!log.is_full(10));
        log.clear().unwrap();
        assert!(!log.is_full(record.len()) && log.is_full(MAX_LOG_BYTES as usize));
        assert_eq!(std::fs::metadata(&log.path).unwrap().len(), 0);
    }
}
