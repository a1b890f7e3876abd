//! Small files that say how far something was read, replaced as a whole.

use anyhow::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Such a file.
#[derive(Debug)]
pub(super) struct ProgressFile(PathBuf);

impl ProgressFile {
    /// The one named, or that of a file: its name with an ending more.
    pub(super) fn for_file(file: &Path, ending: &str, named: Option<&Path>) -> Self {
        Self(named.map_or_else(
            || {
                let mut name = OsString::from(file);
                name.push(ending);
                name.into()
            },
            Path::to_owned,
        ))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What it says; `None` if it is not there.
    pub(super) fn read<T: DeserializeOwned>(&self) -> anyhow::Result<Option<T>> {
        match std::fs::read(&self.0) {
            Ok(text) => {
                let state = serde_json::from_slice(&text);
                Ok(Some(state.with_context(|| format!("{} is no state of this command; remove it to begin anew", self.0.display()))?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.0.display())),
        }
    }

    /// Replaces what it says. It is not forced onto the disk: one that is behind costs only that
    /// something is sent again.
    pub(super) fn write<T: Serialize>(&self, state: &T) -> anyhow::Result<()> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let replace = || -> anyhow::Result<()> {
            let mut unfinished = NamedTempFile::new_in(folder)?;
            unfinished.write_all(&serde_json::to_vec(state)?)?;
            unfinished.persist(&self.0)?;
            Ok(())
        };
        replace().with_context(|| {
            format!("cannot write {}, where it is noted how far reading has come; name another file with --state", self.0.display())
        })
    }
}
