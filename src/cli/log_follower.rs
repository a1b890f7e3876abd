//! Follows a log file line by line through its rotations, from a position that survives restarts.
//!
//! A position consists of the inode, the byte offset, and a digest of the bytes before the offset.
//! With the digest, the follower finds the file again after it was renamed, copied or compressed,
//! and notices that a file was truncated and rewritten.

use regex::Regex;
use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::io::{self, BufRead, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::ingest::{DecompressedFile, KeyedDigest};

/// Length limit of a line in bytes. A longer line is returned without its text.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// Number of bytes before a position that its digest covers.
const POSITION_DIGEST_BYTES: usize = 256;
/// After a log was renamed, the renamed file is read for this time: the writer may not have opened
/// the new log yet.
const RENAMED_FILE_GRACE_PERIOD: Duration = Duration::from_secs(1);

/// A position in a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogPosition {
    inode: u64,
    /// Byte offset in the uncompressed content.
    offset: u64,
    /// Digest of the last [`POSITION_DIGEST_BYTES`] bytes before the offset, or of all of them if
    /// there are fewer.
    mark: String,
}

/// A line of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    /// Byte offset of the start of the line in its file.
    pub(super) offset: u64,
    /// The text without the line terminator; `None` if the line is too long.
    pub(super) text: Option<Vec<u8>>,
}

/// Reads a log and its rotated files.
pub(super) struct LogFollower {
    base: PathBuf,
    /// Pattern of the names of rotated files.
    rotated: Regex,
    source: Option<LogFileReader>,
    /// The time at which the follower noticed that another file has the name of the log.
    replaced_since: Option<Instant>,
}

/// The path of the log without a rotation suffix: `access.log` for `access.log.2.gz`.
pub(super) fn base_log_path(file: &Path) -> PathBuf {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let suffix = Regex::new(r"[.\-_]\d[\d.\-_]*(\.(gz|zst))?$").ok();
    let name = suffix.map_or(name.clone(), |suffix| suffix.replace(&name, "").into_owned());
    file.with_file_name(name)
}

impl LogFollower {
    /// Starts at a position, or at the start of the log. The returned flag is `false` if no file
    /// contains the position.
    pub(super) fn new(base: &Path, position: Option<&LogPosition>) -> anyhow::Result<(Self, bool)> {
        let name = base.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let rotated = Regex::new(&format!(r"^{}[.\-_]\d[\d.\-_]*(\.(gz|zst))?$", regex::escape(&name)))?;
        let mut follower = Self { base: base.to_owned(), rotated, source: None, replaced_since: None };
        let found = match position {
            Some(position) => follower.open_file_at(position)?,
            None => true,
        };
        follower.open_log()?;
        Ok((follower, found))
    }

    /// The position after the last line read.
    pub(super) fn position(&self) -> Option<LogPosition> {
        self.source.as_ref().map(LogFileReader::position)
    }

    /// The number of bytes that were read from the current file, as stored on the disk.
    pub(super) fn bytes_read(&self) -> u64 {
        self.source.as_ref().map_or(0, |source| source.decompressed.bytes_read())
    }

    /// The file that is being read.
    pub(super) fn current_file(&self) -> &Path {
        self.source.as_ref().map_or(&self.base, |source| &source.path)
    }

