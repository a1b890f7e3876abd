//! A log that is followed through its rotations, line by line, from a place that outlives the
//! process.
//!
//! The place names the inode, the byte, and a digest of what stands before that byte: so a file is
//! known again after it was renamed, copied or packed, and one that was emptied is seen to be
//! another.

use regex::Regex;
use serde::{Deserialize, Serialize};
use std::fs::{self, Metadata};
use std::io::{self, BufRead, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::ingest::{DecompressedFile, KeyedDigest};

/// The longest line, in bytes; one that is longer is given out without its text.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// How many bytes before a place its mark stands for.
const MARK_BYTES: usize = 256;
/// How long a file is read after another one took its name: its writer may not have noticed the
/// rotation yet.
const ROTATION_GRACE: Duration = Duration::from_secs(1);

/// A place in a log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogPosition {
    inode: u64,
    /// In the content, unpacked.
    offset: u64,
    /// Stands for the bytes before the offset, at most 256.
    mark: String,
}

/// A line of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogLine {
    /// Where it begins in its file.
    pub(super) offset: u64,
    /// Its bytes without the line's end; `None` if there are too many.
    pub(super) text: Option<Vec<u8>>,
}

/// A log that is followed.
pub(super) struct LogFollower {
    base: PathBuf,
    /// What the rotated files of this log are called.
    rotated: Regex,
    source: Option<LogFileReader>,
    /// Since when another file has the log's name.
    replaced_since: Option<Instant>,
}

/// The log's file without the ending of a rotation: `access.log` for `access.log.2.gz`.
pub(super) fn base_log_path(file: &Path) -> PathBuf {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ending = Regex::new(r"[.\-_]\d[\d.\-_]*(\.(gz|zst))?$").ok();
    let name = ending.map_or(name.clone(), |ending| ending.replace(&name, "").into_owned());
    file.with_file_name(name)
}

impl LogFollower {
    /// Follows a log from a place, or from its beginning. `false` with it if the place is not to be
    /// found any more.
    pub(super) fn new(base: &Path, place: Option<&LogPosition>) -> anyhow::Result<(Self, bool)> {
        let name = base.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let rotated = Regex::new(&format!(r"^{}[.\-_]\d[\d.\-_]*(\.(gz|zst))?$", regex::escape(&name)))?;
        let mut followed = Self { base: base.to_owned(), rotated, source: None, replaced_since: None };
        let found = match place {
            Some(place) => followed.find(place)?,
            None => true,
        };
        followed.open()?;
        Ok((followed, found))
    }

    /// The place behind the last line that was read.
    pub(super) fn position(&self) -> Option<LogPosition> {
        self.source.as_ref().map(LogFileReader::position)
    }

    /// How many bytes of the present file were read from the disk.
    pub(super) fn bytes_read(&self) -> u64 {
        self.source.as_ref().map_or(0, |source| source.decompressed.bytes_read())
    }

    /// Which file is read.
    pub(super) fn current_file(&self) -> &Path {
        self.source.as_ref().map_or(&self.base, |source| &source.path)
    }

