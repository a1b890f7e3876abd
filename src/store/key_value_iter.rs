//! Iteration over a database tree, and conversion of database panics into errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Iterator over the keys and values of a tree, in key order. The iterator ends after the first
/// error. A panic of the database becomes an error.
pub(crate) struct KeyValueIter {
    pairs: sled::Iter,
    path: PathBuf,
    ended: bool,
}

impl KeyValueIter {
    /// Wraps the iterator `pairs` of the database in the directory `path`.
    pub(crate) fn new(pairs: sled::Iter, path: &Path) -> Self {
        Self { pairs, path: path.to_owned(), ended: false }
    }

    fn next_pair(
        &mut self,
        next: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Result<(sled::IVec, sled::IVec), StoreError>> {
        if self.ended {
            return None;
        }
        let (path, pairs) = (&self.path, &mut self.pairs);
        let pair = catch_database_panic(path, || {
            next(pairs).transpose().map_err(|source| convert_database_error("reading", path, source))
        })
        .transpose();
        self.ended = !matches!(pair, Some(Ok(_)));
        pair
    }
}

impl Iterator for KeyValueIter {
    type Item = Result<(sled::IVec, sled::IVec), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_pair(sled::Iter::next)
    }
}

impl DoubleEndedIterator for KeyValueIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_pair(sled::Iter::next_back)
    }
}

/// Runs `call` and converts a panic into an error: the database panics on some kinds of damage to
/// its files.
///
/// # Errors
/// The error of `call`, or [`StoreError::DatabaseDamaged`] if `call` panics.
pub(super) fn catch_database_panic<T>(
    path: &Path,
    call: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(panic_error(path, panic.as_ref())))
}

/// Converts an error of the database. A checksum failure becomes [`StoreError::DatabaseDamaged`],
/// like a panic.
pub(super) fn convert_database_error(action: &'static str, path: &Path, source: sled::Error) -> StoreError {
    match source {
        sled::Error::Corruption { .. } => StoreError::DatabaseDamaged {
            path: path.to_owned(),
            reason: format!("a checksum failed while {action} it"),
        },
        source => StoreError::Database { action, path: path.to_owned(), source },
    }
}

pub(super) fn panic_error(path: &Path, panic: &(dyn Any + Send)) -> StoreError {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    StoreError::DatabaseDamaged {
        path: path.to_owned(),
        reason: message.unwrap_or("panic without a message").to_owned(),
    }
}
