//! A copy of a store that may be written to meanwhile, made through what any reader sees.
//!
//! The folds are read before the journal's end is, so that none of the copy's reaches beyond its
//! journal; each says how far it reaches, and a start folds the rest.

use super::archive::{PARTS, copy_data, pack, unpack};
use super::{Durability, QuarantinedEntry, Store, StoreError, StoreOptions, sync_directory};
use crate::domain::Offset;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// Journal entries: the copy's journal ends here.
    pub entries: u64,
    /// Item names.
    pub items: usize,
    /// Session records.
    pub sessions: u64,
    /// The offset of the newest checkpoint; `None` if none verified.
    pub checkpoint: Option<Offset>,
}

/// Entries that are copied as one record.
const STRETCH: usize = 1024;
/// Session records that are copied at a time.
const RECORDS: usize = 256;

impl Store {
    /// Makes a backup: the new file `target` if it ends in `.tar.gz`, else the new directory
    /// `target`, which can be served as it is. Whatever was in the journal when this began is in
    /// it. It has another name until it is whole and on the disk. `observe` is told how many
    /// entries are copied, and of how many.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if `target` exists, [`StoreError::JournalTruncated`] if entries
    /// of the journal are missing, or an error of reading this store or writing the backup. Nothing
    /// of the backup is left then.
    pub fn backup(&self, target: &Path, observe: &mut dyn FnMut(u64, u64)) -> Result<BackupSummary, StoreError> {
        let absent = || match target.symlink_metadata() {
            Ok(_) => Err(StoreError::AlreadyExists { path: target.to_owned() }),
            Err(_) => Ok(()),
        };
        absent()?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let stage = tempfile::Builder::new().prefix(&format!("{name}.unfinished-")).tempdir_in(folder);
        let stage = stage.map_err(StoreError::io("writing to", folder))?;
        let data = stage.path().join("data");
        let copied = self.copy_to(&data, observe)?;
        if is_archive(target) {
            let file = stage.path().join("archive");
            pack(&data, &file)?;
            // A link, unlike a renaming, never replaces anything.
            std::fs::hard_link(&file, target).map_err(StoreError::io("writing", target))?;
        } else {
            sync_directory(&data)?;
            absent()?;
            std::fs::rename(&data, target).map_err(StoreError::io("writing", target))?;
        }
        sync_directory(folder)?;
        Ok(copied)
    }

    /// Copies everything of value into the new directory `dir`, durably: the journal, every session
    /// record, the item names, the newest checkpoint that verifies, and what learning began with.
    /// Whatever was in the journal when this began is in the copy. `observe` is told how many
    /// entries are copied, and of how many.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if `dir` exists, [`StoreError::JournalTruncated`] if entries of
    /// the journal are missing, or an error of reading this store or writing the copy. What was
    /// copied so far is left then.
    pub fn copy_to(&self, dir: &Path, observe: &mut dyn FnMut(u64, u64)) -> Result<BackupSummary, StoreError> {
        self.check_journal_end()?;
        let copy = self.create_copy(dir)?;
        self.copy_quarantine(&copy, |offset| offset)?;
        self.erasures().in_progress()?.iter().try_for_each(|(offset, erasure)| copy.erasures().begin(*offset, erasure))?;
        self.expiries().in_progress()?.iter().try_for_each(|(offset, expiry)| copy.expiries().begin(*offset, expiry))?;

        let through = self.sessions().watermark()?;
        let (mut sessions, mut batch) = (0, Vec::with_capacity(RECORDS));
        let put = |batch: &mut Vec<(String, _)>| {
            let records = std::mem::take(batch);
            copy.sessions().put(records.iter().map(|(user, record)| (user.as_str(), record)), through)
        };
        for record in self.sessions().iter()? {
            batch.push(record?);
            sessions += 1;
            if batch.len() >= RECORDS {
                put(&mut batch)?;
            }
        }
        put(&mut batch)?;

        let named = self.items().watermark()?;
        let items = self.items().load()?;
        copy.aliases().put(&self.aliases().load()?, &[])?;
        copy.consents().put(&self.consents().load()?)?;
        copy.items().append(&items, 0, named)?;

        let end = self.journal().next_offset()?;
        self.copy_journal(&copy, end, observe)?;
        let checkpoint = self.copy_checkpoint(&copy, end)?;
        self.copy_restore_points(&copy, end)?;
        copy.sync(Durability::PowerLoss)?;
        copy.close()?;
        Ok(BackupSummary { entries: end, items: items.len(), sessions, checkpoint })
    }

