//! Opens the store's own files. Refuses to open a symbolic link, so that a write never reaches a
//! file outside the data directory.

use super::StoreError;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file of the data directory.
///
/// # Errors
/// [`StoreError::Io`] if `path` is a symbolic link or cannot be opened.
pub(super) fn open(options: &mut OpenOptions, path: &Path) -> Result<File, StoreError> {
    let opened = options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path);
    opened.map_err(|error| {
        let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
        let refused = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is a symbolic link, and writing would change its target; remove the link",
            )
        };
        StoreError::io("opening", path)(if is_link { refused() } else { error })
    })
}

/// Creates or truncates a file of the data directory.
///
/// # Errors
/// As [`open`].
pub(super) fn create(path: &Path) -> Result<File, StoreError> {
    open(File::options().create(true).truncate(true).write(true), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbolic_link_is_refused_and_its_target_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        std::fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let error = create(&link).unwrap_err().to_string();
        assert!(error.contains("link") && error.contains("it is a symbolic link"), "{error}");
        assert_eq!(std::fs::read(&target).unwrap(), b"kept");
        create(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"");
    }
}