    /// At most so many lines; none at the end of what there is.
    pub(super) fn read_lines(&mut self, most: usize) -> io::Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        if let Some(source) = &mut self.source {
            while lines.len() < most
                && let Some(line) = source.next()?
            {
                lines.push(line);
            }
        }
        Ok(lines)
    }

    /// The line without an end at the end of a file that nobody writes any more.
    pub(super) fn take_unterminated_line(&mut self) -> Option<LogLine> {
        self.source.as_mut()?.take_unterminated_line()
    }

    /// Whether what was read is still what stands there. If the file was emptied, it goes on with
    /// the copy that was made of it, or, without one, at its beginning: then the answer is `false`.
    pub(super) fn recover_from_truncation(&mut self) -> io::Result<bool> {
        let Some(source) = &self.source else {
            self.open()?;
            return Ok(true);
        };
        if source.is_intact()? {
            return Ok(true);
        }
        let place = source.position();
        self.source = None;
        let found = place.offset == 0 || self.find_copy(&place)?;
        self.open()?;
        Ok(found)
    }

    /// At the end of a file, moves on to the next one, if there is one. If `patient`, it first
    /// waits until the writer of this file must have noticed the rotation. Returns the unterminated
    /// last line of the file that it leaves.
    pub(super) fn advance_to_next_file(&mut self, patient: bool) -> io::Result<(bool, Option<LogLine>)> {
        let Some(source) = &self.source else { return Ok((self.open()?, None)) };
        let there = metadata(&self.base)?;
        if source.path == self.base && there.as_ref().is_none_or(|there| there.ino() == source.inode) {
            self.replaced_since = None;
            return Ok((false, None));
        }
        let later = self.later_than(source.decompressed.file().metadata()?.modified()?, source.inode)?;
        let next = later.into_iter().next();
        if next.is_none() {
            let is_fresh = patient
                && !source.decompressed.is_compressed
                && self.replaced_since.get_or_insert_with(Instant::now).elapsed() < ROTATION_GRACE;
            if there.is_none() || is_fresh {
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

    /// Opens the log at its beginning, if it is there and nothing else is open.
    fn open(&mut self) -> io::Result<bool> {
        if self.source.is_none() {
            self.source = LogFileReader::open(&self.base, &LogPosition::default())?;
        }
        Ok(self.source.is_some())
    }

    /// Finds the file that a place is in: the log itself, or one of its rotated files.
    fn find(&mut self, place: &LogPosition) -> io::Result<bool> {
        if metadata(&self.base)?.is_some_and(|there| there.ino() == place.inode || place.offset > 0) {
            let source = LogFileReader::open(&self.base, place)?;
            self.source = source.filter(|source| place.offset > 0 || source.inode == place.inode);
            if self.source.is_some() {
                return Ok(true);
            }
        }
        self.find_copy(place)
    }

    /// Finds the rotated file that a place is in.
    fn find_copy(&mut self, place: &LogPosition) -> io::Result<bool> {
        for (_, path) in self.rotated_files()?.into_iter().rev() {
            self.source = LogFileReader::open(&path, place)?.filter(|source| place.offset > 0 || source.inode == place.inode);
            if self.source.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rotated files that were written after that moment, oldest first.
    fn later_than(&self, moment: SystemTime, inode: u64) -> io::Result<Vec<PathBuf>> {
        let mut later = Vec::new();
        for (modified, path) in self.rotated_files()? {
            if modified > moment && metadata(&path)?.is_some_and(|there| there.ino() != inode) {
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
                && let Some(there) = metadata(&entry.path())?
            {
                files.push((there.modified()?, entry.path()));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// What is known of a file; `None` if it is not there.
fn metadata(file: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(file) {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file that is read.
struct LogFileReader {
    path: PathBuf,
    decompressed: DecompressedFile,
    inode: u64,
    /// Where the next line begins.
    offset: u64,
    /// The bytes before it, at most [`MARK_BYTES`].
    preceding_bytes: Vec<u8>,
    /// What is there of the next line.
    partial: Vec<u8>,
    /// How many bytes of it were dropped, since it is too long.
    dropped_bytes: u64,
}

impl LogFileReader {
    /// Opens a file at a place; `None` if it is not there, or the place is not in it.
    fn open(path: &Path, place: &LogPosition) -> io::Result<Option<Self>> {
        let mut unpacked = match DecompressedFile::open(path) {
            Ok(unpacked) => unpacked,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = unpacked.file().metadata()?.ino();
        let marked = place.offset.min(MARK_BYTES as u64);
        let mut before = Vec::new();
        // A packed file that is not whole has not that place.
        let read = unpacked.skip(place.offset - marked).and_then(|()| (&mut unpacked.reader).take(marked).read_to_end(&mut before));
        let is_there = read.is_ok() && before.len() as u64 == marked && (marked == 0 || mark(&before) == place.mark);
        let source = Self {
            path: path.to_owned(),
            decompressed: unpacked,
            inode,
            offset: place.offset,
            preceding_bytes: before,
            partial: Vec::new(),
            dropped_bytes: 0,
        };
        Ok(is_there.then_some(source))
    }

    fn position(&self) -> LogPosition {
        LogPosition { inode: self.inode, offset: self.offset, mark: mark(&self.preceding_bytes) }
    }

    /// Whether the bytes before the place are still those that were read. What is packed does not
    /// change.
    fn is_intact(&self) -> io::Result<bool> {
        if self.decompressed.is_compressed {
            return Ok(true);
        }
        let file = self.decompressed.file();
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

    fn next(&mut self) -> io::Result<Option<LogLine>> {
        loop {
            let read = (&mut self.decompressed.reader).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut self.partial)?;
            if self.partial.ends_with(b"\n") {
                return Ok(Some(self.take_line()));
            }
            if read == 0 {
                return Ok(None);
            }
            if self.partial.len() > MAX_LINE_BYTES {
                // Its last bytes stay, for the mark.
                let dropped = self.partial.len() - MARK_BYTES;
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
        self.preceding_bytes.drain(..self.preceding_bytes.len().saturating_sub(MARK_BYTES));
        let is_whole = std::mem::take(&mut self.dropped_bytes) == 0 && text.len() <= MAX_LINE_BYTES;
        text.truncate(text.trim_ascii_end().len());
        LogLine { offset, text: is_whole.then_some(text) }
    }
}

fn mark(before: &[u8]) -> String {
    KeyedDigest::of_parts(&[0; 16], &[before])
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn append(file: &Path, text: &str) {
        fs::File::options().create(true).append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn texts(lines: Vec<LogLine>) -> Vec<String> {
        lines.into_iter().map(|line| String::from_utf8(line.text.unwrap()).unwrap()).collect()
    }

    /// Everything up to the end of the file that has the log's name.
    fn drain(log: &mut LogFollower) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            log.recover_from_truncation().unwrap();
            let lines = log.read_lines(3).unwrap();
            if lines.is_empty() {
                let (turned, last) = log.advance_to_next_file(false).unwrap();
                read.extend(texts(last.into_iter().collect()));
                if !turned {
                    return read;
                }
            }
            read.extend(texts(lines));
        }
    }

    #[test]
    fn a_line_is_read_once_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        append(&file, "one\ntwo\nthr");
        let (mut log, _) = LogFollower::new(&file, None).unwrap();
        assert_eq!(texts(log.read_lines(100).unwrap()), ["one", "two"]);
        assert_eq!(log.position().unwrap().offset, 8);
        append(&file, "ee\r\n");
        assert_eq!(log.read_lines(100).unwrap(), [LogLine { offset: 8, text: Some(b"three".to_vec()) }]);
        append(&file, &format!("{}\nafter\n", "x".repeat(3 * MAX_LINE_BYTES)));
        let lines = log.read_lines(100).unwrap();
        assert_eq!((lines[0].text.is_none(), lines[1].text.as_deref()), (true, Some(&b"after"[..])));
        let (mut again, found) = LogFollower::new(&file, log.position().as_ref()).unwrap();
        assert!(found && again.read_lines(100).unwrap().is_empty());
    }

    #[test]
    fn a_place_is_found_again_in_a_renamed_a_copied_and_a_packed_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        append(&file, "one\ntwo\n");
        let (mut log, _) = LogFollower::new(&file, None).unwrap();
        assert_eq!(texts(log.read_lines(1).unwrap()), ["one"]);
        let place = log.position().unwrap();
        for way in ["renamed", "copied", "packed"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("access.log");
            let rotated = folder.path().join(if way == "packed" { "access.log.1.gz" } else { "access.log-20261124" });
            match way {
                "packed" => {
                    let mut packed = GzEncoder::new(fs::File::create(&rotated).unwrap(), Compression::fast());
                    packed.write_all(b"one\ntwo\n").unwrap();
                    packed.finish().unwrap();
                }
                _ => append(&rotated, "one\ntwo\n"),
            }
            append(&file, "three\n");
            append(&folder.path().join("access.log.sequor"), "nothing of the log\n");
            let (mut again, found) = LogFollower::new(&file, Some(&place)).unwrap();
            assert!(found, "{way}");
            assert_eq!(drain(&mut again), ["two", "three"], "{way}");
        }
        let (_, found) = LogFollower::new(&folder.path().join("other.log"), Some(&place)).unwrap();
        assert!(!found);
    }

    #[test]
    fn a_file_that_was_emptied_is_read_from_its_copy_and_then_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        append(&file, "one\ntwo\n");
        let (mut log, _) = LogFollower::new(&file, None).unwrap();
        assert_eq!(texts(log.read_lines(1).unwrap()), ["one"]);
        append(&file, "three\n");
        fs::copy(&file, folder.path().join("access.log.1")).unwrap();
        fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
        append(&file, "four, which is longer than all that was there before\n");
        assert_eq!(drain(&mut log), ["two", "three", "four, which is longer than all that was there before"]);
    }

    #[test]
    fn several_rotations_are_read_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        append(&file, "one\n");
        let (mut log, _) = LogFollower::new(&file, None).unwrap();
        assert_eq!(drain(&mut log), ["one"]);
        append(&file, "two\nthr");
        fs::rename(&file, folder.path().join("access.log.2")).unwrap();
        // What was renamed goes on being the log until there is another.
        assert_eq!(drain(&mut log), ["two"]);
        append(&folder.path().join("access.log.2"), "ee");
        std::thread::sleep(Duration::from_millis(20));
        append(&folder.path().join("access.log.1"), "four\n");
        append(&file, "five\n");
        assert_eq!(drain(&mut log), ["three", "four", "five"]);
    }

    #[test]
    fn the_log_of_a_rotated_file() {
        for name in ["access.log", "access.log.1", "access.log.2.gz", "access.log-20261124.gz", "access.log-20261124-1200"] {
            assert_eq!(base_log_path(&Path::new("/var").join(name)), Path::new("/var/access.log"), "{name}");
        }
    }
}
