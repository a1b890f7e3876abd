//! The error type of the store.

use super::codec::CodecError;
use crate::domain::Offset;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal comes from no shared log.
    #[error("the journal in {} is that of no node of a cluster", dir.display())]
    NoLogPosition {
        /// The data directory.
        dir: PathBuf,
    },
    /// Another process has the data directory open.
    #[error("the data directory {} is held by another process; stop that daemon, or choose another directory with --data-dir", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The store was written by a newer version.
    #[error(
        "the store in {} has format {found}, but this binary reads formats up to {supported}; start a newer sequor on it",
        dir.display()
    )]
    NewerFormat {
        /// The data directory.
        dir: PathBuf,
        /// The format found in the store.
        found: u32,
        /// The newest format that this binary reads.
        supported: u32,
    },
    /// The data directory has no store.
    #[error("there is no store in {}; name the data directory with --data-dir", dir.display())]
    NotFound {
        /// The data directory.
        dir: PathBuf,
    },
    /// The file or directory to create already exists.
    #[error("{} already exists and nothing is overwritten; choose another name or move it away", path.display())]
    AlreadyExists {
        /// The file or directory.
        path: PathBuf,
    },
    /// The target of a backup is inside the data directory.
    #[error("{} is in the data directory {}, where a daemon removes files that are not its own; choose a path outside", path.display(), dir.display())]
    TargetInDataDir {
        /// The backup.
        path: PathBuf,
        /// The data directory.
        dir: PathBuf,
    },
    /// A restore into the data directory was interrupted.
    #[error(
        "a restore into {} was interrupted, so its data is not complete; run `sequor restore` again, which replaces it, or remove the directory",
        dir.display()
    )]
    UnfinishedRestore {
        /// The data directory.
        dir: PathBuf,
    },
    /// The files of the open database were removed or replaced.
    #[error("the files of the database {} were removed while it was in use; stop the daemon and restore a backup", path.display())]
    FilesRemoved {
        /// The database's directory.
        path: PathBuf,
    },
    /// The file of the pretrained network is missing.
    #[error("{} is missing: learning started from the pretrained network in it; restore the file from a backup", path.display())]
    MissingPretrained {
        /// The file.
        path: PathBuf,
    },
    /// The journal ends before its recorded end, so entries are lost.
    #[error(
        "the journal in {} ends at offset {end}, but {known} entries were in it: its files are damaged or not complete; restore them from a backup, \
         or give up the missing entries with `sequor rebuild --accept-loss`",
        dir.display()
    )]
    JournalTruncated {
        /// The data directory.
        dir: PathBuf,
        /// The end of the journal that the store found.
        end: Offset,
        /// The recorded end of the journal.
        known: Offset,
    },
    /// A file or directory is not a backup.
    #[error("{} is not a backup: {reason}", path.display())]
    InvalidBackup {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The name of the backup has the extension of an archive format that backups do not support.
    #[error("{} ends in .{format}, but a backup is a .tar.gz file or a directory; choose a name that ends in .tar.gz, or one without .{format}", path.display())]
    UnknownArchive {
        /// The target of the backup.
        path: PathBuf,
        /// The extension.
        format: String,
    },
    /// The store holds data but no format number.
    #[error("the store in {} holds data but no format version; restore it from a backup", dir.display())]
    MissingFormat {
        /// The data directory.
        dir: PathBuf,
    },
    /// No migration step starts from the store's format.
    #[error(
        "the store has format {found}, but this binary has no migration from that format; use a build that has one"
    )]
    NoMigration {
        /// The format found in the store.
        found: u32,
    },
    /// A file operation failed. `source` distinguishes a full disk from other failures.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// The failed operation, such as "writing" or "syncing".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The disk has too little free space for a compaction.
    #[error("{} has {free} bytes free, but the new database may need {needed}; free some space, or shorten the journal with store.retain_entries or store.retain_for", dir.display())]
    InsufficientDiskSpace {
        /// The data directory.
        dir: PathBuf,
        /// Required free space, in bytes.
        needed: u64,
        /// Available free space, in bytes.
        free: u64,
    },
    /// The embedded database failed.
    #[error("{action} the database {}: {source}", path.display())]
    Database {
        /// The operation.
        action: &'static str,
        /// The database's directory.
        path: PathBuf,
        /// The error of the database.
        source: sled::Error,
    },
    /// The embedded database panicked or found a wrong checksum.
    #[error("the database {} is damaged ({reason}); restore it from a backup", path.display())]
    DatabaseDamaged {
        /// The database's directory.
        path: PathBuf,
        /// The panic message or the failed check.
        reason: String,
    },
    /// The journal already has entries, so the pretrained state cannot be set.
    #[error("the journal in {} already has {entries} entries; the pretrained state can only be set in an empty data directory", dir.display())]
    JournalNotEmpty {
        /// The data directory.
        dir: PathBuf,
        /// Number of journal entries.
        entries: Offset,
    },
    /// Pseudonymisation is enabled, but the store contains original user ids.
    #[error(
        "the data directory {} contains original ids, so pseudonymisation cannot be enabled; run `sequor export` on it, then `sequor import` into a new directory with privacy.pseudonymise = true",
        dir.display()
    )]
    NotPseudonymised {
        /// The data directory.
        dir: PathBuf,
    },
    /// Pseudonymisation is disabled, but the store contains pseudonyms.
    #[error("the data directory {} holds pseudonyms; set privacy.pseudonymise = true and configure its secret; otherwise each user would appear as two users", dir.display())]
    MissingSecret {
        /// The data directory.
        dir: PathBuf,
    },
    /// The store contains pseudonyms that were made with another secret.
    #[error("the data directory {} holds pseudonyms of another secret; configure that secret; otherwise each user would appear as two users", dir.display())]
    WrongSecret {
        /// The data directory.
        dir: PathBuf,
    },
    /// The store must be reopened: an earlier write failed, so it is unknown what is on the disk.
    #[error("the store in {} rejects writes because an earlier write failed; it must be reopened", dir.display())]
    NeedsReopen {
        /// The data directory.
        dir: PathBuf,
    },
    /// The store was reopened, so earlier writes may be lost.
    #[error("the store in {} was reopened during the operation", dir.display())]
    Reopened {
        /// The data directory.
        dir: PathBuf,
    },
    /// A journal record is damaged.
    #[error("the journal record at offset {offset} is damaged: {reason}")]
    DamagedRecord {
        /// The offset of the record's first entry.
        offset: Offset,
        /// The check that failed.
        reason: String,
    },
    /// A backup cannot be made, because the journal is damaged.
    #[error(
        "the journal is damaged, so there is no backup of it: {source}; restore an earlier backup, or run `sequor rebuild --accept-loss`"
    )]
    DamagedJournal {
        /// The damage.
        source: Box<StoreError>,
    },
    /// Journal entries are missing between two records.
    #[error("the journal has no entries from offset {from} to {until}")]
    MissingEntries {
        /// The first missing offset.
        from: Offset,
        /// The first offset after the gap.
        until: Offset,
    },
    /// A stored value that is not part of the journal is damaged, such as a session record, a page
    /// of item names or a watermark.
    #[error("the {tree} value under {key} is damaged: {reason}")]
    DamagedValue {
        /// The tree that contains the value.
        tree: &'static str,
        /// The key of the value, in printable form.
        key: String,
        /// The check that failed.
        reason: String,
    },
    /// Encoding or decoding a value failed.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl StoreError {
    /// Returns a closure for `map_err` that builds a [`StoreError::Io`] for `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the disk or the quota is full. Writes succeed again once space is free.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self.io_kind(), Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether the process lacks the permission or the resources to access the files. Such an error
    /// does not mean that the store is damaged.
    #[must_use]
    pub fn is_access_failure(&self) -> bool {
        use io::ErrorKind::{NotADirectory, OutOfMemory, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
        let denied = [PermissionDenied, ReadOnlyFilesystem, NotADirectory, OutOfMemory, ResourceBusy];
        self.is_disk_full() || self.io_kind().is_some_and(|kind| denied.contains(&kind))
    }

    /// The kind of the underlying I/O error, if the error is an I/O error.
    fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { source, .. } | Self::Database { source: sled::Error::Io(source), .. } => Some(source.kind()),
            _ => None,
        }
    }
}
