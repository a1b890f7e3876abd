//! Encoding of values per candidate source. The encoding of earlier versions contains only the
//! sources before [`SourceName::Profile`], and has no room for more.

use crate::domain::SourceName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Number of sources in the encoding: the first ones of [`SourceName::ALL`].
const ENCODED_SOURCES: usize = 7;

/// Encodes the values of the first sources.
pub(super) fn serialize<T: Serialize + Default + Copy, S: Serializer>(
    values: &[T; SourceName::ALL.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut encoded = [T::default(); ENCODED_SOURCES];
    encoded.iter_mut().zip(values).for_each(|(encoded, value)| *encoded = *value);
    encoded.serialize(serializer)
}

/// Decodes the values of the first sources. The other sources have the default value.
pub(super) fn deserialize<'de, T: Deserialize<'de> + Default + Copy, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[T; SourceName::ALL.len()], D::Error> {
    let encoded = <[T; ENCODED_SOURCES]>::deserialize(deserializer)?;
    let mut values = [T::default(); SourceName::ALL.len()];
    values.iter_mut().zip(encoded).for_each(|(value, encoded)| *value = encoded);
    Ok(values)
}
