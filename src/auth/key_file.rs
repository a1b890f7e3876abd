//! The file that keys are kept in.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

use super::{ApiKey, KeyError, KeyId, KeyRing, Scopes, Secret};
use crate::domain::Timestamp;

/// The only format so far.
const FORMAT: u32 = 1;

/// The file's content.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFileContent {
    format: u32,
    keys: Vec<ApiKey>,
}

/// `keys.json` in a data directory: replaced as a whole whenever it changes, readable by its owner
/// alone. Several processes may change it: they take turns.
#[derive(Debug, Clone)]
pub struct KeyFile {
    dir: PathBuf,
    file: PathBuf,
}

/// By what it is seen that the file is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyFileVersion {
    inode: u64,
    bytes: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl KeyFile {
    /// The file of a data directory. Neither needs to be there.
    #[must_use]
    pub fn in_dir(data_dir: &Path) -> Self {
        Self { dir: data_dir.to_owned(), file: data_dir.join("keys.json") }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// `None` while there is no file.
    pub(super) fn version(&self) -> Option<KeyFileVersion> {
        let data = fs::metadata(&self.file).ok()?;
        Some(KeyFileVersion { inode: data.ino(), bytes: data.size(), seconds: data.mtime(), nanoseconds: data.mtime_nsec() })
    }

    /// The keys in it; none if there is no file.
    ///
    /// # Errors
    /// If it cannot be read, or holds something else.
    pub fn read(&self) -> Result<KeyRing, KeyError> {
        KeyRing::new(self.kept()?.keys)
    }

    fn kept(&self) -> Result<KeyFileContent, KeyError> {
        let text = match fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KeyFileContent { format: FORMAT, keys: Vec::new() }),
            Err(source) => return Err(KeyError::Read { file: self.file.clone(), source }),
        };
        let unreadable = |reason| KeyError::Malformed { file: self.file.clone(), reason };
        let kept: KeyFileContent = serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        if kept.format == FORMAT {
            Ok(kept)
        } else {
            Err(unreadable(format!("it is of format {}, this is a program for {FORMAT}", kept.format)))
        }
    }

    /// Makes a key, at `now`. What is returned is all that there ever is of it in clear.
    ///
    /// # Errors
    /// If the name is none, or the file cannot be read or written.
    pub fn create(&self, name: &str, scopes: Scopes, rate: Option<u32>, now: Timestamp) -> Result<(ApiKey, Secret), KeyError> {
        self.change(|keys| {
            if keys.len() >= KeyRing::MAX_KEYS {
                return Err(KeyError::TooManyKeys(KeyRing::MAX_KEYS));
            }
            loop {
                let (key, secret) = ApiKey::generate(name, scopes.clone(), rate, now)?;
                // Ids are drawn, and short.
                if keys.iter().all(|known| known.id != key.id) {
                    keys.push(key.clone());
                    return Ok((key, secret));
                }
            }
        })
    }

    /// Takes a key away.
    ///
    /// # Errors
    /// If there is none, or the file cannot be read or written.
    pub fn revoke(&self, id: &KeyId) -> Result<ApiKey, KeyError> {
        self.change(|keys| {
            let place = keys.iter().position(|key| key.id == *id).ok_or_else(|| KeyError::NotFound(id.to_string()))?;
            Ok(keys.remove(place))
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<ApiKey>) -> Result<T, KeyError>) -> Result<T, KeyError> {
        let failed = |source| KeyError::Write { file: self.file.clone(), source };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        // The directory stands for the file, which is another one after each change.
        let dir = File::open(&self.dir).map_err(failed)?;
        dir.lock().map_err(failed)?;
        let mut kept = self.kept()?;
        let changed = change(&mut kept.keys)?;
        self.write(&dir, &kept).map_err(failed)?;
        Ok(changed)
    }

    fn write(&self, dir: &File, kept: &KeyFileContent) -> io::Result<()> {
        // Such a file is readable by its owner alone from the beginning.
        let mut file = NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer_pretty(&mut file, kept)?;
        file.write_all(b"\n")?;
        // The owner of the directory must be able to read the file, even if root created the key.
        let (ours, theirs) = (file.as_file().metadata()?, dir.metadata()?);
        if (ours.uid(), ours.gid()) != (theirs.uid(), theirs.gid()) {
            fchown(file.as_file(), Some(theirs.uid()), Some(theirs.gid()))?;
        }
        file.as_file().sync_all()?;
        file.persist(&self.file).map_err(|error| error.error)?;
        dir.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scope;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    fn scopes() -> Scopes {
        Scopes::new([Scope::Write, Scope::Read]).unwrap()
    }

    #[test]
    fn keys_come_back_and_go() {
        let home = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(&home.path().join("data"));
        assert!(file.read().unwrap().all().is_empty() && file.version().is_none());
        let (key, secret) = file.create("shop", scopes(), Some(5), 1).unwrap();
        let (other, _) = file.create("other", scopes(), None, 2).unwrap();
        let ring = file.read().unwrap();
        let found = ring.find(secret.reveal()).unwrap();
        assert_eq!((&found.id, found.name.as_str(), found.rate), (&key.id, "shop", Some(5)));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(file.path()).unwrap().contains(secret.reveal()));

        let stamp = file.version();
        assert_eq!(file.revoke(&key.id).unwrap().name, "shop");
        assert_ne!(stamp, file.version());
        assert!(matches!(file.revoke(&key.id), Err(KeyError::NotFound(_))));
        let ring = file.read().unwrap();
        assert!(ring.find(secret.reveal()).is_none() && ring.get(&other.id).is_some());
        // Nothing else is left in the directory.
        assert_eq!(fs::read_dir(home.path().join("data")).unwrap().count(), 1);
    }

    #[test]
    fn who_writes_takes_turns() {
        let home = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(home.path());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..8).for_each(|at| drop(file.create("k", scopes(), None, at).unwrap())));
            }
        });
        assert_eq!(file.read().unwrap().all().len(), 32);
    }

    #[test]
    fn another_file_is_told_and_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(home.path());
        for text in ["", "{}", r#"{"format":2,"keys":[]}"#, r#"{"format":1,"keys":[{"id":"x"}]}"#] {
            fs::write(file.path(), text).unwrap();
            assert!(file.read().unwrap_err().to_string().contains("is no valid key file"), "{text}");
            assert!(file.create("k", scopes(), None, 0).is_err());
            assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        }
    }
}
