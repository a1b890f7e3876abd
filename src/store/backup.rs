//! Backs up a store while other threads write to it.
//!
//! A backup copies derived state first and then reads the journal's end, so the copied state never
//! contains entries that the copied journal lacks. Derived state is stored with its watermark. A
//! daemon that starts on the backup applies the journal entries after the watermark.

use super::archive::pack_archive;
use super::journal_batch::JournalBatch;
use super::{Durability, PendingTask, QuarantinedEntry, Store, StoreError, StoreOptions, sync_directory};
use crate::domain::Offset;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::path::Path;

/// Contents of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSummary {
    /// The offset at which the copied journal ends.
    pub entries: u64,
    /// Number of item names.
    pub items: usize,
    /// Number of session records.
    pub sessions: u64,
    /// Offset of the copied checkpoint; `None` if there was no undamaged checkpoint.
    pub checkpoint: Option<Offset>,
    /// The last message of a cluster's log that the copied journal contains; `None` if the journal
    /// comes from no such log.
    #[serde(default)]
    pub log_sequence: Option<u64>,
}

/// Number of entries that are copied as one journal record.
const ENTRIES_PER_RECORD: usize = 1024;
/// Number of session records that are copied in one batch.
const SESSIONS_PER_BATCH: usize = 256;

/// Suffix of the temporary name of a backup that is being written. A random part follows the
/// suffix.
const UNFINISHED_BACKUP_SUFFIX: &str = ".unfinished-";
/// File in an unfinished backup. The process that writes the backup keeps the file locked.
const CLAIM_FILE: &str = "claim";

/// Removes the unfinished backups in `folder` that dead processes left. All other files stay.
fn remove_abandoned_backups(folder: &Path) -> Result<(), StoreError> {
    let entries = folder.read_dir().map_err(StoreError::io("writing to", folder))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_stage = path.file_name().is_some_and(|name| name.to_string_lossy().contains(UNFINISHED_BACKUP_SUFFIX));
        // Earlier versions wrote no claim file. Their unfinished backups contain a copy of the
        // store with a lock file instead.
        let claims = [path.join(CLAIM_FILE), path.join("data/lock")];
        let Some(claim) = claims.iter().filter(|_| is_stage).find_map(|claim| File::open(claim).ok()) else { continue };
        if claim.try_lock().is_ok() {
            std::fs::remove_dir_all(&path).map_err(StoreError::io("removing", &path))?;
        }
    }
    Ok(())
}

impl Store {
    /// Writes a backup to the new file `target` if the name ends in `.tar.gz`, otherwise to the new
    /// directory `target`, which a daemon can serve directly. The backup contains every entry that
    /// was in the journal when the call began. The backup has a temporary name until it is complete
    /// and synced. `observe` receives the number of copied entries and the total.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if `target` exists, [`StoreError::UnknownArchive`] if the
    /// target's name ends in the extension of another archive format,
    /// [`StoreError::TargetInDataDir`] if the target is in the data directory,
    /// [`StoreError::JournalTruncated`] if entries of the journal are missing, or any error of
    /// reading this store or writing the backup. After an error, no partial backup remains. If the
    /// process is killed, the next backup into the same folder removes the partial backup.
    pub fn backup(&self, target: &Path, observe: &mut dyn FnMut(u64, u64)) -> Result<BackupSummary, StoreError> {
        let ensure_absent = || match target.symlink_metadata() {
            Ok(_) => Err(StoreError::AlreadyExists { path: target.to_owned() }),
            Err(_) => Ok(()),
        };
        ensure_absent()?;
        if let Some(format) = unsupported_archive_extension(target) {
            return Err(StoreError::UnknownArchive { path: target.to_owned(), format });
        }
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.ensure_outside_data_dir(target, folder)?;
        remove_abandoned_backups(folder)?;
        let stage = tempfile::Builder::new().prefix(&format!("{name}{UNFINISHED_BACKUP_SUFFIX}")).tempdir_in(folder);
        let stage = stage.map_err(StoreError::io("writing to", folder))?;
        let claim = stage.path().join(CLAIM_FILE);
        let claim = File::create_new(&claim)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(StoreError::io("locking", &claim))?;
        let data = stage.path().join("data");
        let copied = self.copy_to(&data, observe)?;
        if is_archive(target) {
            let file = stage.path().join("archive");
            pack_archive(&data, &file)?;
            // A hard link, unlike a rename, never replaces an existing file.
            std::fs::hard_link(&file, target).map_err(StoreError::io("writing", target))?;
        } else {
            sync_directory(&data)?;
            ensure_absent()?;
            std::fs::rename(&data, target).map_err(StoreError::io("writing", target))?;
        }
        drop(claim);
        sync_directory(folder)?;
        Ok(copied)
    }

