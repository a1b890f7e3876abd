//! User ids that stand for "no id" and so belong to many visitors, such as `undefined`.

use std::collections::BTreeSet;

/// The placeholders that software sends by mistake or for a visitor without an id.
const KNOWN: [&str; 20] = [
    "",
    "-",
    "-1",
    "0",
    "00000000-0000-0000-0000-000000000000",
    "[object object]",
    "anon",
    "anonymous",
    "false",
    "guest",
    "n/a",
    "na",
    "nan",
    "nil",
    "none",
    "null",
    "true",
    "undefined",
    "unknown",
    "unset",
];

/// Ids that are never merged with another. Upper and lower case, and white space around an id, do
/// not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceholderIds(BTreeSet<String>);

impl PlaceholderIds {
    /// The default list, as in the settings.
    #[must_use]
    pub fn default_list() -> Vec<String> {
        KNOWN.iter().map(|id| (*id).to_owned()).collect()
    }

    /// A set of ids.
    #[must_use]
    pub fn new<'i>(ids: impl IntoIterator<Item = &'i str>) -> Self {
        Self(ids.into_iter().map(normalise).collect())
    }

    /// Whether an id is a placeholder.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.contains(&normalise(id))
    }
}

impl Default for PlaceholderIds {
    fn default() -> Self {
        Self::new(KNOWN)
    }
}

fn normalise(id: &str) -> String {
    id.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_white_space_do_not_count() {
        let ids = PlaceholderIds::default();
        for id in ["undefined", "NULL", " Guest ", "", "  ", "0", "[object Object]"] {
            assert!(ids.contains(id), "{id:?}");
        }
        for id in ["ann", "00", "guest-17", "1"] {
            assert!(!ids.contains(id), "{id:?}");
        }
        assert!(PlaceholderIds::new(["Demo"]).contains("demo") && !PlaceholderIds::new([]).contains("null"));
    }
}
