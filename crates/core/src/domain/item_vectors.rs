//! Vectors that a site gives its items, such as embeddings of texts or images.

use super::{ItemIx, ItemOperation, MAX_VECTOR_NAMES, PagedVec, VectorPatch};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Why a vector does not fit the vectors of the other items.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// The items that have a vector of this name have another number of values.
    #[error(
        "the vector `{name}` of item `{item}` has {found} values, but the vectors `{name}` of the other items have {expected}; \
         send {expected} values, use another name, or first remove `{name}` from all items"
    )]
    OtherDimension {
        /// Id of the item.
        item: String,
        /// Name of the vector.
        name: String,
        /// Number of values of the vector.
        found: usize,
        /// Number of values of the vectors with this name.
        expected: usize,
    },
    /// The catalog already has as many vector names as it may have.
    #[error(
        "the vector `{name}` of item `{item}` has a new name, but a catalog has at most {MAX_VECTOR_NAMES} names of vectors, and has {known}; \
         use one of these names, or first remove one of them from all items"
    )]
    TooManyNames {
        /// Id of the item.
        item: String,
        /// Name of the vector.
        name: String,
        /// The names that the catalog has, separated by commas.
        known: String,
    },
}

/// A vector of 8-bit codes: value i is `codes[i] · scale`. The largest absolute value has the code
/// 127.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantisedVector {
    scale: f32,
    codes: Arc<[i8]>,
}

impl QuantisedVector {
    /// Quantises a vector.
    #[must_use]
    pub fn from_values(values: &[f32]) -> Self {
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        // The quotient of two values is at most 1, even if the scale is subnormal.
        let code = |value: &f32| if largest > 0.0 { (value / largest * 127.0).round() as i8 } else { 0 };
        Self { scale: largest / 127.0, codes: values.iter().map(code).collect() }
    }

    /// Number of values.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.codes.len()
    }

    /// The values, with an error of at most half the scale each.
    pub fn values(&self) -> impl Iterator<Item = f32> {
        self.codes.iter().map(|code| f32::from(*code) * self.scale)
    }

    /// The values of the vector scaled to length 1; all 0 for a vector of zeros.
    pub fn unit_values(&self) -> impl Iterator<Item = f32> {
        let squares: i32 = self.codes.iter().map(|code| i32::from(*code) * i32::from(*code)).sum();
        let factor = 1.0 / (squares.max(1) as f32).sqrt();
        self.codes.iter().map(move |code| f32::from(*code) * factor)
    }
}

/// The vectors of one name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct VectorColumn {
    name: String,
    dimension: usize,
    vectors: PagedVec<Option<QuantisedVector>, 64>,
    /// Number of items that have a vector.
    count: usize,
}

/// The vectors of all items by name. Clones share all unchanged pages.
///
/// Memory: about 40 bytes and one byte per value for each vector, and 24 bytes per name for each
/// item without a vector.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ItemVectors {
    /// The columns, in the order of their names.
    columns: Arc<Vec<VectorColumn>>,
}

