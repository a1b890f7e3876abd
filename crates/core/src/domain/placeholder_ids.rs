//! Placeholder user ids such as `undefined`. Clients send a placeholder for visitors without an id,
//! so it stands for many different people.

use std::collections::BTreeSet;

/// Placeholder ids that clients send by mistake, or for a visitor without an id.
const DEFAULT_PLACEHOLDER_IDS: [&str; 20] = [
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

/// A set of placeholder ids, which are never merged with another user. The comparison ignores case
/// and the white space around an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceholderIds(BTreeSet<String>);

impl PlaceholderIds {
    /// The default placeholder ids of the settings.
    #[must_use]
    pub fn default_list() -> Vec<String> {
        DEFAULT_PLACEHOLDER_IDS.iter().map(|id| (*id).to_owned()).collect()
    }

    /// Creates a set from the given ids.
    #[must_use]
    pub fn new<'i>(ids: impl IntoIterator<Item = &'i str>) -> Self {
        Self(ids.into_iter().map(normalise_id).collect())
    }

    /// Whether an id is a placeholder.
    #[must_use]
    pub fn contains(&self, id: &str) -> bool {
        self.0.contains(&normalise_id(id))
    }
}

impl Default for PlaceholderIds {
    fn default() -> Self {
        Self::new(DEFAULT_PLACEHOLDER_IDS)
    }
}

fn normalise_id(id: &str) -> String {
    id.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_ignores_case_and_surrounding_white_space() {
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
