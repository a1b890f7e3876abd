//! The file that stores the API keys.

use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

use super::{ApiKey, KeyError, KeyId, KeyRing, Scopes, Secret};
use crate::domain::{Timestamp, describe_type_error};

/// Format version of the file.
const KEY_FILE_FORMAT: u32 = 1;

/// Content of the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFileContent {
    format: u32,
    keys: Vec<ApiKey>,
}

/// The file `keys.json` in a data directory. Each update replaces the whole file. Only the owner
/// can read the file. An update locks the directory, so that two processes cannot update the file
/// at the same time.
#[derive(Debug, Clone)]
pub struct KeyFile {
    dir: PathBuf,
    file: PathBuf,
}

/// Metadata of the file. It changes whenever the file is replaced, so it serves as the file's
/// version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyFileVersion {
    inode: u64,
    bytes: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl KeyFile {
    /// The key file of a data directory. Neither the file nor the directory has to exist.
    #[must_use]
    pub fn in_dir(data_dir: &Path) -> Self {
        Self { dir: data_dir.to_owned(), file: data_dir.join("keys.json") }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// The version of the file; `None` if there is no file.
    pub(super) fn version(&self) -> Option<KeyFileVersion> {
        let data = fs::metadata(&self.file).ok()?;
        Some(KeyFileVersion {
            inode: data.ino(),
            bytes: data.size(),
            seconds: data.mtime(),
            nanoseconds: data.mtime_nsec(),
        })
    }

    /// Reads the keys. A missing file holds no keys.
    ///
    /// # Errors
    /// A [`KeyError`] if the file cannot be read or is not a valid key file.
    pub fn read_keys(&self) -> Result<KeyRing, KeyError> {
        KeyRing::new(self.read_content()?.keys)
    }

    fn read_content(&self) -> Result<KeyFileContent, KeyError> {
        let text = match fs::read(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(KeyFileContent { format: KEY_FILE_FORMAT, keys: Vec::new() });
            }
            Err(source) => return Err(KeyError::Read { file: self.file.clone(), source }),
        };
        let malformed = |reason| KeyError::Malformed { file: self.file.clone(), reason };
        let content: KeyFileContent = serde_json::from_slice(&text)
            .map_err(|error| malformed(describe_type_error(&error.to_string(), "an object")))?;
        if content.format == KEY_FILE_FORMAT {
            Ok(content)
        } else {
            Err(malformed(format!(
                "format {} is not supported; this version reads format {KEY_FILE_FORMAT}",
                content.format
            )))
        }
    }

    /// Creates a key. The returned secret is the only copy of the key in clear text.
    ///
    /// # Errors
    /// A [`KeyError`] if the name is invalid, there are too many keys, or the file cannot be read
    /// or written.
    pub fn create(
        &self,
        name: &str,
        scopes: Scopes,
        rate: Option<u32>,
        now: Timestamp,
    ) -> Result<(ApiKey, Secret), KeyError> {
        self.update(|keys| {
            if keys.len() >= KeyRing::MAX_KEYS {
                return Err(KeyError::TooManyKeys(KeyRing::MAX_KEYS));
            }
            loop {
                let (key, secret) = ApiKey::generate(name, scopes.clone(), rate, now)?;
                // Ids are short and random, so a new key may happen to have the id of an existing
                // key.
                if keys.iter().all(|known| known.id != key.id) {
                    keys.push(key.clone());
                    return Ok((key, secret));
                }
            }
        })
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// A [`KeyError`] if no key has the id, or the file cannot be read or written.
    pub fn revoke(&self, id: &KeyId) -> Result<ApiKey, KeyError> {
        self.update(|keys| {
            let index = keys.iter().position(|key| key.id == *id).ok_or_else(|| KeyError::NotFound(id.to_string()))?;
            Ok(keys.remove(index))
        })
    }

    fn update<T>(&self, update: impl FnOnce(&mut Vec<ApiKey>) -> Result<T, KeyError>) -> Result<T, KeyError> {
        let failed = |source| KeyError::Write { file: self.file.clone(), source };
        fs::create_dir_all(&self.dir).map_err(failed)?;
        // The directory is locked, not the file, because each update replaces the file.
        let dir = File::open(&self.dir).map_err(failed)?;
        dir.lock().map_err(failed)?;
        let mut content = self.read_content()?;
        let changed = update(&mut content.keys)?;
        self.replace_file(&dir, &content).map_err(failed)?;
        Ok(changed)
    }

    fn replace_file(&self, dir: &File, content: &KeyFileContent) -> io::Result<()> {
        // Other users cannot read a temporary file.
        let mut file = NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer_pretty(&mut file, content)?;
        file.write_all(b"\n")?;
        // The owner of the directory must be able to read the file, even if root created the key.
        let (file_meta, dir_meta) = (file.as_file().metadata()?, dir.metadata()?);
        if (file_meta.uid(), file_meta.gid()) != (dir_meta.uid(), dir_meta.gid()) {
            fchown(file.as_file(), Some(dir_meta.uid()), Some(dir_meta.gid()))?;
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

    fn write_and_read_scopes() -> Scopes {
        Scopes::new([Scope::Write, Scope::Read]).unwrap()
    }

    #[test]
    fn creates_reads_and_revokes_keys() {
        let home = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(&home.path().join("data"));
        assert!(file.read_keys().unwrap().all().is_empty() && file.version().is_none());
        let (key, secret) = file.create("shop", write_and_read_scopes(), Some(5), 1).unwrap();
        let (other, _) = file.create("other", write_and_read_scopes(), None, 2).unwrap();
        let ring = file.read_keys().unwrap();
        let found = ring.find(secret.reveal()).unwrap();
        assert_eq!((&found.id, found.name.as_str(), found.rate), (&key.id, "shop", Some(5)));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(file.path()).unwrap().contains(secret.reveal()));

        let version = file.version();
        assert_eq!(file.revoke(&key.id).unwrap().name, "shop");
        assert_ne!(version, file.version());
        assert!(matches!(file.revoke(&key.id), Err(KeyError::NotFound(_))));
        let ring = file.read_keys().unwrap();
        assert!(ring.find(secret.reveal()).is_none() && ring.get(&other.id).is_some());
        // No temporary file is left in the directory.
        assert_eq!(fs::read_dir(home.path().join("data")).unwrap().count(), 1);
    }

    #[test]
    fn concurrent_changes_are_serialised() {
        let home = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(home.path());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope
                    .spawn(|| (0..8).for_each(|at| drop(file.create("k", write_and_read_scopes(), None, at).unwrap())));
            }
        });
        assert_eq!(file.read_keys().unwrap().all().len(), 32);
    }

    #[test]
    fn an_invalid_key_file_is_rejected_and_not_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let file = KeyFile::in_dir(home.path());
        for text in ["", "{}", r#"{"format":2,"keys":[]}"#, r#"{"format":1,"keys":[{"id":"x"}]}"#] {
            fs::write(file.path(), text).unwrap();
            assert!(file.read_keys().unwrap_err().to_string().contains("is not a valid key file"), "{text}");
            assert!(file.create("k", write_and_read_scopes(), None, 0).is_err());
            assert_eq!(fs::read_to_string(file.path()).unwrap(), text);
        }
    }
}
