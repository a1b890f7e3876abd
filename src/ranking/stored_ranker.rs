//! Decoding of the ranker. Earlier versions have fewer features.

use super::features::{CONTEXT_FEATURE_COUNT, CONTEXT_FEATURE_PARTS, ITEM_FEATURE_COUNT, ITEM_FEATURE_PARTS};

/// Earlier forms of [`ITEM_FEATURE_PARTS`].
const EARLIER_ITEM_FEATURE_PARTS: [usize; 3] = [16, 16, 16];
/// Earlier forms of [`CONTEXT_FEATURE_PARTS`].
const EARLIER_CONTEXT_FEATURE_PARTS: [usize; 5] = [16, 16, 16, 16, 8];

/// Error: a stored ranker has another number of features than any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the stored ranker has {0} features, but this version reads only rankers with 48 or 72 features or its own number"
)]
pub struct FeatureCountError(usize);

/// Values per candidate feature in the order of this version. A feature that the stored version
/// lacks gets the value `new`.
///
/// # Errors
/// [`FeatureCountError`] if no version has this number of values.
pub(super) fn item_feature_values<T: Clone>(stored: Vec<T>, new: &T) -> Result<Vec<T>, FeatureCountError> {
    widen(stored, &EARLIER_ITEM_FEATURE_PARTS, &ITEM_FEATURE_PARTS, ITEM_FEATURE_COUNT, new)
}

/// Values per context feature, like [`item_feature_values`].
///
/// # Errors
/// [`FeatureCountError`] if no version has this number of values.
pub(super) fn context_feature_values<T: Clone>(stored: Vec<T>, new: &T) -> Result<Vec<T>, FeatureCountError> {
    widen(stored, &EARLIER_CONTEXT_FEATURE_PARTS, &CONTEXT_FEATURE_PARTS, CONTEXT_FEATURE_COUNT, new)
}

/// Adds values at the end of each part, and after the last part up to `count`.
fn widen<T: Clone>(
    stored: Vec<T>,
    earlier_parts: &[usize],
    parts: &[usize],
    count: usize,
    new: &T,
) -> Result<Vec<T>, FeatureCountError> {
    if stored.len() == count {
        return Ok(stored);
    }
    if stored.len() != earlier_parts.iter().sum::<usize>() {
        return Err(FeatureCountError(stored.len()));
    }
    let mut values = Vec::with_capacity(count);
    let mut stored = stored.into_iter();
    for (earlier, len) in earlier_parts.iter().zip(parts) {
        values.extend(stored.by_ref().take(*earlier));
        values.extend(std::iter::repeat_n(new.clone(), len.saturating_sub(*earlier)));
    }
    values.resize(count, new.clone());
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_of_earlier_versions_keep_their_meaning() {
        let stored: Vec<u32> = (1..=48).collect();
        let widened = item_feature_values(stored, &0).unwrap();
        assert_eq!(widened.len(), ITEM_FEATURE_COUNT);
        assert_eq!(
            widened.iter().copied().filter(|value| *value > 0).collect::<Vec<_>>(),
            (1..=48).collect::<Vec<_>>()
        );
        let mut begin = 0;
        for (part, len) in ITEM_FEATURE_PARTS.into_iter().enumerate() {
            assert_eq!(widened[begin], 16 * part as u32 + 1, "the first feature of part {part}");
            begin += len;
        }
        assert_eq!(item_feature_values(widened.clone(), &0), Ok(widened));
        let context = context_feature_values((1..=72).collect(), &0).unwrap();
        assert_eq!(
            context.iter().rev().take(10).copied().collect::<Vec<u32>>(),
            [0, 0, 72, 71, 70, 69, 68, 67, 66, 65]
        );
        assert_eq!(item_feature_values(vec![0; 47], &0), Err(FeatureCountError(47)));
    }
}
