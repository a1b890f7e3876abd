//! Progress files of `sequor import`, `tail`, `consume` and `recommend`: small JSON files that are
//! replaced atomically.

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A progress file.
#[derive(Debug)]
pub(super) struct ProgressFile {
    path: PathBuf,
    /// The flag that names another file.
    flag: &'static str,
}

/// The name of `file` with `suffix` appended.
fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(suffix);
    name.into()
}

impl ProgressFile {
    /// The file `named`, if it is given; otherwise `file` with `suffix` appended to its name.
    pub(super) fn for_file(file: &Path, suffix: &str, named: Option<&Path>) -> Self {
        Self { path: named.map_or_else(|| with_suffix(file, suffix), Path::to_owned), flag: "--state" }
    }

    /// The progress file of the output file `file`: its name with `suffix` appended.
    pub(super) fn of_output(file: &Path, suffix: &str) -> Self {
        Self { path: with_suffix(file, suffix), flag: "--output" }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state; `None` if the file does not exist.
    pub(super) fn read_state<T: DeserializeOwned>(&self) -> anyhow::Result<Option<T>> {
        match std::fs::read(&self.path) {
            Ok(text) => {
                let state = serde_json::from_slice(&text);
                Ok(Some(state.with_context(|| {
                    format!(
                        "{} is not a progress file of this command; remove it to start from the beginning",
                        self.path.display()
                    )
                })?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        }
    }

    /// Replaces the state. The write is not synced to the disk. If it is lost, entries are only
    /// sent again.
    pub(super) fn write_state<T: Serialize>(&self, state: &T) -> anyhow::Result<()> {
        self.replace_state(state, false)
    }

    /// Replaces the state, and syncs it to the disk before.
    pub(super) fn write_state_synced<T: Serialize>(&self, state: &T) -> anyhow::Result<()> {
        self.replace_state(state, true)
    }

    fn replace_state<T: Serialize>(&self, state: &T, is_synced: bool) -> anyhow::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let replace = || -> anyhow::Result<()> {
            let mut unfinished = NamedTempFile::new_in(folder)?;
            unfinished.write_all(&serde_json::to_vec(state)?)?;
            if is_synced {
                unfinished.as_file().sync_all()?;
            }
            unfinished.persist(&self.path)?;
            Ok(())
        };
        replace().with_context(|| {
            format!("cannot write the progress file {}; name another file with {}", self.path.display(), self.flag)
        })
    }
}
