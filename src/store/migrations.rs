//! Migrates a store to the current format in ordered steps. Each step is synced before the format
//! number is raised.

use super::{StoreError, journal_records};
use std::path::Path;

/// The format number that this binary writes.
pub const STORE_FORMAT: u32 = 9;

/// Key of the format number in the database's default tree; the value is a little-endian `u32`.
const FORMAT_KEY: &[u8] = b"format";

/// A migration step from format `from` to `from + 1`.
pub(crate) struct Migration {
    /// The format that the step starts from.
    pub(crate) from: u32,
    /// Rewrites the stored values. An interrupted step runs again, so it must skip values that are
    /// already migrated.
    pub(crate) run: fn(&sled::Db) -> Result<(), StoreError>,
}

/// All migration steps, in order. To add a step, see migrations/README.md. The steps from format 2
/// on change only the format number. Older binaries then refuse to open the store, whose journal
/// may contain entries that they cannot read or find:
///
/// - since 3: model operations;
///
/// - since 4: consent changes and erasures;
///
/// - since 5: expiries;
///
/// - since 6: origins at the end of records, and purges;
///
/// - since 7: entries that are only in the commit log;
///
/// - since 8: item changes with vectors;
///
/// - since 9: changes of placements and rules, details of events, impressions and items, and attributes of
///   users.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { from: 1, run: store_first_offset },
    Migration { from: 2, run: |_| Ok(()) },
    Migration { from: 3, run: |_| Ok(()) },
    Migration { from: 4, run: |_| Ok(()) },
    Migration { from: 5, run: |_| Ok(()) },
    Migration { from: 6, run: |_| Ok(()) },
    Migration { from: 7, run: |_| Ok(()) },
    Migration { from: 8, run: |_| Ok(()) },
];

/// Migrates format 1 to 2: stores the journal's first offset, because retention can now remove the
/// oldest entries.
fn store_first_offset(db: &sled::Db) -> Result<(), StoreError> {
    if journal_records::read_first_offset(db)? > 0 { Ok(()) } else { journal_records::write_first_offset(db, 0) }
}

/// Runs the steps that bring the store to the format `target`. Returns the format that the store
/// had before the steps. `sync` makes all earlier writes durable.
///
/// # Errors
/// [`StoreError::NewerFormat`] or [`StoreError::MissingFormat`] if this binary cannot read the
/// store, [`StoreError::NoMigration`] if a step is missing, or any error of a step or a sync.
pub(crate) fn migrate(
    db: &sled::Db,
    dir: &Path,
    target: u32,
    steps: &[Migration],
    sync: impl Fn() -> Result<(), StoreError>,
) -> Result<u32, StoreError> {
    let failed = |source| StoreError::Database { action: "migrating", path: dir.to_owned(), source };
    let raise = |format: u32| {
        db.insert(FORMAT_KEY, &format.to_le_bytes()).map_err(failed)?;
        sync()
    };
    let Some(format) = db.get(FORMAT_KEY).map_err(failed)? else {
        // A store that was just created has only the default tree, which is empty.
        let is_fresh = db.is_empty() && db.tree_names().len() <= 1;
        return if is_fresh {
            raise(target).map(|()| target)
        } else {
            Err(StoreError::MissingFormat { dir: dir.to_owned() })
        };
    };
    let format = <[u8; 4]>::try_from(format.as_ref()).map_err(|_| StoreError::MissingFormat { dir: dir.to_owned() })?;
    let initial = u32::from_le_bytes(format);
    let mut found = initial;
    if found > target {
        return Err(StoreError::NewerFormat { dir: dir.to_owned(), found, supported: target });
    }
    while found < target {
        let step = steps.iter().find(|step| step.from == found).ok_or(StoreError::NoMigration { found })?;
        (step.run)(db)?;
        sync()?;
        found += 1;
        raise(found)?;
        tracing::info!(format = found, "the store was migrated");
    }
    Ok(initial)
}

#[cfg(test)]
mod tests {
    use super::super::testing::copy_directory;
    use super::super::{Committer, CommitterSettings, Store, StoreOptions};
    use super::*;

