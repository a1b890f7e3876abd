//! The API keys of a running daemon.

use arc_swap::{ArcSwap, Guard};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::key_file::KeyFileVersion;
use super::{ApiKey, KeyError, KeyFile, KeyId, KeyRing, Scopes, Secret};
use crate::domain::Timestamp;

/// The API keys that the daemon accepts, and their file.
#[derive(Debug)]
pub struct KeyStore {
    file: KeyFile,
    ring: ArcSwap<KeyRing>,
    /// The version of the file when it was last checked for changes.
    last_version: Mutex<Option<KeyFileVersion>>,
}

impl KeyStore {
    /// Loads the keys of a data directory.
    ///
    /// # Errors
    /// A [`KeyError`] if the file of keys cannot be read.
    pub fn open(data_dir: &Path) -> Result<Self, KeyError> {
        let file = KeyFile::in_dir(data_dir);
        // The file's version is read before its content. If the file is replaced between the two
        // steps, the next check notices the change.
        let version = file.version();
        Ok(Self { ring: ArcSwap::from_pointee(file.read_keys()?), last_version: Mutex::new(version), file })
    }

    /// The keys that the daemon accepts now.
    #[must_use]
    pub fn key_ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Reloads the keys if the file has changed. Returns whether it has changed. A missing file
    /// counts as a file without keys.
    ///
    /// # Errors
    /// A [`KeyError`] if the changed file cannot be read. The previous keys then stay valid. The
    /// next call does not report the same change again.
    pub fn reload_if_changed(&self) -> Result<bool, KeyError> {
        let mut last_version = self.last_version.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.file.version();
        if *last_version == version {
            return Ok(false);
        }
        *last_version = version;
        self.ring.store(Arc::new(self.file.read_keys()?));
        Ok(true)
    }

    /// Creates a key, which is valid at once.
    ///
    /// # Errors
    /// As [`KeyFile::create`].
    pub fn create(
        &self,
        name: &str,
        scopes: Scopes,
        rate: Option<u32>,
        now: Timestamp,
    ) -> Result<(ApiKey, Secret), KeyError> {
        let created = self.file.create(name, scopes, rate, now)?;
        self.reload_if_changed()?;
        Ok(created)
    }

    /// Revokes a key at once.
    ///
    /// # Errors
    /// As [`KeyFile::revoke`].
    pub fn revoke(&self, id: &KeyId) -> Result<ApiKey, KeyError> {
        let revoked = self.file.revoke(id)?;
        self.reload_if_changed()?;
        Ok(revoked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scope;
    use std::fs;

    #[test]
    fn reloads_changes_by_another_process() {
        let home = tempfile::tempdir().unwrap();
        let (keys, other_process) = (KeyStore::open(home.path()).unwrap(), KeyFile::in_dir(home.path()));
        assert!(!keys.reload_if_changed().unwrap());
        let (key, secret) = other_process.create("k", Scopes::new([Scope::Read]).unwrap(), None, 0).unwrap();
        assert!(keys.key_ring().find(secret.reveal()).is_none());
        assert!(
            keys.reload_if_changed().unwrap()
                && keys.key_ring().find(secret.reveal()).is_some()
                && !keys.reload_if_changed().unwrap()
        );

        // An invalid file is reported once, and the previous keys stay valid.
        fs::write(other_process.path(), "{").unwrap();
        assert!(keys.reload_if_changed().is_err() && !keys.reload_if_changed().unwrap());
        assert!(keys.key_ring().get(&key.id).is_some());
        // Without a file there are no keys.
        fs::remove_file(other_process.path()).unwrap();
        assert!(keys.reload_if_changed().unwrap() && keys.key_ring().get(&key.id).is_none());
        // Keys that the store creates or revokes take effect at once.
        let (key, secret) = keys.create("k", Scopes::new([Scope::Read]).unwrap(), None, 0).unwrap();
        assert!(keys.key_ring().find(secret.reveal()).is_some());
        keys.revoke(&key.id).unwrap();
        assert!(keys.key_ring().find(secret.reveal()).is_none());
    }
}
