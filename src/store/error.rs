//! What can go wrong below the journal.

use super::codec::CodecError;
use crate::domain::Offset;
use std::io;
use std::path::{Path, PathBuf};

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    /// There is no store where one should be.
    #[error("there is no store in {}; name the data directory with --data-dir", dir.display())]
    NotFound {
        /// The data directory.
        dir: PathBuf,
    },
    /// What should be made is there already.
    #[error("{} is there already, and nothing is overwritten; choose another name, or move it away", path.display())]
    AlreadyExists {
        /// The file or directory.
        path: PathBuf,
    },
    /// The journal ends before entries that are known to have been in it.
    #[error(
        "the journal in {} ends at offset {end}, but {known} entries were in it: its files are damaged or not complete; restore them from a backup, \
         or give up the missing entries with `sequor rebuild --accept-loss`",
        dir.display()
    )]
    JournalTruncated {
        /// The data directory.
        dir: PathBuf,
        /// Where the journal ends.
        end: Offset,
        /// Where it is known to have ended.
        known: Offset,
    },
    /// An archive is not a backup.
    #[error("{} is no backup: {reason}", path.display())]
    InvalidBackup {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store holds data, but nothing says in which format.
    #[error("the store in {} holds data but no format version; restore it from a backup", dir.display())]
    MissingFormat {
        /// The data directory.
        dir: PathBuf,
    },
    /// No step leads on from the store's format.
    #[error("the store has format {found}, and no migration leads on from it")]
    NoMigration {
        /// The format found in the store.
        found: u32,
    },
    /// A file could not be read or written; `source` tells a full disk from a broken one.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried: "writing", "syncing", …
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk has too little room for what is to be made.
    #[error("{} has {free} bytes free, and a fresh database may take {needed}; make room, or give up part of the journal with store.retain_entries or store.retain_for", dir.display())]
    InsufficientDiskSpace {
        /// The data directory.
        dir: PathBuf,
        /// How many bytes there should be, at least.
        needed: u64,
        /// How many there are.
        free: u64,
    },
    /// The embedded database failed.
    #[error("{action} the database {}: {source}", path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The database's directory.
        path: PathBuf,
        /// What it said.
        source: sled::Error,
    },
    /// The embedded database gave up on its own files.
    #[error("the database {} is damaged and gave up ({reason}); restore it from a backup", path.display())]
    DatabaseDamaged {
        /// The database's directory.
        path: PathBuf,
        /// The database's own words.
        reason: String,
    },
    /// What learning begins with can no longer be chosen.
    #[error("the journal in {} has {entries} entries already: what learning begins with can only be set in an empty data directory", dir.display())]
    JournalNotEmpty {
        /// The data directory.
        dir: PathBuf,
        /// How many entries there are.
        entries: Offset,
    },
    /// It knows users by their ids, and is to know them by pseudonyms.
    #[error(
        "the data directory {} holds clear ids, so that it cannot be pseudonymised from now on: write it out by `sequor export`, and `sequor import` that into a new one under privacy.pseudonymise",
        dir.display()
    )]
    NotPseudonymised {
        /// The data directory.
        dir: PathBuf,
    },
    /// It knows users by pseudonyms, and is to know them by their ids.
    #[error("the data directory {} knows users by pseudonyms: set privacy.pseudonymise = true and give its secret, or every user would be two", dir.display())]
    MissingSecret {
        /// The data directory.
        dir: PathBuf,
    },
    /// It knows users by the pseudonyms of another secret.
    #[error("the data directory {} knows users by the pseudonyms of another secret: give that one, or every user would be two", dir.display())]
    WrongSecret {
        /// The data directory.
        dir: PathBuf,
    },
    /// An earlier write failed, so what the disk holds is unknown until the store is opened again.
    #[error("the store in {} takes no more writes since one failed; it must be reopened", dir.display())]
    NeedsReopen {
        /// The data directory.
        dir: PathBuf,
    },
    /// The store was opened again, and what was written before it may be gone.
    #[error("the store in {} was opened again meanwhile", dir.display())]
    Reopened {
        /// The data directory.
        dir: PathBuf,
    },
    /// A journal record does not hold what was written.
    #[error("the journal record at offset {offset} is damaged: {reason}")]
    DamagedRecord {
        /// The offset of the record's first entry.
        offset: Offset,
        /// How it is known.
        reason: String,
    },
    /// Entries are missing from the journal.
    #[error("the journal has no entries from offset {from} to {until}")]
    MissingEntries {
        /// The first missing offset.
        from: Offset,
        /// The first offset that is there again.
        until: Offset,
    },
    /// A session record, an item table page or a meta value does not hold what was written.
    #[error("the {tree} value under {key} is damaged: {reason}")]
    DamagedValue {
        /// The tree that it stands in.
        tree: &'static str,
        /// Its key, printable.
        key: String,
        /// How it is known.
        reason: String,
    },
    /// A value could not be turned into bytes or back.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl StoreError {
    /// An [`StoreError::Io`] on that path, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Whether the disk (or the quota) is full: it passes once there is room again.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let source = match self {
            Self::Io { source, .. } | Self::Database { source: sled::Error::Io(source), .. } => source,
            _ => return false,
        };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}
