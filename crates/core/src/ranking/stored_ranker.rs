//! Decoding of the ranker. Earlier versions have fewer features.

use super::features::{CONTEXT_FEATURE_COUNT, CONTEXT_FEATURE_PARTS, ITEM_FEATURE_COUNT, ITEM_FEATURE_PARTS};

/// The features of a version: the lengths of their parts, see [`ITEM_FEATURE_PARTS`] and
/// [`CONTEXT_FEATURE_PARTS`], and the number of features of a candidate with the zeros at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeatureVersion {
    item_count: usize,
    item_parts: [usize; 3],
    context_parts: [usize; 5],
}

/// All versions, the latest first.
const VERSIONS: [FeatureVersion; 3] = [
    FeatureVersion {
        item_count: ITEM_FEATURE_COUNT,
        item_parts: ITEM_FEATURE_PARTS,
        context_parts: CONTEXT_FEATURE_PARTS,
    },
    FeatureVersion { item_count: 64, item_parts: [18, 18, 20], context_parts: [18, 18, 16, 20, 10] },
    FeatureVersion { item_count: 48, item_parts: [16, 16, 16], context_parts: [16, 16, 16, 16, 8] },
];

/// Error: a stored ranker has another number of features than any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stored ranker has {item} features of a candidate and {context} of the moment; no version has these numbers"
)]
pub struct FeatureCountError {
    item: usize,
    context: usize,
}

impl FeatureVersion {
    /// The version with these numbers of features.
    ///
    /// # Errors
    /// [`FeatureCountError`] if there is none.
    pub(super) fn of_counts(item: usize, context: usize) -> Result<Self, FeatureCountError> {
        let has_counts =
            |version: &Self| version.item_count == item && version.context_parts.iter().sum::<usize>() == context;
        VERSIONS.into_iter().find(has_counts).ok_or(FeatureCountError { item, context })
    }

    /// The version with this number of features of a candidate.
    ///
    /// # Errors
    /// [`FeatureCountError`] if there is none.
    pub(super) fn of_item_count(item: usize) -> Result<Self, FeatureCountError> {
        VERSIONS.into_iter().find(|version| version.item_count == item).ok_or(FeatureCountError { item, context: 0 })
    }

    /// Values per candidate feature of this version, in the order of the latest version. A feature
    /// that this version lacks gets the value `new`.
    pub(super) fn item_values<T: Clone>(&self, stored: Vec<T>, new: &T) -> Vec<T> {
        widen(stored, &self.item_parts, &ITEM_FEATURE_PARTS, ITEM_FEATURE_COUNT, new)
    }

    /// Values per context feature, like [`FeatureVersion::item_values`].
    pub(super) fn context_values<T: Clone>(&self, stored: Vec<T>, new: &T) -> Vec<T> {
        widen(stored, &self.context_parts, &CONTEXT_FEATURE_PARTS, CONTEXT_FEATURE_COUNT, new)
    }
}

/// Adds values at the end of each part, and after the last part up to `count`.
fn widen<T: Clone>(stored: Vec<T>, earlier_parts: &[usize], parts: &[usize], count: usize, new: &T) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    let mut stored = stored.into_iter();
    for (earlier, len) in earlier_parts.iter().zip(parts) {
        values.extend(stored.by_ref().take(*earlier));
        values.extend(std::iter::repeat_n(new.clone(), len.saturating_sub(*earlier)));
    }
    values.extend(stored.take(count.saturating_sub(values.len())));
    values.resize(count, new.clone());
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_earlier_versions_keep_their_meaning() {
        for version in VERSIONS {
            let FeatureVersion { item_count, item_parts, context_parts } = version;
            let context_count = context_parts.iter().sum();
            assert_eq!(FeatureVersion::of_counts(item_count, context_count), Ok(version));
            // The feature at position p of part k has the value 100 k + p + 1.
            let numbered = |parts: &[usize]| {
                (0..).zip(parts).flat_map(|(k, len)| (0..*len).map(move |p| 100 * k + p + 1)).collect()
            };
            let check = |widened: &[usize], earlier: &[usize], parts: &[usize]| {
                let mut begin = 0;
                for ((k, earlier), len) in (0..).zip(earlier).zip(parts) {
                    let expected = (0..*len).map(|p| if p < *earlier { 100 * k + p + 1 } else { 0 });
                    assert_eq!(widened[begin..begin + len], expected.collect::<Vec<_>>(), "part {k}");
                    begin += len;
                }
                assert!(widened[begin..].iter().all(|value| *value == 0));
            };
            let mut items: Vec<usize> = numbered(&item_parts);
            items.resize(item_count, 0);
            let widened = version.item_values(items, &0);
            assert_eq!(widened.len(), ITEM_FEATURE_COUNT);
            check(&widened, &item_parts, &ITEM_FEATURE_PARTS);
            let widened = version.context_values(numbered(&context_parts), &0);
            assert_eq!(widened.len(), CONTEXT_FEATURE_COUNT);
            check(&widened, &context_parts, &CONTEXT_FEATURE_PARTS);
        }
    }

    #[test]
    fn other_numbers_of_features_are_rejected() {
        for (item, context) in [(48, CONTEXT_FEATURE_COUNT), (47, 72), (0, 0)] {
            assert_eq!(FeatureVersion::of_counts(item, context), Err(FeatureCountError { item, context }));
        }
    }
}
