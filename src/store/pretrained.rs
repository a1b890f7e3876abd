//! The pretrained state from which learning started. It is in the file `origin`. The database
//! contains a copy of the file's header, by which a missing or replaced file is detected.

use super::checkpoints::read_header;
use super::envelope::{self, ChecksummedEnvelope};
use super::{
    CheckpointReader, CheckpointWriter, Durability, Store, StoreError, keys, open_checkpoint, write_checkpoint,
};
use std::io::ErrorKind;
use std::path::PathBuf;

/// Name of the file in the data directory.
const PRETRAINED_FILE: &str = "origin";

impl Store {
    fn pretrained_path(&self) -> PathBuf {
        self.dir().join(PRETRAINED_FILE)
    }

    /// Returns a reader of the pretrained state from which learning started; `None` if learning
    /// started from random weights.
    ///
    /// # Errors
    /// [`StoreError::MissingPretrained`] if the file was removed, [`StoreError::Io`] if the file
    /// cannot be read, is damaged or was replaced.
    pub fn pretrained_state(&self) -> Result<Option<CheckpointReader>, StoreError> {
        let (path, recorded) = (self.pretrained_path(), self.recorded_pretrained()?);
        match open_checkpoint(&path) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => match recorded {
                Some(_) => Err(StoreError::MissingPretrained { path }),
                None => Ok(None),
            },
            Ok(_) if recorded.is_some_and(|recorded| read_header(&path).is_ok_and(|header| header != recorded)) => {
                let reason = "it is not the pretrained network that learning started from";
                Err(StoreError::io("reading", &path)(std::io::Error::new(ErrorKind::InvalidData, reason)))
            }
            read => read.map(Some),
        }
    }

    /// Durably writes the pretrained state that learning starts from. The journal must be empty,
    /// because all derived state depends on the pretrained state.
    ///
    /// # Errors
    /// [`StoreError::JournalNotEmpty`] if the journal has entries, or any error of `fill` or of the
    /// disk.
    pub fn set_pretrained_state<E: From<StoreError>>(
        &self,
        fill: impl FnOnce(&mut CheckpointWriter) -> Result<(), E>,
    ) -> Result<(), E> {
        let entries = self.journal().next_offset()?;
        if entries > 0 {
            return Err(StoreError::JournalNotEmpty { dir: self.dir().to_owned(), entries }.into());
        }
        write_checkpoint(&self.pretrained_path(), 0, fill)?;
        self.record_pretrained()?;
        Ok(self.sync(Durability::PowerLoss)?)
    }

    /// Copies the file's header to the database, if the file exists and the database has no copy
    /// yet. The copy may be missing because an earlier version, which stored no copy, wrote the
    /// file, or because a process died between the two writes.
    pub(super) fn record_existing_pretrained(&self) -> Result<(), StoreError> {
        if self.recorded_pretrained()?.is_none() && open_checkpoint(&self.pretrained_path()).is_ok() {
            self.record_pretrained()?;
        }
        Ok(())
    }

    fn record_pretrained(&self) -> Result<(), StoreError> {
        let engine = self.lock_for_writing()?;
        let header = read_header(&self.pretrained_path())?;
        let mut envelope = ChecksummedEnvelope::with_capacity(header.len());
        envelope.payload().extend_from_slice(&header);
        engine.insert(&engine.db, keys::PRETRAINED_KEY, envelope.seal(keys::PRETRAINED_KEY))
    }

    /// The copy of the file's header, which contains the file's checksum.
    fn recorded_pretrained(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let engine = self.engine()?;
        let Some(value) = engine.get(&engine.db, keys::PRETRAINED_KEY)? else { return Ok(None) };
        let payload = envelope::open_value(keys::PRETRAINED_KEY, &value);
        let damaged = |reason| StoreError::DamagedValue { tree: "default", key: "pretrained".to_owned(), reason };
        payload.map(|payload| Some(payload.to_vec())).map_err(damaged)
    }
}
