//! The attributes of users.

use crate::domain::{Attributes, Entry, Offset};
use std::sync::Arc;

/// The attributes of a user, with the offset of the entry that changed them last.
#[derive(Debug, Clone, PartialEq)]
pub struct UserAttributesRecord {
    /// The user.
    pub user: Arc<str>,
    /// The attributes; without attributes, the user's record is removed.
    pub attributes: Arc<Attributes>,
    /// The journal offset of the entry that changed the attributes.
    pub offset: Offset,
}

/// Table of the users' attributes, derived from the journal. The committer is the only writer, and
/// readers take no lock. The table takes about 150 bytes per user with attributes, and 40 bytes per
/// attribute plus its texts. Only an erasure or a removal of all attributes removes a user.
#[derive(Debug, Default)]
pub struct UserAttributes {
    by_user: papaya::HashMap<Arc<str>, (Arc<Attributes>, Offset), rustc_hash::FxBuildHasher>,
}

impl UserAttributes {
    /// The attributes of a user; `None` if there are none. The caller must resolve aliases first.
    #[must_use]
    pub fn get(&self, user: &str) -> Option<Arc<Attributes>> {
        self.by_user.pin().get(user).map(|(attributes, _)| Arc::clone(attributes))
    }
}

/// The writer of [`UserAttributes`].
#[derive(Debug, Default)]
pub struct UserAttributesWriter {
    attributes: Arc<UserAttributes>,
}

impl UserAttributesWriter {
    /// The table, for readers.
    #[must_use]
    pub fn attributes(&self) -> Arc<UserAttributes> {
        Arc::clone(&self.attributes)
    }

    /// Applies records in journal order. A record is ignored if the same or a later entry changed
    /// the user's attributes in the table. So it is harmless to apply a record twice.
    pub fn apply(&mut self, records: impl IntoIterator<Item = UserAttributesRecord>) {
        let by_user = self.attributes.by_user.pin();
        for UserAttributesRecord { user, attributes, offset } in records {
            if by_user.get(&user).is_some_and(|(_, known)| *known >= offset) {
                continue;
            }
            if attributes.is_empty() {
                by_user.remove(&user);
            } else {
                by_user.insert(user, (attributes, offset));
            }
        }
    }

    /// Applies a committed entry to the table. Returns the changed records.
    pub fn apply_entry(&mut self, offset: Offset, entry: &Entry) -> Vec<UserAttributesRecord> {
        let new = attribute_changes(offset, entry, |user| self.attributes.get(user));
        self.apply(new.iter().cloned());
        new
    }
}

/// The changes that an entry makes. After a merge, the remaining user has the attributes of both
/// users. If both have an attribute of a name, the value of the remaining user stays. An erasure
/// removes the attributes.
fn attribute_changes(
    offset: Offset,
    entry: &Entry,
    of: impl Fn(&str) -> Option<Arc<Attributes>>,
) -> Vec<UserAttributesRecord> {
    let record = |user: &str, attributes: Attributes| UserAttributesRecord {
        user: Arc::from(user),
        attributes: Arc::new(attributes),
        offset,
    };
    match entry {
        Entry::UserAttributes(change) => {
            let known = of(&change.user_id).unwrap_or_default();
            vec![record(&change.user_id, known.patched(&change.patch))]
        }
        Entry::Merge(merge) => {
            let Some(from) = of(&merge.from) else { return Vec::new() };
            let into = of(&merge.into).unwrap_or_default();
            vec![record(&merge.from, Attributes::default()), record(&merge.into, into.merged_with(&from))]
        }
        Entry::Erase(erasure) => {
            of(&erasure.user_id).map(|_| record(&erasure.user_id, Attributes::default())).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AttributeValue, AttributesPatch, UserAttributesChange, UserErasure, UserMerge};

    fn change_entry(user: &str, name: &str, value: Option<f64>) -> Entry {
        let patch = AttributesPatch::Change(vec![(name.into(), value.map(AttributeValue::Number))]);
        Entry::UserAttributes(UserAttributesChange { user_id: user.to_owned(), patch, timestamp: 0 })
    }

    fn merge_entry(from: &str, into: &str) -> Entry {
        Entry::Merge(UserMerge { from: from.to_owned(), into: into.to_owned(), timestamp: 0 })
    }

    fn erase_entry(user: &str) -> Entry {
        Entry::Erase(UserErasure { user_id: user.to_owned(), unlearn: false, timestamp: 0 })
    }

    fn texts_of(attributes: &UserAttributes, user: &str) -> Option<String> {
        attributes.get(user).map(|known| serde_json::to_string(&known.views()).unwrap())
    }

    #[test]
    fn a_merge_keeps_the_values_of_the_remaining_user() {
        let mut writer = UserAttributesWriter::default();
        let journal = [
            change_entry("anon", "age", Some(1.0)),
            change_entry("anon", "size", Some(2.0)),
            change_entry("ann", "age", Some(3.0)),
            merge_entry("anon", "ann"),
        ];
        (0..).zip(&journal).for_each(|(offset, entry)| drop(writer.apply_entry(offset, entry)));
        let table = writer.attributes();
        assert_eq!(
            (texts_of(&table, "anon"), texts_of(&table, "ann")),
            (None, Some(r#"{"age":3.0,"size":2.0}"#.into()))
        );
        writer.apply_entry(4, &change_entry("ann", "age", None));
        assert_eq!(texts_of(&table, "ann"), Some(r#"{"size":2.0}"#.into()));
        writer.apply_entry(5, &erase_entry("ann"));
        assert_eq!(texts_of(&table, "ann"), None);
    }

    #[test]
    fn applying_entries_twice_gives_the_same_attributes() {
        let journal = [
            change_entry("a", "x", Some(1.0)),
            change_entry("b", "x", Some(2.0)),
            change_entry("b", "y", Some(3.0)),
            merge_entry("a", "b"),
            change_entry("c", "z", Some(4.0)),
            merge_entry("b", "c"),
            change_entry("c", "x", None),
            change_entry("d", "x", Some(5.0)),
            erase_entry("d"),
        ];
        for from in 0..journal.len() {
            let mut writer = UserAttributesWriter::default();
            for begin in [0, from] {
                (0..).zip(&journal).skip(begin).for_each(|(offset, entry)| drop(writer.apply_entry(offset, entry)));
            }
            let table = writer.attributes();
            let found = ["a", "b", "c", "d"].map(|user| texts_of(&table, user));
            assert_eq!(found, [None, None, Some(r#"{"y":3.0,"z":4.0}"#.into()), None], "again from {from}");
        }
    }
}
