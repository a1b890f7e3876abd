//! The catalog of a replay: item changes from a file, in the order in which the replay needs them.

use anyhow::{anyhow, bail};
use std::collections::VecDeque;
use std::path::Path;

use crate::domain::{ItemChange, ItemOperation, Timestamp};
use crate::ingest::{ItemFileFormat, ItemFileReader};

/// The item changes that a replay has not made yet, by the time at which they are due.
#[derive(Debug, Default)]
pub(super) struct ReplayCatalog {
    due: VecDeque<ItemChange>,
}

impl ReplayCatalog {
    /// Reads the item changes of a file. A change is due at the item's `published` time, or at once
    /// if it has none. Changes that are due at the same time stay in file order.
    ///
    /// # Errors
    /// If the file cannot be read, or a row is invalid.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let mut due = Vec::new();
        for change in ItemFileReader::open(file, ItemFileFormat::default(), Timestamp::MIN)? {
            let mut change = change?.map_err(|error| anyhow!("{}: {error}", file.display()))?;
            if let ItemOperation::Put(item) | ItemOperation::PutWithVectors(item, _) = &change.operation {
                change.timestamp = item.published.unwrap_or(change.timestamp);
            }
            due.push(change);
        }
        if due.is_empty() {
            bail!("{}: the file contains no item", file.display());
        }
        due.sort_by_key(|change| change.timestamp);
        Ok(Self { due: due.into() })
    }

    /// Removes and returns the next change that is due at or before `time`.
    pub(super) fn pop_due(&mut self, time: Timestamp) -> Option<ItemChange> {
        self.due.pop_front_if(|change| change.timestamp <= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_due_when_they_are_published() {
        let folder = tempfile::tempdir().unwrap();
        let vectors = r#","vectors":{"text":[1,2]}}"#;
        let lines = [
            r#"{"item_id":"late","published":2100000000000"#,
            r#"{"item_id":"known""#,
            r#"{"item_id":"new","published":2000000000000"#,
            r#"{"item_id":"also known""#,
        ];
        for (name, text) in [
            ("items.csv", "item_id,published\nlate,2100000000000\nknown,\nnew,2000000000000\nalso known,\n".to_owned()),
            ("items.ndjson", lines.map(|line| format!("{line}{vectors}\n")).concat()),
        ] {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            let mut catalog = ReplayCatalog::read(&file).unwrap();
            let mut due = |time| {
                let ids: Vec<_> = std::iter::from_fn(|| catalog.pop_due(time)).map(|change| change.item_id).collect();
                ids.join(" ")
            };
            assert_eq!(
                [1_999_999_999_999, 2_000_000_000_000, 2_099_999_999_999, 2_200_000_000_000].map(&mut due),
                ["known also known", "new", "", "late"],
                "{name}"
            );
        }
        let file = folder.path().join("bad.csv");
        std::fs::write(&file, "item_id,price\ntea,dear\n").unwrap();
        assert!(format!("{:#}", ReplayCatalog::read(&file).unwrap_err()).contains("price"));
    }
}
