//! Opens a database and restores the end of its journal after a crash.

use super::commit_log::LoggedRecord;
use super::engine::Engine;
use super::{Durability, StoreError, StoreOptions, journal_pieces};
use std::path::Path;
use std::sync::atomic::Ordering;

/// Opens the database in `path` as [`Engine::open`] does. Then appends the records of the commit
/// log that the database lost in a crash, and clears the log.
///
/// # Errors
/// As [`super::Store::open`].
pub(super) fn open_engine(
    dir: &Path,
    path: &Path,
    options: &StoreOptions,
    generation: u64,
    lenient: bool,
) -> Result<Engine, StoreError> {
    let (engine, logged) = Engine::open(dir, path, options, generation, lenient)?;
    if !logged.is_empty() {
        append_lost_records(&engine, &logged)?;
        engine.sync(Durability::PowerLoss)?;
    }
    Ok(engine)
}

fn append_lost_records(engine: &Engine, logged: &[LoggedRecord]) -> Result<(), StoreError> {
    let found = engine.journal_end();
    for LoggedRecord { first, entries, record } in logged {
        // The database has the records before its end. If the log continues after a gap, the
        // check of the journal's recorded end reports the missing entries.
        if *first == engine.journal_end() {
            journal_pieces::remove_leftover_pieces(engine, *first)?;
            journal_pieces::write_pieces(engine, *first, record)?;
            engine.end_offset.fetch_add(u64::from(*entries), Ordering::AcqRel);
        }
    }
    let entries = engine.journal_end() - found;
    if entries > 0 {
        tracing::info!(entries, "restored journal entries from the commit log after a crash");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::commit_log::CommitLog;
    use super::super::engine::wait_until_closed;
    use super::super::journal_records::encode_record;
    use super::super::keys::PieceKey;
    use super::super::origins::OriginRuns;
    use super::super::testing::event;
    use super::super::{Durability, Store, StoreOptions};
    use super::*;
    use crate::domain::{Entry, Offset};

    /// Two entries per record; the second record takes several pieces.
    fn record_entries(number: u64) -> Vec<Entry> {
        let mut entries = vec![event(2 * number), event(2 * number + 1)];
        if let (1, Entry::Event(event)) = (number, &mut entries[0]) {
            event.properties = Some("x".repeat(20_000));
        }
        entries
    }

    /// Writes ten records, removes those from `lost` on from the database, and writes the records
    /// from `logged` on to the commit log.
    fn crashed_store(dir: &Path, lost: u64, logged: u64) {
        let store = Store::open(dir, &StoreOptions::default()).unwrap();
        for number in 0..10 {
            store.journal().append(&record_entries(number), Durability::ProcessCrash).unwrap();
        }
        store.close().unwrap();
        let path = dir.join("store");
        wait_until_closed(&path).unwrap();
        let db = sled::open(&path).unwrap();
        let journal = db.open_tree("journal").unwrap();
        for key in journal.range(PieceKey { first: 2 * lost, piece: 0 }.to_bytes()..).keys() {
            journal.remove(key.unwrap()).unwrap();
        }
        db.flush().unwrap();
        drop((journal, db));
        wait_until_closed(&path).unwrap();
        let mut log = CommitLog::open(&path).unwrap().0;
        log.clear().unwrap();
        for number in logged..10 {
            let (first, entries) = (2 * number, record_entries(number));
            let record = encode_record(first, &entries, &OriginRuns::default(), None).unwrap();
            log.append(first, 2, &record, Durability::ProcessCrash).unwrap();
        }
    }

    fn open_journal(dir: &Path) -> Result<Vec<(Offset, Entry)>, StoreError> {
        let store = Store::open(dir, &StoreOptions::default())?;
        let entries = store.journal().read_entries(0, usize::MAX);
        store.close()?;
        entries
    }

    #[test]
    fn an_opening_appends_the_records_that_the_database_lost() {
        for (lost, logged, found) in
            [(10, 0, 10), (10, 10, 10), (9, 9, 10), (4, 0, 10), (1, 1, 10), (0, 0, 10), (4, 6, 4)]
        {
            let dir = tempfile::tempdir().unwrap();
            crashed_store(dir.path(), lost, logged);
            let expected: Vec<_> = (0..).zip((0..found).flat_map(record_entries)).collect();
            for opening in ["first", "second"] {
                assert_eq!(open_journal(dir.path()).unwrap(), expected, "{opening} opening, {lost} {logged}");
            }
            assert_eq!(std::fs::metadata(dir.path().join("store/commits")).unwrap().len(), 0);
        }
    }
}
