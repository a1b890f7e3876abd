//! The users of batch lists: from a file, or all users of a daemon or a data directory.

use anyhow::{Context, anyhow, bail};
use rustc_hash::FxHashSet;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io::BufRead;

use super::data_dir::AdminClient;
use crate::domain::Entry;
use crate::ingest::check_id;
use crate::store::Store;

/// User ids without repetitions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BatchUsers {
    ids: Vec<String>,
    /// Whether the ids are in ascending order, so that a run can continue after an id that is no
    /// longer among them.
    is_sorted: bool,
}

impl BatchUsers {
    /// Users in ascending order.
    pub(super) fn sorted(ids: BTreeSet<String>) -> Self {
        Self { ids: ids.into_iter().collect(), is_sorted: true }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn into_ids(self) -> Vec<String> {
        self.ids
    }

    /// The users after the user `last`; `None` if `last` is not among users of a file.
    pub(super) fn after(mut self, last: &str) -> Option<Vec<String>> {
        let first = if self.is_sorted {
            self.ids.partition_point(|id| id.as_str() <= last)
        } else {
            self.ids.iter().position(|id| id == last)? + 1
        };
        Some(self.ids.split_off(first))
    }
}

/// Reads one user id per line. Skips empty lines, and ids that an earlier line holds.
///
/// # Errors
/// If a line cannot be read, or is no valid id. An invalid id would end the command after many lists.
pub(super) fn read_user_file(lines: &mut dyn BufRead) -> anyhow::Result<BatchUsers> {
    let (mut ids, mut known) = (Vec::new(), FxHashSet::default());
    for (number, line) in (1_u64..).zip(lines.lines()) {
        let line = line.with_context(|| format!("line {number}"))?;
        // Editors of Windows begin a file with a byte order mark.
        let line = if number == 1 { line.trim_start_matches('\u{feff}') } else { &line };
        let id = line.trim_end_matches('\r');
        if !id.is_empty() && known.insert(id.to_owned()) {
            let id = check_id("user id", id.to_owned());
            ids.push(id.map_err(|error| anyhow!("line {number}: {}", error.reason))?);
        }
    }
    Ok(BatchUsers { ids, is_sorted: false })
}

/// The users of an exported journal line.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UserLine {
    /// The user of an event.
    user_id: Option<String>,
    /// The removed user of a merge.
    from: Option<String>,
}

/// The users with events in the journal of a daemon, without those that were merged into others.
pub(super) fn users_of_daemon(admin: &AdminClient) -> anyhow::Result<BTreeSet<String>> {
    let mut users = BTreeSet::new();
    for only in ["event", "merge"] {
        let mut lines = admin.get_lines(&format!("/admin/journal?only={only}"))?;
        while let Some(line) = lines.next_line()? {
            let UserLine { user_id, from } =
                serde_json::from_slice(line).context("unexpected line in the journal of the daemon")?;
            users.extend(user_id);
            if let Some(removed) = from {
                users.remove(&removed);
            }
        }
    }
    if users.is_empty() {
        bail!("the daemon has no users yet");
    }
    Ok(users)
}

/// The users with a stored session, and those of the journal's entries that are newer than the
/// stored sessions.
pub(super) fn users_of_store(store: &Store) -> anyhow::Result<BTreeSet<String>> {
    let mut users = BTreeSet::new();
    for record in store.sessions().iter_prefix("")? {
        users.insert(record?.0);
    }
    let newer = store.sessions().watermark()?.max(store.journal().first_offset()?);
    for entry in store.journal().entries(newer)? {
        match entry?.1 {
            Entry::Event(event) | Entry::Private(event) => users.insert(event.user_id),
            Entry::Merge(merge) => users.remove(&merge.from),
            Entry::Erase(erasure) => users.remove(&erasure.user_id),
            _ => false,
        };
    }
    if users.is_empty() {
        bail!("{} has no users yet", store.dir().display());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_user_per_line() {
        let users = read_user_file(&mut "zoe\r\nann\n\nzoe\n bob ".as_bytes()).unwrap();
        assert_eq!(users.into_ids(), ["zoe", "ann", " bob "]);
        let marked = read_user_file(&mut "\u{feff}ann\nbob".as_bytes()).unwrap();
        assert_eq!(marked.into_ids(), ["ann", "bob"]);
        for invalid in
            [format!("ann\n{}", "x".repeat(300)).into_bytes(), b"ann\na\x07b".to_vec(), b"ann\n\xff".to_vec()]
        {
            let error = read_user_file(&mut invalid.as_slice()).unwrap_err().to_string();
            assert!(error.starts_with("line 2"), "{error}");
        }
    }

    #[test]
    fn a_run_continues_after_the_last_user() {
        let listed = || read_user_file(&mut "c\na\nb".as_bytes()).unwrap();
        assert_eq!(listed().after("a").unwrap(), ["b"]);
        assert_eq!(listed().after("x"), None);
        let all = || BatchUsers::sorted(["a", "c", "d"].map(str::to_owned).into());
        assert_eq!(all().after("b").unwrap(), ["c", "d"], "user b was erased between the runs");
        assert_eq!(all().after("d").unwrap(), Vec::<String>::new());
    }
}