    /// The fixtures contain one store per earlier format. Each holds 120 views of seven items by
    /// seven users, and one catalog change.
    #[test]
    fn every_earlier_format_is_migrated_and_reads_the_same() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/fixtures");
        for format in 1..STORE_FORMAT {
            let dir = copy_directory(&fixtures.join(format.to_string()));
            for _ in 0..2 {
                let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
                let db = &store.engine().unwrap().db;
                assert_eq!(db.get(FORMAT_KEY).unwrap().unwrap().as_ref(), STORE_FORMAT.to_le_bytes());
                assert_eq!(store.journal().first_offset().unwrap(), 0);
                let entries = store.journal().read_entries(0, 1000).unwrap();
                assert_eq!(entries.len(), 121);
                let event = entries[119].1.as_event().unwrap();
                assert_eq!(
                    (event.user_id.as_str(), event.item_id.as_deref(), event.timestamp),
                    ("user0", Some("item0"), 1_700_000_119_000)
                );
                assert_eq!(store.sessions().get("user3").unwrap().unwrap().sequence.steps.len(), 17);
                assert_eq!(Committer::open(store.clone(), CommitterSettings::default()).unwrap().dictionary().len(), 7);
            }
        }
    }

    fn empty_database() -> sled::Db {
        sled::Config::new().temporary(true).open().unwrap()
    }

    fn append_byte(db: &sled::Db, value: u8) -> Result<(), StoreError> {
        db.insert("steps", [db.get("steps").unwrap().unwrap_or_default().as_ref(), &[value]].concat()).unwrap();
        Ok(())
    }

    const MIGRATIONS: &[Migration] =
        &[Migration { from: 1, run: |db| append_byte(db, 1) }, Migration { from: 2, run: |db| append_byte(db, 2) }];

    #[test]
    fn a_fresh_store_gets_the_target_format_and_runs_no_steps() {
        let db = empty_database();
        migrate(&db, Path::new("d"), 3, MIGRATIONS, || Ok(())).unwrap();
        assert_eq!(db.get("steps").unwrap(), None);
        assert_eq!(db.get(FORMAT_KEY).unwrap().unwrap().as_ref(), 3_u32.to_le_bytes());
    }

    #[test]
    fn steps_run_once_and_in_order() {
        let db = empty_database();
        migrate(&db, Path::new("d"), 1, MIGRATIONS, || Ok(())).unwrap();
        for found in [1, 3] {
            assert_eq!(migrate(&db, Path::new("d"), 3, MIGRATIONS, || Ok(())).unwrap(), found);
            assert_eq!(db.get("steps").unwrap().unwrap().as_ref(), [1, 2]);
        }
    }

    #[test]
    fn an_unsynced_step_does_not_raise_the_format() {
        let db = empty_database();
        migrate(&db, Path::new("d"), 1, MIGRATIONS, || Ok(())).unwrap();
        let full = || Err(StoreError::NeedsReopen { dir: "d".into() });
        assert!(migrate(&db, Path::new("d"), 2, MIGRATIONS, full).is_err());
        assert_eq!(db.get(FORMAT_KEY).unwrap().unwrap().as_ref(), 1_u32.to_le_bytes());
    }

    #[test]
    fn a_newer_store_and_a_missing_step_are_rejected() {
        let db = empty_database();
        migrate(&db, Path::new("d"), 7, MIGRATIONS, || Ok(())).unwrap();
        let newer = migrate(&db, Path::new("d"), 6, MIGRATIONS, || Ok(())).unwrap_err();
        assert!(matches!(newer, StoreError::NewerFormat { found: 7, supported: 6, .. }), "{newer}");
        assert!(matches!(
            migrate(&db, Path::new("d"), 9, MIGRATIONS, || Ok(())),
            Err(StoreError::NoMigration { found: 7 })
        ));
    }

    #[test]
    fn data_without_a_format_is_rejected() {
        let db = empty_database();
        db.insert("something", "else").unwrap();
        assert!(matches!(
            migrate(&db, Path::new("d"), 1, MIGRATIONS, || Ok(())),
            Err(StoreError::MissingFormat { .. })
        ));
    }
}
