//! A set of line numbers, stored as ranges.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A set of line numbers. Neighbouring lines share a range. If all rows of a file are rejected, one
/// range holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(super) struct LineSet {
    /// Maps the first line of each range to its last line. Ranges neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
}

impl LineSet {
    pub(super) fn contains(&self, line: u64) -> bool {
        self.range_containing(line).is_some()
    }

    pub(super) fn insert(&mut self, line: u64) {
        if self.contains(line) {
            return;
        }
        let end = self.ranges.remove(&(line + 1)).unwrap_or(line);
        match self.ranges.range_mut(..line).next_back().filter(|(_, last)| **last + 1 == line) {
            Some((_, last)) => *last = end,
            None => drop(self.ranges.insert(line, end)),
        }
    }

    pub(super) fn remove(&mut self, line: u64) {
        let Some((first, last)) = self.range_containing(line) else { return };
        self.ranges.remove(&first);
        if first < line {
            self.ranges.insert(first, line - 1);
        }
        if line < last {
            self.ranges.insert(line + 1, last);
        }
    }

    pub(super) fn range_count(&self) -> usize {
        self.ranges.len()
    }

    fn range_containing(&self, line: u64) -> Option<(u64, u64)> {
        self.ranges.range(..=line).next_back().map(|(first, last)| (*first, *last)).filter(|(_, last)| *last >= line)
    }
}

impl From<Vec<(u64, u64)>> for LineSet {
    fn from(ranges: Vec<(u64, u64)>) -> Self {
        Self { ranges: ranges.into_iter().filter(|(first, last)| first <= last).collect() }
    }
}

impl From<LineSet> for Vec<(u64, u64)> {
    fn from(lines: LineSet) -> Self {
        lines.ranges.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(steps in proptest::collection::vec((any::<bool>(), 0..30_u64), 0..200)) {
            let (mut lines, mut model) = (LineSet::default(), BTreeSet::new());
            for (insert, line) in steps {
                if insert {
                    lines.insert(line);
                    model.insert(line);
                } else {
                    lines.remove(line);
                    model.remove(&line);
                }
            }
            prop_assert_eq!((0..32).filter(|line| lines.contains(*line)).collect::<BTreeSet<_>>(), model.clone());
            let ranges = model.iter().filter(|line| **line == 0 || !model.contains(&(**line - 1))).count();
            prop_assert_eq!(lines.range_count(), ranges);
            let text = serde_json::to_string(&lines).unwrap();
            prop_assert_eq!(serde_json::from_str::<LineSet>(&text).unwrap(), lines);
        }
    }
}