impl ItemVectors {
    /// The names of the vectors with their dimensions, in the order of the names.
    pub fn dimensions(&self) -> impl Iterator<Item = (&str, usize)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.dimension))
    }

    /// The vectors of an item with their names, in the order of the names.
    pub fn vectors_of(&self, item: ItemIx) -> impl Iterator<Item = (&str, &QuantisedVector)> {
        self.columns.iter().filter_map(move |column| {
            let vector = column.vectors.get(item as usize)?.as_ref()?;
            Some((column.name.as_str(), vector))
        })
    }

    /// Number of vectors of all names.
    #[must_use]
    pub fn vector_count(&self) -> usize {
        self.columns.iter().map(|column| column.count).sum()
    }

    /// Checks whether the vectors of a change fit those of the catalog, and those in `admitted`, the
    /// names and dimensions of changes that the catalog does not contain yet. Adds the names of the
    /// change to `admitted`.
    ///
    /// # Errors
    /// [`VectorError`] names the first vector that does not fit. `admitted` is then unchanged.
    pub fn check_change(
        &self,
        item: &str,
        operation: &ItemOperation,
        admitted: &mut Vec<(String, usize)>,
    ) -> Result<(), VectorError> {
        let admitted_before = admitted.len();
        for (name, values) in operation.vectors() {
            let new = admitted.iter().map(|(name, dimension)| (name.as_str(), *dimension));
            let known: Vec<_> = self.dimensions().chain(new).collect();
            let expected = known.iter().find(|(known, _)| *known == name).map(|(_, dimension)| *dimension);
            let (item, name, found) = (item.to_owned(), name.to_owned(), values.len());
            let error = match expected {
                Some(expected) if expected == found => continue,
                Some(expected) => VectorError::OtherDimension { item, name, found, expected },
                None if known.len() < MAX_VECTOR_NAMES => {
                    admitted.push((name, found));
                    continue;
                }
                None => {
                    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                    VectorError::TooManyNames { item, name, known: names.join(", ") }
                }
            };
            admitted.truncate(admitted_before);
            return Err(error);
        }
        Ok(())
    }

    /// Applies a change of an item's vectors.
    pub(super) fn apply(&mut self, item: ItemIx, operation: &ItemOperation) {
        match operation {
            ItemOperation::Patch(_) | ItemOperation::PatchWithVectors(_, VectorPatch::Change(_)) => {}
            _ => self.remove_vectors(item, |_| true),
        }
        if let ItemOperation::PatchWithVectors(_, VectorPatch::Change(changes)) = operation {
            let is_removed = |name: &str| changes.iter().any(|(changed, values)| values.is_none() && changed == name);
            self.remove_vectors(item, is_removed);
        }
        operation.vectors().for_each(|(name, values)| self.set_vector(item, name, values));
    }

    /// Sets a vector of an item. The first vector of a name fixes the dimension of the name, until
    /// no item has a vector of this name. A vector that does not fit is ignored: admission has
    /// already checked it, see [`ItemVectors::check_change`].
    fn set_vector(&mut self, item: ItemIx, name: &str, values: &[f32]) {
        let (columns, dimension) = (Arc::make_mut(&mut self.columns), values.len());
        let position = match columns.binary_search_by(|column| column.name.as_str().cmp(name)) {
            Err(_) if columns.len() >= MAX_VECTOR_NAMES || dimension == 0 => return,
            Err(position) => {
                let (name, vectors) = (name.to_owned(), PagedVec::default());
                columns.insert(position, VectorColumn { name, dimension, vectors, count: 0 });
                position
            }
            Ok(position) => position,
        };
        let Some(column) = columns.get_mut(position).filter(|column| column.dimension == dimension) else { return };
        column.vectors.grow(item as usize + 1, || None);
        if let Some(slot) = column.vectors.get_mut(item as usize) {
            column.count += usize::from(slot.is_none());
            *slot = Some(QuantisedVector::from_values(values));
        }
    }

    /// Removes the vectors of an item whose names `is_removed` accepts.
    fn remove_vectors(&mut self, item: ItemIx, is_removed: impl Fn(&str) -> bool) {
        // Most items have no vector. Then nothing is copied.
        if !self.vectors_of(item).any(|(name, _)| is_removed(name)) {
            return;
        }
        let columns = Arc::make_mut(&mut self.columns);
        for column in columns.iter_mut().filter(|column| is_removed(&column.name)) {
            if let Some(slot) = column.vectors.get_mut(item as usize) {
                column.count = column.count.saturating_sub(usize::from(slot.take().is_some()));
            }
        }
        columns.retain(|column| column.count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Item, ItemPatch, ItemVector};

    fn put(vectors: &[(&str, &[f32])]) -> ItemOperation {
        let vector = |(name, values): &(&str, &[f32])| ItemVector { name: (*name).to_owned(), values: values.to_vec() };
        ItemOperation::PutWithVectors(Item::default(), vectors.iter().map(vector).collect())
    }

    fn patch(changes: &[(&str, Option<&[f32]>)]) -> ItemOperation {
        let change = |(name, values): &(&str, Option<&[f32]>)| ((*name).to_owned(), values.map(<[f32]>::to_vec));
        ItemOperation::PatchWithVectors(ItemPatch::default(), VectorPatch::Change(changes.iter().map(change).collect()))
    }

    fn values_of(vectors: &ItemVectors, item: ItemIx) -> Vec<(&str, Vec<f32>)> {
        vectors.vectors_of(item).map(|(name, vector)| (name, vector.values().collect())).collect()
    }

    #[test]
    fn codes_are_within_half_a_step_and_survive_a_second_quantisation() {
        let values = [0.3_f32, -1.0, 0.0, 0.004, 0.999];
        let quantised = QuantisedVector::from_values(&values);
        for (value, restored) in values.iter().zip(quantised.values()) {
            assert!((value - restored).abs() <= 0.5 / 127.0 + 1e-6, "{value} became {restored}");
        }
        let restored: Vec<f32> = quantised.values().collect();
        assert_eq!(QuantisedVector::from_values(&restored).codes, quantised.codes);
        let length: f32 = quantised.unit_values().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5);
        for edge in [[0.0, 0.0], [f32::MIN_POSITIVE / 8.0, 0.0], [f32::MAX, -f32::MAX]] {
            assert!(QuantisedVector::from_values(&edge).unit_values().all(f32::is_finite));
        }
    }

    #[test]
    fn a_put_replaces_all_vectors_and_a_patch_the_named_ones() {
        let mut vectors = ItemVectors::default();
        vectors.apply(5, &put(&[("text", &[1.0, 0.0]), ("image", &[1.0])]));
        let published = vectors.clone();
        vectors.apply(5, &ItemOperation::Patch(ItemPatch::default()));
        vectors.apply(5, &patch(&[("image", None), ("text", Some(&[0.0, -2.0]))]));
        assert_eq!(values_of(&vectors, 5), [("text", vec![0.0, -2.0])]);
        assert_eq!(values_of(&published, 5), [("image", vec![1.0]), ("text", vec![1.0, 0.0])]);
        for removal in [
            put(&[]),
            ItemOperation::Put(Item::default()),
            ItemOperation::Delete,
            ItemOperation::PatchWithVectors(ItemPatch::default(), VectorPatch::RemoveAll),
        ] {
            let mut vectors = published.clone();
            vectors.apply(5, &removal);
            assert_eq!((values_of(&vectors, 5).len(), vectors.vector_count()), (0, 0), "{removal:?}");
        }
    }

    #[test]
    fn the_first_vector_of_a_name_fixes_the_dimension_until_the_last_one_is_removed() {
        let mut vectors = ItemVectors::default();
        vectors.apply(5, &put(&[("text", &[1.0, 0.0])]));
        let long = put(&[("text", &[1.0, 0.0, 0.0])]);
        vectors.apply(6, &long);
        assert_eq!(values_of(&vectors, 6), []);
        let error = vectors.check_change("cup", &long, &mut Vec::new()).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "the vector `text` of item `cup` has 3 values, but the vectors `text` of the other items have 2;"
            ),
            "{error}"
        );
        vectors.apply(5, &ItemOperation::Delete);
        let mut admitted = Vec::new();
        assert_eq!(vectors.check_change("cup", &long, &mut admitted), Ok(()));
        assert!(vectors.check_change("tea", &put(&[("a", &[1.0]), ("text", &[1.0])]), &mut admitted).is_err());
        assert_eq!(admitted, [("text".to_owned(), 3)]);
        vectors.apply(6, &long);
        assert_eq!(values_of(&vectors, 6), [("text", vec![1.0, 0.0, 0.0])]);
    }

    #[test]
    fn a_catalog_has_at_most_four_names() {
        let mut vectors = ItemVectors::default();
        for name in ["e", "b", "c", "d", "a"] {
            vectors.apply(7, &patch(&[(name, Some(&[1.0]))]));
        }
        assert_eq!(vectors.dimensions().map(|(name, _)| name).collect::<String>(), "bcde");
        let error = vectors.check_change("cup", &put(&[("b", &[1.0]), ("a", &[1.0])]), &mut Vec::new()).unwrap_err();
        assert_eq!(
            error,
            VectorError::TooManyNames { item: "cup".to_owned(), name: "a".to_owned(), known: "b, c, d, e".to_owned() }
        );
    }
}
