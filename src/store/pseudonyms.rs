//! Whether a data directory knows users by pseudonyms, and under which secret.

use super::{Durability, Store, StoreError, envelope, keys};
use crate::domain::Entry;

impl Store {
    /// Passes a start under the secret of that fingerprint, or under none. An empty store remembers
    /// the first; afterwards no other is passed, since under another every user would be two.
    ///
    /// # Errors
    /// [`StoreError::NotPseudonymised`], [`StoreError::MissingSecret`] or
    /// [`StoreError::WrongSecret`] if the store was written otherwise, or what reading and writing
    /// it says.
    pub fn check_pseudonym_secret(&self, fingerprint: Option<[u8; 16]>) -> Result<(), StoreError> {
        let dir = || self.dir().to_owned();
        match (self.fingerprint()?, fingerprint) {
            (None, None) => Ok(()),
            (Some(known), Some(given)) if known == given => Ok(()),
            (Some(_), Some(_)) => Err(StoreError::WrongSecret { dir: dir() }),
            (Some(_), None) => Err(StoreError::MissingSecret { dir: dir() }),
            (None, Some(_)) if self.names_users()? => Err(StoreError::NotPseudonymised { dir: dir() }),
            (None, Some(given)) => {
                self.set_fingerprint(&given)?;
                // Before the first id comes in.
                self.sync(Durability::PowerLoss)
            }
        }
    }

    /// The fingerprint of the secret that the pseudonyms in it are of.
    pub(super) fn fingerprint(&self) -> Result<Option<[u8; 16]>, StoreError> {
        let engine = self.engine()?;
        let Some(value) = engine.get(&engine.db, keys::FINGERPRINT_KEY)? else { return Ok(None) };
        let payload =
            envelope::open(keys::FINGERPRINT_KEY, &value).and_then(|payload| payload.try_into().map_err(|_| "it is none".to_owned()));
        payload.map(Some).map_err(|reason| StoreError::DamagedValue { tree: "default", key: "fingerprint".to_owned(), reason })
    }

    pub(super) fn set_fingerprint(&self, fingerprint: &[u8; 16]) -> Result<(), StoreError> {
        let engine = self.writable()?;
        let mut envelope = envelope::ChecksummedEnvelope::with_capacity(fingerprint.len());
        envelope.payload().extend_from_slice(fingerprint);
        engine.insert(&engine.db, keys::FINGERPRINT_KEY, envelope.seal(keys::FINGERPRINT_KEY))
    }

    /// Whether anything in it names a user.
    fn names_users(&self) -> Result<bool, StoreError> {
        if self.sessions().count()? > 0 || !self.consents().load()?.is_empty() {
            return Ok(true);
        }
        for read in self.journal().entries(self.journal().first_offset()?)? {
            if !matches!(read?.1, Entry::Item(_) | Entry::Model(_) | Entry::Tombstone | Entry::Expire(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Committer, CommitterSettings, StoreOptions};
    use super::*;
    use crate::domain::{Consent, ConsentChange, ItemChange, ItemOperation};

    #[test]
    fn a_directory_stays_with_its_secret() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("data"), &StoreOptions::default()).unwrap();
        let item = Entry::Item(ItemChange { item_id: "tea".to_owned(), timestamp: 0, operation: ItemOperation::Delete });
        let mut committer = Committer::open(store.clone(), CommitterSettings::default()).unwrap();
        committer.commit(vec![vec![item]]).unwrap();
        store.check_pseudonym_secret(None).unwrap();
        store.check_pseudonym_secret(Some([1; 16])).unwrap();
        store.reopen().unwrap();
        store.check_pseudonym_secret(Some([1; 16])).unwrap();
        assert!(matches!(store.check_pseudonym_secret(Some([2; 16])), Err(StoreError::WrongSecret { .. })));
        assert!(matches!(store.check_pseudonym_secret(None), Err(StoreError::MissingSecret { .. })));
        let copy = dir.path().join("copy");
        store.copy_to(&copy, &mut |_, _| {}).unwrap();
        let copy = Store::open(copy, &StoreOptions::default()).unwrap();
        assert!(copy.check_pseudonym_secret(None).is_err() && copy.check_pseudonym_secret(Some([1; 16])).is_ok());
    }

    #[test]
    fn one_with_clear_ids_takes_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let says = Entry::Consent(ConsentChange { user_id: "ann".to_owned(), consent: Consent::None, timestamp: 0 });
        Committer::open(store.clone(), CommitterSettings::default()).unwrap().commit(vec![vec![says]]).unwrap();
        let error = store.check_pseudonym_secret(Some([1; 16])).unwrap_err();
        assert!(matches!(error, StoreError::NotPseudonymised { .. }) && error.to_string().contains("sequor export"), "{error}");
        store.check_pseudonym_secret(None).unwrap();
    }
}
