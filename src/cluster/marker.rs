//! The file in a data directory that names the cluster to which its journal belongs, and the stream
//! that the journal follows: two lines of text.

use super::error::JoinError;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
const MARKER_FILE: &str = "cluster";

fn marker_path(dir: &Path) -> PathBuf {
    dir.join(MARKER_FILE)
}

/// The cluster to which a data directory belongs; `None` if it belongs to none.
///
/// # Errors
/// [`JoinError::Marker`] if the file cannot be read.
pub fn cluster_of_data_dir(dir: &Path) -> Result<Option<String>, JoinError> {
    Ok(read_marker(dir)?.map(|text| text.lines().next().unwrap_or_default().to_owned()))
}

/// The id of the stream that the journal of a data directory follows, if it is known.
///
/// # Errors
/// [`JoinError::Marker`] if the file cannot be read.
pub(super) fn stream_of_data_dir(dir: &Path) -> Result<Option<String>, JoinError> {
    Ok(read_marker(dir)?.and_then(|text| text.lines().nth(1).map(str::to_owned)))
}

fn read_marker(dir: &Path) -> Result<Option<String>, JoinError> {
    match std::fs::read_to_string(marker_path(dir)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JoinError::Marker { file: marker_path(dir), source }),
    }
}

/// Checks that a data directory belongs to no other cluster than `cluster`.
///
/// # Errors
/// [`JoinError::OtherCluster`], or [`JoinError::Marker`] if the file cannot be read.
pub(super) fn check_marker(dir: &Path, cluster: &str) -> Result<(), JoinError> {
    match cluster_of_data_dir(dir)? {
        Some(found) if found != cluster => {
            Err(JoinError::OtherCluster { dir: dir.to_owned(), found, expected: cluster.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Records that a data directory belongs to the cluster, and follows the stream with the id `stream`.
///
/// # Errors
/// [`JoinError::Marker`] if the file cannot be written.
pub(super) fn write_marker(dir: &Path, cluster: &str, stream: &str) -> Result<(), JoinError> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        writeln!(file, "{cluster}\n{stream}")?;
        file.as_file().sync_all()?;
        file.persist(marker_path(dir)).map_err(|error| error.error)?;
        std::fs::File::open(dir)?.sync_all()
    };
    write().map_err(|source| JoinError::Marker { file: marker_path(dir), source })
}

/// Records that a data directory belongs to no cluster. Returns whether it belonged to one.
///
/// # Errors
/// [`JoinError::Marker`] if the file cannot be removed.
pub fn leave_cluster(dir: &Path) -> Result<bool, JoinError> {
    match std::fs::remove_file(marker_path(dir)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(JoinError::Marker { file: marker_path(dir), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_belongs_to_one_cluster_until_it_leaves() {
        let dir = tempfile::tempdir().unwrap();
        check_marker(dir.path(), "shop").unwrap();
        write_marker(dir.path(), "shop", "stream 7").unwrap();
        assert_eq!(stream_of_data_dir(dir.path()).unwrap().as_deref(), Some("stream 7"));
        check_marker(dir.path(), "shop").unwrap();
        assert_eq!(cluster_of_data_dir(dir.path()).unwrap().as_deref(), Some("shop"));
        let error = check_marker(dir.path(), "other").unwrap_err().to_string();
        assert!(error.contains("\"shop\"") && error.contains("\"other\""), "{error}");
        assert!(leave_cluster(dir.path()).unwrap());
        assert!(!leave_cluster(dir.path()).unwrap());
        check_marker(dir.path(), "other").unwrap();
    }
}
