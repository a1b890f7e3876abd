//! Vectors of an item in a catalog change, such as embeddings of texts or images.

use serde::{Deserialize, Serialize};

/// Largest number of vector names in a catalog.
pub const MAX_VECTOR_NAMES: usize = 4;
/// Largest length of a vector name, in bytes.
pub const MAX_VECTOR_NAME_BYTES: usize = 32;
/// Largest number of values of a vector.
pub const MAX_VECTOR_DIMENSION: usize = 1024;

/// A named vector of an item, in a catalog change. The `ingest` module has already checked the
/// name and the number of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemVector {
    /// The name, such as `text`.
    pub name: String,
    /// The values, all finite.
    pub values: Vec<f32>,
}

/// A change of the vectors of an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum VectorPatch {
    /// Removes all vectors.
    RemoveAll,
    /// Sets the vectors of these names, or removes those without values. The other vectors stay.
    Change(Vec<(String, Option<Vec<f32>>)>),
}