    /// Refuses a target in the data directory, because the daemon removes unknown files there.
    /// Moreover, a backup on the same disk does not survive a failure of the disk.
    fn ensure_outside_data_dir(&self, target: &Path, folder: &Path) -> Result<(), StoreError> {
        let canonical = |path: &Path| path.canonicalize().map_err(StoreError::io("writing to", path));
        if canonical(folder)?.starts_with(canonical(self.dir())?) {
            return Err(StoreError::TargetInDataDir { path: target.to_owned(), dir: self.dir().to_owned() });
        }
        Ok(())
    }

    /// Durably copies this store into the new directory `dir`: the journal, all session records,
    /// the item names, the newest undamaged checkpoint, and the pretrained state. The copy contains
    /// every entry that was in the journal when the call began. `observe` receives the number of
    /// copied entries and the total.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if `dir` exists, [`StoreError::JournalTruncated`] if entries
    /// of the journal are missing, or any error of reading this store or writing the copy. A
    /// partial copy remains after an error.
    pub fn copy_to(&self, dir: &Path, observe: &mut dyn FnMut(u64, u64)) -> Result<BackupSummary, StoreError> {
        self.check_journal_end()?;
        let copy = self.create_copy(dir)?;
        self.copy_quarantine(&copy, |offset| offset)?;
        self.erasures()
            .in_progress()?
            .iter()
            .try_for_each(|(offset, erasure)| copy.erasures().record_begun(*offset, erasure))?;
        self.expiries()
            .in_progress()?
            .iter()
            .try_for_each(|(offset, expiry)| copy.expiries().record_begun(*offset, expiry))?;
        self.copy_pending_purges(&copy)?;

        let sessions_through = self.sessions().watermark()?;
        let (mut sessions, mut batch) = (0, Vec::with_capacity(SESSIONS_PER_BATCH));
        let put = |batch: &mut Vec<(String, _)>| {
            let records = std::mem::take(batch);
            copy.sessions().put(records.iter().map(|(user, record)| (user.as_str(), record)), sessions_through)
        };
        for record in self.sessions().iter()? {
            batch.push(record?);
            sessions += 1;
            if batch.len() >= SESSIONS_PER_BATCH {
                put(&mut batch)?;
            }
        }
        put(&mut batch)?;

        if let Some(rules) = self.session_rules()? {
            copy.set_session_rules(&rules)?;
        }
        let items_through = self.items().watermark()?;
        let items = self.items().load()?;
        copy.aliases().put(&self.aliases().load()?, &[])?;
        copy.consents().put(&self.consents().load()?)?;
        copy.placements().put(&self.placements().load()?)?;
        copy.user_attributes().put(&self.user_attributes().load()?)?;
        copy.items().append(&items, 0, items_through)?;

        let end = self.journal().next_offset()?;
        self.copy_journal(&copy, end, observe).map_err(|error| match error {
            StoreError::DamagedRecord { .. }
            | StoreError::MissingEntries { .. }
            | StoreError::DatabaseDamaged { .. } => StoreError::DamagedJournal { source: Box::new(error) },
            error => error,
        })?;
        if let Some(position) = self.journal().log_position_at(end)? {
            copy.put_log_position(end, &position)?;
        }
        let checkpoint = self.copy_checkpoint(&copy, end)?;
        self.copy_restore_points(&copy, end)?;
        copy.sync(Durability::PowerLoss)?;
        let log_sequence = copy.log_position()?.map(|position| position.sequence);
        copy.close()?;
        Ok(BackupSummary { entries: end, items: items.len(), sessions, checkpoint, log_sequence })
    }

