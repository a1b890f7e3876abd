//! Checks the files that a command writes: that it does not read them, and that they can be replaced.

use anyhow::ensure;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Checks that the file that `flag` names for writing is none of the files that the command reads.
/// Links lead to the same file.
///
/// # Errors
/// If it is one of them.
pub(super) fn ensure_not_read<'p>(
    flag: &str,
    written: &Path,
    read: impl IntoIterator<Item = &'p Path>,
) -> anyhow::Result<()> {
    for file in read {
        ensure!(
            !is_same_file(written, file),
            "{flag} {}: the command reads this file, so it must not write it; name another file",
            written.display()
        );
    }
    Ok(())
}

/// The file that a command replaces: the target of a link, not the link.
///
/// # Errors
/// If it is a link to a file that does not exist, or no regular file.
pub(super) fn replaced_file(file: &Path) -> anyhow::Result<PathBuf> {
    let target = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    ensure!(
        !target.is_symlink(),
        "cannot write {}: it is a link to a file that does not exist; create that file, or remove the link",
        file.display()
    );
    ensure!(
        (target.is_file() || !target.exists()) && !["/dev", "/proc"].iter().any(|folder| file.starts_with(folder)),
        "cannot write {}: it exists and is not a regular file; name another file, or, if the command can, `-` for standard output",
        file.display()
    );
    Ok(target)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        // A file that does not exist yet, such as a progress file, has a name only.
        (Err(_), Err(_)) => full_name(one) == full_name(other),
        _ => false,
    }
}

/// The folder of a file without links, and its name.
fn full_name(file: &Path) -> Option<PathBuf> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(folder.canonicalize().ok()?.join(file.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_many_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), "").unwrap();
        std::fs::write(path("b"), "").unwrap();
        std::fs::hard_link(path("a"), path("hard")).unwrap();
        std::os::unix::fs::symlink(path("a"), path("soft")).unwrap();
        std::fs::create_dir(path("d")).unwrap();
        let conflicts = |written: &str, read: &str| ensure_not_read("--out", &path(written), [&*path(read)]).is_err();
        for name in ["a", "hard", "soft", "./a", "d/../a"] {
            assert!(conflicts(name, "a") && conflicts("a", name), "{name}");
        }
        assert!(conflicts("new", "d/../new"), "neither exists");
        assert!(!conflicts("a", "b") && !conflicts("new", "a") && !conflicts("new", "other"));
    }
}
