//! The window of event ids as a file, from a clean stop to the next start. Reading a million ids
//! from the journal instead takes about a second.
//!
//! Layout: `from: u64 ‖ (offset: u64 ‖ digest: u128) …`, little-endian. Opening the file removes
//! it, and it is used only if the journal ends at the same offset. So it never describes another
//! journal and never misses later entries. After a kill there is no file, and the start reads the
//! journal.

use super::super::{StoreError, open_checkpoint, write_checkpoint};
use super::dedup::EventIdDigest;
use crate::domain::Offset;
use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

/// The file's name in the data directory.
pub(super) const FILE_NAME: &str = "ids";
/// The bytes of an id: offset and digest.
const ID: usize = size_of::<Offset>() + size_of::<EventIdDigest>();

/// Ids with the offsets of their entries, ascending.
type EventIdsByOffset = VecDeque<(Offset, EventIdDigest)>;

/// Writes down the ids of the entries from `from` up to the journal's end.
///
/// # Errors
/// What the disk says: then there is no file.
pub(super) fn write_ids(
    dir: &Path,
    from: Offset,
    end: Offset,
    ids: impl Iterator<Item = (Offset, EventIdDigest)>,
) -> Result<(), StoreError> {
    let path = dir.join(FILE_NAME);
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

/// Takes the file away, and returns what it says of the entries from `from` up to the journal's
/// end, if it does: `None` if there is none, if it is damaged, or if it says less.
pub(super) fn read_and_remove(dir: &Path, from: Offset, end: Offset) -> Option<EventIdsByOffset> {
    let path = dir.join(FILE_NAME);
    let ids = read(&path, from, end).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "event ids are read from the journal instead");
        None
    });
    remove(dir)
        .inspect_err(|error| tracing::warn!(error = error as &dyn std::error::Error, "a file of event ids stays and is not used"))
        .ok()?;
    ids
}

/// Removes the file, if there is one.
///
/// # Errors
/// What the disk says.
pub(in crate::store) fn remove(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(FILE_NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("removing", &path)(error)),
        _ => Ok(()),
    }
}

fn read(path: &Path, from: Offset, end: Offset) -> Result<Option<EventIdsByOffset>, StoreError> {
    let mut file = match open_checkpoint(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let failed = StoreError::io("reading", path);
    let mut begin = [0; size_of::<Offset>()];
    if let Err(error) = file.read_exact(&mut begin) {
        return Err(failed(error));
    }
    if file.offset() != end || Offset::from_le_bytes(begin) > from {
        return Ok(None);
    }
    let count = file.remaining() / ID as u64;
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

    const IDS: [(Offset, EventIdDigest); 3] = [(3, 7), (4, EventIdDigest::MAX), (8, 1 << 70)];

    fn left() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write_ids(dir.path(), 2, 9, IDS.into_iter()).unwrap();
        dir
    }

    #[test]
    fn what_was_left_is_taken_once() {
        let dir = left();
        assert_eq!(read_and_remove(dir.path(), 2, 9), Some(EventIdsByOffset::from(IDS)));
        assert_eq!(read_and_remove(dir.path(), 2, 9), None);
        assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        assert_eq!(
            read_and_remove(left().path(), 4, 9),
            Some(IDS[1..].iter().copied().collect()),
            "the window became smaller, or the journal lost its head"
        );
    }

    #[test]
    fn a_file_that_does_not_fit_the_journal_is_not_used_and_goes() {
        for (from, end, why) in [(1, 9, "the window became larger"), (2, 10, "the journal went on"), (2, 8, "the journal lost an entry")] {
            let dir = left();
            assert_eq!(read_and_remove(dir.path(), from, end), None, "{why}");
            assert_eq!(dir.path().read_dir().unwrap().count(), 0);
        }
    }

    #[test]
    fn a_damaged_file_is_not_used() {
        let whole = fs::read(left().path().join(FILE_NAME)).unwrap();
        for place in 0..whole.len() {
            let dir = tempfile::tempdir().unwrap();
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 8);
            fs::write(dir.path().join(FILE_NAME), &damaged).unwrap();
            assert_eq!(read_and_remove(dir.path(), 2, 9), None, "byte {place}");
            fs::write(dir.path().join(FILE_NAME), &whole[..place]).unwrap();
            assert_eq!(read_and_remove(dir.path(), 2, 9), None, "{place} bytes");
        }
    }
}