    /// Creates a store in the new directory `dir` with the same pretrained state, pseudonym secret,
    /// key of the origin hashes, first offset and erased users as this store, and no other data.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`] if `dir` exists, or any error of reading this store or writing
    /// the copy.
    pub fn create_copy(&self, dir: &Path) -> Result<Self, StoreError> {
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StoreError::AlreadyExists { path: dir.to_owned() });
            }
            created => created.map_err(StoreError::io("creating", dir))?,
        }
        let copy = Self::open(dir, &StoreOptions::default())?;
        if let Some(mut pretrained) = self.pretrained_state()? {
            copy.set_pretrained_state(|file| {
                io::copy(&mut pretrained, file).map(drop).map_err(StoreError::io("copying", dir))
            })?;
        }
        if let Some(fingerprint) = self.secret_fingerprint()? {
            copy.set_secret_fingerprint(&fingerprint)?;
        }
        if let Some(key) = self.origin_key()? {
            copy.set_origin_key(&key)?;
        }
        copy.journal().set_first_offset(self.journal().first_offset()?)?;
        copy.erasures().record_erased_users(&self.erasures().erased_users()?)?;
        if let Some(last) = self.expiries().last_begun()? {
            copy.expiries().set_last_begun(&last)?;
        }
        Ok(copy)
    }

    /// Copies the purges in progress, and whether the copied state has yet to be unlearned.
    fn copy_pending_purges(&self, copy: &Self) -> Result<(), StoreError> {
        let in_progress = self.purges().in_progress()?;
        in_progress.iter().try_for_each(|(offset, purge)| copy.purges().record_begun(*offset, purge))?;
        match self.purges().finished_count()? {
            0 => {}
            finished => copy.purges().set_finished_count(finished)?,
        }
        if self.erasures().is_pending(PendingTask::Unlearning)? {
            copy.erasures().set_pending(PendingTask::Unlearning)?;
        }
        Ok(())
    }

    /// Copies the quarantined entries to `copy`; `map_offset` maps an offset of this journal to the
    /// copy's journal.
    ///
    /// # Errors
    /// Any error of reading this store or writing the copy.
    pub fn copy_quarantine(&self, copy: &Self, map_offset: impl Fn(Offset) -> Offset) -> Result<(), StoreError> {
        let mut all = self
            .quarantine()
            .all()?
            .into_iter()
            .map(|entry| QuarantinedEntry { offset: map_offset(entry.offset), ..entry });
        all.try_for_each(|entry| copy.quarantine().put(&entry))
    }

    /// Appends this journal's entries before `end` to the empty journal of `copy`, and makes them
    /// durable.
    ///
    /// # Errors
    /// Any error of reading this journal or writing the copy. If this journal is damaged, the
    /// entries before the damage are copied first.
    pub fn copy_journal(&self, copy: &Self, end: Offset, observe: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        let first_offset = copy.journal().first_offset()?;
        let mut entries = self.journal().entries(first_offset)?.with_origins();
        let (mut batch, mut copied, mut outcome) =
            (JournalBatch::with_capacity(ENTRIES_PER_RECORD), first_offset, Ok(()));
        while copied < end {
            let batch_len = usize::try_from(end - copied).unwrap_or(ENTRIES_PER_RECORD).min(ENTRIES_PER_RECORD);
            for entry in entries.by_ref().take(batch_len) {
                match entry {
                    Ok((_, entry, origin)) => batch.push(entry, origin),
                    Err(error) => outcome = Err(error),
                }
            }
            if batch.entries.is_empty() {
                break;
            }
            copied = copy.journal().append_batch(&batch, Durability::ProcessCrash)? + batch.entries.len() as u64;
            batch.clear();
            observe(copied, end);
        }
        copy.sync(Durability::PowerLoss)?;
        outcome
    }

    /// Copies the restore points: the states before and after each rollback. If retention has
    /// removed the start of the journal, a replay needs these states to repeat the rollbacks. A
    /// restore point that is removed during the copy is no longer needed, so it is skipped.
    fn copy_restore_points(&self, copy: &Self, journal_end: Offset) -> Result<(), StoreError> {
        let source = self.restore_points_read_only();
        for offset in source.offsets()?.into_iter().filter(|offset| *offset <= journal_end) {
            let Some(mut point) = source.open_at(offset) else { continue };
            let path = source.path(offset);
            copy.restore_points()?
                .write(offset, |file| io::copy(&mut point, file).map(drop).map_err(StoreError::io("copying", &path)))?;
        }
        Ok(())
    }

    /// Copies the newest undamaged checkpoint that contains no entry after `journal_end`. Another
    /// process or thread may write checkpoints at the same time.
    fn copy_checkpoint(&self, copy: &Self, journal_end: Offset) -> Result<Option<Offset>, StoreError> {
        let source = self.checkpoints_read_only();
        // Tries twice, because another thread may replace the newest checkpoint before this thread
        // opens it.
        let newest = source
            .open_newest(journal_end)?
            .map_or_else(|| source.open_newest(journal_end), |found| Ok(Some(found)))?;
        let Some(mut newest) = newest else { return Ok(None) };
        let offset = newest.offset();
        let path = source.path(offset);
        let failed = StoreError::io("copying", &path);
        copy.checkpoints(1)?.write(offset, |file| io::copy(&mut newest, file).map(drop).map_err(failed))?;
        Ok(Some(offset))
    }
}