    /// A new store in the new directory `dir` that learning begins alike in, and has nothing else
    /// yet.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if `dir` is there, or what reading this store or writing the other
    /// says.
    pub fn create_copy(&self, dir: &Path) -> Result<Self, StoreError> {
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(StoreError::AlreadyExists { path: dir.to_owned() }),
            made => made.map_err(StoreError::io("creating", dir))?,
        }
        let copy = Self::open(dir, &StoreOptions::default())?;
        if let Some(mut origin) = self.pretrained_state()? {
            copy.set_pretrained_state(|file| io::copy(&mut origin, file).map(drop).map_err(StoreError::io("copying", dir)))?;
        }
        if let Some(fingerprint) = self.fingerprint()? {
            copy.set_fingerprint(&fingerprint)?;
        }
        copy.journal().set_first_offset(self.journal().first_offset()?)?;
        copy.erasures().record_erased(&self.erasures().erased_users()?)?;
        if let Some(last) = self.expiries().last_begun()? {
            copy.expiries().set_last_begun(&last)?;
        }
        Ok(copy)
    }

    /// Notes in a copy which of its entries are passed over; `place` says where an entry is there.
    ///
    /// # Errors
    /// What reading this store or writing the other says.
    pub fn copy_quarantine(&self, copy: &Self, place: impl Fn(Offset) -> Offset) -> Result<(), StoreError> {
        let all = self.quarantine().all()?.into_iter().map(|noted| QuarantinedEntry { offset: place(noted.offset), ..noted });
        all.into_iter().try_for_each(|noted| copy.quarantine().put(&noted))
    }

    /// Appends the journal's entries before `end` to the journal of a copy that has none, and makes
    /// them durable.
    ///
    /// # Errors
    /// What reading this journal says, the entries before the damage being copied, or writing the
    /// other.
    pub fn copy_journal(&self, copy: &Self, end: Offset, observe: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        let begin = copy.journal().first_offset()?;
        let mut entries = self.journal().entries(begin)?;
        let (mut batch, mut copied, mut outcome) = (Vec::with_capacity(STRETCH), begin, Ok(()));
        while copied < end {
            let wanted = usize::try_from(end - copied).unwrap_or(STRETCH).min(STRETCH);
            for entry in entries.by_ref().take(wanted) {
                match entry {
                    Ok((_, entry)) => batch.push(entry),
                    Err(error) => outcome = Err(error),
                }
            }
            if batch.is_empty() {
                break;
            }
            copied = copy.journal().append(&batch, Durability::ProcessCrash)? + batch.len() as u64;
            batch.clear();
            observe(copied, end);
        }
        copy.sync(Durability::PowerLoss)?;
        outcome
    }

    /// The states that a rollback in the journal went to or left: where the journal has lost its
    /// head, it cannot be folded again without them. One that is removed meanwhile is one that no
    /// entry still needs.
    fn copy_restore_points(&self, copy: &Self, journal_end: Offset) -> Result<(), StoreError> {
        let present = self.restore_points_read_only();
        for offset in present.offsets()?.into_iter().filter(|offset| *offset <= journal_end) {
            let Some(mut point) = present.get(offset) else { continue };
            let path = present.path(offset);
            copy.restore_points()?.write(offset, |file| io::copy(&mut point, file).map(drop).map_err(StoreError::io("copying", &path)))?;
        }
        Ok(())
    }

    /// The newest checkpoint that verifies and contains nothing beyond `journal_end`, while another
    /// process or thread may be writing checkpoints.
    fn copy_checkpoint(&self, copy: &Self, journal_end: Offset) -> Result<Option<Offset>, StoreError> {
        let present = self.checkpoints_read_only();
        // The one that was the newest may be removed before it is opened, for one that is newer
        // still.
        let newest = present.newest(journal_end)?.map_or_else(|| present.newest(journal_end), |found| Ok(Some(found)))?;
        let Some(mut newest) = newest else { return Ok(None) };
        let offset = newest.offset();
        let path = present.path(offset);
        let failed = StoreError::io("copying", &path);
        copy.checkpoints(1)?.write(offset, |file| io::copy(&mut newest, file).map(drop).map_err(failed))?;
        Ok(Some(offset))
    }
}

/// Whether a backup of that name is one file.
fn is_archive(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with(".tar.gz")
}

/// Brings a backup, in either form, into the data directory `dir`, which must be empty or absent;
/// it holds the directory meanwhile. What `check` refuses is not brought in: it is shown the store
/// before anything has its place.
///
/// # Errors
/// [`StoreError::AlreadyExists`] if there is something in `dir`, [`StoreError::InvalidBackup`] and
/// [`StoreError::Io`] for a backup that is none or cannot be read, and what `check`, opening the
/// store or writing says: `dir` is then as before.
pub fn restore<T, E: From<StoreError>>(
    backup: &Path,
    dir: &Path,
    options: &StoreOptions,
    check: impl FnOnce(&Store) -> Result<T, E>,
) -> Result<T, E> {
    let made = !dir.exists();
    std::fs::create_dir_all(dir).map_err(StoreError::io("creating", dir))?;
    let restored = restore_into(backup, dir, options, check);
    if restored.is_err() && made {
        // Best effort: what was made for nothing is empty.
        let _ = std::fs::remove_file(dir.join("lock"));
        let _ = std::fs::remove_dir(dir);
    }
    restored
}

