//! The keys of a running daemon.

use arc_swap::{ArcSwap, Guard};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::key_file::KeyFileVersion;
use super::{ApiKey, KeyError, KeyFile, KeyId, KeyRing, Scopes, Secret};
use crate::domain::Timestamp;

/// The keys in force, and the file that they come from.
#[derive(Debug)]
pub struct KeyStore {
    file: KeyFile,
    ring: ArcSwap<KeyRing>,
    /// Of the file as it was looked at last.
    seen: Mutex<Option<KeyFileVersion>>,
}

impl KeyStore {
    /// The keys of a data directory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn open(data_dir: &Path) -> Result<Self, KeyError> {
        let file = KeyFile::in_dir(data_dir);
        // Looked at first: a file that is replaced meanwhile is another one afterwards.
        let stamp = file.version();
        Ok(Self { ring: ArcSwap::from_pointee(file.read()?), seen: Mutex::new(stamp), file })
    }

    /// The keys in force.
    #[must_use]
    pub fn key_ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Looks whether the file is another one and takes its keys; whether it was. A file that is
    /// gone holds none.
    ///
    /// # Errors
    /// If it cannot be read: once for each such file, and the keys stay as they were.
    pub fn reload_if_changed(&self) -> Result<bool, KeyError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.file.version();
        if *seen == stamp {
            return Ok(false);
        }
        *seen = stamp;
        self.ring.store(Arc::new(self.file.read()?));
        Ok(true)
    }

    /// Makes a key, at `now`; it is in force at once.
    ///
    /// # Errors
    /// As [`KeyFile::create`].
    pub fn create(&self, name: &str, scopes: Scopes, rate: Option<u32>, now: Timestamp) -> Result<(ApiKey, Secret), KeyError> {
        let made = self.file.create(name, scopes, rate, now)?;
        self.reload_if_changed()?;
        Ok(made)
    }

    /// Takes a key away, at once.
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
    fn what_another_process_changes_is_taken_up() {
        let home = tempfile::tempdir().unwrap();
        let (keys, elsewhere) = (KeyStore::open(home.path()).unwrap(), KeyFile::in_dir(home.path()));
        assert!(!keys.reload_if_changed().unwrap());
        let (key, secret) = elsewhere.create("k", Scopes::new([Scope::Read]).unwrap(), None, 0).unwrap();
        assert!(keys.key_ring().find(secret.reveal()).is_none());
        assert!(keys.reload_if_changed().unwrap() && keys.key_ring().find(secret.reveal()).is_some() && !keys.reload_if_changed().unwrap());

        // What cannot be read is told once, and changes nothing.
        fs::write(elsewhere.path(), "{").unwrap();
        assert!(keys.reload_if_changed().is_err() && !keys.reload_if_changed().unwrap());
        assert!(keys.key_ring().get(&key.id).is_some());
        // Without a file there are no keys.
        fs::remove_file(elsewhere.path()).unwrap();
        assert!(keys.reload_if_changed().unwrap() && keys.key_ring().get(&key.id).is_none());
        // One's own changes are in force at once.
        let (key, secret) = keys.create("k", Scopes::new([Scope::Read]).unwrap(), None, 0).unwrap();
        assert!(keys.key_ring().find(secret.reveal()).is_some());
        keys.revoke(&key.id).unwrap();
        assert!(keys.key_ring().find(secret.reveal()).is_none());
    }
}