    /// Reads up to `limit` complete lines. The result is empty at the end of the file.
    pub(super) fn read_lines(&mut self, limit: usize) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        if let Some(source) = &mut self.source {
            while lines.len() < limit
                && let Some(line) = source.next_line()?
            {
                lines.push(line);
            }
        }
        Ok(lines)
    }

    /// Takes the last line of a file that is no longer written, if it has no terminator.
    pub(super) fn take_unterminated_line(&mut self) -> Option<LogLine> {
        self.source.as_mut()?.take_unterminated_line()
    }

    /// Checks that the file still contains the lines that were read. If it was truncated, continues
    /// in the rotated copy. Without a copy, restarts at the beginning of the file and returns
    /// `false`.
    pub(super) fn recover_from_truncation(&mut self) -> io::Result<bool> {
        let Some(source) = &self.source else {
            self.open_log()?;
            return Ok(true);
        };
        if source.is_intact()? {
            return Ok(true);
        }
        let position = source.position();
        self.source = None;
        let found = position.offset == 0 || self.open_rotated_file_at(&position)?;
        self.open_log()?;
        Ok(found)
    }

    /// At the end of a file, moves to the next file, if there is one. With `wait_for_writer`, the
    /// writer of this file first gets [`RENAMED_FILE_GRACE_PERIOD`] to notice the rotation. Returns
    /// whether it moved, and the unterminated last line of the old file.
    pub(super) fn advance_to_next_file(&mut self, wait_for_writer: bool) -> io::Result<(bool, Option<LogLine>)> {
        let Some(source) = &self.source else { return Ok((self.open_log()?, None)) };
        let base = metadata_if_exists(&self.base)?;
        if source.path == self.base && base.as_ref().is_none_or(|base| base.ino() == source.inode) {
            self.replaced_since = None;
            return Ok((false, None));
        }
        let later = self.rotated_files_after(source.decompressed.open_file().metadata()?.modified()?, source.inode)?;
        let next = later.into_iter().next();
        if next.is_none() {
            let must_wait = wait_for_writer
                && !source.decompressed.is_compressed
                && self.replaced_since.get_or_insert_with(Instant::now).elapsed() < RENAMED_FILE_GRACE_PERIOD;
            if base.is_none() || must_wait {
                return Ok((false, None));
            }
        }
        let Some(next) = LogFileReader::open(next.as_ref().unwrap_or(&self.base), &LogPosition::default())? else {
            return Ok((false, None));
        };
        let last = self.take_unterminated_line();
        self.replaced_since = None;
        self.source = Some(next);
        Ok((true, last))
    }

    /// If no file is open and the log exists, opens the log at its beginning. Returns whether a
    /// file is open.
    fn open_log(&mut self) -> io::Result<bool> {
        if self.source.is_none() {
            self.source = LogFileReader::open(&self.base, &LogPosition::default())?;
        }
        Ok(self.source.is_some())
    }

    /// Opens the file that contains a position: the log itself or one of its rotated files.
    fn open_file_at(&mut self, position: &LogPosition) -> io::Result<bool> {
        if metadata_if_exists(&self.base)?.is_some_and(|found| found.ino() == position.inode || position.offset > 0) {
            let source = LogFileReader::open(&self.base, position)?;
            self.source = source.filter(|source| position.offset > 0 || source.inode == position.inode);
            if self.source.is_some() {
                return Ok(true);
            }
        }
        self.open_rotated_file_at(position)
    }

    /// Opens the rotated file that contains a position.
    fn open_rotated_file_at(&mut self, position: &LogPosition) -> io::Result<bool> {
        for (_, path) in self.rotated_files()?.into_iter().rev() {
            self.source = LogFileReader::open(&path, position)?
                .filter(|source| position.offset > 0 || source.inode == position.inode);
            if self.source.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rotated files modified after `time`, except the one with `inode`, oldest first.
    fn rotated_files_after(&self, time: SystemTime, inode: u64) -> io::Result<Vec<PathBuf>> {
        let mut later = Vec::new();
        for (modified, path) in self.rotated_files()? {
            if modified > time && metadata_if_exists(&path)?.is_some_and(|found| found.ino() != inode) {
                later.push(path);
            }
        }
        Ok(later)
    }

    /// The rotated files, oldest first.
    fn rotated_files(&self) -> io::Result<Vec<(SystemTime, PathBuf)>> {
        let folder = self.base.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if self.rotated.is_match(&entry.file_name().to_string_lossy())
                && let Some(found) = metadata_if_exists(&entry.path())?
            {
                files.push((found.modified()?, entry.path()));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// The metadata of a file; `None` if it does not exist.
fn metadata_if_exists(file: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(file) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reader of one file.
struct LogFileReader {
    path: PathBuf,
    decompressed: DecompressedFile,
    inode: u64,
    /// Byte offset of the next line.
    offset: u64,
    /// The last [`POSITION_DIGEST_BYTES`] bytes before the offset, or all of them if there are
    /// fewer.
    preceding_bytes: Vec<u8>,
    /// The part of the next line that was read so far.
    partial: Vec<u8>,
    /// If the next line is too long: the number of its bytes that were dropped.
    dropped_bytes: u64,
}

impl LogFileReader {
    /// Opens a file at a position. `None` if the file does not exist or does not contain the
    /// position.
    fn open(path: &Path, position: &LogPosition) -> io::Result<Option<Self>> {
        let mut decompressed = match DecompressedFile::open(path) {
            Ok(decompressed) => decompressed,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = decompressed.open_file().metadata()?.ino();
        let marked = position.offset.min(POSITION_DIGEST_BYTES as u64);
        let mut preceding = Vec::new();
        // If a compressed file is truncated, it does not contain the position.
        let read = decompressed
            .skip_bytes(position.offset - marked)
            .and_then(|()| (&mut decompressed.reader).take(marked).read_to_end(&mut preceding));
        let is_match = read.is_ok()
            && preceding.len() as u64 == marked
            && (marked == 0 || position_digest(&preceding) == position.mark);
        let source = Self {
            path: path.to_owned(),
            decompressed,
            inode,
            offset: position.offset,
            preceding_bytes: preceding,
            partial: Vec::new(),
            dropped_bytes: 0,
        };
        Ok(is_match.then_some(source))
    }

    fn position(&self) -> LogPosition {
        LogPosition { inode: self.inode, offset: self.offset, mark: position_digest(&self.preceding_bytes) }
    }

    /// Whether the bytes before the offset are still those that were read. Compressed files are not
    /// checked, because they do not change.
    fn is_intact(&self) -> io::Result<bool> {
        if self.decompressed.is_compressed {
            return Ok(true);
        }
        let file = self.decompressed.open_file();
        if file.metadata()?.len() < self.offset + self.dropped_bytes + self.partial.len() as u64 {
            return Ok(false);
        }
        let mut found = vec![0; self.preceding_bytes.len()];
        match file.read_exact_at(&mut found, self.offset - self.preceding_bytes.len() as u64) {
            Ok(()) => Ok(found == self.preceding_bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn next_line(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            let read = (&mut self.decompressed.reader).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut self.partial);
            let read = read.map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => {
                    io::Error::new(error.kind(), "the compressed stream ends too early; the file is truncated")
                }
                _ => error,
            })?;
            if self.partial.ends_with(b"\n") {
                return Ok(Some(self.take_line()));
            }
            if read == 0 {
                return Ok(None);
            }
            if self.partial.len() > MAX_LINE_BYTES {
                // Drops the bytes of the line except the last ones, which the digest needs.
                let dropped = self.partial.len() - POSITION_DIGEST_BYTES;
                self.dropped_bytes += dropped as u64;
                self.partial.drain(..dropped);
            }
        }
    }

    fn take_unterminated_line(&mut self) -> Option<LogLine> {
        (!self.partial.is_empty()).then(|| self.take_line())
    }

    fn take_line(&mut self) -> LogLine {
        let mut text = std::mem::take(&mut self.partial);
        let offset = self.offset;
        self.offset += self.dropped_bytes + text.len() as u64;
        self.preceding_bytes.extend_from_slice(&text);
        self.preceding_bytes.drain(..self.preceding_bytes.len().saturating_sub(POSITION_DIGEST_BYTES));
        let is_complete = std::mem::take(&mut self.dropped_bytes) == 0 && text.len() <= MAX_LINE_BYTES;
        text.truncate(text.trim_ascii_end().len());
        LogLine { offset, text: is_complete.then_some(text) }
    }
}

fn position_digest(preceding: &[u8]) -> String {
    KeyedDigest::hex_digest_of_parts(&[0; 16], &[preceding])
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn append_text(file: &Path, text: &str) {
        fs::File::options().create(true).append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn line_texts(lines: Vec<LogLine>) -> Vec<String> {
        lines.into_iter().map(|line| String::from_utf8(line.text.unwrap()).unwrap()).collect()
    }

    /// All lines up to the end of the current log.
    fn read_all_lines(log: &mut LogFollower) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            log.recover_from_truncation().unwrap();
            let lines = log.read_lines(3).unwrap();
            if lines.is_empty() {
                let (has_moved, last) = log.advance_to_next_file(false).unwrap();
                read.extend(line_texts(last.into_iter().collect()));
                if !has_moved {
                    return read;
                }
            }
            read.extend(line_texts(lines));
        }
    }

    #[test]
    fn a_line_is_read_once_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        append_text(&file, "one\ntwo\nthr");
        let (mut log, _) = LogFollower::new(&file, None).unwrap();
        assert_eq!(line_texts(log.read_lines(100).unwrap()), ["one", "two"]);
        assert_eq!(log.position().unwrap().offset, 8);
        append_text(&file, "ee\r\n");
        assert_eq!(log.read_lines(100).unwrap(), [LogLine { offset: 8, text: Some(b"three".to_vec()) }]);
        append_text(&file, &format!("{}\nafter\n", "x".repeat(3 * MAX_LINE_BYTES)));
        let lines = log.read_lines(100).unwrap();
        assert_eq!((lines[0].text.is_none(), lines[1].text.as_deref()), (true, Some(&b"after"[..])));
        let (mut again, found) = LogFollower::new(&file, log.position().as_ref()).unwrap();
        assert!(found && again.read_lines(100).unwrap().is_empty());
    }

    #[test]
    fn a_position_is_found_in_a_renamed_a_copied_and_a_compressed_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        append_text(&file, "one\ntwo\n");
        let (mut log, _) = LogFollower::new(&file, None).unwrap();
        assert_eq!(line_texts(log.read_lines(1).unwrap()), ["one"]);
        let position = log.position().unwrap();
        for method in ["renamed", "copied", "compressed"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("access.log");
            let rotated =
                folder.path().join(if method == "compressed" { "access.log.1.gz" } else { "access.log-20261124" });
            match method {
                "compressed" => {
                    let mut encoder = GzEncoder::new(fs::File::create(&rotated).unwrap(), Compression::fast());
                    encoder.write_all(b"one\ntwo\n").unwrap();
                    encoder.finish().unwrap();
                }
                _ => append_text(&rotated, "one\ntwo\n"),
            }
            append_text(&file, "three\n");
            append_text(&folder.path().join("access.log.sequor"), "another file\n");
            let (mut again, found) = LogFollower::new(&file, Some(&position)).unwrap();
            assert!(found, "{method}");
            assert_eq!(read_all_lines(&mut again), ["two", "three"], "{method}");
        }
        let (_, found) = LogFollower::new(&folder.path().join("other.log"), Some(&position)).unwrap();
        assert!(!found);
    }

    #[test]
    fn a_truncated_file_is_read_from_its_copy_and_then_from_its_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        append_text(&file, "one\ntwo\n");
        let (mut log, _) = LogFollower::new(&file, None).unwrap();
        assert_eq!(line_texts(log.read_lines(1).unwrap()), ["one"]);
        append_text(&file, "three\n");
        fs::copy(&file, folder.path().join("access.log.1")).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
        append_text(&file, "four, which is longer than all that was there before\n");
        assert_eq!(read_all_lines(&mut log), ["two", "three", "four, which is longer than all that was there before"]);
    }

    #[test]
    fn several_rotations_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        append_text(&file, "one\n");
        let (mut log, _) = LogFollower::new(&file, None).unwrap();
        assert_eq!(read_all_lines(&mut log), ["one"]);
        append_text(&file, "two\nthr");
        fs::rename(&file, folder.path().join("access.log.2")).unwrap();
        // The renamed file remains the log until a new one exists.
        assert_eq!(read_all_lines(&mut log), ["two"]);
        append_text(&folder.path().join("access.log.2"), "ee");
        std::thread::sleep(Duration::from_millis(20));
        append_text(&folder.path().join("access.log.1"), "four\n");
        append_text(&file, "five\n");
        assert_eq!(read_all_lines(&mut log), ["three", "four", "five"]);
    }

    #[test]
    fn finds_the_base_path_of_a_rotated_file() {
        for name in
            ["access.log", "access.log.1", "access.log.2.gz", "access.log-20261124.gz", "access.log-20261124-1200"]
        {
            assert_eq!(base_log_path(&Path::new("/var").join(name)), Path::new("/var/access.log"), "{name}");
        }
    }
}