/// Whether the backup's name has the extension of an archive file.
fn is_archive(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with(".tar.gz")
}

/// Returns the file name extension of `path` if the extension belongs to an archive format that
/// backups do not support. If a backup directory had such a name, users would mistake it for an
/// archive.
fn unsupported_archive_extension(path: &Path) -> Option<String> {
    const OTHER_EXTENSIONS: [&str; 14] =
        ["zip", "tar", "tgz", "gz", "tbz", "tbz2", "bz2", "txz", "xz", "tzst", "zst", "7z", "rar", "gzip"];
    let extension = path.extension()?.to_string_lossy().to_ascii_lowercase();
    (!is_archive(path) && OTHER_EXTENSIONS.contains(&extension.as_str())).then_some(extension)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any_entries, event};
    use super::super::{Committer, CommitterSettings, SessionRecord};
    use super::*;
    use crate::domain::{Entry, UserSequence};
    use proptest::prelude::*;
    use std::io::{Read, Write};

    fn temp_store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("data"), &StoreOptions::default()).unwrap();
        (dir, store)
    }

    fn journal_entries(store: &Store) -> Vec<Entry> {
        store.journal().entries(0).unwrap().map(|entry| entry.unwrap().1).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn a_copy_equals_the_store(appends in proptest::collection::vec(any_entries(0..40), 0..4), pretrained in any::<bool>()) {
            let (dir, store) = temp_store();
            if pretrained {
                store.set_pretrained_state::<StoreError>(|file| file.write_all(b"pretrained").map_err(StoreError::io("writing", Path::new("")))).unwrap();
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
            let mut progress = (0, 0);
            let copied = store.copy_to(&target, &mut |done, of| progress = (done, of)).unwrap();
            prop_assert_eq!(progress, (end, end));
            let copy = Store::open(&target, &StoreOptions::default()).unwrap();
            prop_assert_eq!(copied, BackupSummary { entries: end, items: committer.dictionary().len(), sessions: 600, checkpoint: Some(end), log_sequence: None });
            prop_assert_eq!(journal_entries(&copy), journal_entries(&store));
            let all = |store: &Store| store.sessions().iter().unwrap().collect::<Result<Vec<_>, _>>().unwrap();
            prop_assert_eq!(all(&copy), all(&store));
            prop_assert_eq!((copy.sessions().watermark().unwrap(), copy.items().watermark().unwrap()), (end, end));
            let names = |store: &Store| { let names = store.items().load().unwrap(); (0..names.len() as u32).map(|n| names.name(n)).collect::<Vec<_>>() };
            prop_assert_eq!(names(&copy), names(&store));
            prop_assert_eq!(copy.pretrained_state().unwrap().is_some(), pretrained);
            let mut learned = Vec::new();
            copy.checkpoints(1).unwrap().open_newest(end).unwrap().unwrap().read_to_end(&mut learned).unwrap();
            prop_assert_eq!(learned, b"learned");
            copy.check_journal_end().unwrap();
        }
    }

    #[test]
    fn an_existing_target_is_not_overwritten() {
        let (dir, store) = temp_store();
        store.journal().append(&[event(1)], Durability::PowerLoss).unwrap();
        let target = dir.path().join("copy");
        std::fs::create_dir(&target).unwrap();
        assert!(matches!(store.copy_to(&target, &mut |_, _| {}), Err(StoreError::AlreadyExists { .. })));
        assert_eq!(target.read_dir().unwrap().count(), 0);
    }
}
