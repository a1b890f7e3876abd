//! Checks that the configured pseudonym secret is the one with which the stored pseudonyms were
//! made.

use super::{Durability, Store, StoreError, envelope, keys};
use crate::domain::Entry;

impl Store {
    /// Compares the fingerprint of the configured secret (`None` without a secret) with the store's
    /// fingerprint. If the store contains no users yet, records the fingerprint. If it contains
    /// users, a different secret is an error, because each user would get a second pseudonym.
    ///
    /// # Errors
    /// [`StoreError::NotPseudonymised`], [`StoreError::MissingSecret`] or
    /// [`StoreError::WrongSecret`] if the store was written with another configuration, or any read
    /// or write error.
    pub fn check_pseudonym_secret(&self, fingerprint: Option<[u8; 16]>) -> Result<(), StoreError> {
        let dir = || self.dir().to_owned();
        match (self.secret_fingerprint()?, fingerprint) {
            (None, None) => Ok(()),
            (Some(stored), Some(configured)) if stored == configured => Ok(()),
            (Some(_), Some(_)) => Err(StoreError::WrongSecret { dir: dir() }),
            (Some(_), None) => Err(StoreError::MissingSecret { dir: dir() }),
            (None, Some(_)) if self.contains_users()? => Err(StoreError::NotPseudonymised { dir: dir() }),
            (None, Some(configured)) => {
                self.set_secret_fingerprint(&configured)?;
                // The fingerprint must be durable before the store contains the first user id.
                self.sync(Durability::PowerLoss)
            }
        }
    }

    /// The stored fingerprint of the pseudonym secret.
    pub(super) fn secret_fingerprint(&self) -> Result<Option<[u8; 16]>, StoreError> {
        let engine = self.engine()?;
        let Some(value) = engine.get(&engine.db, keys::SECRET_FINGERPRINT_KEY)? else { return Ok(None) };
        let payload = envelope::open_value(keys::SECRET_FINGERPRINT_KEY, &value)
            .and_then(|payload| payload.try_into().map_err(|_| "it is not a fingerprint of 16 bytes".to_owned()));
        payload.map(Some).map_err(|reason| StoreError::DamagedValue {
            tree: "default",
            key: "fingerprint".to_owned(),
            reason,
        })
    }

    pub(super) fn set_secret_fingerprint(&self, fingerprint: &[u8; 16]) -> Result<(), StoreError> {
        let engine = self.lock_for_writing()?;
        let mut envelope = envelope::ChecksummedEnvelope::with_capacity(fingerprint.len());
        envelope.payload().extend_from_slice(fingerprint);
        engine.insert(&engine.db, keys::SECRET_FINGERPRINT_KEY, envelope.seal(keys::SECRET_FINGERPRINT_KEY))
    }

    /// Whether the store contains any user id.
    fn contains_users(&self) -> Result<bool, StoreError> {
        let has_records = !self.consents().load()?.is_empty() || !self.user_attributes().load()?.is_empty();
        if has_records || self.sessions().count()? > 0 {
            return Ok(true);
        }
        for read in self.journal().entries(self.journal().first_offset()?)? {
            if !matches!(
                read?.1,
                Entry::Item(_)
                    | Entry::Model(_)
                    | Entry::Tombstone
                    | Entry::Expire(_)
                    | Entry::Purge(_)
                    | Entry::Placement(_)
                    | Entry::Rule(_)
            ) {
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
    fn a_data_directory_accepts_only_its_first_secret() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("data"), &StoreOptions::default()).unwrap();
        let item =
            Entry::Item(ItemChange { item_id: "tea".to_owned(), timestamp: 0, operation: ItemOperation::Delete });
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
    fn a_data_directory_with_original_user_ids_rejects_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &StoreOptions::default()).unwrap();
        let change = Entry::Consent(ConsentChange { user_id: "ann".to_owned(), consent: Consent::None, timestamp: 0 });
        Committer::open(store.clone(), CommitterSettings::default()).unwrap().commit(vec![vec![change]]).unwrap();
        let error = store.check_pseudonym_secret(Some([1; 16])).unwrap_err();
        assert!(
            matches!(error, StoreError::NotPseudonymised { .. }) && error.to_string().contains("sequor export"),
            "{error}"
        );
        store.check_pseudonym_secret(None).unwrap();
    }
}