fn restore_into<T, E: From<StoreError>>(
    backup: &Path,
    dir: &Path,
    options: &StoreOptions,
    check: impl FnOnce(&Store) -> Result<T, E>,
) -> Result<T, E> {
    let listed: Result<Vec<PathBuf>, _> = dir.read_dir().and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    // What a file system of its own has at its root, and a file that says nothing.
    let counts = |path: &PathBuf| !path.ends_with("lost+found") && !path.ends_with("lock");
    if listed.map_err(StoreError::io("listing", dir))?.iter().any(counts) {
        return Err(StoreError::AlreadyExists { path: dir.to_owned() }.into());
    }
    let lock_path = dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(StoreError::io("opening", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { dir: dir.to_owned() }.into()),
        Err(TryLockError::Error(source)) => return Err(StoreError::io("locking", &lock_path)(source).into()),
    }
    let stage = tempfile::Builder::new().prefix("restore.unfinished-").tempdir_in(dir).map_err(StoreError::io("writing to", dir))?;
    if backup.is_dir() {
        copy_data(backup, stage.path())?
    } else {
        unpack(backup, stage.path())?
    }
    let store = Store::open_existing(stage.path(), options).map_err(|error| match error {
        StoreError::NotFound { .. } => StoreError::InvalidBackup { path: backup.to_owned(), reason: "there is no store in it".to_owned() },
        error => error,
    })?;
    store.check_journal_end()?;
    let checked = check(&store)?;
    store.close()?;
    // The store comes last: without it nothing else means anything.
    for part in PARTS.iter().rev() {
        let (from, to) = (stage.path().join(part), dir.join(part));
        if from.exists() {
            std::fs::rename(&from, &to).map_err(StoreError::io("renaming", &from))?;
        }
    }
    sync_directory(dir)?;
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entries, event};
    use super::super::{Committer, CommitterSettings, SessionRecord};
    use super::*;
    use crate::domain::{Entry, UserSequence};
    use proptest::prelude::*;
    use std::io::{Read, Write};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("data"), &StoreOptions::default()).unwrap();
        (dir, store)
    }

    fn journal(store: &Store) -> Vec<Entry> {
        store.journal().entries(0).unwrap().map(|entry| entry.unwrap().1).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn a_copy_is_the_same_store(appends in proptest::collection::vec(entries(0..40), 0..4), origin in any::<bool>()) {
            let (dir, store) = store();
            if origin {
                store.set_pretrained_state::<StoreError>(|file| file.write_all(b"begun with").map_err(StoreError::io("writing", Path::new("")))).unwrap();
            }
            let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
            committer.commit(appends).unwrap();
            committer.persist_indexes().unwrap();
            let record = SessionRecord { applied_through: 1, sequence: UserSequence::default(), hidden_state: vec![1; 300] };
            let users: Vec<String> = (0..600).map(|number| format!("user-{number}")).collect();
            let end = store.journal().next_offset().unwrap();
            store.sessions().put(users.iter().map(|user| (user.as_str(), &record)), end).unwrap();
            store.checkpoints(2).unwrap().write::<StoreError>(end, |file| file.write_all(b"learned").map_err(StoreError::io("writing", Path::new("")))).unwrap();

            let target = dir.path().join("copy");
            let mut told = (0, 0);
            let copied = store.copy_to(&target, &mut |done, of| told = (done, of)).unwrap();
            prop_assert_eq!(told, (end, end));
            let copy = Store::open(&target, &StoreOptions::default()).unwrap();
            prop_assert_eq!(copied, BackupSummary { entries: end, items: committer.dictionary().len(), sessions: 600, checkpoint: Some(end) });
            prop_assert_eq!(journal(&copy), journal(&store));
            let all = |store: &Store| store.sessions().iter().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
            prop_assert_eq!(all(&copy), all(&store));
            prop_assert_eq!((copy.sessions().watermark().unwrap(), copy.items().watermark().unwrap()), (end, end));
            let names = |store: &Store| { let names = store.items().load().unwrap(); (0..names.len() as u32).map(|n| names.name(n)).collect::<Vec<_>>() };
            prop_assert_eq!(names(&copy), names(&store));
            prop_assert_eq!(copy.pretrained_state().unwrap().is_some(), origin);
            let mut learned = Vec::new();
            copy.checkpoints(1).unwrap().newest(end).unwrap().unwrap().read_to_end(&mut learned).unwrap();
            prop_assert_eq!(learned, b"learned");
            copy.check_journal_end().unwrap();
        }
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let (dir, store) = store();
        store.journal().append(&[event(1)], Durability::PowerLoss).unwrap();
        let target = dir.path().join("copy");
        std::fs::create_dir(&target).unwrap();
        assert!(matches!(store.copy_to(&target, &mut |_, _| {}), Err(StoreError::AlreadyExists { .. })));
        assert_eq!(target.read_dir().unwrap().count(), 0);
    }
}
