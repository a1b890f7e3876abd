//! A clean stop stores the deduplication window in a file, which the next start reads. Without the
//! file, a start reads the ids from the journal, which takes about a second per million ids.
//!
//! Layout: `from: u64 ‖ (offset: u64 ‖ digest: u128) …`, little-endian. A start reads and removes
//! the file, and uses its content only if the journal ends at the same offset. So it never uses the
//! ids of another journal, or ids that lack later entries. If the process was killed, there is no
//! file, and the next start reads the journal.

use super::super::{StoreError, open_checkpoint, write_checkpoint};
use super::dedup::EventIdDigest;
use crate::domain::Offset;
use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// Name of the file in the data directory.
pub(super) const EVENT_ID_FILE: &str = "ids";
/// Size of a stored id (offset and digest), in bytes.
const STORED_ID_BYTES: usize = size_of::<Offset>() + size_of::<EventIdDigest>();

/// Event ids with the offsets of their entries, ascending.
type EventIdsByOffset = VecDeque<(Offset, EventIdDigest)>;

/// Writes the ids of the entries from `from` up to the journal's end.
///
/// # Errors
/// Any I/O error. No file remains after an error.
pub(super) fn write_ids(
    dir: &Path,
    from: Offset,
    end: Offset,
    ids: impl Iterator<Item = (Offset, EventIdDigest)>,
) -> Result<(), StoreError> {
    let path = dir.join(EVENT_ID_FILE);
    write_checkpoint(&path, end, |file| {
        let write = || {
            file.write_all(&from.to_le_bytes())?;
            for (offset, id) in ids {
                file.write_all(&offset.to_le_bytes())?;
                file.write_all(&id.to_le_bytes())?;
            }
            Ok(())
        };
        write().map_err(StoreError::io("writing", &path))
    })
    .map(drop)
}

/// Reads and removes the file. Returns the ids of the entries from `from` up to the journal's end.
/// Returns `None` if the file is missing or damaged, or if it does not cover these entries.
pub(super) fn read_and_remove(dir: &Path, from: Offset, end: Offset) -> Option<EventIdsByOffset> {
    let path = dir.join(EVENT_ID_FILE);
    let ids = read_event_ids(&path, from, end).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "the file of event ids is damaged; the ids are read from the journal");
        None
    });
    remove_event_id_file(dir)
        .inspect_err(|error| {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "the file of event ids cannot be removed and is ignored"
            )
        })
        .ok()?;
    ids
}

/// Removes the file, if it exists.
///
/// # Errors
/// Any I/O error.
pub(in crate::store) fn remove_event_id_file(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(EVENT_ID_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("removing", &path)(error)),
        _ => Ok(()),
    }
}

fn read_event_ids(path: &Path, from: Offset, end: Offset) -> Result<Option<EventIdsByOffset>, StoreError> {
    let mut file = match open_checkpoint(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let failed = StoreError::io("reading", path);
    let mut file_from = [0; size_of::<Offset>()];
    if let Err(error) = file.read_exact(&mut file_from) {
        return Err(failed(error));
    }
    if file.offset() != end || Offset::from_le_bytes(file_from) > from {
        return Ok(None);
    }
    let count = file.remaining() / STORED_ID_BYTES as u64;
    let mut ids = EventIdsByOffset::with_capacity(usize::try_from(count).unwrap_or_default());
    for _ in 0..count {
        let (mut offset, mut id) = ([0; size_of::<Offset>()], [0; size_of::<EventIdDigest>()]);
        if let Err(error) = file.read_exact(&mut offset).and_then(|()| file.read_exact(&mut id)) {
            return Err(failed(error));
        }
        let offset = Offset::from_le_bytes(offset);
        if offset >= from {
            ids.push_back((offset, EventIdDigest::from_le_bytes(id)));
        }
    }
    Ok(Some(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE_IDS: [(Offset, EventIdDigest); 3] = [(3, 7), (4, EventIdDigest::MAX), (8, 1 << 70)];

    fn dir_with_file() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write_ids(dir.path(), 2, 9, SAMPLE_IDS.into_iter()).unwrap();
        dir
    }

    #[test]
    fn reading_the_event_id_file_removes_it() {
        let dir = dir_with_file();
        assert_eq!(read_and_remove(dir.path(), 2, 9), Some(EventIdsByOffset::from(SAMPLE_IDS)));
        assert_eq!(read_and_remove(dir.path(), 2, 9), None);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        assert_eq!(
            read_and_remove(dir_with_file().path(), 4, 9),
            Some(SAMPLE_IDS[1..].iter().copied().collect()),
            "the window became smaller, or the journal's head was dropped"
        );
    }

    #[test]
    fn an_event_id_file_of_another_journal_end_is_ignored_and_removed() {
        for (from, end, why) in
            [(1, 9, "the window became larger"), (2, 10, "the journal went on"), (2, 8, "the journal lost an entry")]
        {
            let dir = dir_with_file();
            assert_eq!(read_and_remove(dir.path(), from, end), None, "{why}");
            assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        }
    }

    #[test]
    fn a_damaged_event_id_file_is_ignored() {
        let whole = fs::read(dir_with_file().path().join(EVENT_ID_FILE)).unwrap();
        for index in 0..whole.len() {
            let dir = tempfile::tempdir().unwrap();
            let mut damaged = whole.clone();
            damaged[index] ^= 1 << (index % 8);
            fs::write(dir.path().join(EVENT_ID_FILE), &damaged).unwrap();
            assert_eq!(read_and_remove(dir.path(), 2, 9), None, "byte {index}");
            fs::write(dir.path().join(EVENT_ID_FILE), &whole[..index]).unwrap();
            assert_eq!(read_and_remove(dir.path(), 2, 9), None, "{index} bytes");
        }
    }
}
