//! The keys of a running daemon.

use arc_swap::{ArcSwap, Guard};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::Stamp;
use super::{Key, KeyError, KeyFile, KeyId, Ring, Scopes, Secret};
use crate::domain::Timestamp;

/// The keys in force, and the file that they come from.
#[derive(Debug)]
pub struct Keys {
    file: KeyFile,
    ring: ArcSwap<Ring>,
    /// Of the file as it was looked at last.
    seen: Mutex<Option<Stamp>>,
}

impl Keys {
    /// The keys of a data directory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn of(data_dir: &Path) -> Result<Self, KeyError> {
        let file = KeyFile::of(data_dir);
        // Looked at first: a file that is replaced meanwhile is another one afterwards.
        let stamp = file.stamp();
        Ok(Self { ring: ArcSwap::from_pointee(file.read()?), seen: Mutex::new(stamp), file })
    }

    /// The keys in force.
    #[must_use]
    pub fn ring(&self) -> Guard<Arc<Ring>> {
        self.ring.load()
    }

    /// Looks whether the file is another one and takes its keys; whether it was. A file that is gone holds none.
    ///
    /// # Errors
    /// If it cannot be read: once for each such file, and the keys stay as they were.
    pub fn refresh(&self) -> Result<bool, KeyError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.file.stamp();
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
    pub fn create(&self, name: &str, scopes: Scopes, rate: Option<u32>, now: Timestamp) -> Result<(Key, Secret), KeyError> {
        let made = self.file.create(name, scopes, rate, now)?;
        self.refresh()?;
        Ok(made)
    }

    /// Takes a key away, at once.
    ///
    /// # Errors
    /// As [`KeyFile::revoke`].
    pub fn revoke(&self, id: &KeyId) -> Result<Key, KeyError> {
        let revoked = self.file.revoke(id)?;
        self.refresh()?;
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
        let (keys, elsewhere) = (Keys::of(home.path()).unwrap(), KeyFile::of(home.path()));
        assert!(!keys.refresh().unwrap());
        let (key, secret) = elsewhere.create("k", Scopes::new([Scope::Read]).unwrap(), None, 0).unwrap();
        assert!(keys.ring().find(secret.reveal()).is_none());
        assert!(keys.refresh().unwrap() && keys.ring().find(secret.reveal()).is_some() && !keys.refresh().unwrap());

        // What cannot be read is told once, and changes nothing.
        fs::write(elsewhere.path(), "{").unwrap();
        assert!(keys.refresh().is_err() && !keys.refresh().unwrap());
        assert!(keys.ring().get(&key.id).is_some());
        // Without a file there are no keys.
        fs::remove_file(elsewhere.path()).unwrap();
        assert!(keys.refresh().unwrap() && keys.ring().get(&key.id).is_none());
        // One's own changes are in force at once.
        let (key, secret) = keys.create("k", Scopes::new([Scope::Read]).unwrap(), None, 0).unwrap();
        assert!(keys.ring().find(secret.reveal()).is_some());
        keys.revoke(&key.id).unwrap();
        assert!(keys.ring().find(secret.reveal()).is_none());
    }
}
