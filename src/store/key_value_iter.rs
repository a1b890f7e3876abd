//! Iteration over a tree of the database, and calls into the database that survive its panics.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Keys and values of a tree, in key order. Ends after the first error; a panic of the database is
/// an error.
pub(crate) struct KeyValueIter {
    pairs: sled::Iter,
    path: PathBuf,
    ended: bool,
}

impl KeyValueIter {
    /// Iterates over `pairs` of the database in `path`.
    pub(crate) fn new(pairs: sled::Iter, path: &Path) -> Self {
        Self { pairs, path: path.to_owned(), ended: false }
    }

    fn take(
        &mut self,
        next: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<(sled::IVec, sled::IVec), StoreError>> {
        if self.ended {
            return None;
        }
        let (path, pairs) = (&self.path, &mut self.pairs);
        let pair = guarded(path, || next(pairs).transpose().map_err(|source| failed("reading", path, source))).transpose();
        self.ended = !matches!(pair, Some(Ok(_)));
        pair
    }
}

impl Iterator for KeyValueIter {
    type Item = Result<(sled::IVec, sled::IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(sled::Iter::next)
    }
}

impl DoubleEndedIterator for KeyValueIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(sled::Iter::next_back)
    }
}

/// Calls the database, which panics on some kinds of damage to its files.
///
/// # Errors
/// What `call` says, and [`StoreError::DatabaseDamaged`] if it panics.
pub(super) fn guarded<T>(path: &Path, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(gave_up(path, panic.as_ref())))
}

/// Converts an error of the database. Damage that the database detects is reported like damage at
/// which it panics.
pub(super) fn failed(action: &'static str, path: &Path, source: sled::Error) -> StoreError {
    match source {
        sled::Error::Corruption { .. } => {
            StoreError::DatabaseDamaged { path: path.to_owned(), reason: format!("{action} it, a checksum did not hold") }
        }
        source => StoreError::Database { action, path: path.to_owned(), source },
    }
}

pub(super) fn gave_up(path: &Path, panic: &(dyn Any + Send)) -> StoreError {
    let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    StoreError::DatabaseDamaged { path: path.to_owned(), reason: said.unwrap_or("no reason given").to_owned() }
}
