//! The event kinds of the event names in a foreign format, and counts of the events without a kind.

use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// The kind of event names that are known and yield no event.
pub(super) const IGNORE: &str = "ignore";

/// Largest number of distinct event names that are counted separately.
const MAX_COUNTED_NAMES: usize = 1000;

/// Maps event names to event kinds. Names are case-insensitive (ASCII).
#[derive(Debug, Clone)]
pub(super) struct KindNames(FxHashMap<String, String>);

/// What an event name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MappedName<'k> {
    /// The name of an event kind.
    Kind(&'k str),
    /// The name is known and yields no event.
    Ignored,
    /// The name is unknown.
    Unmapped,
}

impl<'k> MappedName<'k> {
    /// The event kind. Without one, counts the event under `name` and returns `None`.
    pub(super) fn kind_or_count(self, name: &str, skipped: &mut SkippedEvents) -> Option<&'k str> {
        match self {
            Self::Kind(kind) => return Some(kind),
            Self::Ignored => SkippedEvents::count(&mut skipped.ignored, name),
            Self::Unmapped => SkippedEvents::count(&mut skipped.unmapped, name),
        }
        None
    }
}

impl KindNames {
    /// The default names of a preset. `overrides` holds names of the file with their kinds; the kind
    /// `ignore` yields no event.
    pub(super) fn new(defaults: &[(&str, &str)], overrides: &[(String, String)]) -> Self {
        let overrides = overrides.iter().map(|(name, kind)| (name.as_str(), kind.as_str()));
        let all = defaults.iter().copied().chain(overrides);
        Self(all.map(|(name, kind)| (name.to_ascii_lowercase(), kind.to_owned())).collect())
    }

    pub(super) fn lookup(&self, name: &str) -> MappedName<'_> {
        match self.0.get(&name.to_ascii_lowercase()).map(String::as_str) {
            Some(IGNORE) => MappedName::Ignored,
            Some(kind) => MappedName::Kind(kind),
            None => MappedName::Unmapped,
        }
    }
}

/// Counts of records that yield no event, by the event's name in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkippedEvents {
    /// Events whose name is known to yield no event.
    pub ignored: BTreeMap<String, u64>,
    /// Events whose name is mapped to no kind.
    pub unmapped: BTreeMap<String, u64>,
}

impl SkippedEvents {
    /// The name that stands for all names beyond the limit of separately counted names.
    const OTHER_NAMES: &'static str = "(other names)";

    /// The number of events whose name is mapped to no kind.
    #[must_use]
    pub fn unmapped_count(&self) -> u64 {
        self.unmapped.values().sum()
    }

    /// Adds the counts of another file.
    pub fn add(&mut self, other: &Self) {
        for (counts, others) in [(&mut self.ignored, &other.ignored), (&mut self.unmapped, &other.unmapped)] {
            others.iter().for_each(|(name, count)| *counts.entry(name.clone()).or_default() += count);
        }
    }

    fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
        if let Some(count) = counts.get_mut(name) {
            *count += 1;
            return;
        }
        let printable: String = name.chars().filter(|character| !character.is_control()).take(80).collect();
        let key = if counts.len() < MAX_COUNTED_NAMES { printable } else { Self::OTHER_NAMES.to_owned() };
        *counts.entry(key).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_replace_defaults_and_names_ignore_case() {
        let overrides = [("Quick_Look".to_owned(), "view".to_owned()), ("b".to_owned(), IGNORE.to_owned())];
        let names = KindNames::new(&[("a", "click"), ("B", "cart"), ("c", IGNORE)], &overrides);
        let found = ["A", "b", "c", "quick_look", "d"].map(|name| names.lookup(name));
        let expected = [
            MappedName::Kind("click"),
            MappedName::Ignored,
            MappedName::Ignored,
            MappedName::Kind("view"),
            MappedName::Unmapped,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn counts_of_names_are_bounded() {
        let mut skipped = SkippedEvents::default();
        for number in 0..MAX_COUNTED_NAMES + 7 {
            assert_eq!(MappedName::Unmapped.kind_or_count(&format!("n{number}"), &mut skipped), None);
        }
        assert_eq!(skipped.unmapped.len(), MAX_COUNTED_NAMES + 1);
        assert_eq!(skipped.unmapped[SkippedEvents::OTHER_NAMES], 7);
    }
}
